package server_test

import (
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/server/account"
)

// routes says, by hand, which role may ask what: the document and the code are
// held against it.
var routes = []struct {
	method, path string
	body         any
	least        access.Role // "" is anybody who is somebody
}{
	{"GET", "/status", nil, access.Viewer},
	{"GET", "/workloads", nil, access.Viewer},
	{"GET", "/workloads/" + shop, nil, access.Viewer},
	{"GET", "/workloads/" + shop + "/processes", nil, access.Viewer},
	{"GET", "/workloads/" + shop + "/samples", nil, access.Viewer},
	{"GET", "/usage", nil, access.Viewer},
	{"GET", "/flows", nil, access.Viewer},
	{"GET", "/events", nil, access.Viewer},
	{"GET", "/events/1", nil, access.Viewer},
	{"GET", "/events/rate", nil, access.Viewer},
	{"GET", "/images", nil, access.Viewer},
	{"GET", "/images/" + shop, nil, access.Viewer},
	{"GET", "/images/" + shop + "/inventory", nil, access.Viewer},
	{"GET", "/images/" + shop + "/vulnerabilities", nil, access.Viewer},
	{"POST", "/images/" + shop + "/scan", nil, access.Operator},
	{"GET", "/scans/status", nil, access.Viewer},
	{"GET", "/vulnerabilities", nil, access.Viewer},
	{"GET", "/vulnerabilities/999", nil, access.Viewer},
	{"GET", "/acceptances", nil, access.Viewer},
	{"POST", "/acceptances", map[string]any{"vulnerability": "CVE-1", "reason": "r", "expires": "2099-01-01T00:00:00Z"}, access.Operator},
	{"DELETE", "/acceptances/999", nil, access.Operator},
	{"GET", "/agents", nil, access.Viewer},
	{"GET", "/agents/" + agentID, nil, access.Viewer},
	{"GET", "/agents/" + agentID + "/processes", nil, access.Viewer},
	{"GET", "/agents/invitations", nil, access.Administrator},
	{"POST", "/agents/invitations", map[string]any{"name": "host-7"}, access.Administrator},
	{"GET", "/agents/certificates", nil, access.Viewer},
	{"DELETE", "/agents/" + agentID + "/certificates", nil, access.Administrator},
	{"POST", "/agents/" + agentID + "/snapshot", nil, access.Operator},
	{"GET", "/agents/settings", nil, access.Viewer},
	{"PUT", "/agents/settings", map[string]any{"sensors_off": []string{"dns"}}, access.Operator},
	{"GET", "/agents/" + agentID + "/settings", nil, access.Viewer},
	{"PUT", "/agents/" + agentID + "/settings", map[string]any{"window_ns": 60_000_000_000}, access.Operator},
	{"GET", "/notify/targets", nil, access.Viewer},
	{"POST", "/notify/targets", map[string]any{"name": "n", "type": "webhook", "url": "https://x.example"}, access.Operator},
	{"PATCH", "/notify/targets/999", map[string]any{"name": "n"}, access.Operator},
	{"DELETE", "/notify/targets/999", nil, access.Operator},
	{"POST", "/notify/targets/999/test", nil, access.Operator},
	{"GET", "/notify/dead", nil, access.Viewer},
	{"POST", "/notify/dead/retry", map[string]any{"all": true}, access.Operator},
	{"POST", "/notify/dead/drop", map[string]any{"all": true}, access.Operator},
	{"POST", "/notify/preview", map[string]any{"title": "{{.Title}}"}, access.Operator},
	{"GET", "/detect/rules", nil, access.Viewer},
	{"GET", "/detect/documents", nil, access.Viewer},
	{"GET", "/detect/silences", nil, access.Viewer},
	{"POST", "/detect/silences", map[string]any{"rule": "escape-*", "reason": "r", "until": "2099-01-01T00:00:00Z"}, access.Operator},
	{"DELETE", "/detect/silences/999", nil, access.Operator},
	{"GET", "/session", nil, ""},
	{"GET", "/users", nil, access.Administrator},
	{"POST", "/users", map[string]string{"name": "new", "role": "viewer", "password": password}, access.Administrator},
	{"PATCH", "/users/2", map[string]any{"disabled": false}, access.Administrator},
	{"DELETE", "/users/999", nil, access.Administrator},
	{"GET", "/audit", nil, access.Administrator},
	{"GET", "/tokens", nil, access.Administrator},
	{"POST", "/tokens", map[string]any{"name": "n", "scopes": []string{"events:read"}}, access.Administrator},
	{"DELETE", "/tokens/999", nil, access.Administrator},
}

func TestNobodyGetsNothing(t *testing.T) {
	h := open(t, nil)
	for _, r := range routes {
		for name, header := range map[string][]string{
			"no identity":   nil,
			"unknown token": {"Authorization", "Bearer cst_" + strings.Repeat("A", 43)},
			"basic":         {"Authorization", "Basic YWRtaW46YWRtaW4="},
			"forged cookie": {"Cookie", account.CookieName + "=" + strings.Repeat("A", 43)},
		} {
			a := h.ask(t, r.method, "/api/v1"+r.path, r.body, header...)
			if a.status != http.StatusUnauthorized {
				t.Errorf("%s %s with %s: got %d, want 401", r.method, r.path, name, a.status)
			}
			a.problem(t)
		}
	}
}

// TestRolesMayWhatTheTableSays asks every route with a token of every role. A
// token of an administrator carries tokens:manage, the others' don't, so that
// tokens can't make tokens.
func TestRolesMayWhatTheTableSays(t *testing.T) {
	h := open(t, nil)
	h.report(t, "sh")
	for _, role := range access.Roles() {
		for _, r := range routes {
			a := h.ask(t, r.method, "/api/v1"+r.path, r.body, h.as(role)...)
			rank := func(r access.Role) int { return slices.Index(access.Roles(), r) }
			want := rank(role) >= rank(r.least)
			if got := a.status != http.StatusForbidden; got != want || a.status == http.StatusUnauthorized {
				t.Errorf("%s asks %s %s: got %d, want permitted %v", role, r.method, r.path, a.status, want)
			}
		}
	}
}

// browser is somebody signed in, with a cookie jar.
type browser struct {
	*http.Client
	csrf string
}

func (h *house) browser(t *testing.T, name string) *browser {
	t.Helper()
	b := &browser{Client: h.client(t)}
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	b.Jar = jar
	a := ask(t, b.Client, h.base, "POST", "/api/v1/session", map[string]string{"name": name, "password": password})
	if a.status != http.StatusOK {
		t.Fatalf("sign in: got %d %s", a.status, a.body)
	}
	var s struct {
		CSRF string `json:"csrf_token"`
	}
	a.into(t, &s)
	b.csrf = s.CSRF
	return b
}

func TestSessionOfABrowser(t *testing.T) {
	h := open(t, nil)
	a := h.ask(t, "POST", "/api/v1/session", map[string]string{"name": "operator", "password": password})
	cookie := a.header.Get("Set-Cookie")
	for _, want := range []string{"__Host-castellan=", "Path=/", "HttpOnly", "Secure", "SameSite=Lax"} {
		if !strings.Contains(cookie, want) {
			t.Errorf("cookie %q lacks %q", cookie, want)
		}
	}
	if strings.Contains(cookie, "Domain") {
		t.Errorf("cookie %q names a domain", cookie)
	}
	b := h.browser(t, "operator")
	var who struct {
		Identity access.Identity
		CSRF     string `json:"csrf_token"`
	}
	ask(t, b.Client, h.base, "GET", "/api/v1/session", nil).into(t, &who)
	if who.Identity.Actor != "user:operator" || who.Identity.Role != access.Operator || who.CSRF != b.csrf || b.csrf == "" {
		t.Errorf("got %+v", who)
	}
	if a := ask(t, b.Client, h.base, "DELETE", "/api/v1/session", nil, "X-CSRF-Token", b.csrf); a.status != http.StatusNoContent {
		t.Fatalf("sign out: got %d %s", a.status, a.body)
	}
	if a := ask(t, b.Client, h.base, "GET", "/api/v1/session", nil); a.status != http.StatusUnauthorized {
		t.Errorf("after it: got %d, want 401", a.status)
	}
}

func TestChangesOfACookieNeedItsToken(t *testing.T) {
	h := open(t, nil)
	b := h.browser(t, "operator")
	other := h.browser(t, "viewer")
	n := 0
	body := func() map[string]any {
		n++
		return map[string]any{"name": "t" + strconv.Itoa(n), "scopes": []string{"events:read"}}
	}
	for _, c := range []struct {
		name   string
		header []string
		want   int
	}{
		{"no token", nil, http.StatusForbidden},
		{"a wrong one", []string{"X-CSRF-Token", strings.Repeat("A", 43)}, http.StatusForbidden},
		{"another session's", []string{"X-CSRF-Token", other.csrf}, http.StatusForbidden},
		{"its own", []string{"X-CSRF-Token", b.csrf}, http.StatusCreated},
		{"its own, from another site", []string{"X-CSRF-Token", b.csrf, "Sec-Fetch-Site", "cross-site"}, http.StatusForbidden},
		{"its own, another origin", []string{"X-CSRF-Token", b.csrf, "Origin", "https://evil.example"}, http.StatusForbidden},
		{"its own, same origin", []string{"X-CSRF-Token", b.csrf, "Origin", h.base}, http.StatusCreated},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := ask(t, b.Client, h.base, "POST", "/api/v1/tokens", body(), c.header...)
			if a.status != c.want {
				t.Errorf("got %d %s, want %d", a.status, a.body, c.want)
			}
		})
	}
	if a := h.ask(t, "POST", "/api/v1/tokens", body(), h.as(access.Administrator)...); a.status != http.StatusCreated {
		t.Errorf("API token without CSRF token: got %d, want 201", a.status)
	}
}

func TestFormOfTheConsoleCarriesTheTokenAsAField(t *testing.T) {
	h := open(t, nil)
	b := h.browser(t, "viewer")
	if a := ask(t, b.Client, h.base, "POST", "/sign-out", url.Values{}); a.status != http.StatusForbidden {
		t.Errorf("without: got %d, want 403", a.status)
	}
	if a := ask(t, b.Client, h.base, "POST", "/sign-out", url.Values{"csrf": {b.csrf}}); a.status/100 != 3 {
		t.Errorf("with: got %d, want a redirect", a.status)
	}
	if a := ask(t, b.Client, h.base, "GET", "/api/v1/session", nil); a.status != http.StatusUnauthorized {
		t.Errorf("after it: got %d, want 401", a.status)
	}
}

func TestSignInFromAnotherSiteIsRefused(t *testing.T) {
	h := open(t, nil)
	for _, path := range []string{"/sign-in", "/api/v1/session"} {
		a := h.ask(t, "POST", path, url.Values{"name": {"viewer"}, "password": {password}}, "Sec-Fetch-Site", "cross-site")
		if a.status != http.StatusForbidden || a.header.Get("Set-Cookie") != "" {
			t.Errorf("%s: got %d, want 403 and no cookie", path, a.status)
		}
	}
}

func TestGuessingIsAnsweredWithRetryAfter(t *testing.T) {
	h := open(t, nil)
	var last answer
	for range 6 {
		last = h.ask(t, "POST", "/api/v1/session", map[string]string{"name": "viewer", "password": "wrong wrong wrong"})
	}
	if last.status != http.StatusTooManyRequests || last.header.Get("Retry-After") != "1" {
		t.Errorf("got %d, Retry-After %q, want 429 and 1", last.status, last.header.Get("Retry-After"))
	}
}

func TestPasswordChangeEndsTheSession(t *testing.T) {
	h := open(t, nil)
	b := h.browser(t, "viewer")
	a := ask(t, b.Client, h.base, "POST", "/api/v1/account/password",
		map[string]string{"old": password, "new": "another long password"}, "X-CSRF-Token", b.csrf)
	if a.status != http.StatusNoContent {
		t.Fatalf("got %d %s, want 204", a.status, a.body)
	}
	if a := ask(t, b.Client, h.base, "GET", "/api/v1/session", nil); a.status != http.StatusUnauthorized {
		t.Errorf("after it: got %d, want 401", a.status)
	}
}

func TestUserLifeOverTheAPI(t *testing.T) {
	h := open(t, nil)
	admin := h.as(access.Administrator)
	var u access.User
	a := h.ask(t, "POST", "/api/v1/users", map[string]string{"name": "Maria", "role": "viewer", "password": password}, admin...)
	a.into(t, &u)
	if a.status != http.StatusCreated || u.Name != "maria" || !u.MustChange || strings.Contains(string(a.body), "argon2") {
		t.Fatalf("create: got %d %s", a.status, a.body)
	}
	path := "/api/v1/users/" + strconv.FormatInt(u.ID, 10)
	if a := h.ask(t, "PATCH", path, map[string]any{"role": "operator", "disabled": true}, admin...); a.status != http.StatusOK {
		t.Errorf("change: got %d %s", a.status, a.body)
	}
	if a := h.ask(t, "DELETE", path, nil, admin...); a.status != http.StatusNoContent {
		t.Errorf("delete: got %d %s", a.status, a.body)
	}
	var log struct{ Audit []access.Audit }
	h.ask(t, "GET", "/api/v1/audit?limit=3", nil, admin...).into(t, &log)
	var actions []string
	for _, l := range log.Audit {
		actions = append(actions, l.Actor+" "+l.Action)
		if l.Address != "127.0.0.1" {
			t.Errorf("%s: got address %q, want the client's", l.Action, l.Address)
		}
	}
	want := []string{"token:administrator/test user.delete", "token:administrator/test user.update", "token:administrator/test user.create"}
	if !slices.Equal(actions, want) {
		t.Errorf("audit log: got %v, want %v", actions, want)
	}
}
