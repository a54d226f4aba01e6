package browser

import (
	"fmt"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/server/account"
	"github.com/castellan-security/castellan/internal/server/console/consoletest"
)

// trustPlaces are the pages about who has signed images, and who must have.
func trustPlaces() []place {
	return []place{
		{"trust", "/trust"}, {"trust-none", "/trust?repository=nothinghasthis"}, {"trust-denied", "/trust?state=denied&running=true"},
		{"image-denied", "/images/" + consoletest.ImageID("api:2.4.1")}, {"image-unsigned", "/images/" + consoletest.ImageID("worker:2.4.0")},
		{"workload-denied", "/workloads/" + consoletest.Worker},
		{"policy", "/trust/policy"}, {"policy-version", "/trust/policy/2"}, {"policy-first", "/trust/policy/1"}, {"policy-edit", "/trust/policy/edit"},
	}
}

// policyText is what the editor has; typing a text into it by script is what a
// person does by pasting.
const policyText = `document.querySelector("#policy-text")`

func (b *tab) paste(text string) {
	b.t.Helper()
	b.run(`{const t = ` + policyText + `; t.focus(); t.value = ` + quote(text) + `; t.dispatchEvent(new Event("input", { bubbles: true }))}`)
}

// changesThePolicy makes a mistake and is told where, tries, saves, and looks at
// what has changed.
func (h *house) changesThePolicy(t *testing.T, b *tab) {
	b.open("/trust/policy")
	b.click(`a[href="/trust/policy/edit"]`)
	b.wait(`location.pathname === "/trust/policy/edit" && ` + policyText)
	b.ready()
	was := eval[string](b, policyText+`.value`)
	lines := strings.Count(was, "\n") + 1
	if got := eval[int](b, `document.querySelectorAll(".line-numbers li").length`); got != lines {
		t.Errorf("%d lines are numbered, want %d", got, lines)
	}

	// A name that nobody has, typed as a person types.
	at := strings.Index(was, "signers: [build, quality]") + len("signers: [build")
	b.run(fmt.Sprintf(`{const t = %s; t.focus(); t.setSelectionRange(%d, %d)}`, policyText, at, at))
	b.do(chromedp.KeyEvent("er"))
	line := strings.Count(was[:at], "\n") + 1
	b.wait(fmt.Sprintf(`document.querySelector("#checked [data-goto='%d'][data-wrong]") && document.querySelector(".line-numbers li:nth-child(%d)").classList.contains("wrong")`, line, line))
	if got := eval[string](b, policyText+`.getAttribute("aria-invalid")`); got != "true" {
		t.Errorf("the field says of itself that it is invalid: %q", got)
	}
	b.wait(`document.querySelector("#say").textContent.startsWith("1 problem, in line")`)
	if !eval[bool](b, `document.activeElement.id === "policy-text"`) {
		t.Error("the answer has taken the focus")
	}
	b.lets(t, "the editor with a problem")
	for _, width := range []int64{1280, 390} {
		for _, scheme := range []string{"light", "dark"} {
			b.size(width)
			b.colours(scheme)
			if got := eval[int64](b, "document.documentElement.scrollWidth"); got > width {
				t.Errorf("with a problem it is %d pixels wide, of %d", got, width)
			}
			b.lets(t, "the editor with a problem, "+scheme)
			picture(b, fmt.Sprintf("policy-problem-%d-%s", width, scheme))
		}
	}
	b.size(1280)
	b.colours("light")
	b.click("#checked [data-wrong]")
	b.wait(fmt.Sprintf(`document.activeElement.id === "policy-text" && %s.value.slice(0, %s.selectionStart).split("\n").length === %d`, policyText, policyText, line))

	// It can't be saved so, nor without a reason; what was typed stays.
	b.expect("status of 422")
	b.fill(`[name=comment]`, "the base needs quality too")
	b.click(`[value=save]`)
	b.wait(`document.querySelector("[role=alert]:not([hidden])")?.innerText.includes("It is not saved") && ` + policyText + `.value.includes("builder")`)
	b.ready()

	changed := strings.Replace(was, "      - signers: [build]\n", "      - signers: [quality]\n", 1)
	if changed == was {
		t.Fatal("the shop's policy is another")
	}
	b.paste(changed)
	b.wait(`document.querySelector("#checked").dataset.say === "It can be used." && !document.querySelector(".line-numbers .wrong")`)
	b.wait(`document.querySelector("#h-yours").textContent.includes("1 line put in, 1 taken out") || document.querySelector("#h-yours").textContent.includes("1 lines put in") `)

	b.click(`[value=try]`)
	b.wait(`document.querySelector("#h-trial") && document.querySelector("#trial").dataset.say.length > 0`)
	b.wait(shows("to be verified anew"))
	for _, width := range []int64{390, 1280} {
		b.size(width)
		if got := eval[int64](b, "document.documentElement.scrollWidth"); got > width {
			t.Errorf("with a trial it is %d pixels wide, of %d", got, width)
		}
		b.lets(t, "the editor with a trial")
		picture(b, fmt.Sprintf("policy-tried-%d", width))
	}

	b.click(`[value=save]`)
	b.wait(`location.search === "?done=policy-set" && document.querySelector("[role=status]").innerText.includes("verified anew")`)
	b.ready()
	b.wait(`document.querySelector(".history li").innerText.includes("Version 3") && document.querySelector(".history li").innerText.includes("the base needs quality too")`)
	b.click(`.history a[href="/trust/policy/3"]`)
	b.wait(`location.pathname === "/trust/policy/3" && document.querySelector("tr.put")?.innerText.includes("signers: [quality]") && document.querySelector("tr.taken")?.innerText.includes("signers: [build]")`)
	b.ready()
	b.lets(t, "what a version has changed")
	picture(b, "policy-diff-1280")
}

// meetsAnother saves after somebody else has, and is shown both.
func (h *house) meetsAnother(t *testing.T, b *tab) {
	b.open("/trust/policy/edit")
	was := eval[string](b, policyText+`.value`)
	b.paste(was + "# mine\n")
	b.fill(`[name=comment]`, "mine")
	newest := eval[int64](b, `Number(document.querySelector("[name=after]").value)`)
	other := access.Identity{Actor: "user:mira", Role: access.Administrator, Scopes: access.Administrator.Scopes()}
	if _, err := h.Trust().SetPolicy(t.Context(), other, was+"# theirs <img src=x onerror=alert(1)>\n", "theirs "+consoletest.HostileName, newest); err != nil {
		t.Fatal(err)
	}
	b.expect("status of 409")
	b.click(`[value=save]`)
	b.wait(`document.querySelector("#h-theirs")?.innerText.includes("user:mira was quicker") && ` + policyText + `.value.endsWith("# mine\n")`)
	b.ready()
	for _, width := range []int64{1280, 390} {
		b.size(width)
		if got := eval[int64](b, "document.documentElement.scrollWidth"); got > width {
			t.Errorf("it is %d pixels wide, of %d", got, width)
		}
		b.lets(t, "two who meet")
		picture(b, fmt.Sprintf("policy-meeting-%d", width))
	}
	b.size(1280)
	b.click(`[value=save]`)
	b.wait(`location.search === "?done=policy-set" && document.querySelector(".history li").innerText.includes(` + quote(fmt.Sprint("Version ", newest+2)) + `)`)
}

// seesThePolicy is what somebody sees who may not change it.
func (h *house) seesThePolicy(t *testing.T, b *tab) {
	admin := access.Identity{Actor: "test", Role: access.Administrator, Scopes: access.Administrator.Scopes()}
	const password = "a password of some length"
	if _, err := h.Accounts().CreateUser(t.Context(), admin, account.NewUser{Name: "vera", Role: access.Viewer, Password: password}); err != nil {
		t.Fatal(err)
	}
	b.open("/sign-in?next=/trust/policy")
	b.fill(`[name="name"]`, "vera")
	b.fill(`[name="password"]`, password)
	b.click(`form button`)
	b.wait(`location.pathname === "/account/password"`)
	b.ready()
	b.fill(`[name="old"]`, password)
	b.fill(`[name="new"]`, newPassword)
	b.fill(`[name="again"]`, newPassword)
	b.click(`form button.primary`)
	b.wait(`location.pathname === "/sign-in"`)
	b.ready()
	b.fill(`[name="name"]`, "vera")
	b.fill(`[name="password"]`, newPassword)
	b.click(`form button`)
	b.wait(`location.pathname === "/"`)
	b.open("/trust/policy")
	b.wait(shows("an administrator can change it"))
	if eval[bool](b, `document.querySelector("main form, main textarea, main a[href*=edit]") !== null`) {
		t.Error("a viewer is offered to change the policy")
	}
	b.open("/trust")
	b.wait(shows("image"))
	b.expect("status of 403")
	b.open("/trust/policy/edit")
	b.wait(`document.querySelector("h1").innerText === "Not permitted"`)
}
