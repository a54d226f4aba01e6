package browser

import (
	"fmt"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// admissionPlaces are the pages about what may be deployed.
func admissionPlaces() []place {
	return []place{
		{"admission", "/admission"}, {"admission-none", "/admission?rule=nothinghasthis"}, {"admission-denied", "/admission?outcome=deny"},
		{"verdict-denied", "/admission/verdicts/6"}, {"verdict-audited", "/admission/verdicts/2"}, {"verdict-excepted", "/admission/verdicts/4"},
		{"admission-policy", "/admission/policy"}, {"admission-edit", "/admission/policy/edit"}, {"exceptions", "/admission/exceptions"},
		{"except", "/admission/exceptions/new?verdict=6&reason=1"},
	}
}

// decidesOnAdmission goes from a verdict to its reasons and to an exception, withdraws
// that, and writes the policy with a replay of what was asked for.
func (h *house) decidesOnAdmission(t *testing.T, b *tab) {
	b.open("/admission")
	b.run(`{const s = document.querySelector("[name=outcome]"); s.value = "deny"; s.dispatchEvent(new Event("change", { bubbles: true }))}`)
	b.wait(`location.search === "?outcome=deny" && document.querySelectorAll("#results tbody tr").length === 2`)
	b.click(`#results tbody a[href="/admission/verdicts/6"]`)
	b.wait(`location.pathname === "/admission/verdicts/6" && ` + shows("known to be exploited"))
	b.ready()
	b.click(`#r1 a[href*="exceptions/new"]`)
	b.wait(`location.pathname === "/admission/exceptions/new" && document.querySelector("[name=rules]").value === "exploited-vulnerabilities"`)
	b.ready()
	b.fill(`[name=owner]`, "shop")
	b.fill(`[name=reason]`, "until the rebuild of tonight")
	b.lets(t, "an exception from a reason")
	b.click(`form.accept-form button`) // the choice is not made yet: the browser asks for it
	b.wait(`location.pathname === "/admission/exceptions/new" && document.querySelector("[name=what]").matches(":invalid")`)
	b.click(`[name=what][value="one:CVE-2021-44228"]`)
	b.click(`form.accept-form button`)
	b.wait(`location.search === "?done=exception-made" && ` + shows("until the rebuild of tonight") + ` && ` + shows("only CVE-2021-44228"))
	b.ready()
	b.lets(t, "the exceptions with one more")
	b.click(`.people li:has(a[href*="exploited"]) details.sure summary`)
	b.click(`.people li:has(a[href*="exploited"]) details.sure button`)
	b.wait(`location.search === "?done=exception-ended" && ` + shows("withdrawn by user:admin"))

	b.open("/admission/policy/edit")
	was := eval[string](b, policyText+`.value`)
	h.searchesTheSchema(t, b)
	b.paste(strings.Replace(was, "container.command.exists", "container.comand.exists", 1))
	b.wait(`document.querySelector("#checked [data-wrong]") && document.querySelector(".line-numbers .wrong")`)
	b.lets(t, "the editor of admission with a problem")
	picture(b, "admission-problem-1280-light")
	b.paste(strings.Replace(was, "mode: enforce\n", "mode: audit\n", 1))
	b.wait(`document.querySelector("#checked").dataset.say === "It can be used."`)
	b.click(`[value=try]`)
	b.wait(`document.querySelector("#h-trial") && document.querySelector("#trial").dataset.say.includes("3 would have been allowed")`)
	for _, width := range []int64{390, 1280} {
		b.size(width)
		if got := eval[int64](b, "document.documentElement.scrollWidth"); got > width {
			t.Errorf("with a replay it is %d pixels wide, of %d", got, width)
		}
		b.lets(t, "the editor with a replay")
		picture(b, fmt.Sprintf("admission-replayed-%d", width))
	}
	b.fill(`[name=comment]`, "look first")
	b.click(`[value=save]`)
	b.wait(`location.search === "?done=admission-set" && document.querySelector(".history li").innerText.includes("look first")`)
}

// searchesTheSchema finds a rule and a field beside the editor by the keyboard alone.
func (h *house) searchesTheSchema(t *testing.T, b *tab) {
	const visible = `[...document.querySelectorAll(".schema [data-entry]")].filter((x) => x.checkVisibility())`
	b.wait(`document.querySelector("#schema-search").checkVisibility()`)
	b.run(`document.activeElement.blur()`)
	b.do(chromedp.KeyEvent("/"))
	b.wait(`document.activeElement.id === "schema-search"`)
	b.fill(`#schema-search`, "privileged exec")
	b.wait(visible + `.length > 0 && ` + visible + `.every((x) => x.textContent.toLowerCase().includes("exec")) && document.querySelector("#schema-found").innerText.endsWith("found")`)
	b.lets(t, "what is at hand, narrowed")
	picture(b, "admission-schema-1280-light")
	b.do(chromedp.KeyEvent(kb.ArrowDown))
	b.wait(`document.activeElement.closest(".schema [data-entry]") === ` + visible + `[0]`)
	b.do(chromedp.KeyEvent(kb.ArrowUp))
	b.wait(`document.activeElement.id === "schema-search"`)
	b.fill(`#schema-search`, "nothinghasthis")
	b.wait(visible + `.length === 0 && ` + shows("Nothing has these words."))
	b.run(`{const s = document.querySelector("#schema-search"); s.value = ""; s.dispatchEvent(new Event("input", { bubbles: true }))}`)
	b.wait(`[...document.querySelectorAll(".schema [data-group]")].every((x) => !x.hidden && !x.open)`)
}

// meetsOnAdmission has two people change the admission policy at once, each in a
// browser window of their own: who saves later is shown what the other has changed.
func (h *house) meetsOnAdmission(t *testing.T, mine, theirs *tab) {
	mine.open("/admission/policy/edit")
	theirs.open("/admission/policy/edit")
	was := eval[string](mine, policyText+`.value`)
	newest := eval[int64](mine, `Number(document.querySelector("[name=after]").value)`)
	mine.paste(was + "# mine\n")
	mine.fill(`[name=comment]`, "mine")
	theirs.paste(was + "# theirs <img src=x onerror=alert(1)>\n")
	theirs.fill(`[name=comment]`, "theirs")
	theirs.click(`[value=save]`)
	theirs.wait(`location.search === "?done=admission-set" && document.querySelector(".history li").innerText.includes("theirs")`)

	mine.expect("status of 409")
	mine.click(`[value=save]`)
	mine.wait(`document.querySelector("#h-theirs")?.innerText.includes("was quicker") && ` + policyText + `.value.endsWith("# mine\n")`)
	mine.ready()
	mine.wait(`[...document.querySelectorAll(".meeting tr.put")].some((x) => x.innerText.includes("# theirs")) && [...document.querySelectorAll(".meeting tr.put")].some((x) => x.innerText.includes("# mine"))`)
	for _, width := range []int64{1280, 390} {
		mine.size(width)
		if got := eval[int64](mine, "document.documentElement.scrollWidth"); got > width {
			t.Errorf("it is %d pixels wide, of %d", got, width)
		}
		mine.lets(t, "two who meet on admission")
		picture(mine, fmt.Sprintf("admission-meeting-%d", width))
	}
	mine.size(1280)
	mine.click(`[value=save]`)
	mine.wait(`location.search === "?done=admission-set" && document.querySelector(".history li").innerText.includes(` + quote(fmt.Sprint("Version ", newest+2)) + `)`)
	// The other's page follows by itself.
	theirs.wait(`document.querySelector(".history li").innerText.includes(` + quote(fmt.Sprint("Version ", newest+2)) + `)`)
}
