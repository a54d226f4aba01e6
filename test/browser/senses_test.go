package browser

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/server/console/consoletest"
)

// liveViews watches the views of one workload follow what happens in it,
// without losing the place of who looks.
func (h *house) liveViews(t *testing.T, b *tab) {
	for _, v := range []struct {
		name, shows string
		happens     event.Event
	}{
		{"files", "/srv/news.txt", event.Event{Kind: event.KindFileCreate, File: &event.File{Path: "/srv/news.txt"}}},
		{"connections", "news.example", event.Event{Kind: event.KindConnect, Connection: &event.Connection{
			Protocol: "tcp", Remote: netip.MustParseAddrPort("192.0.2.7:443"), Name: "news.example",
		}}},
		{"dns", "other.example", event.Event{Kind: event.KindQuery, DNS: &event.DNS{Protocol: "udp", Name: "other.example", Type: "A"}}},
		{"resources", "close to its limit", event.Event{Kind: event.KindLimit, Resource: &event.Resource{What: "pids", Used: 9, Limit: 10}}},
	} {
		b.open("/workloads/" + consoletest.Storefront + "/" + v.name)
		b.wait(`document.querySelector("[data-live-part]").dataset.state === "live"`)
		if eval[bool](b, shows(v.shows)) {
			t.Fatalf("%s shows %q before it happened", v.name, v.shows)
		}
		b.run(`document.querySelector(".tabs a[aria-current]").focus(); window.stays = document.querySelector("#part").firstElementChild; void 0`)
		h.sense(t, v.happens)
		b.wait(shows(v.shows))
		if !eval[bool](b, `document.activeElement.matches(".tabs a[aria-current]")`) {
			t.Errorf("%s: the update moved the focus", v.name)
		}
	}
	b.open("/workloads/" + consoletest.API + "/resources")
	b.click(`.spans a[href$="since=24h"]`)
	b.wait(`location.search === "?since=24h" && document.querySelectorAll(".plot-line").length === 8`)
}

// walksTheMap goes from the map to what stands behind it, by mouse and by keys.
func (h *house) walksTheMap(t *testing.T, b *tab) {
	b.open("/network")
	if got := eval[int](b, `document.querySelectorAll(".map-node").length`); got < 10 {
		t.Errorf("the map has %d nodes, want the shop's", got)
	}
	// No name, and no label, covers another one.
	if bad := eval[[]string](b, `(() => {
		const texts = [...document.querySelectorAll(".netmap text")].map((el) => [el.textContent, el.getBoundingClientRect()]);
		const out = [];
		texts.forEach(([a, r], i) => texts.slice(i + 1).forEach(([c, s]) => {
			if (r.left + 1 < s.right && s.left + 1 < r.right && r.top + 2 < s.bottom && s.top + 2 < r.bottom) out.push(a + " and " + c);
		}));
		return out;
	})()`); len(bad) > 0 {
		t.Errorf("texts of the map lie upon each other:\n%s", strings.Join(bad, "\n"))
	}
	where := `[...document.querySelectorAll(".map-node")].map((n) => n.getAttribute("aria-label") + n.querySelector("rect").getAttribute("x") + n.querySelector("rect").getAttribute("y")).join()`
	before := eval[string](b, where)
	b.do(chromedp.Reload())
	b.ready()
	if got := eval[string](b, where); got != before {
		t.Errorf("after a reload the map is another one:\n%s\n%s", before, got)
	}
	b.run(`document.querySelector('.map-node[aria-label*="storefront"]').focus()`)
	b.do(chromedp.KeyEvent(kb.Enter))
	b.wait(`location.pathname === "/workloads" && location.search.includes("text=shop%2Fstorefront")`)
	b.ready()
	if !eval[bool](b, shows("storefront")) {
		t.Error("the node does not lead to its workloads")
	}
	b.open("/network")
	b.run(`void document.querySelector('.map-edge[aria-label*="pool.invalid"]').dispatchEvent(new MouseEvent("click", {bubbles: true, cancelable: true}))`)
	b.wait(`location.pathname === "/events" && document.querySelector("#rows")?.innerText.includes("pool.invalid")`)
	b.open("/network?cluster=docker")
	if got := eval[string](b, `document.querySelector(".netmap").textContent`); strings.Contains(got, "storefront") {
		t.Errorf("the map of another cluster shows the shop: %s", got)
	}
}

// invites makes an invitation, whose command is shown once.
func (h *house) invites(t *testing.T, b *tab) {
	b.open("/agents")
	b.fill(`form[action="/agents"] [name="name"]`, "from the browser")
	b.click(`form[action="/agents"] button`)
	b.wait(`document.querySelector("#secret")?.innerText.includes("castellan agent join")`)
	if got := eval[string](b, `document.querySelector("#secret").innerText`); !strings.Contains(got, "cji_") || !strings.Contains(got, h.CAFingerprint()) {
		t.Errorf("the command is %q", got)
	}
	b.lets(t, "the page with the command")
	picture(b, "invited-1280-light")
	b.open("/agents")
	if eval[bool](b, `document.querySelector("#secret") !== null`) {
		t.Error("the command is shown again")
	}
	if n := eval[int](b, fmt.Sprintf(`document.querySelectorAll("form[action='/agents/%s/revoke']").length`, consoletest.AgentID)); n != 0 {
		t.Error("an agent without a certificate can be cut off")
	}
}
