package server_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/server/console/consoletest"
	"github.com/castellan-security/castellan/internal/store"
)

type lineList struct {
	Findings []store.FindingLine
	Next     int
}

type oneFinding struct{ Open, Accepted []store.Finding }

func TestFindingsOverTheAPI(t *testing.T) {
	h := stocked(t)
	for query, want := range map[string]int{
		"": 4, "?severity=high": 2, "?running=true": 4, "?text=production.json": 1, "?accepted=true": 0, "?owner=nobody": 0,
		"?image=" + consoletest.ImageID("hostile"): 1,
	} {
		if got := get[lineList](t, h, "/secrets"+query); len(got.Findings) != want {
			t.Errorf("%s: got %d secrets, want %d", query, len(got.Findings), want)
		}
	}
	all := get[lineList](t, h, "/secrets").Findings
	i := slices.IndexFunc(all, func(l store.FindingLine) bool { return l.Rule == "private-key" })
	if i != 0 || all[i].Secret.Hidden == nil || all[i].Workloads != 1 || all[i].Instruction == "" || all[i].Remedy == "" {
		t.Fatalf("the first is %+v, want the hidden key with its instruction and remedy", all[0])
	}
	var walked []string
	for offset := 0; ; {
		page := get[lineList](t, h, fmt.Sprintf("/secrets?limit=1&offset=%d", offset))
		for _, l := range page.Findings {
			walked = append(walked, l.Key)
		}
		if offset = page.Next; offset == 0 {
			break
		}
	}
	var keys []string
	for _, l := range all {
		keys = append(keys, l.Key)
	}
	if !slices.Equal(walked, keys) {
		t.Errorf("page by page: got %v, want %v", walked, keys)
	}
	one := get[oneFinding](t, h, "/secrets/"+all[0].Key)
	if len(one.Open) != 1 || len(one.Accepted) != 0 || one.Open[0].ImageID != storefrontImage {
		t.Errorf("one: %+v", one)
	}
	if got := get[lineList](t, h, "/images/"+storefrontImage+"/secrets"); len(got.Findings) != 3 {
		t.Errorf("of the image: got %d secrets, want 3", len(got.Findings))
	}
	faults := get[lineList](t, h, "/faults").Findings
	if len(faults) == 0 || faults[0].Fault == nil || faults[0].Fault.Why == "" {
		t.Errorf("faults: %+v", faults)
	}
	if got := get[lineList](t, h, "/malware").Findings; len(got) != 1 || got[0].Malware == nil || got[0].Malware.Family != "XMRig" || got[0].Remedy == "" {
		t.Errorf("malware: %+v", got)
	}
	for path, want := range map[string]int{
		"/secrets/nosuch": http.StatusNotFound, "/faults/" + all[0].Key: http.StatusNotFound, "/images/sha256:nosuch/secrets": http.StatusNotFound,
		"/secrets?severity=awful": http.StatusUnprocessableEntity, "/secrets?fixable=true": http.StatusUnprocessableEntity, "/trends/weather": http.StatusUnprocessableEntity,
	} {
		if a := h.ask(t, "GET", "/api/v1"+path, nil, h.as(access.Viewer)...); a.status != want {
			t.Errorf("%s: got %d, want %d", path, a.status, want)
		}
	}
	until(t, "the day to be counted", func() bool {
		days := get[struct{ Days []store.TrendDay }](t, h, "/trends/secret?days=2").Days
		open, today := 0, time.Now().UTC().Truncate(24*time.Hour)
		for _, d := range days {
			if d.Day.Equal(today) {
				open += d.Open
			}
		}
		return open == 4
	})
}

func TestSecretAcceptedOverTheAPI(t *testing.T) {
	h := stocked(t)
	operator := h.as(access.Operator)
	a := h.ask(t, "POST", "/api/v1/acceptances", map[string]any{
		"kind": "secret", "rule": "private-key", "path": "/root/**", "reason": "of a test", "expires": time.Now().Add(time.Hour),
	}, operator...)
	if a.status != http.StatusCreated {
		t.Fatalf("got %d %s", a.status, a.body)
	}
	var made store.Acceptance
	a.into(t, &made)
	open := func() int { return len(get[lineList](t, h, "/secrets").Findings) }
	until(t, "the acceptance to count", func() bool { return open() == 3 })
	got := get[lineList](t, h, "/secrets?accepted=true").Findings
	if len(got) != 1 || got[0].Accepted == nil || got[0].Accepted.Reason != "of a test" || got[0].Accepted.By != "token:operator/test" {
		t.Errorf("accepted: %+v", got)
	}
	if c := get[store.Image](t, h, "/images/"+storefrontImage).Counts; c.Secrets != 2 || c.Accepted != 0 {
		t.Errorf("counts %+v", c)
	}
	if a := h.ask(t, "DELETE", fmt.Sprintf("/api/v1/acceptances/%d", made.ID), nil, operator...); a.status != http.StatusOK {
		t.Fatalf("end: got %d %s", a.status, a.body)
	}
	until(t, "its end to count", func() bool { return open() == 4 })
	for name, body := range map[string]map[string]any{
		"a kind that is none": {"kind": "weather", "rule": "rain", "reason": "r", "expires": time.Now().Add(time.Hour)},
		"all secrets":         {"kind": "secret", "rule": "secrets", "reason": "r", "expires": time.Now().Add(time.Hour)},
	} {
		if a := h.ask(t, "POST", "/api/v1/acceptances", body, operator...); a.status != http.StatusUnprocessableEntity {
			t.Errorf("%s: got %d %s, want 422", name, a.status, a.body)
		}
	}
}

func TestOwnersOverTheAPI(t *testing.T) {
	h := stocked(t)
	operator := h.as(access.Operator)
	rule := asset.OwnerRule{Image: "123456789012.dkr.ecr.eu-central-1.amazonaws.com/shop/*", Owner: asset.Owner{Name: "Shop team", Contact: "#shop"}}
	if a := h.ask(t, "PUT", "/api/v1/owners", rule, operator...); a.status != http.StatusNoContent {
		t.Fatalf("got %d %s", a.status, a.body)
	}
	if diff := cmp.Diff(asset.Owners{rule}, get[struct{ Owners asset.Owners }](t, h, "/owners").Owners); diff != "" {
		t.Errorf("rules (-want +got):\n%s", diff)
	}
	until(t, "images to have their owner", func() bool { return get[store.Image](t, h, "/images/"+storefrontImage).Owner == "Shop team" })
	for path, want := range map[string]int{"/images": 6, "/secrets": 3} {
		var n int
		if path == "/images" {
			n = len(get[imageList](t, h, path+"?owner=Shop+team").Images)
		} else {
			ls := get[lineList](t, h, path+"?owner=Shop+team").Findings
			if n = len(ls); n > 0 && ls[0].In[0].Owner != "Shop team" {
				t.Errorf("the line does not tell the owner: %+v", ls[0].In)
			}
		}
		if n != want {
			t.Errorf("%s of the owner: got %d, want %d", path, n, want)
		}
	}
	if got := get[weaknessList](t, h, "/vulnerabilities?owner=Shop+team").Vulnerabilities; len(got) != 6 {
		t.Errorf("got %d vulnerabilities of the owner, want 6", len(got))
	}
	if a := h.ask(t, "PUT", "/api/v1/owners", asset.OwnerRule{Image: "shop/web:1", Owner: asset.Owner{Name: "x"}}, operator...); a.status != http.StatusUnprocessableEntity || !strings.Contains(string(a.body), "leave out tag") {
		t.Errorf("one version: got %d %s", a.status, a.body)
	}
	if a := h.ask(t, "PUT", "/api/v1/owners", rule, h.as(access.Viewer)...); a.status != http.StatusForbidden {
		t.Errorf("by a viewer: got %d, want 403", a.status)
	}
	if a := h.ask(t, "DELETE", "/api/v1/owners?image="+rule.Image, nil, operator...); a.status != http.StatusNoContent {
		t.Errorf("remove: got %d %s", a.status, a.body)
	}
	if a := h.ask(t, "DELETE", "/api/v1/owners?image="+rule.Image, nil, operator...); a.status != http.StatusNotFound {
		t.Errorf("remove again: got %d, want 404", a.status)
	}
}
