package browser

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/server/console/consoletest"
)

var storefrontImage = consoletest.ImageID("storefront:2.4.1")

// imagePlaces are the pages about images.
func imagePlaces() []place {
	image := func(name string, view ...string) string {
		return "/images/" + strings.Join(append([]string{consoletest.ImageID(name)}, view...), "/")
	}
	// keyed is the address of the first finding of a rule in the storefront.
	keyed := func(rule string) string {
		for _, m := range consoletest.New(time.Now()).Images {
			for _, f := range m.Judged {
				if f.Rule == rule {
					return f.Key
				}
			}
		}
		return "none"
	}
	return []place{
		{"secrets", "/secrets"}, {"secrets-none", "/secrets?text=nothinghasthis"}, {"secret", "/secrets/" + keyed("private-key") + "?accept=1"},
		{"secret-hostile", "/secrets/" + keyed("generic-api-key")}, {"faults", "/faults"}, {"malware", "/malware"}, {"malicious", "/malware/" + keyed("miner_xmrig")},
		{"image-secrets", image("storefront:2.4.1", "secrets")}, {"image-faults", image("storefront:2.4.1", "faults")},
		{"image-hostile-secrets", image("hostile", "secrets")},
		{"images", "/images"}, {"images-none", "/images?text=nothinghasthis"}, {"image", image("storefront:2.4.1")},
		{"image-findings", image("storefront:2.4.1", "findings")}, {"image-packages", image("storefront:2.4.1", "packages")},
		{"image-waiting", image("worker:2.4.0")}, {"image-running", image("store:16")}, {"image-failed", image("client:1.0.0")},
		{"image-unknown", image("client:1.0.0", "findings")}, {"image-hostile", image("hostile")},
		{"image-hostile-findings", image("hostile", "findings")}, {"image-hostile-packages", image("hostile", "packages")},
		{"vulnerabilities", "/vulnerabilities"}, {"vulnerabilities-none", "/vulnerabilities?text=nothinghasthis"},
		{"vulnerability", "/vulnerabilities/CVE-2024-21538?accept=1"}, {"vulnerability-hostile", "/vulnerabilities/CVE-2020-9999"},
		{"acceptances", "/acceptances"}, {"owners", "/owners"},
		{"acceptances", "/acceptances"}, {"registries", "/registries"}, {"registry", "/registries/shop"}, {"registry-failing", "/registries/hub"},
		{"registry-none", "/registries/shop?text=nothinghasthis"},
	}
}

// narrows filters vulnerabilities; what narrows them is in the address.
func (h *house) narrows(t *testing.T, b *tab) {
	ids := `[...document.querySelectorAll("table.weaknesses tbody th a")].map((a) => a.innerText)`
	b.open("/vulnerabilities")
	all := eval[[]string](b, ids)
	if len(all) == 0 || all[0] != "CVE-2024-21538" {
		t.Errorf("got %v, want first what is in use and exploited", all)
	}
	b.run(`{const s = document.querySelector("[name=severity]"); s.value = "high"; s.dispatchEvent(new Event("change", { bubbles: true }))}`)
	b.wait(`location.search === "?severity=high"`)
	b.click(`[name="in-use"]`)
	b.wait(`location.search === "?severity=high&in-use=true"`)
	b.wait(fmt.Sprintf(`document.querySelectorAll("table.weaknesses tbody tr").length === 2 && %s.includes("CVE-2023-5363")`, ids))
	b.run(`document.querySelector("table.weaknesses tbody th a").focus()`)
	b.wait(`document.querySelector("[data-live-part]").dataset.state === "live"`)
	b.do(chromedp.KeyEvent(kb.Enter))
	b.wait(`location.pathname === "/vulnerabilities/CVE-2024-21538"`)
	b.ready()
	b.click(`.reach-workloads a`)
	b.wait(`location.pathname === ` + quote("/workloads/"+consoletest.Storefront))
	b.ready()
	b.click(`#h-image + a`)
	b.wait(`location.pathname === ` + quote("/images/"+storefrontImage))
}

// accepts makes an acceptance from a finding of an image, and ends it.
func (h *house) accepts(t *testing.T, b *tab) {
	findings := "/images/" + storefrontImage + "/findings"
	open := func() int { return eval[int](b, `document.querySelectorAll(".findings .accept-link").length`) }
	b.open(findings)
	before := open()
	b.click(`.findings a.accept-link[href*="CVE-2024-21538"]`)
	b.wait(`location.pathname === "/vulnerabilities/CVE-2024-21538" && document.querySelector(".accept-form")?.checkVisibility()`)
	b.ready()
	if got := eval[[]string](b, `[document.querySelector("[name=package]").value, document.querySelector("[name=image]").value]`); !slices.Equal(got, []string{"lodash", storefrontImage}) {
		t.Errorf("the form is about %v, want the finding", got)
	}
	b.fill(`[name="reason"]`, "the proxy refuses such requests")
	b.click(`.accept-form button`)
	b.wait(`location.pathname === ` + quote(findings) + ` && location.search === "?done=accepted"`)
	b.ready()
	h.until(t, b, findings, shows("the proxy refuses such requests"))
	if got := open(); got != before-1 {
		t.Errorf("%d findings are open, want %d", got, before-1)
	}
	b.open("/acceptances")
	b.wait(shows("the proxy refuses such requests"))
	b.lets(t, "the page with an acceptance")
	picture(b, "acceptances-1280-one")
	b.size(390)
	b.colours("dark")
	b.lets(t, "the page with an acceptance on a telephone at night")
	picture(b, "acceptances-390-dark-one")
	b.size(1280)
	b.click(`details.sure summary`)
	b.click(`form[action$="/end"] button`)
	b.wait(`location.search === "?done=accept-ended"`)
	b.ready()
	b.wait(`document.querySelector("#h-past") && document.body.innerText.includes("What it accepted counts again within seconds")`)
	h.until(t, b, findings, fmt.Sprintf(`document.querySelectorAll(".findings .accept-link").length === %d`, before))
}

// until opens a page anew until a script says true: what was decided counts a
// moment later.
func (h *house) until(t *testing.T, b *tab, path, script string) {
	t.Helper()
	for late := time.Now().Add(patience); ; {
		b.open(path)
		if eval[bool](b, script) {
			return
		}
		if time.Now().After(late) {
			t.Fatalf("%s: waited in vain for %s", path, script)
		}
	}
}

// followsImages sees a page change when an image is to be scanned anew, without
// losing its place.
func (h *house) followsImages(t *testing.T, b *tab) {
	failed := consoletest.ImageID("client:1.0.0")
	b.open("/images/" + failed)
	b.wait(`document.querySelector("[data-live-part]").dataset.state === "live"`)
	b.wait(shows("It could not be scanned"))
	b.run(`document.querySelector(".tabs a[aria-current]").focus(); void 0`)
	who := access.Identity{Actor: "test", Role: access.Operator, Scopes: access.Operator.Scopes()}
	if err := h.Images().Rescan(t.Context(), who, failed); err != nil {
		t.Fatal(err)
	}
	b.wait(shows("It waits for an agent whose host has it."))
	if !eval[bool](b, `document.activeElement.matches(".tabs a[aria-current]")`) {
		t.Error("the update moved the focus")
	}
	b.open("/images?state=failed")
	b.wait(shows("No image fits these filters."))
}
