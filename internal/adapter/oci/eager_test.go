package oci_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/castellan-security/castellan/internal/adapter/oci"
)

// givesTokens refuses whoever has no token, and gives one to anybody. What it
// doesn't know at all it says to everybody.
func givesTokens(h *hub) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		switch {
		case r.URL.Path == "/token":
			if r.URL.Query().Get("scope") != "repository:shop/web:pull" || r.URL.Query().Get("service") != "hub" {
				w.WriteHeader(http.StatusBadRequest)
				return true
			}
			_, _ = fmt.Fprint(w, `{"token":"anybody"}`)
			return true
		case strings.Contains(r.URL.Path, "/referrers/"):
			w.WriteHeader(http.StatusNotFound)
			return true
		case r.Header.Get("Authorization") == "Bearer anybody":
			return false
		}
		w.Header().Add("WWW-Authenticate", `Negotiate`)
		w.Header().Add("WWW-Authenticate", fmt.Sprintf(`Bearer realm="http://%s/token",service="hub"`, h.host()))
		w.WriteHeader(http.StatusUnauthorized)
		return true
	}
}

// A registry is asked what is wanted first, and how it wants to be entered only
// by its refusal: once, however many requests are under way.
func TestEnteredByTheFirstRequest(t *testing.T) {
	h := newHub(t)
	p := inRegistry(t, h)
	h.before = without(404)
	if _, err := p.attach(envelopes()[0]); err != nil {
		t.Fatal(err)
	}
	before := len(h.asked)
	h.before = serialised(givesTokens(h))
	r, _ := door(t, oci.Options{})
	got, err := r.Envelopes(t.Context(), p.subject)
	if err != nil || len(got) != 1 {
		t.Fatalf("%d found, %v", len(got), err)
	}
	if n := h.count("/token"); n != 1 {
		t.Errorf("%d tokens were asked for, want 1: %q", n, h.asked)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if slices.Contains(h.asked[before:], "GET /v2/") {
		t.Errorf("the registry was asked how it wants to be entered: %q", h.asked[before:])
	}
}
