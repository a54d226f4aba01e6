package server_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/admission"
)

const noPrivileged = "version: 1\nmode: enforce\nrules:\n  - use: privileged\n"

func deployment(id string, privileged bool) admission.Request {
	return admission.Request{
		ID: id, Door: admission.Service, Action: admission.Run, At: time.Now(), Place: admission.Place{Cluster: "prod", Service: "shop"},
		Task: admission.Task{Family: "web", Containers: []admission.Container{{Name: "app", Privileged: privileged,
			Image: admission.Image{Reference: "reg.example/shop:1", Registry: "reg.example", Repository: "shop", Digest: "sha256:" + strings.Repeat("a", 64)}}}},
	}
}

func TestAdmissionOverTheAPI(t *testing.T) {
	h := open(t, nil)
	put := func(text string, after int) map[string]any {
		return map[string]any{"text": text, "comment": "why", "after": after}
	}
	exception := map[string]any{"rules": []string{"privileged"}, "owner": "shop", "reason": "until it is split", "family": "web",
		"expires": time.Now().Add(time.Hour)}
	endless := map[string]any{"rules": []string{"privileged"}, "owner": "shop", "reason": "x", "expires": time.Now().Add(time.Hour)}
	const none = access.Role("")
	for _, c := range []struct {
		name, method, path string
		body               any
		role               access.Role
		status             int
		says               string
	}{
		{"none yet", "GET", "/policy", nil, access.Viewer, http.StatusNotFound, "castellan admit policy set FILE"},
		{"nothing is allowed without", "POST", "/decide", deployment("r0", false), access.Operator, http.StatusOK, `"outcome":"deny"`},
		{"nobody may not", "POST", "/decide", deployment("r0", false), none, http.StatusUnauthorized, ""},
		{"a viewer may not decide", "POST", "/decide", deployment("r0", false), access.Viewer, http.StatusForbidden, "admission:decide"},
		{"an operator may not", "PUT", "/policy", put(noPrivileged, 0), access.Operator, http.StatusForbidden, "admission:manage"},
		{"no policy", "PUT", "/policy", put("version: 1\nodd: 1\n", 0), access.Administrator, http.StatusUnprocessableEntity, "policy:2:"},
		{"what is wrong", "POST", "/policy/check", map[string]any{"text": "version: 1\nodd: 1\n"}, access.Viewer, http.StatusOK, `"line":2`},
		{"set", "PUT", "/policy", put(noPrivileged, 0), access.Administrator, http.StatusOK, `"version":1`},
		{"an old version", "PUT", "/policy", put(noPrivileged, 0), access.Administrator, http.StatusConflict, "meanwhile"},
		{"history", "GET", "/policies", nil, access.Viewer, http.StatusOK, `"comment":"why"`},
		{"allowed", "POST", "/decide", deployment("r1", false), access.Operator, http.StatusOK, `"outcome":"allow"`},
		{"denied", "POST", "/decide", deployment("r2", true), access.Operator, http.StatusOK, `"rule":"privileged"`},
		{"no door", "POST", "/decide", admission.Request{ID: "r", Door: "window", Action: admission.Run}, access.Operator, http.StatusUnprocessableEntity, "door"},
		{"no id", "POST", "/decide", admission.Request{Door: admission.CI, Action: admission.Run}, access.Operator, http.StatusUnprocessableEntity, "id:"},
		{"too large", "POST", "/decide", deployment(strings.Repeat("x", 300<<10), false), access.Operator, http.StatusRequestEntityTooLarge, ""},
		{"tried", "POST", "/policy/try", map[string]any{"text": noPrivileged, "request": deployment("r3", true)}, access.Viewer, http.StatusOK, `"outcome":"deny"`},
		{"denied ones", "GET", "/verdicts?outcome=deny&rule=privileged&family=web", nil, access.Viewer, http.StatusOK, `"request":"r2"`},
		{"of another family", "GET", "/verdicts?family=pay", nil, access.Viewer, http.StatusOK, `"verdicts":[]`},
		{"totals", "GET", "/verdicts", nil, access.Viewer, http.StatusOK, `"outcomes":{"allow":1,"deny":2}`},
		{"no such outcome", "GET", "/verdicts?outcome=maybe", nil, access.Viewer, http.StatusUnprocessableEntity, ""},
		{"one by its request", "GET", "/verdicts/r2", nil, access.Viewer, http.StatusOK, `no registry that is watched holds it`},
		{"none of that name", "GET", "/verdicts/r9", nil, access.Viewer, http.StatusNotFound, "castellan admit verdicts"},
		{"for everything", "POST", "/exceptions", endless, access.Administrator, http.StatusUnprocessableEntity, "what it is for"},
		{"an operator makes no exception", "POST", "/exceptions", exception, access.Operator, http.StatusForbidden, ""},
		{"an exception", "POST", "/exceptions", exception, access.Administrator, http.StatusCreated, `"id":"1"`},
		{"allowed by it", "POST", "/decide", deployment("r4", true), access.Operator, http.StatusOK, `"effect":"excepted"`},
		{"exceptions", "GET", "/exceptions", nil, access.Viewer, http.StatusOK, `"until it is split"`},
		{"withdrawn", "DELETE", "/exceptions/1", nil, access.Administrator, http.StatusOK, `"withdrawn_by"`},
		{"twice", "DELETE", "/exceptions/1", nil, access.Administrator, http.StatusConflict, ""},
		{"denied again", "POST", "/decide", deployment("r5", true), access.Operator, http.StatusOK, `"outcome":"deny"`},
		{"exceptions that hold", "GET", "/exceptions", nil, access.Viewer, http.StatusOK, `"exceptions":[]`},
		{"all exceptions", "GET", "/exceptions?all=true", nil, access.Viewer, http.StatusOK, `"until it is split"`},
		{"facts", "GET", "/facts?image=reg.example/shop@sha256:" + strings.Repeat("a", 64), nil, access.Viewer, http.StatusOK, `no registry that is watched holds it`},
		{"facts of a tag", "GET", "/facts?image=reg.example/shop:1", nil, access.Viewer, http.StatusUnprocessableEntity, "digest"},
	} {
		if a := h.ask(t, c.method, "/api/v1/admit"+c.path, c.body, h.as(c.role)...); a.status != c.status || !strings.Contains(string(a.body), c.says) {
			t.Errorf("%s: got %d %s, want %d with %q", c.name, a.status, a.body, c.status, c.says)
		}
	}
}

func TestReplayOverTheAPI(t *testing.T) {
	h := open(t, nil)
	lax := "version: 1\nmode: audit\nrules:\n  - use: privileged\n"
	if a := h.ask(t, "PUT", "/api/v1/admit/policy", map[string]any{"text": lax, "after": 0}, h.as(access.Administrator)...); a.status != http.StatusOK {
		t.Fatalf("set: got %d %s", a.status, a.body)
	}
	for i := range 5 {
		a := h.ask(t, "POST", "/api/v1/admit/decide", deployment(fmt.Sprint("r", i), i%2 == 0), h.as(access.Operator)...)
		if a.status != http.StatusOK || !strings.Contains(string(a.body), `"outcome":"allow"`) {
			t.Fatalf("decide: got %d %s", a.status, a.body)
		}
	}
	var total, denied int
	before := int64(0)
	for pages := 0; pages == 0 || before != 0; pages++ {
		a := h.ask(t, "POST", "/api/v1/admit/replay", map[string]any{"text": noPrivileged, "limit": 2, "before": before}, h.as(access.Viewer)...)
		var out struct {
			Examined, Denied int
			Rules            map[string]int
			Changes          []struct{ Request, Was, Now string }
			Next             int64
		}
		if err := json.Unmarshal(a.body, &out); err != nil || a.status != http.StatusOK || len(out.Changes) != out.Denied || out.Rules["privileged"] != out.Denied {
			t.Fatalf("replay: got %d %s, %v", a.status, a.body, err)
		}
		total, denied, before = total+out.Examined, denied+out.Denied, out.Next
	}
	if total != 5 || denied != 3 {
		t.Errorf("of %d requests %d would be denied, want 5 and 3", total, denied)
	}
}
