package server_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/castellan-security/castellan/internal/access"
)

func TestTrustPolicyOverTheAPI(t *testing.T) {
	h := open(t, nil)
	const text = "version: 1\nimages:\n  - match: reg.example/a\n    deny: never\n"
	put := func(text string, after int) map[string]any {
		return map[string]any{"text": text, "comment": "why", "after": after}
	}
	for _, c := range []struct {
		name, method, path string
		body               any
		role               access.Role
		status             int
		says               string
	}{
		{"none yet", "GET", "/trust/policy", nil, access.Viewer, http.StatusNotFound, "castellan trust policy set FILE"},
		{"an operator may not", "PUT", "/trust/policy", put(text, 0), access.Operator, http.StatusForbidden, ""},
		{"no policy", "PUT", "/trust/policy", put("version: 1\nodd: 1\n", 0), access.Administrator, http.StatusUnprocessableEntity, "policy:2:"},
		{"what is wrong", "POST", "/trust/policy/check", map[string]any{"text": "version: 1\nodd: 1\n"}, access.Viewer, http.StatusOK, `"line":2`},
		{"tried", "POST", "/trust/policy/try", map[string]any{"text": text}, access.Viewer, http.StatusOK, `"problems":[],"changes":[]`},
		{"tried, and wrong", "POST", "/trust/policy/try", map[string]any{"text": "version: 1\nodd: 1\n"}, access.Viewer, http.StatusOK, `"line":2`},
		{"tried on half an image", "POST", "/trust/policy/try", map[string]any{"text": text, "digest": "a"}, access.Viewer, http.StatusUnprocessableEntity, "repository"},
		{"tried on no image", "POST", "/trust/policy/try", map[string]any{"text": text, "repository": "a", "digest": "b"}, access.Viewer, http.StatusNotFound, ""},
		{"tried by nobody", "POST", "/trust/policy/try", map[string]any{"text": text}, "", http.StatusUnauthorized, ""},
		{"set", "PUT", "/trust/policy", put(text, 0), access.Administrator, http.StatusOK, `"version":1`},
		{"an old version", "PUT", "/trust/policy", put(text, 0), access.Administrator, http.StatusConflict, "meanwhile"},
		{"read", "GET", "/trust/policy?version=1", nil, access.Viewer, http.StatusOK, "reg.example/a"},
		{"history", "GET", "/trust/policies", nil, access.Viewer, http.StatusOK, `"comment":"why"`},
		{"images", "GET", "/trust/images?state=denied&running=true", nil, access.Viewer, http.StatusOK, `"images":[]`},
		{"no such state", "GET", "/trust/images?state=odd", nil, access.Viewer, http.StatusUnprocessableEntity, ""},
		{"no such image", "GET", "/trust/image?repository=a&digest=b", nil, access.Viewer, http.StatusNotFound, ""},
	} {
		if a := h.ask(t, c.method, "/api/v1"+c.path, c.body, h.as(c.role)...); a.status != c.status || !strings.Contains(string(a.body), c.says) {
			t.Errorf("%s: got %d %s, want %d with %q", c.name, a.status, a.body, c.status, c.says)
		}
	}
}
