package server_test

import (
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/server"
	"github.com/castellan-security/castellan/internal/server/console/consoletest"
	"github.com/castellan-security/castellan/internal/server/exposure"
	"github.com/castellan-security/castellan/internal/store"
)

var storefrontImage = consoletest.ImageID("storefront:2.4.1")

// stocked is a running server with the shop of consoletest: agents, workloads,
// and what scans of its images found.
func stocked(t *testing.T) *house {
	t.Helper()
	advisories := filepath.Join(t.TempDir(), "advisories.db")
	shop := consoletest.New(time.Now())
	if err := shop.WriteAdvisories(t.Context(), advisories, time.Now()); err != nil {
		t.Fatal(err)
	}
	fill := func(st store.Store) store.Store {
		for _, a := range shop.Agents {
			if err := st.PutAgent(t.Context(), a); err != nil {
				t.Fatal(err)
			}
		}
		if err := shop.Fill(t.Context(), st, advisories); err != nil {
			t.Fatal(err)
		}
		if err := shop.FillRegistries(t.Context(), st, time.Now()); err != nil {
			t.Fatal(err)
		}
		fillBehaviour(t, st)
		return st
	}
	return open(t, fill, func(c *server.Config) { c.Advisories = advisories })
}

// until waits until what is asked for is so.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	late := time.After(deadline)
	for !is() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// get asks as a viewer, and fails unless the answer is good.
func get[T any](t *testing.T, h *house, path string) T {
	t.Helper()
	a := h.ask(t, "GET", "/api/v1"+path, nil, h.as(access.Viewer)...)
	if a.status != http.StatusOK {
		t.Fatalf("%s: got %d %s", path, a.status, a.body)
	}
	var v T
	a.into(t, &v)
	return v
}

type imageList struct {
	Images []store.Image
	Next   string
}

type weaknessList struct {
	Vulnerabilities []store.Weakness
	Next            int
}

type findingList struct {
	Vulnerabilities []store.ImageVulnerability
	Next            int
}

func TestImagesOverTheAPI(t *testing.T) {
	h := stocked(t)
	for query, want := range map[string]int{
		"": 7, "?running=true": 5, "?state=failed": 1, "?state=done&running=true": 3, "?text=storefront": 2, "?text=nothinghasthis": 0,
	} {
		if got := get[imageList](t, h, "/images"+query); len(got.Images) != want {
			t.Errorf("%s: got %d images, want %d", query, len(got.Images), want)
		}
	}
	all := get[imageList](t, h, "/images")
	if all.Images[0].ID != storefrontImage || all.Next != "" {
		t.Errorf("got first %v, want what is in use and exploited", all.Images[0].References)
	}
	var walked []string
	for after := ""; ; {
		page := get[imageList](t, h, "/images?limit=2&after="+after)
		for _, m := range page.Images {
			walked = append(walked, m.ID)
		}
		if after = page.Next; after == "" {
			break
		}
	}
	var ids []string
	for _, m := range all.Images {
		ids = append(ids, m.ID)
	}
	if !slices.Equal(walked, ids) {
		t.Errorf("page by page: got %v, want %v", walked, ids)
	}
	one := get[store.Image](t, h, "/images/"+storefrontImage)
	want := store.Counts{Critical: 2, High: 2, Medium: 1, Low: 1, Fixable: 5, Exploited: 1, InUse: 3, Secrets: 3, Faults: one.Counts.Faults, Malware: 1}
	if diff := cmp.Diff(one.Counts, want); diff != "" {
		t.Errorf("counts (-got +want):\n%s", diff)
	}
	inv := get[inventory.Inventory](t, h, "/images/"+storefrontImage+"/inventory")
	if len(inv.Packages) != 7 || len(inv.Image.Layers) != 4 {
		t.Errorf("got %d packages in %d layers", len(inv.Packages), len(inv.Image.Layers))
	}
	for _, path := range []string{"/images/sha256:nosuch", "/images/sha256:nosuch/vulnerabilities", "/images/" + consoletest.ImageID("store:16") + "/inventory", "/vulnerabilities/CVE-1999-1"} {
		if a := h.ask(t, "GET", "/api/v1"+path, nil, h.as(access.Viewer)...); a.status != http.StatusNotFound {
			t.Errorf("%s: got %d, want 404", path, a.status)
		}
	}
}

func TestVulnerabilitiesOverTheAPI(t *testing.T) {
	h := stocked(t)
	for query, want := range map[string]int{
		"": 7, "?severity=high": 4, "?severity=high&fixable=true": 3, "?exploited=true": 1, "?in-use=true": 3, "?package=openssl": 2, "?accepted=true": 0,
		"?image=" + consoletest.ImageID("api:2.4.1"): 2,
	} {
		if got := get[weaknessList](t, h, "/vulnerabilities"+query); len(got.Vulnerabilities) != want {
			t.Errorf("%s: got %d vulnerabilities, want %d", query, len(got.Vulnerabilities), want)
		}
	}
	var walked, ids []string
	for offset := 0; ; {
		page := get[weaknessList](t, h, fmt.Sprintf("/vulnerabilities?limit=2&offset=%d", offset))
		for _, w := range page.Vulnerabilities {
			walked = append(walked, w.ID)
		}
		if offset = page.Next; offset == 0 {
			break
		}
	}
	for _, w := range get[weaknessList](t, h, "/vulnerabilities").Vulnerabilities {
		ids = append(ids, w.ID)
	}
	if !slices.Equal(walked, ids) || ids[0] != "CVE-2024-21538" {
		t.Errorf("page by page: got %v, want %v, and first what is in use and exploited", walked, ids)
	}
	if got := get[findingList](t, h, "/images/"+storefrontImage+"/vulnerabilities?limit=4"); len(got.Vulnerabilities) != 4 || got.Next != 4 {
		t.Errorf("got %d findings and next %d, want 4 and 4", len(got.Vulnerabilities), got.Next)
	}
	e := get[exposure.Exposure](t, h, "/vulnerabilities/GHSA-p6mc-m468-83gw")
	if len(e.Images) != 1 || len(e.Images[0].Workloads) != 1 || e.Images[0].Packages[0].Fixed != "4.17.21" || len(e.Images[0].Without) != 1 {
		t.Errorf("got %+v", e.Images)
	}
	for _, path := range []string{"/vulnerabilities?severity=awful", "/images?state=dead", "/vulnerabilities?inuse=true"} {
		if a := h.ask(t, "GET", "/api/v1"+path, nil, h.as(access.Viewer)...); a.status != http.StatusUnprocessableEntity {
			t.Errorf("%s: got %d, want 422", path, a.status)
		}
	}
}

func TestAcceptedOverTheAPI(t *testing.T) {
	h := stocked(t)
	operator := h.as(access.Operator)
	var made store.Acceptance
	a := h.ask(t, "POST", "/api/v1/acceptances", map[string]any{
		"vulnerability": "GHSA-p6mc-m468-83gw", "reason": "behind the proxy", "expires": time.Now().Add(time.Hour),
	}, operator...)
	if a.status != http.StatusCreated {
		t.Fatalf("got %d %s", a.status, a.body)
	}
	a.into(t, &made)
	counts := func() store.Counts { return get[store.Image](t, h, "/images/"+storefrontImage).Counts }
	until(t, "the acceptance to count", func() bool { return counts().Accepted == 1 })
	if c := counts(); c.Exploited != 0 || c.Critical != 1 {
		t.Errorf("after it: got counts %+v", c)
	}
	if e := get[exposure.Exposure](t, h, "/vulnerabilities/CVE-2024-21538"); !e.Accepted || e.Images[0].Packages[0].Accepted.Reason != "behind the proxy" {
		t.Errorf("after it: got %+v", e)
	}
	if a := h.ask(t, "DELETE", fmt.Sprintf("/api/v1/acceptances/%d", made.ID), nil, operator...); a.status != http.StatusOK {
		t.Fatalf("end: got %d %s", a.status, a.body)
	}
	until(t, "its end to count", func() bool { return counts().Accepted == 0 })
	if c := counts(); c.Exploited != 1 || c.Critical != 2 {
		t.Errorf("after its end: got counts %+v", c)
	}
	kept := get[struct{ Acceptances []store.Acceptance }](t, h, "/acceptances")
	if len(kept.Acceptances) != 1 || kept.Acceptances[0].EndedBy != "token:operator/test" {
		t.Errorf("got %+v", kept.Acceptances)
	}
	for name, body := range map[string]map[string]any{
		"no reason": {"vulnerability": "CVE-2024-21538", "expires": time.Now().Add(time.Hour)},
		"past":      {"vulnerability": "CVE-2024-21538", "reason": "r", "expires": time.Now().Add(-time.Hour)},
	} {
		if a := h.ask(t, "POST", "/api/v1/acceptances", body, operator...); a.status/100 != 4 {
			t.Errorf("%s: got %d %s, want a refusal", name, a.status, a.body)
		}
	}
}

func TestScanAnewOverTheAPI(t *testing.T) {
	h := stocked(t)
	failed := consoletest.ImageID("client:1.0.0")
	if a := h.ask(t, "POST", "/api/v1/images/"+failed+"/scan", nil, h.as(access.Operator)...); a.status != http.StatusNoContent {
		t.Fatalf("got %d %s", a.status, a.body)
	}
	if one := get[store.Image](t, h, "/images/"+failed); one.Scan.State != store.ScanWaiting || one.Scan.Tries != 0 {
		t.Errorf("got %+v, want it to wait with no tries behind it", one.Scan)
	}
	if a := h.ask(t, "POST", "/api/v1/images/sha256:nosuch/scan", nil, h.as(access.Operator)...); a.status != http.StatusNotFound {
		t.Errorf("unknown: got %d, want 404", a.status)
	}
}
