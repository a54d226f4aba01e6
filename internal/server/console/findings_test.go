package console_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/server/console/consoletest"
)

// keyOf is the key of the shop's finding of a rule.
func keyOf(t *testing.T, h *house, rule string) string {
	t.Helper()
	for _, m := range h.store.shop.Images {
		for _, j := range m.Judged {
			if j.Rule == rule {
				return j.Key
			}
		}
	}
	t.Fatalf("the shop has nothing of rule %s", rule)
	return ""
}

func TestSecretsOfTheFleet(t *testing.T) {
	h := shopHouse(t)
	body := h.shows(t, access.Viewer, "/secrets",
		"/root/.ssh/id_ed25519", "hidden", "variable DB_PASSWORD", "/srv/app/config/production.json:12", "layer 3", "private-key",
		"storefront:2.4.1", "of Shop team", "Open in what runs today: 1; in 8 days 2 new, 1 resolved.", "4 secrets on this page")
	if strings.Contains(body, "CVE-") {
		t.Error("the page shows vulnerabilities")
	}
	narrowed := h.shows(t, access.Viewer, "/secrets?text=production", "production.json:12")
	if strings.Contains(narrowed, "id_ed25519") {
		t.Error("the filter lets another one through")
	}
	h.shows(t, access.Viewer, "/secrets?text=nosuch", "Nothing fits these filters.")
	h.shows(t, access.Viewer, "/malware", "XMRig, which mines Monero", "miner_xmrig", "/srv/app/upload/.x", "1 malicious file on this page")
	h.shows(t, access.Viewer, "/malware/"+keyOf(t, h, "miner_xmrig"), "Known asXMRig", "Is forminer", "T1496", "SHA-256"+strings.Repeat("5e", 32))
	h.shows(t, access.Viewer, "/images/"+storefrontImage+"/malware", "/srv/app/upload/.x", "RUN npm ci")
	h.shows(t, access.Viewer, "/images", "1 malware", "3 secrets")
	h.shows(t, access.Viewer, "/faults", "Faults", "faults on this page")
	if r := h.get(t, access.Viewer, "/secrets?severity=awful"); r.Code != http.StatusUnprocessableEntity {
		t.Errorf("a severity that is none: got %d", r.Code)
	}
	h.shows(t, access.Viewer, "/", "Secrets 1")
}

func TestOneSecret(t *testing.T) {
	h := shopHouse(t)
	path := "/secrets/" + keyOf(t, h, "private-key")
	h.shows(t, access.Viewer, path, "399 bytes, kept nowhere", "whole", "deleted by layer 4, and in the image all the same",
		"RUN apt-get update", "storefront:2.4.1", "Fingerprint"+strings.Repeat("b", 32), "Revoke it")
	if body := h.get(t, access.Viewer, path).Body.String(); strings.Contains(body, "Accept it for a time") {
		t.Error("a viewer is offered to accept")
	}
	h.shows(t, access.Operator, path, "Accept it for a time", "this secret, by its fingerprint", "whatever rule private-key finds",
		"everything below /root/.ssh", "only 123456789012.dkr.ecr.eu-central-1.amazonaws.com/shop/storefront:2.4.1")
	h.shows(t, access.Viewer, "/images/"+storefrontImage+"/secrets", "3 secrets, the gravest first", "id_ed25519", "DB_PASSWORD")
	h.shows(t, access.Viewer, "/images/"+storefrontImage, "Secrets3")
	if r := h.get(t, access.Viewer, "/secrets/nosuch"); r.Code != http.StatusNotFound {
		t.Errorf("no such secret: got %d", r.Code)
	}
}

func TestSecretIsAccepted(t *testing.T) {
	h := shopHouse(t)
	key := keyOf(t, h, "private-key")
	form := url.Values{
		"kind": {"secret"}, "key": {key}, "rule": {strings.Repeat("b", 32)}, "path": {""}, "image": {storefrontImage},
		"reason": {"of a test"}, "for": {"30d"},
	}
	r := h.post(t, access.Operator, "/acceptances", form.Encode())
	if r.Code != http.StatusSeeOther || r.Header().Get("Location") != "/secrets/"+key+"?done=accepted" {
		t.Fatalf("got %d to %s", r.Code, r.Header().Get("Location"))
	}
	h.shows(t, access.Viewer, "/secrets/"+key, "accepted until", "of a test")
	if body := h.get(t, access.Viewer, "/secrets").Body.String(); strings.Contains(body, "id_ed25519") {
		t.Error("it is listed as open still")
	}
	h.shows(t, access.Viewer, "/secrets?accepted=true", "id_ed25519", "accepted until")
	h.shows(t, access.Viewer, "/acceptances", strings.Repeat("b", 32), "(secret) in every file of")
	h.images.refuse = fault.New(fault.Invalid, "expires: over")
	if r := h.post(t, access.Operator, "/acceptances", form.Encode()); !strings.Contains(plainText(r.Body.String()), "Expires: over") || !strings.Contains(r.Body.String(), `value="of a test"`) {
		t.Errorf("refused: the form is not shown again: %d", r.Code)
	}
	h.images.refuse = nil
	form.Set("kind", "weather")
	if r := h.post(t, access.Operator, "/acceptances", form.Encode()); r.Code != http.StatusUnprocessableEntity {
		t.Errorf("a kind that is none: got %d", r.Code)
	}
	form.Set("kind", "secret")
	if r := h.post(t, access.Viewer, "/acceptances", form.Encode()); r.Code != http.StatusForbidden {
		t.Errorf("by a viewer: got %d", r.Code)
	}
}

// TestHostileFindingIsText: names and paths of an image are an attack, and shown
// as text.
func TestHostileFindingIsText(t *testing.T) {
	h := shopHouse(t)
	key := keyOf(t, h, "generic-api-key")
	for _, path := range []string{"/secrets", "/secrets/" + key, "/images/" + consoletest.ImageID("hostile") + "/secrets", "/secrets/" + key + "?accept=1&image=%3Cscript%3E"} {
		body := h.get(t, access.Operator, path).Body.String()
		if strings.Contains(body, "<script>alert") || strings.Contains(body, "<img src=x") || strings.ContainsRune(body, '\u202e') {
			t.Errorf("%s lets markup or a control character through", path)
		}
	}
}

// TestUnsupportedReleaseIsSaid: of an image whose system gets no fixes.
func TestUnsupportedReleaseIsSaid(t *testing.T) {
	h := shopHouse(t)
	for i := range h.store.shop.Images {
		if m := &h.store.shop.Images[i]; m.ID == storefrontImage {
			m.Inside.OS.Version, m.Inside.OS.Name = "10", "Debian GNU/Linux 10 (buster)"
		}
	}
	h.shows(t, access.Viewer, "/images/"+storefrontImage, "ended 30 Jun 2024", "Debian GNU/Linux 10 (buster) gets no fixes any more")
}

// TestSilenceOfAnOlderScanIsSaid: of an image that nobody looked for secrets in.
func TestSilenceOfAnOlderScanIsSaid(t *testing.T) {
	h := shopHouse(t)
	path := "/images/" + storefrontImage + "/secrets"
	const says = "It was scanned by a version that did not look for secrets."
	if strings.Contains(plainText(h.get(t, access.Viewer, path).Body.String()), says) {
		t.Error("it is said of an image that was looked at")
	}
	for i := range h.store.shop.Images {
		if m := &h.store.shop.Images[i]; m.ID == storefrontImage {
			m.Inside.Analysis--
		}
	}
	h.shows(t, access.Viewer, path, says)
}

// lastCall is what was asked of the services last.
func lastCall(h *house) string {
	h.accounts.mu.Lock()
	defer h.accounts.mu.Unlock()
	if len(h.accounts.calls) == 0 {
		return ""
	}
	return h.accounts.calls[len(h.accounts.calls)-1]
}

func TestOwnersAreNamed(t *testing.T) {
	h := shopHouse(t)
	viewed := h.shows(t, access.Viewer, "/owners", "Shop team image **", "#shop")
	if strings.Contains(viewed, "Name an owner") || strings.Contains(viewed, "Remove") {
		t.Error("a viewer is offered to change it")
	}
	h.shows(t, access.Operator, "/owners", "Name an owner", "Remove it")
	form := url.Values{"of": {"group"}, "pattern": {" prod/pay/* "}, "name": {"Payments"}, "contact": {"#pay"}}
	r := h.post(t, access.Operator, "/owners", form.Encode())
	if r.Code != http.StatusSeeOther || r.Header().Get("Location") != "/owners?done=owner-set" || lastCall(h) != "owner of prod/pay/* is Payments #pay" {
		t.Errorf("got %d to %s, did %q", r.Code, r.Header().Get("Location"), lastCall(h))
	}
	r = h.post(t, access.Operator, "/owners/remove", url.Values{"of": {"image"}, "pattern": {"**"}}.Encode())
	if r.Code != http.StatusSeeOther || lastCall(h) != "no owner of **" {
		t.Errorf("remove: got %d, did %q", r.Code, lastCall(h))
	}
	h.images.refuse = fault.New(fault.Invalid, "owner: names one version")
	r = h.post(t, access.Operator, "/owners", form.Encode())
	if body := r.Body.String(); r.Code != http.StatusUnprocessableEntity || !strings.Contains(plainText(body), "Owner: names one version") || !strings.Contains(body, `value="Payments"`) {
		t.Errorf("refused: got %d without the reason and what was typed", r.Code)
	}
	if r := h.post(t, access.Viewer, "/owners", form.Encode()); r.Code != http.StatusForbidden {
		t.Errorf("by a viewer: got %d", r.Code)
	}
}
