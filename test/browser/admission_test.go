package browser

import (
	"fmt"
	"strings"
	"testing"
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
	b.click(`form.accept-form button`)
	b.wait(`location.search === "?done=exception-made" && ` + shows("until the rebuild of tonight"))
	b.ready()
	b.lets(t, "the exceptions with one more")
	b.click(`.people li:has(a[href*="exploited"]) details.sure summary`)
	b.click(`.people li:has(a[href*="exploited"]) details.sure button`)
	b.wait(`location.search === "?done=exception-ended" && ` + shows("withdrawn by user:admin"))

	b.open("/admission/policy/edit")
	was := eval[string](b, policyText+`.value`)
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
