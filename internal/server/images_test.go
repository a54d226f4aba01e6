package server_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/scan"
	"github.com/castellan-security/castellan/internal/store"
)

// compared is a store that tells what findings it was given.
type compared struct {
	store.Store
	findings chan store.ImageFindings
}

func (s compared) PutFindings(ctx context.Context, f store.ImageFindings) error {
	err := s.Store.PutFindings(ctx, f)
	if err == nil {
		s.findings <- f
	}
	return err
}

// TestImageIsScannedAcrossTheLink goes the whole way with an agent on another
// host: a workload, the wish, the answer, the findings, a file in use.
func TestImageIsScannedAcrossTheLink(t *testing.T) {
	findings := make(chan store.ImageFindings, 8)
	h := open(t, func(st store.Store) store.Store { return compared{st, findings} })
	credentials, client := h.join(t, t.TempDir())
	imageID := "sha256:" + strings.Repeat("1", 64)
	r := reportOf(credentials.AgentID())
	r.Agent.Abilities = []string{link.AbilityScan}
	r.Workloads = []asset.Workload{{ID: shop, Name: "shop", State: asset.Running, Image: asset.Image{Reference: "shop/web:1", ID: imageID}}}
	if _, err := client.Report(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	wishes := make(chan link.ScanWish, 8)
	ctx, cancel := context.WithCancel(t.Context())
	listening := make(chan error, 1)
	go func() {
		listening <- client.Directives(ctx, link.Caller{AgentID: r.Agent.ID, Boot: r.Agent.Boot}, func(d link.Directive) {
			if d.Kind == link.DirectiveScan {
				wishes <- *d.Scan
			}
		})
	}()
	defer func() { cancel(); <-listening }()
	w := await(t, "the wish", wishes)
	if w.ImageID != imageID || w.Reference != "shop/web:1" || time.Until(w.Until) < time.Minute {
		t.Errorf("wish %+v", w)
	}
	inv := inventory.Inventory{Analysis: scan.Analysis, Packages: []inventory.Package{{
		Type: "golang", Name: "golang.org/x/net", Version: "v0.7.0", Ecosystem: "Go", Places: []inventory.Place{{Path: "/app", Layer: 1}},
	}}}
	answer := link.Scanned{Job: w.Job, ImageID: w.ImageID, Inventory: squeezed(t, inv)}
	wrong := answer
	wrong.Job = "another"
	if err := client.Inventory(t.Context(), wrong); !fault.Is(err, fault.Conflict) {
		t.Errorf("another job: got %v, want conflict", err)
	}
	if err := client.Inventory(t.Context(), answer); err != nil {
		t.Fatal(err)
	}
	f := await(t, "the comparison", findings)
	if f.ImageID != imageID || len(f.Vulnerabilities) == 0 || f.Database == "" || f.Vulnerabilities[0].Package.Name != "golang.org/x/net" {
		t.Errorf("found %+v", f)
	}
	a := h.ask(t, "GET", "/metrics", nil, h.as(access.Viewer)...)
	for _, want := range []string{`castellan_images{scan="done"} 1`, `castellan_images{scan="waiting"} 0`, "castellan_images_unmatched 0", "castellan_advisories_built_timestamp_seconds 1."} {
		if !strings.Contains(string(a.body), want) {
			t.Errorf("metrics lack %q", want)
		}
	}
	r.Workloads, r.Uses = nil, []asset.Use{{WorkloadID: shop, Paths: []string{"/app"}}}
	if _, err := client.Report(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	// What is in use waits for ten seconds, and is not forgotten at the end.
	h.close(t)
	if f := await(t, "the comparison with what is in use", findings); !f.Vulnerabilities[0].InUse {
		t.Errorf("not in use: %+v", f.Vulnerabilities[0])
	}
}

func squeezed(t *testing.T, inv inventory.Inventory) []byte {
	t.Helper()
	b, err := json.Marshal(inv)
	if err != nil {
		t.Fatal(err)
	}
	z, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	return z.EncodeAll(b, nil)
}
