package console_test

import (
	"errors"
	"html"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/server/account"
	"github.com/castellan-security/castellan/internal/server/console/consoletest"
)

// testNow is when the shop is looked at.
func testNow() time.Time { return time.Date(2026, 11, 23, 14, 30, 20, 0, time.UTC) }

// pages are all pages of the shop that an administrator may see.
func pages() []string {
	paths := []string{
		"/", "/workloads", "/workloads/" + consoletest.Storefront, "/workloads/" + consoletest.Hostile,
		"/workloads/" + consoletest.Client, "/events", "/events?kind=process.exec&entered=true", "/events/1",
		"/agents", "/agents/" + consoletest.AgentID, "/agents/" + consoletest.Agent2ID,
		"/users", "/tokens", "/audit", "/account", "/notify", "/network", "/network?since=7d&cluster=shop", "/network?cluster=nowhere",
		"/events?kind=file,network,dns,privilege,memory,resource&limit=1000",
	}
	paths = append(paths, imagePages()...)
	for _, id := range []string{consoletest.Storefront, consoletest.Hostile, consoletest.Client} {
		for _, tab := range []string{"processes", "files", "connections", "dns", "resources", "resources?since=24h"} {
			paths = append(paths, "/workloads/"+id+"/"+tab)
		}
	}
	kinds := map[event.Kind]bool{}
	for _, e := range consoletest.New(testNow()).Events {
		if e.Exec != nil && (e.Exec.Entered || e.Exec.Origin == event.OriginMount || e.Exec.SetUID) || e.Exec == nil && (!kinds[e.Kind] || e.WorkloadID == consoletest.Hostile) {
			kinds[e.Kind] = true
			paths = append(paths, "/events/"+strconv.FormatInt(e.ID, 10))
		}
	}
	return paths
}

func TestPagesAnswer(t *testing.T) {
	h := shopHouse(t)
	for _, path := range pages() {
		t.Run(path, func(t *testing.T) {
			w := h.get(t, access.Administrator, path)
			if w.Code != http.StatusOK {
				t.Fatalf("got %d, want 200: %s", w.Code, w.Body)
			}
			if got := w.Header().Get("Cache-Control"); got != "no-store" {
				t.Errorf("got Cache-Control %q, want no-store", got)
			}
			body := w.Body.String()
			for _, part := range []string{"<!doctype html>", `lang="en"`, `<a class="skip" href="#main">`, `<main id="main"`, "<h1>", "<title>"} {
				if !strings.Contains(body, part) {
					t.Errorf("the page lacks %s", part)
				}
			}
		})
	}
}

func TestNothingInline(t *testing.T) {
	h := shopHouse(t)
	inline := regexp.MustCompile(`(?i)<style|\sstyle="|\son[a-z]+="|javascript:|<script(?:\s+defer)?>|https?://[^"<\s]*\.(?:js|css)`)
	for _, path := range append(pages(), "/nowhere") {
		w := h.get(t, access.Administrator, path)
		if got := w.Header().Get("Content-Security-Policy"); !strings.HasPrefix(got, "default-src 'self';") || strings.Contains(got, "unsafe") {
			t.Errorf("%s: got policy %q", path, got)
		}
		if got := inline.FindString(w.Body.String()); got != "" {
			t.Errorf("%s has %q, which its policy refuses", path, got)
		}
	}
}

func TestHostileTextIsOnlyText(t *testing.T) {
	h := shopHouse(t)
	raw := []string{"<img src=x", "<script>alert", "\u202e", "\u200b", "\x1b", "\x07"}
	for _, path := range append(pages(), "/workloads/%3Cscript%3Ealert(1)%E2%80%AE", "/events?text=%22%3E%3Cscript%3Ealert(1)", "/nowhere/%E2%80%AE") {
		body := h.get(t, access.Administrator, path).Body.String()
		for _, bad := range raw {
			if strings.Contains(body, bad) {
				t.Errorf("%s shows %q as it is", path, bad)
			}
		}
	}
	body := h.get(t, access.Administrator, "/workloads/"+consoletest.Hostile).Body.String()
	for _, want := range []string{`\u202e`, `\u200b`, `\x1b`, "&lt;img src=x onerror=alert(1)&gt;"} {
		if !strings.Contains(body, want) {
			t.Errorf("the page of the hostile workload does not show %s", want)
		}
	}
}

func TestEveryFormCarriesTheToken(t *testing.T) {
	h := shopHouse(t)
	form := regexp.MustCompile(`(?s)<form[^>]*method="post"[^>]*>.*?</form>`)
	n := 0
	for _, path := range pages() {
		for _, f := range form.FindAllString(h.get(t, access.Administrator, path).Body.String(), -1) {
			n++
			if !strings.Contains(f, `name="csrf" value="`+csrfToken+`"`) {
				t.Errorf("%s: a form lacks the CSRF token: %.120s", path, f)
			}
		}
	}
	if n < len(pages()) {
		t.Errorf("found %d forms, want at least one a page", n)
	}
}

func TestChangesNeedTheToken(t *testing.T) {
	for _, path := range []string{
		"/agents", "/agents/" + consoletest.Agent2ID + "/revoke", "/users", "/users/2/role", "/users/2/delete", "/tokens", "/tokens/1/revoke",
		"/account/password", "/account/sign-out-everywhere", "/sign-out",
		"/images/" + consoletest.ImageID("api:2.4.1") + "/scan", "/acceptances", "/acceptances/3/end",
	} {
		for name, form := range map[string]string{"none": "csrf=", "another": "csrf=wrong&name=x"} {
			t.Run(path+" "+name, func(t *testing.T) {
				h := shopHouse(t)
				w := h.post(t, access.Administrator, path, form)
				if w.Code != http.StatusForbidden {
					t.Errorf("got %d, want 403", w.Code)
				}
				if len(h.accounts.calls) != 0 {
					t.Errorf("it was done all the same: %v", h.accounts.calls)
				}
			})
		}
	}
}

func TestFormsOfOtherSitesAreRefused(t *testing.T) {
	h := shopHouse(t)
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/sign-in", strings.NewReader("name=admin&password=right+password"))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Sec-Fetch-Site", "cross-site")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if w.Code != http.StatusForbidden || len(h.accounts.calls) != 0 {
		t.Errorf("got %d and calls %v, want 403 and none", w.Code, h.accounts.calls)
	}
}

func TestNobodyIsSentToSignIn(t *testing.T) {
	h := shopHouse(t)
	for path, want := range map[string]string{
		"/":                       "/sign-in",
		"/events?text=a&since=1h": "/sign-in?next=%2Fevents%3Ftext%3Da%26since%3D1h",
		"/users":                  "/sign-in?next=%2Fusers",
	} {
		w := h.get(t, "", path)
		if got := w.Header().Get("Location"); got != want || w.Code != http.StatusSeeOther {
			t.Errorf("%s: got %d to %q, want 303 to %q", path, w.Code, got, want)
		}
	}
	t.Run("an API token opens no page", func(t *testing.T) {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
		who := access.Identity{Actor: "token:x", Scopes: access.Scopes()}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r.WithContext(account.With(r.Context(), who, "")))
		if w.Code != http.StatusSeeOther {
			t.Errorf("got %d, want 303", w.Code)
		}
	})
	t.Run("htmx is told to go there", func(t *testing.T) {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/events", nil)
		r.Header.Set("HX-Request", "true")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if got := w.Header().Get("HX-Redirect"); got != "/sign-in?next=%2Fevents" {
			t.Errorf("got %q", got)
		}
	})
	t.Run("a stream is refused", func(t *testing.T) {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/events/live", nil)
		r.Header.Set("Accept", "text/event-stream")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != http.StatusUnauthorized {
			t.Errorf("got %d, want 401", w.Code)
		}
	})
}

func TestNextStaysHere(t *testing.T) {
	for next, want := range map[string]string{
		"/events?text=a": "/events?text=a", "": "/", "//evil.example": "/", "https://evil.example/": "/", `/\evil.example`: "/",
		"javascript:alert(1)": "/", "events": "/", "/\t/evil.example": "/",
	} {
		h := shopHouse(t)
		w := h.post(t, "", "/sign-in", "name=admin&password=right+password&next="+strings.NewReplacer("\t", "%09", "\\", "%5C", "?", "%3F", "=", "%3D").Replace(next))
		if got := w.Header().Get("Location"); got != want {
			t.Errorf("next %q: got %q, want %q", next, got, want)
		}
	}
}

func TestSignIn(t *testing.T) {
	h := shopHouse(t)
	w := h.post(t, "", "/sign-in", "name=Admin&password=right+password&next=/agents")
	if w.Code != http.StatusSeeOther || w.Header().Get("Location") != "/agents" {
		t.Fatalf("got %d to %q, want 303 to /agents", w.Code, w.Header().Get("Location"))
	}
	if got := w.Header().Get("Set-Cookie"); !strings.HasPrefix(got, account.CookieName+"=cookie-of-Admin;") || !strings.Contains(got, "HttpOnly") {
		t.Errorf("got cookie %q", got)
	}
	w = h.post(t, "", "/sign-in", "name=mira&password=wrong&next=/agents")
	body := w.Body.String()
	if w.Code != http.StatusUnauthorized || !strings.Contains(body, "The name or the password is wrong.") {
		t.Errorf("got %d without the reason", w.Code)
	}
	if !strings.Contains(body, `value="mira"`) || strings.Contains(body, `value="wrong"`) || !strings.Contains(body, `name="next" value="/agents"`) {
		t.Error("the form must keep the name and the way, and never the password")
	}
}

func TestRolesSeeWhatTheyMay(t *testing.T) {
	h := shopHouse(t)
	for _, tc := range []struct {
		role  access.Role
		path  string
		code  int
		shows bool // a link to it in the navigation
	}{
		{access.Viewer, "/users", 403, false},
		{access.Viewer, "/audit", 403, false},
		{access.Viewer, "/tokens", 200, true},
		{access.Viewer, "/agents", 200, true},
		{access.Viewer, "/images", 200, true},
		{access.Viewer, "/vulnerabilities", 200, true},
		{access.Viewer, "/notify", 200, true},
		{access.Role("nothing"), "/notify", 403, false},
		{access.Role("nothing"), "/images", 403, false},
		{access.Operator, "/users", 403, false},
		{access.Administrator, "/users", 200, true},
		{access.Administrator, "/audit", 200, true},
		{access.Role("nothing"), "/events", 403, true},
	} {
		t.Run(string(tc.role)+tc.path, func(t *testing.T) {
			if got := h.get(t, tc.role, tc.path).Code; got != tc.code {
				t.Errorf("got %d, want %d", got, tc.code)
			}
			shows := strings.Contains(h.get(t, tc.role, "/account").Body.String(), `<a href="`+tc.path)
			if shows != tc.shows {
				t.Errorf("link shown: got %v, want %v", shows, tc.shows)
			}
		})
	}
	t.Run("a viewer's change is refused", func(t *testing.T) {
		if got := h.post(t, access.Viewer, "/users/2/delete", "").Code; got != http.StatusForbidden {
			t.Errorf("got %d, want 403", got)
		}
		if len(h.accounts.calls) != 0 {
			t.Errorf("account was asked: %v", h.accounts.calls)
		}
	})
}

func TestPasswordMustBeChangedFirst(t *testing.T) {
	h := shopHouse(t)
	ask := func(path string) *httptest.ResponseRecorder {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil)
		who := access.Identity{Actor: "user:jun", UserID: 4, Name: "jun", Role: access.Viewer, MustChange: true}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r.WithContext(account.With(r.Context(), who, csrfToken)))
		return w
	}
	for _, path := range []string{"/", "/events", "/account", "/nowhere"} {
		if got := ask(path).Header().Get("Location"); got != "/account/password" {
			t.Errorf("%s: got %q, want the change of password", path, got)
		}
	}
	w := ask("/account/password")
	if body := w.Body.String(); w.Code != http.StatusOK || strings.Contains(body, "<nav") {
		t.Errorf("got %d, want the form alone, without navigation", w.Code)
	}
}

func TestChanges(t *testing.T) {
	for _, tc := range []struct{ name, path, form, call, to string }{
		{"create user", "/users", "name=ann&role=viewer&password=long+enough+one", "create ann as viewer", "/users?done=user-created"},
		{"role", "/users/2/role", "role=administrator", "role administrator", "/users?done=user-role"},
		{"disable", "/users/2/disable", "", "disable", "/users?done=user-disable"},
		{"enable", "/users/2/enable", "", "enable", "/users?done=user-enable"},
		{"reset", "/users/2/reset", "password=long+enough+one", "reset", "/users?done=user-reset"},
		{"delete", "/users/2/delete", "", "delete", "/users?done=user-delete"},
		{"revoke", "/tokens/1/revoke", "", "revoke", "/tokens?done=token-revoked"},
		{"cut off", "/agents/" + consoletest.Agent2ID + "/revoke", "", "cut off " + consoletest.Agent2ID, "/agents/" + consoletest.Agent2ID + "?done=agent-revoked"},
		{"password", "/account/password", "old=a&new=long+enough+one&again=long+enough+one", "password of admin", "/sign-in?done=password"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := shopHouse(t)
			w := h.post(t, access.Administrator, tc.path, tc.form)
			if got := w.Header().Get("Location"); got != tc.to {
				t.Errorf("got %d to %q, want %q", w.Code, got, tc.to)
			}
			if diff := cmp.Diff(h.accounts.calls, []string{tc.call}); diff != "" {
				t.Errorf("calls (-got +want):\n%s", diff)
			}
			h.accounts.err = fault.New(fault.Conflict, "no enabled administrator would be left").With("make another one first")
			if tc.name == "revoke" || tc.name == "cut off" {
				return // has no form to show a refusal beside
			}
			w = h.post(t, access.Administrator, tc.path, tc.form)
			if !strings.Contains(w.Body.String(), "No enabled administrator would be left. Make another one first.") {
				t.Errorf("got %d without the refusal and its remedy", w.Code)
			}
		})
	}
}

func TestPasswordsMustAgree(t *testing.T) {
	h := shopHouse(t)
	w := h.post(t, access.Viewer, "/account/password", "old=a&new=long+enough+one&again=long+enough+two")
	if w.Code != http.StatusUnprocessableEntity || !strings.Contains(w.Body.String(), "The two new passwords differ.") || len(h.accounts.calls) != 0 {
		t.Errorf("got %d, calls %v", w.Code, h.accounts.calls)
	}
}

func TestTokenSecretIsShownOnce(t *testing.T) {
	h := shopHouse(t)
	w := h.post(t, access.Viewer, "/tokens", "name=export&scope=events%3Aread&lasts=30d")
	if w.Code != http.StatusCreated || strings.Count(w.Body.String(), "cst_Secret") != 1 {
		t.Errorf("got %d, want 201 with the secret once", w.Code)
	}
	if body := h.get(t, access.Viewer, "/tokens").Body.String(); strings.Contains(body, "cst_Secret") {
		t.Error("the secret is shown again")
	}
	w = h.post(t, access.Viewer, "/tokens", "name=export&lasts=forever")
	if w.Code != http.StatusUnprocessableEntity || !strings.Contains(w.Body.String(), `value="export"`) {
		t.Errorf("got %d, want 422 with the form as it was typed", w.Code)
	}
}

func TestSignOutEverywhere(t *testing.T) {
	h := shopHouse(t)
	w := h.post(t, access.Viewer, "/account/sign-out-everywhere", "")
	if got := w.Header().Get("Location"); got != "/sign-in?done=everywhere" {
		t.Errorf("got %q", got)
	}
	if diff := cmp.Diff(h.accounts.calls, []string{"sign out all of admin"}); diff != "" {
		t.Errorf("calls (-got +want):\n%s", diff)
	}
}

func TestErrorsArePages(t *testing.T) {
	for _, tc := range []struct {
		name, path string
		broken     error
		code       int
		shows      string
		hides      string
	}{
		{"no page", "/nowhere", nil, 404, "There is no page at /nowhere.", ""},
		{"no workload", "/workloads/nosuch", nil, 404, "No workload has the id", ""},
		{"no event", "/events/999999", nil, 404, "Retention may have removed it", ""},
		{"no number", "/events/abc", nil, 404, "No event has the number", ""},
		{"unknown error", "/agents", errors.New("dial /var/lib/hidden"), 500, "error_id", "/var/lib/hidden"},
		{"disk full", "/agents", fault.New(fault.Exhausted, "the disk is full").With("free some space"), 429, "Free some space", ""},
		{"bad filter", "/events?kind=nonsense", nil, 422, "is not a kind of event", ""},
		{"bad time", "/events?since=yesterday", nil, 422, "Parameter since", ""},
		{"bad state", "/workloads?state=dead", nil, 422, "is not a state", ""},
		{"bad scan state", "/images?state=dead", nil, 422, "is not a state of a scan", ""},
		{"bad severity", "/vulnerabilities?severity=awful", nil, 422, "is not a severity", ""},
		{"bad severity of an image", "/images/" + consoletest.ImageID("api:2.4.1") + "/findings?severity=awful", nil, 422, "is not a severity", ""},
		{"no image", "/images/sha256:nosuch", nil, 404, "No image has the id", ""},
		{"no view of an image", "/images/" + consoletest.ImageID("api:2.4.1") + "/nonsense", nil, 404, "An image has no page called", ""},
		{"no vulnerability", "/vulnerabilities/CVE-1999-0001", nil, 404, "No scanned image has a vulnerability called", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := shopHouse(t)
			h.store.broken = tc.broken
			w := h.get(t, access.Administrator, tc.path)
			body := w.Body.String()
			if w.Code != tc.code || !strings.Contains(body, tc.shows) {
				t.Errorf("got %d, want %d showing %q", w.Code, tc.code, tc.shows)
			}
			if tc.hides != "" && strings.Contains(body, tc.hides) {
				t.Errorf("the page tells %q", tc.hides)
			}
			if !strings.Contains(body, `href="/"`) {
				t.Error("the page leads nowhere")
			}
		})
	}
}

// The page of an event says which layer of the image its file is from, and what
// that one is called.
func TestEventTellsLayer(t *testing.T) {
	h := shopHouse(t)
	for _, tt := range []struct {
		name   string
		is     func(event.Event) bool
		says   string
		diffID string
	}{
		{"exec", func(e event.Event) bool { return e.Exec != nil && e.Exec.Layer.Number == 2 }, "The file came with image layer 2 of 3 and is unchanged since.", "sha256:0e5f"},
		{"file", func(e event.Event) bool { return e.File != nil && e.File.Layer.Number == 1 }, "image layer 1 of 3", "sha256:c1d2"},
		{"memory", func(e event.Event) bool { return e.Memory != nil && e.Memory.Layer.Number == 3 }, "image layer 3 of 3", "sha256:77a0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			events := consoletest.New(testNow()).Events
			i := slices.IndexFunc(events, tt.is)
			if i < 0 {
				t.Fatal("the shop has no such event")
			}
			body := h.get(t, access.Administrator, "/events/"+strconv.FormatInt(events[i].ID, 10)).Body.String()
			if !strings.Contains(body, tt.says) || !strings.Contains(body, tt.diffID) {
				t.Errorf("the page does not say %q and %q", tt.says, tt.diffID)
			}
		})
	}
}

func TestOnePageAsksLittle(t *testing.T) {
	for path, most := range map[string]int{
		"/": 5, "/workloads": 1, "/workloads/" + consoletest.Storefront: 5, "/events": 1, "/events/1": 3, "/agents": 1, "/agents/" + consoletest.AgentID: 2,
		"/images": 2, "/images/" + consoletest.ImageID("storefront:2.4.1"): 6, "/registries/shop": 2, "/images/" + consoletest.ImageID("storefront:2.4.1") + "/packages": 4, "/vulnerabilities": 1,
	} {
		h := shopHouse(t)
		h.get(t, access.Administrator, path)
		if h.store.asked > most {
			t.Errorf("%s asks the store %d times, want at most %d", path, h.store.asked, most)
		}
	}
}

func TestStaticFiles(t *testing.T) {
	h := shopHouse(t)
	link := regexp.MustCompile(`(?:href|src)="(/static/[^"#]+)`)
	found := link.FindAllStringSubmatch(h.get(t, access.Administrator, "/").Body.String(), -1)
	if len(found) < 4 {
		t.Fatalf("found %d files, want style, scripts and icons", len(found))
	}
	for _, f := range found {
		w := h.get(t, "", f[1])
		if w.Code != http.StatusOK || w.Header().Get("Cache-Control") != "public, max-age=31536000, immutable" {
			t.Errorf("%s: got %d, %q", f[1], w.Code, w.Header().Get("Cache-Control"))
		}
		old := regexp.MustCompile(`/static/[0-9a-f]+/`).ReplaceAllString(f[1], "/static/0000/")
		if got := h.get(t, "", old).Header().Get("Cache-Control"); got != "no-cache" {
			t.Errorf("%s: got %q, want no-cache", old, got)
		}
	}
	for _, path := range []string{"/static/", "/static/x/nosuch.js", "/static/x/../../go.mod"} {
		if got := h.get(t, "", path).Code; got == http.StatusOK {
			t.Errorf("%s: got 200", path)
		}
	}
	script := regexp.MustCompile(`/static/[0-9a-f]+/console\.js`).FindString(h.get(t, access.Administrator, "/").Body.String())
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, script, nil)
	r.Header.Set("Accept-Encoding", "gzip, br")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if got := w.Header().Get("Content-Encoding"); got != "gzip" {
		t.Errorf("%s: got encoding %q, want gzip", script, got)
	}
}

func TestASearchThatStoppedEarlySaysSo(t *testing.T) {
	h := shopHouse(t)
	h.store.partial = true
	body := h.get(t, access.Viewer, "/events?entered=true").Body.String()
	for _, want := range []string{"The search stopped before the page was full, at events of 2026-11-23", "Look further back", `href="/events?entered=true&amp;before=`} {
		if !strings.Contains(body, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
}

func TestPagesOfEvents(t *testing.T) {
	h := shopHouse(t)
	link := regexp.MustCompile(`href="(/events[^"]*)" rel="next"`)
	row := regexp.MustCompile(`<tr id="(e\d+)"`)
	seen := map[string]bool{}
	pages := 0
	for path := "/events?kind=process.exec"; path != ""; pages++ {
		body := h.get(t, access.Viewer, path).Body.String()
		for _, m := range row.FindAllStringSubmatch(body, -1) {
			if seen[m[1]] {
				t.Errorf("%s comes twice", m[1])
			}
			seen[m[1]] = true
		}
		if pages > 0 && strings.Contains(body, "data-live-rows") {
			t.Errorf("%s follows, though it is not the newest page", path)
		}
		path = ""
		if m := link.FindStringSubmatch(body); m != nil {
			path = html.UnescapeString(m[1])
		}
	}
	want := 0
	for _, e := range h.store.shop.Events {
		if e.Exec != nil {
			want++
		}
	}
	if len(seen) != want || pages != (want+99)/100 {
		t.Errorf("got %d events on %d pages, want %d", len(seen), pages, want)
	}
}

func TestInvitation(t *testing.T) {
	h := shopHouse(t)
	w := h.post(t, access.Administrator, "/agents", "name=host-9")
	body := html.UnescapeString(w.Body.String())
	if w.Code != http.StatusCreated || !strings.Contains(body, "castellan agent join --server https://example.com --ca-fingerprint sha256:0f3c --token cji_Secret-") {
		t.Errorf("got %d without the command", w.Code)
	}
	if diff := cmp.Diff([]string{"invite host-9"}, h.accounts.calls); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
	for _, role := range []access.Role{access.Viewer, access.Operator} {
		h := shopHouse(t)
		for _, path := range []string{"/agents", "/agents/" + consoletest.Agent2ID + "/revoke"} {
			if w := h.post(t, role, path, "name=x"); w.Code != http.StatusForbidden || len(h.accounts.calls) != 0 {
				t.Errorf("%s as %s: got %d and calls %v, want 403 and none", path, role, w.Code, h.accounts.calls)
			}
		}
		if body := h.get(t, role, "/agents").Body.String(); strings.Contains(body, `action="/agents"`) {
			t.Errorf("a %s is shown the form to invite", role)
		}
	}
}

func TestTabsThatAreNone(t *testing.T) {
	h := shopHouse(t)
	for path, want := range map[string]int{
		"/workloads/" + consoletest.Storefront + "/nonsense":       http.StatusNotFound,
		"/workloads/" + consoletest.Storefront + "/nonsense/live":  http.StatusNotFound,
		"/workloads/" + consoletest.Storefront + "/processes/live": http.StatusNotFound,
		"/workloads/nosuch/files":                                  http.StatusNotFound,
	} {
		if w := h.get(t, access.Viewer, path); w.Code != want {
			t.Errorf("%s: got %d, want %d", path, w.Code, want)
		}
	}
}
