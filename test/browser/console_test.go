package browser

import (
	"context"
	_ "embed"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/server/account"
	"github.com/castellan-security/castellan/internal/server/console/consoletest"
)

var pictures = flag.String("pictures", "", "write a picture of every page to this folder")

// accessible finds what keeps people out of a page.
//
//go:embed testdata/accessible.js
var accessible string

// TestConsole walks through the console. One server and one browser serve all
// parts, which follow each other.
func TestConsole(t *testing.T) {
	h := open(t)
	browser := launch(t)
	t.Run("sign in", func(t *testing.T) { h.signsIn(t, h.tab(t, browser, chromedp.WithNewBrowserContext())) })
	h.signIn(t, browser)
	t.Run("pages", func(t *testing.T) { h.pages(t, browser) })
	browser = h.another(t)
	t.Run("hostile text", func(t *testing.T) { h.hostile(t, h.tab(t, browser)) })
	t.Run("keys", func(t *testing.T) { h.keys(t, h.tab(t, browser)) })
	t.Run("colours", func(t *testing.T) { h.switches(t, h.tab(t, browser)) })
	t.Run("filters", func(t *testing.T) { h.filters(t, h.tab(t, browser)) })
	t.Run("live tree", func(t *testing.T) { h.liveTree(t, h.tab(t, browser)) })
	t.Run("live views", func(t *testing.T) { h.liveViews(t, h.tab(t, browser)) })
	t.Run("map", func(t *testing.T) { h.walksTheMap(t, h.tab(t, browser)) })
	t.Run("vulnerabilities narrowed", func(t *testing.T) { h.narrows(t, h.tab(t, browser)) })
	t.Run("acceptance", func(t *testing.T) { h.accepts(t, h.tab(t, browser)) })
	t.Run("live images", func(t *testing.T) { h.followsImages(t, h.tab(t, browser)) })
	t.Run("targets of each type", func(t *testing.T) { h.forms(t, h.tab(t, browser)) })
	t.Run("target changed", func(t *testing.T) { h.changes(t, h.tab(t, browser)) })
	t.Run("policy changed", func(t *testing.T) { h.changesThePolicy(t, h.tab(t, browser)) })
	t.Run("policies meet", func(t *testing.T) { h.meetsAnother(t, h.tab(t, browser)) })
	t.Run("policy seen by a viewer", func(t *testing.T) { h.seesThePolicy(t, h.tab(t, browser, chromedp.WithNewBrowserContext())) })
	t.Run("admission decided", func(t *testing.T) { h.decidesOnAdmission(t, h.tab(t, browser)) })
	t.Run("admission policies meet", func(t *testing.T) { h.meetsOnAdmission(t, h.tab(t, browser), h.tab(t, h.another(t))) })
	t.Run("response rules on the past", func(t *testing.T) { h.triesOnThePast(t, h.tab(t, h.another(t))) })
	t.Run("container acted on", func(t *testing.T) { h.acts(t, h.tab(t, h.another(t))) })
	t.Run("incidents resolved together", func(t *testing.T) { h.resolvesSeveral(t, h.tab(t, browser)) })
	t.Run("incident resolved", func(t *testing.T) { h.resolves(t, h.tab(t, browser)) })
	t.Run("behaviour", func(t *testing.T) {
		browser := h.another(t) // each part has the time of a tab
		for _, walk := range []func(*testing.T, *tab){h.watches, h.makesNormal, h.editsTheProfile, h.amendsTheProfile, h.rehearses} {
			walk(t, h.tab(t, browser))
		}
	})
	browser = h.another(t)
	t.Run("invitation", func(t *testing.T) { h.invites(t, h.tab(t, browser)) })
	t.Run("live events", func(t *testing.T) { h.liveEvents(t, h.tab(t, browser)) })
	t.Run("overview refreshes", func(t *testing.T) { h.refreshes(t, h.tab(t, browser)) })
	t.Run("tokens and users", func(t *testing.T) { h.manages(t, h.tab(t, browser)) })
	t.Run("menu", func(t *testing.T) { h.menu(t, h.tab(t, browser)) })
	t.Run("sign out", func(t *testing.T) { h.signsOut(t, h.tab(t, browser)) })
}

// another is a browser of its own that is signed in: one that has shown hundreds of
// pages stops answering at times.
func (h *house) another(t *testing.T) context.Context {
	t.Helper()
	browser := launch(t)
	h.signIn(t, browser)
	return browser
}

// signsIn is the first time of somebody whose password an administrator set: a
// wrong password, then the right one, then the change that it must be followed
// by, and the way back to where the visit began.
func (h *house) signsIn(t *testing.T, b *tab) {
	const first = "set by somebody else"
	admin := access.Identity{Actor: "test", Role: access.Administrator, Scopes: access.Administrator.Scopes()}
	if _, err := h.Accounts().CreateUser(t.Context(), admin, account.NewUser{Name: "jun", Role: access.Viewer, Password: first}); err != nil {
		t.Fatal(err)
	}
	b.expect("status of 401") // the browser reports the refusal
	b.open("/events?entered=true")
	if got := b.address(); got != "/sign-in?next=%2Fevents%3Fentered%3Dtrue" {
		t.Errorf("got %s, want the sign-in page with the way back", got)
	}
	b.fill(`[name="name"]`, "jun")
	b.fill(`[name="password"]`, "not the password")
	b.click(`form button`)
	b.wait(`document.querySelector("[role=alert]")?.innerText.includes("wrong")`)
	b.fill(`[name="password"]`, first)
	b.do(chromedp.KeyEvent(kb.Enter))
	b.wait(`location.pathname === "/account/password"`)
	b.open("/workloads")
	if got := b.address(); got != "/account/password" {
		t.Errorf("got %s: nothing else may be done before the password is changed", got)
	}
	b.lets(t, "the change of password")
	picture(b, "password-1280-light")
	b.fill(`[name="old"]`, first)
	b.fill(`[name="new"]`, newPassword)
	b.fill(`[name="again"]`, newPassword)
	b.click(`form button.primary`)
	b.wait(`location.search === "?done=password" && document.querySelector("[role=status]")?.innerText.includes("changed")`)
	b.ready()
	b.lets(t, "the sign-in page")
	b.fill(`[name="name"]`, "jun")
	b.fill(`[name="password"]`, newPassword)
	b.click(`form button`)
	b.wait(`location.pathname === "/" && document.querySelector("nav")`)
	if eval[bool](b, `document.querySelector("nav a[href='/users'], nav a[href='/audit']") !== null`) {
		t.Error("a viewer is shown what only administrators may see")
	}
	b.expect("status of 403")
	b.open("/users")
	b.wait(`document.querySelector("h1").innerText === "Not permitted"`)
}

// lets fails the test with what keeps people out of the page.
func (b *tab) lets(t *testing.T, what string) {
	t.Helper()
	if bad := eval[[]string](b, accessible); len(bad) > 0 {
		t.Errorf("%s keeps people out:\n%s", what, strings.Join(bad, "\n"))
	}
}

// place is one page to look at.
type place struct{ name, path string }

func (h *house) places(b *tab) []place {
	b.open("/events?origin=written")
	detail := eval[string](b, `document.querySelectorAll("#rows .when a")[1].getAttribute("href")`)
	b.open("/events?kind=network.close")
	closed := eval[string](b, `document.querySelector("#rows .when a").getAttribute("href")`)
	b.open("/events?path=/etc/shadow")
	shadow := eval[string](b, `document.querySelector("#rows .when a").getAttribute("href")`)
	return append(slices.Concat(imagePlaces(), trustPlaces(), admissionPlaces(), watchPlaces(), incidentPlaces()), []place{
		{"overview", "/"}, {"workloads", "/workloads"}, {"workload", "/workloads/" + consoletest.Storefront},
		{"processes", "/workloads/" + consoletest.Storefront + "/processes"}, {"files", "/workloads/" + consoletest.Storefront + "/files"},
		{"connections", "/workloads/" + consoletest.Storefront + "/connections"}, {"dns", "/workloads/" + consoletest.Storefront + "/dns"},
		{"resources", "/workloads/" + consoletest.API + "/resources?since=3h"}, {"files-hostile", "/workloads/" + consoletest.Hostile + "/files"},
		{"connections-hostile", "/workloads/" + consoletest.Hostile + "/connections"}, {"dns-none", "/workloads/" + consoletest.Client + "/dns"},
		{"network", "/network"}, {"network-none", "/network?cluster=nowhere"}, {"senses", "/events?kind=file,network,dns,privilege,memory,resource"},
		{"hostile", "/workloads/" + consoletest.Hostile}, {"ended", "/workloads/" + consoletest.Client},
		{"events", "/events"}, {"execs", "/events?kind=process.exec&entered=true"}, {"none", "/events?text=nothinghasthis"},
		{"event", detail}, {"event-close", closed}, {"event-file", shadow}, {"agents", "/agents"}, {"agent", "/agents/" + consoletest.Agent2ID},
		{"notify", "/notify"}, {"users", "/users"}, {"tokens", "/tokens"}, {"audit", "/audit"}, {"account", "/account"}, {"missing", "/workloads/nosuch"},
	}...)
}

// perBrowser is how many places one browser shows, four times each: see another.
const perBrowser = 30

// pages looks at every page on a desk and on a telephone, by day and by night.
func (h *house) pages(t *testing.T, browser context.Context) {
	for i, p := range h.places(h.tab(t, browser)) {
		if i > 0 && i%perBrowser == 0 {
			browser = h.another(t)
		}
		t.Run(p.name, func(t *testing.T) { h.page(t, h.tab(t, browser), p) })
	}
}

func (h *house) page(t *testing.T, b *tab, p place) {
	if p.name == "missing" {
		b.expect("status of 404")
	}
	for _, width := range []int64{1280, 390} {
		b.size(width)
		b.colours("light")
		b.open(p.path)
		for _, scheme := range []string{"light", "dark"} {
			name := p.name + "-" + strconv.FormatInt(width, 10) + "-" + scheme
			b.colours(scheme)
			if got := eval[int64](b, "document.documentElement.scrollWidth"); got > width {
				t.Errorf("%s is %d pixels wide", name, got)
			}
			b.lets(t, name)
			picture(b, name)
		}
	}
}

func picture(b *tab, name string) {
	b.t.Helper()
	if *pictures == "" {
		return
	}
	png, err := chromedp.Run(b.ctx, chromedp.FullScreenshot(100))
	if err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(*pictures, name+".png"), png, 0o644); err != nil {
		b.t.Fatal(err)
	}
}

// hostile looks for text of containers that became more than text.
func (h *house) hostile(t *testing.T, b *tab) {
	for _, path := range []string{
		"/", "/workloads", "/workloads/" + consoletest.Hostile, "/events?entered=true", "/network", "/events?workload=" + consoletest.Hostile,
		"/workloads/" + consoletest.Hostile + "/files", "/workloads/" + consoletest.Hostile + "/connections", "/workloads/" + consoletest.Hostile + "/dns",
		"/agents/" + consoletest.AgentID, "/images", "/images/" + consoletest.ImageID("hostile"), "/images/" + consoletest.ImageID("hostile") + "/findings",
		"/images/" + consoletest.ImageID("hostile") + "/packages", "/vulnerabilities", "/vulnerabilities/CVE-2020-9999", "/registries/shop", "/registries/hub", "/trust", "/trust/policy", "/trust/policy/2", "/admission", "/admission/verdicts/3", "/admission/verdicts/4", "/admission/policy", "/admission/exceptions", "/watch", "/watch/violations", "/watch/violations/4", watchAddress("profile", string(consoletest.Web)), watchAddress("changes", string(consoletest.Web)), watchAddress("profile/3", string(consoletest.Web)),
		"/images/" + consoletest.ImageID("api:2.4.1")} {
		b.open(path)
		if n := eval[int](b, `document.querySelectorAll("main img, main script, main [onerror]").length`); n != 0 {
			t.Errorf("%s: %d elements came from text", path, n)
		}
		if eval[bool](b, `/[\u0000-\u0008\u200b-\u200f\u202a-\u202e\u2066-\u2069]/.test(document.body.innerText)`) {
			t.Errorf("%s shows characters that cannot be seen", path)
		}
	}
}

// keys walks through the console without a mouse.
func (h *house) keys(t *testing.T, b *tab) {
	press := func(keys ...string) {
		for _, k := range keys {
			b.do(chromedp.KeyEvent(k))
		}
	}
	b.open("/")
	press(kb.Tab)
	if got := eval[string](b, "document.activeElement.className"); got != "skip" {
		t.Errorf("the first stop is %q, want the skip link", got)
	}
	press(kb.Enter)
	b.wait(`location.hash === "#main" && document.activeElement.id === "main"`)
	press(kb.Tab)
	if !eval[bool](b, `document.querySelector("main").contains(document.activeElement) && document.activeElement.matches(":focus-visible")`) {
		t.Error("after the skip link, the next stop is not a visible one in the content")
	}
	for _, way := range []struct{ key, path string }{
		{"w", "/workloads"}, {"h", "/watch"}, {"i", "/images"}, {"r", "/registries"}, {"v", "/vulnerabilities"}, {"k", "/trust"}, {"d", "/admission"}, {"e", "/events"}, {"a", "/agents"}, {"c", "/notify"}, {"n", "/network"}, {"u", "/users"}, {"t", "/tokens"}, {"l", "/audit"}, {"m", "/account"}, {"o", "/"},
	} {
		press("g", way.key)
		b.wait("location.pathname === " + quote(way.path))
		b.ready()
	}
	press("?")
	b.wait(`document.querySelector("#help").open`)
	b.lets(t, "the help")
	press(kb.Escape)
	b.wait(`!document.querySelector("#help").open`)
	press("g", "w")
	b.wait(`location.pathname === "/workloads"`)
	b.ready()
	press("/")
	b.wait(`document.activeElement.id === "text"`)
	press("g", "w", "?")
	// The protocol types the slash as well, though the page took its key.
	b.wait(`document.activeElement.value.endsWith("gw?")`)
	if eval[bool](b, `document.querySelector("#help").open`) {
		t.Error("typing into a field opens the help")
	}
}

// switches changes the colours, which stay when the page is loaded again.
func (h *house) switches(t *testing.T, b *tab) {
	ground := func() string { return eval[string](b, "getComputedStyle(document.body).backgroundColor") }
	b.colours("light")
	b.open("/account")
	day := ground()
	b.click(`[data-theme-set="dark"]`)
	night := ground()
	if day == night {
		t.Errorf("the ground stays %s", day)
	}
	b.do(chromedp.Reload())
	b.ready()
	if got := ground(); got != night {
		t.Errorf("after a reload the ground is %s, want %s", got, night)
	}
	if got := eval[string](b, `document.documentElement.dataset.theme`); got != "dark" {
		t.Errorf("the server was not told: %q", got)
	}
	b.do(chromedp.KeyEvent("d"))
	if got := ground(); got != day {
		t.Errorf("the key gives %s, want %s", got, day)
	}
	b.click(`[data-theme-set=""]`)
	b.colours("dark")
	if got := ground(); got != night {
		t.Errorf("the system's dark gives %s, want %s", got, night)
	}
}

func (h *house) menu(t *testing.T, b *tab) {
	b.size(390)
	b.open("/")
	if eval[bool](b, `document.querySelector("#nav").checkVisibility()`) {
		t.Error("the menu is open from the start")
	}
	b.click("[data-menu]")
	b.wait(`document.querySelector("#nav").checkVisibility() && document.querySelector("[data-menu]").getAttribute("aria-expanded") === "true"`)
	if got := eval[int64](b, "document.documentElement.scrollWidth"); got > 390 {
		t.Errorf("with the menu open the page is %d pixels wide", got)
	}
	b.click(`#nav a[href="/agents"]`)
	b.wait(`location.pathname === "/agents"`)
}

func (h *house) signsOut(t *testing.T, b *tab) {
	b.open("/account")
	b.click(`form[action="/account/sign-out-everywhere"] button`)
	b.wait(`location.pathname === "/sign-in" && document.body.innerText.includes("signed out everywhere")`)
	b.open("/")
	if got := b.address(); got != "/sign-in" {
		t.Errorf("got %s: the session still opens pages", got)
	}
}
