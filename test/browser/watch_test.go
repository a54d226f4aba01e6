package browser

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/server/behaviour"
	"github.com/castellan-security/castellan/internal/server/console/consoletest"
)

// learned is the group of the storefront, whose behaviour the server learns from what
// the shop's agents report.
const learned = "shop/storefront/storefront"

func watchAddress(page, group string) string {
	return "/watch/" + page + "?group=" + url.QueryEscape(group)
}

// watchPlaces are the pages about how groups behave.
func watchPlaces() []place {
	of := func(name, page string) place {
		return place{"watch-" + name, watchAddress(page, string(consoletest.Web))}
	}
	young := func(name, page string) place {
		return place{"watch-young-" + name, watchAddress(page, string(consoletest.Young))}
	}
	return []place{
		{"watch", "/watch"}, {"watch-none", "/watch?text=nothinghasthis"}, {"watch-violations", "/watch/violations"},
		{"watch-proposed", watchAddress("group", string(consoletest.Reports))}, of("group", "group"), of("profile", "profile"), of("edit", "profile/edit"),
		of("revision", "profile/3"), of("changes", "changes"), of("outside", "violations"), of("rehearse", "rehearse"), of("hosts", "hosts"), of("harden", "harden"),
		{"watch-violation", "/watch/violations/1"}, {"watch-violation-hostile", "/watch/violations/4"},
		young("group", "group"), young("profile", "profile"), young("changes", "changes"), young("outside", "violations"), young("hosts", "hosts"),
		{"watch-rehearsed", watchAddress("rehearse", learned) + "&days=7"},
	}
}

// hold has the shop's agents tell how they hold its groups.
func (h *house) hold(t *testing.T) {
	t.Helper()
	for agentID, held := range consoletest.Held(time.Now()) {
		ask := link.BehaviourAsk{AgentID: agentID, Held: held}
		for end := time.Now().Add(patience); ; {
			if _, err := h.Behaviour().Behaviour(t.Context(), ask); err == nil {
				break
			} else if time.Now().After(end) {
				t.Fatal(err)
			}
		}
	}
}

// watches follows a group from what was learned of it to what it is held to.
func (h *house) watches(t *testing.T, b *tab) {
	b.open("/watch")
	b.wait(`document.querySelector("#g" + CSS.escape(` + quote(learned) + `))?.innerText.includes("discover")`)
	b.click(`#part a[href="` + watchAddress("group", learned) + `"]`)
	b.wait(`location.pathname === "/watch/group" && ` + shows("It still waits for:"))
	b.ready()
	b.lets(t, "a group that learns")

	// It is not settled: protecting it is refused, and asked for anyway.
	b.expect("status of 409")
	b.click(`[name=mode][value=protect]`)
	b.fill(`form[action="/watch/group/mode"] [name=comment]`, "let us see")
	b.click(`form[action="/watch/group/mode"] button.primary`)
	b.wait(`document.querySelector("[role=alert]")?.innerText.includes("is not settled") && document.querySelector("[name=anyway]") && document.querySelector("form[action='/watch/group/mode'] [name=comment]").value === "let us see"`)
	b.ready()
	b.lets(t, "a mode that was refused")
	picture(b, "watch-refused-1280-light")
	b.click(`[name=mode][value=monitor]`)
	b.click(`form[action="/watch/group/mode"] button.primary`)
	b.wait(`location.search.includes("done=group-monitor") && document.querySelector("[role=status]").innerText.includes("is monitored")`)
	b.ready()
}

// rehearses a group, and looks at what that rests on.
func (h *house) rehearses(t *testing.T, b *tab) {
	b.open(watchAddress("rehearse", learned))
	b.click(`.rehearse-form button`)
	b.wait(`document.querySelector("#h-found") && ` + shows("would have been blocked"))
	b.lets(t, "a rehearsal")
	picture(b, "watch-rehearsed-1280-after")
	b.click(`.cases details.more:last-of-type summary`)
}

// makesNormal follows the violations of the group while one comes in, makes it normal,
// and takes that back.
func (h *house) makesNormal(t *testing.T, b *tab) {
	b.open(watchAddress("violations", learned))
	b.wait(`document.querySelector(".live-switch")?.dataset.state === "live"`)
	h.sense(t, event.Event{Kind: event.KindFileCreate, File: &event.File{Path: "/opt/news/report"}})
	b.wait(`document.querySelector("#part").innerText.includes("/opt/news/report")`)
	b.lets(t, "a violation that came in")
	b.click(`#part a.sentence`)
	b.wait(`location.pathname.startsWith("/watch/violations/") && document.querySelectorAll("[name=width]").length > 1`)
	b.ready()
	b.lets(t, "a violation")
	h.choosesWidth(t, b, "folder", "/opt/news/*")
	b.click(`form[action$="/permit"] button`) // without a reason the browser asks for it
	b.wait(`document.querySelector("form[action$='/permit'] [name=comment]").matches(":invalid")`)
	b.fill(`form[action$="/permit"] [name=comment]`, "the new report")
	b.do(chromedp.KeyEvent(kb.Enter))
	b.wait(`location.search === "?done=permitted" && ` + shows("It is normal now") + ` && ` + shows("the new report"))
	b.ready()
	b.lets(t, "a violation that is normal")
	picture(b, "watch-permitted-1280-light")
	here := b.address()
	b.open(watchAddress("profile", learned))
	b.wait(shows("/opt/news/*"))
	b.open(here)
	b.click(`details.sure summary`)
	b.click(`form[action$="/undo"] button`)
	b.wait(`location.search === "?done=permit-undone" && document.querySelector("[name=width][value=this]")?.closest("label").innerText.includes("/opt/news/report")`)
	b.open(watchAddress("changes", learned))
	b.wait(shows("undone by admin") + ` && ` + shows("the new report"))
	b.ready()
	b.lets(t, "changes with an undone permit")
}

// choosesWidth chooses how much is made normal with a violation: each choice says what it
// adds, and fits the screen.
func (h *house) choosesWidth(t *testing.T, b *tab, word, adds string) {
	if got := eval[string](b, `[...document.querySelectorAll("[name=width]")].filter(x => x.checked).map(x => x.value).join()`); got != "this" {
		t.Errorf("chosen at first: %q, want the narrowest", got)
	}
	says := eval[string](b, `document.querySelector("[name=width][value=`+word+`]").closest("label").innerText`)
	if !strings.Contains(says, adds) {
		t.Errorf("the choice %s does not say that it adds %s: %q", word, adds, says)
	}
	if eval[bool](b, `document.querySelector("[aria-labelledby=h-normal] > .changes") !== null`) {
		t.Error("what the narrowest choice adds is said for all")
	}
	for _, width := range []int64{390, 1280} {
		b.size(width)
		if got := eval[int64](b, "document.documentElement.scrollWidth"); got > width {
			t.Errorf("with choices the page is %d pixels wide, of %d", got, width)
		}
		picture(b, fmt.Sprintf("watch-widths-%d", width))
	}
	b.click(`[name=width][value=` + word + `]`)
}

// editsTheProfile makes a mistake and is told where, saves, and is met by another.
func (h *house) editsTheProfile(t *testing.T, b *tab) {
	b.open(watchAddress("profile/edit", learned))
	was := eval[string](b, policyText+`.value`)
	if !strings.Contains(was, "\nwrites:") || strings.Contains(was, "\n  #") {
		t.Errorf("the editor has no files that are written, or what they rest on:\n%.400s", was)
	}
	b.paste(was + "\nwrites:\n  - path: relative\n")
	b.wait(`document.querySelector("#checked [data-wrong]") && document.querySelector(".line-numbers .wrong")`)
	b.lets(t, "a profile with a problem")
	for _, width := range []int64{390, 1280} {
		b.size(width)
		if got := eval[int64](b, "document.documentElement.scrollWidth"); got > width {
			t.Errorf("with a problem the editor is %d pixels wide, of %d", got, width)
		}
		picture(b, fmt.Sprintf("watch-problem-%d", width))
	}
	b.paste(was + "\ncapabilities:\n  - name: CHOWN\n    comment: mine alone\n")
	b.wait(`document.querySelector("#checked").dataset.say === "It can be used." && !document.querySelector("#checked [data-wrong]")`)
	b.fill(`[name=comment]`, "mine")
	newest := eval[int64](b, `Number(document.querySelector("[name=after]").value)`)
	other := access.Identity{Actor: "user:mira", Role: access.Administrator, Scopes: access.Administrator.Scopes()}
	if _, err := h.Behaviour().Import(t.Context(), other, learned, behaviour.Edit{Text: was, Comment: "theirs " + consoletest.HostileName, After: newest}); err != nil {
		t.Fatal(err)
	}
	b.expect("status of 409")
	b.click(`[value=save]`)
	b.wait(`document.querySelector("#h-theirs")?.innerText.includes("user:mira was quicker") && ` + policyText + `.value.includes("mine alone")`)
	b.ready()
	b.lets(t, "two who meet on a profile")
	picture(b, "watch-meeting-1280")
	b.click(`[value=save]`)
	b.wait(`location.search.includes("done=profile-set") && document.querySelector("[role=status]").innerText.includes("It is the profile now")`)
	b.ready()
	b.wait(shows("CHOWN") + ` && ` + shows("mine alone"))
}

// amendsTheProfile permits something besides, looks for it, and removes it again.
func (h *house) amendsTheProfile(t *testing.T, b *tab) {
	b.open(watchAddress("profile", learned))
	b.expect("status of 422")
	b.run(`{const s = document.querySelector("form[action='/watch/profile/add'] [name=what]"); s.value = "writes"}`)
	b.fill(`[name=value]`, "no/slash")
	b.fill(`form[action="/watch/profile/add"] [name=comment]`, "a folder of its own")
	b.click(`form[action="/watch/profile/add"] button`)
	b.wait(`document.querySelector("[role=alert]")?.innerText.includes("absolute") && document.querySelector("[name=value]").value === "no/slash"`)
	b.ready()
	b.fill(`[name=value]`, "/opt/own/**")
	b.click(`form[action="/watch/profile/add"] button`)
	b.wait(`location.search.includes("done=entry-added") && ` + shows("/opt/own/**"))
	b.ready()
	b.fill(`#text`, "own folder")
	b.wait(`location.search.includes("text=own") && document.querySelectorAll("#results tbody tr").length === 1`)
	b.click(`#results tbody details.sure summary`)
	b.click(`#results tbody form button`)
	b.wait(`location.search.includes("done=entry-removed") && !` + shows("/opt/own/**"))
}
