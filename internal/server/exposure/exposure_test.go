package exposure_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/server/exposure"
	"github.com/castellan-security/castellan/internal/store"
)

var now = time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)

// fleet answers as a store does, from lists.
type fleet struct {
	images    []store.Image
	findings  []store.ImageVulnerability
	workloads []asset.Workload
}

func (f *fleet) Vulnerabilities(_ context.Context, q store.VulnerabilityQuery) (out []store.ImageVulnerability, _ error) {
	for _, v := range f.findings {
		if (v.ID == q.ID || slices.Contains(v.Aliases, q.ID)) && q.Accepted == (v.Accepted != nil) {
			out = append(out, v)
		}
	}
	return out[:min(len(out), q.Limit)], nil
}

func (f *fleet) Weaknesses(ctx context.Context, q store.VulnerabilityQuery) ([]store.Weakness, error) {
	found, err := f.Vulnerabilities(ctx, q)
	if err != nil || len(found) == 0 {
		return nil, err
	}
	return []store.Weakness{{ID: found[0].ID, Images: len(found)}}, nil
}

func (f *fleet) Image(_ context.Context, id string) (store.Image, error) {
	for _, m := range f.images {
		if m.ID == id {
			return m, nil
		}
	}
	return store.Image{}, fault.New(fault.NotFound, "no image %s", id)
}

func (f *fleet) Images(_ context.Context, q store.ImageQuery) (out []store.Image, _ error) {
	for _, m := range f.images {
		if m.Scan.State == q.State && strings.Contains(strings.Join(m.References, " "), q.Text) {
			out = append(out, m)
		}
	}
	return out, nil
}

func (f *fleet) Workloads(_ context.Context, q store.WorkloadQuery) (out []asset.Workload, _ error) {
	for _, w := range f.workloads {
		if w.Image.ID == q.ImageID && slices.Contains(q.States, w.State) {
			out = append(out, w)
		}
	}
	return out, nil
}

func image(id, reference string, running int, state store.ScanState) store.Image {
	m := store.Image{ID: id, References: []string{reference}, Running: running, Seen: now, Scan: store.Scan{State: state}}
	if state == store.ScanDone {
		m.Scan.Matched = now
	}
	return m
}

func found(imageID, id string, s finding.Severity, name, fixed string, layer int) store.ImageVulnerability {
	return store.ImageVulnerability{ImageID: imageID, First: now, Vulnerability: finding.Vulnerability{
		ID: id, Aliases: []string{"GHSA-1"}, Severity: s, Fixed: fixed, State: finding.Fixable,
		Package: inventory.Package{Type: "deb", Name: name, Version: "1", Places: []inventory.Place{{Path: "/x", Layer: layer}}},
	}}
}

func shop() *fleet {
	f := &fleet{
		images: []store.Image{
			image("old", "registry:5000/shop/web:1", 0, store.ScanDone), image("web", "registry:5000/shop/web:2", 2, store.ScanDone),
			image("new", "registry:5000/shop/web:3", 0, store.ScanDone), image("next", "registry:5000/shop/web:4", 0, store.ScanWaiting),
			image("other", "registry:5000/shop/web-admin:9", 0, store.ScanDone),
		},
		workloads: []asset.Workload{
			{ID: "w1", Group: "shop/web/web", AgentID: "a", Image: asset.Image{ID: "web"}, State: asset.Running},
			{ID: "w2", Group: "shop/web/web", AgentID: "b", Image: asset.Image{ID: "web"}, State: asset.Running},
			{ID: "w3", Group: "shop/web/web", AgentID: "b", Image: asset.Image{ID: "web"}, State: asset.Exited},
		},
	}
	f.findings = []store.ImageVulnerability{
		found("old", "CVE-1", finding.High, "libssl3", "3", 1), found("web", "CVE-1", finding.Low, "libssl3", "3", 1),
		found("web", "CVE-1", finding.High, "openssl", "3", 2), found("web", "CVE-2", finding.Low, "zlib1g", "", 1),
	}
	f.findings[2].Summary = "the fullest"
	f.findings[3].Accepted = &finding.Acceptance{Reason: "not built"}
	return f
}

func TestReach(t *testing.T) {
	for _, name := range []string{"CVE-1", "GHSA-1"} {
		e, err := exposure.Of(t.Context(), shop(), name)
		if err != nil {
			t.Fatal(err)
		}
		if e.Finding.Summary != "the fullest" || e.Accepted || e.More {
			t.Errorf("%s: got %+v", name, e)
		}
	}
	e, err := exposure.Of(t.Context(), shop(), "CVE-1")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, m := range e.Images {
		line := fmt.Sprintf("%s %s %d running:", m.ID, m.Severity, m.Running)
		for _, p := range m.Packages {
			line += fmt.Sprintf(" %s→%s in %d", p.Name, p.Fixed, p.Layer)
		}
		for _, w := range m.Workloads {
			line += " " + w.ID
		}
		for _, r := range m.Without {
			line += " without " + r.ID
		}
		got = append(got, line)
	}
	want := []string{
		"web high 2 running: libssl3→3 in 1 openssl→3 in 2 w1 w2 without new",
		"old high 0 running: libssl3→3 in 1 without new",
	}
	if diff := cmp.Diff(got, want); diff != "" {
		t.Errorf("reach (-got +want):\n%s", diff)
	}
}

func TestAcceptedAltogether(t *testing.T) {
	e, err := exposure.Of(t.Context(), shop(), "CVE-2")
	if err != nil {
		t.Fatal(err)
	}
	if !e.Accepted || len(e.Images) != 1 || e.Images[0].Packages[0].Accepted == nil {
		t.Errorf("got %+v", e)
	}
}

func TestNobodyHasIt(t *testing.T) {
	if _, err := exposure.Of(t.Context(), shop(), "CVE-3"); !fault.Is(err, fault.NotFound) {
		t.Errorf("got %v, want not found", err)
	}
}

// Where not all images that have a weakness are known, none may be said to be
// without it.
func TestALongAnswerSaysSoAndClaimsNothing(t *testing.T) {
	f := shop()
	for i := range store.MaxPage {
		id := fmt.Sprintf("more%d", i)
		f.images = append(f.images, image(id, "registry:5000/shop/web:x", 0, store.ScanDone))
		f.findings = append(f.findings, found(id, "CVE-1", finding.Low, "libssl3", "3", 1))
	}
	e, err := exposure.Of(t.Context(), f, "CVE-1")
	if err != nil {
		t.Fatal(err)
	}
	if !e.More || len(e.Images) != 100 {
		t.Errorf("got %d images, more %v", len(e.Images), e.More)
	}
	for _, m := range e.Images {
		if len(m.Without) != 0 {
			t.Fatalf("%s is said to be mended by %v", m.ID, m.Without)
		}
	}
}
