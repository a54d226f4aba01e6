package browser

import (
	"fmt"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/castellan-security/castellan/internal/server/console/consoletest"
)

// filters narrows the events; what narrows them is in the address.
func (h *house) filters(t *testing.T, b *tab) {
	rows := func() int { return eval[int](b, `document.querySelectorAll("#rows tr").length`) }
	b.open("/events?kind=process.exec")
	all := rows()
	b.click(`[name="entered"]`)
	b.wait(`location.search === "?kind=process.exec&entered=true"`)
	b.wait(fmt.Sprintf(`document.querySelectorAll("#rows tr").length < %d`, all))
	entered := rows()
	b.fill(`#text`, "bash")
	b.wait(`location.search === "?text=bash&kind=process.exec&entered=true" || location.search === "?kind=process.exec&text=bash&entered=true"`)
	b.wait(`document.querySelectorAll("#rows tr").length === 1`)
	if got := eval[string](b, `document.activeElement.id + document.activeElement.value`); got != "textbash" {
		t.Errorf("the focus left the field: %q", got)
	}
	b.do(chromedp.Reload())
	b.ready()
	if got := eval[string](b, `document.querySelector("#text").value + document.querySelector("[name=entered]").checked`); got != "bashtrue" || rows() != 1 {
		t.Errorf("after a reload: %q and %d rows", got, rows())
	}
	b.run("history.back()")
	b.wait(fmt.Sprintf(`!location.search.includes("text=") && document.querySelectorAll("#rows tr").length === %d`, entered))
	if !eval[bool](b, `document.querySelector("[name=entered]").checked`) {
		t.Error("after going back the form does not say what narrows the list")
	}
	b.run("history.forward()")
	b.wait(`location.search.includes("text=bash") && document.querySelectorAll("#rows tr").length === 1`)
	b.click(`.chip[title^="Remove the filter text "]`)
	b.wait(`!location.search.includes("text=") && document.readyState === "complete"`)

	b.expect("status of 422")
	b.run(`document.querySelector("details.more").open = true`)
	b.fill(`[name="until"]`, "nonsense")
	b.run(`void document.querySelector("[name=until]").dispatchEvent(new Event("change", { bubbles: true }))`)
	b.wait(`document.querySelector("#results [role=alert]")?.innerText.includes("until")`)
}

// liveTree watches a process appear without the page losing its place.
func (h *house) liveTree(t *testing.T, b *tab) {
	b.open("/workloads/" + consoletest.Storefront)
	b.wait(`document.querySelector("[data-live-tree]").dataset.state === "live"`)
	b.run(`document.querySelector("#tree a").focus(); scrollTo(0, 60); window.first = document.querySelector("#tree li"); void 0`)
	pid := h.start(t, "/usr/bin/convert", "-size", "1x1")
	b.wait(fmt.Sprintf(`document.querySelector("#tree [id^='p%d-']")`, pid))
	if !eval[bool](b, `document.querySelector("#tree a") === document.activeElement && scrollY === 60 && window.first === document.querySelector("#tree li")`) {
		t.Error("the update moved focus, scrolling or what was there already")
	}
	if !eval[bool](b, fmt.Sprintf(`document.querySelector("#tree [id^='p%d-']").parentElement.closest("li").id.startsWith("p4012-")`, pid)) {
		t.Error("the process does not hang below its parent")
	}
	b.click("[data-live-tree]")
	b.wait(`document.querySelector("[data-live-tree]").dataset.state === "paused"`)
	later := h.start(t, "/usr/bin/convert", "-size", "2x2")
	b.click("[data-live-tree]")
	b.wait(fmt.Sprintf(`document.querySelector("#tree [id^='p%d-']")`, later))
}

// liveEvents watches rows come in at the top of a list that is narrowed.
func (h *house) liveEvents(t *testing.T, b *tab) {
	b.open("/events?kind=process.exec&executable=/usr/bin/mogrify")
	b.wait(`document.querySelector("#no-events")`)
	b.wait(`document.querySelector("[data-live-rows]").dataset.state === "live"`)
	h.start(t, "/usr/bin/identify", "first")
	h.start(t, "/usr/bin/mogrify", "second")
	b.wait(`document.querySelectorAll("#rows tr").length === 1`)
	if got := eval[string](b, `document.querySelector("#rows tr").innerText`); !strings.Contains(got, "second") {
		t.Errorf("got the row %q", got)
	}
	if eval[bool](b, `document.querySelector("#no-events") !== null || document.querySelector("#event-table").hidden`) {
		t.Error("the page still says that there is nothing")
	}
	h.start(t, "/usr/bin/mogrify", "third")
	b.wait(`document.querySelector("#rows tr")?.innerText.includes("third")`)
	b.wait(`document.querySelector("#say").textContent === "1 new event"`)

	b.do(chromedp.KeyEvent("p"))
	b.wait(`document.querySelector("[data-live-rows]").dataset.state === "paused"`)
	h.start(t, "/usr/bin/mogrify", "fourth")
	h.start(t, "/usr/bin/mogrify", "fifth")
	if n := eval[int](b, `document.querySelectorAll("#rows tr").length`); n != 2 {
		t.Errorf("paused, and still %d rows", n)
	}
	b.do(chromedp.KeyEvent("p"))
	b.wait(`document.querySelectorAll("#rows tr").length === 4`)
	want := []string{"fifth", "fourth", "third", "second"}
	for i, text := range eval[[]string](b, `[...document.querySelectorAll("#rows tr")].map((r) => r.innerText)`) {
		if !strings.Contains(text, want[i]) {
			t.Errorf("row %d is %q, want %s: newest first, none missed while paused", i, text, want[i])
		}
	}
}

// refreshes waits for the overview to count what has happened since.
func (h *house) refreshes(t *testing.T, b *tab) {
	number := `document.querySelectorAll(".tile-number")[2].innerText`
	b.open("/")
	before := eval[string](b, number)
	b.run(`window.stays = document.querySelector(".tiles"); void 0`)
	h.start(t, "/usr/bin/convert", "x")
	b.wait(number + " !== " + quote(before))
	if !eval[bool](b, `window.stays === document.querySelector(".tiles")`) {
		t.Error("the panel was replaced, not changed")
	}
}

// manages makes and revokes a token, and makes a user.
func (h *house) manages(t *testing.T, b *tab) {
	b.open("/tokens")
	b.fill(`[name="name"]`, "from the browser")
	b.click(`[value="events:read"]`)
	b.click(`form[action="/tokens"] button`)
	b.wait(`document.querySelector("#secret")?.innerText.length > 20`)
	b.lets(t, "the page with the secret")
	picture(b, "secret-1280-light")
	b.open("/tokens")
	if eval[bool](b, `document.querySelector("#secret") !== null`) {
		t.Error("the secret is shown again")
	}
	b.click(`form[action$="/revoke"] button`)
	b.wait(`location.search === "?done=token-revoked" && document.body.innerText.includes("There is no token.")`)

	b.expect("status of 4")
	b.open("/users")
	for _, password := range []string{"password1234", "quite another long one"} {
		b.fill(`form[action="/users"] [name="name"]`, "mira")
		b.fill(`form[action="/users"] [name="password"]`, password)
		b.click(`form[action="/users"] button`)
		b.wait(`document.readyState === "complete" && (document.querySelector("main [role=alert]") || location.search === "?done=user-created")`)
	}
	b.wait(`location.search === "?done=user-created" && document.querySelector(".people").innerText.includes("must change password")`)
	picture(b, "users-1280-open")
}
