package console_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/server/console/consoletest"
	"github.com/castellan-security/castellan/internal/store"
)

func TestTrustSaysWhoHasSignedWhat(t *testing.T) {
	h := shopHouse(t)
	body := h.shows(t, access.Viewer, "/trust",
		"2 images denied, in 2 workloads", "1 undecided, in 1 workload", "1 allowed", "By version 2 of the policy, which user:admin set",
		"1 agent verifies no images (ip-10-0-7-203)", "--verify-images=false",
		"shop/worker", "unsigned", "There is no signature that counts by build, quality: 0 of 2 count", "looked at 4 min ago, again in 6 min",
		"nobody that the policy names", "says the signer alone", "undecided", "401 Unauthorized", "docker login",
		"AWS Signer", "the signing authority vouches for the time", "at the latest: a transparency log proves it", "1 attestation",
		"of no registry", "waits to be verified", "nowhere now", "storefront", "Who vouches for what runs", "of the policy, Sigstore")
	if strings.Index(body, "shop/worker") > strings.Index(body, "shop/storefront") {
		t.Error("what may not run does not come first")
	}
	for _, c := range []struct{ path, has, lacks string }{
		{"/trust?state=denied", "shop/worker", "shop/storefront"},
		{"/trust?signer=quality", "shop/storefront", "shop/worker"},
		{"/trust?running=true", "shop/worker", "shop/client"},
		{"/trust?repository=store", "shop/storefront", "shop/worker"},
		{"/trust?image=" + storefrontImage, "shop/storefront", "shop/worker"},
		{"/trust?repository=nothinghasthis", "No image fits these filters", "unsigned"},
	} {
		if got := h.shows(t, access.Viewer, c.path, c.has); strings.Contains(got, c.lacks) {
			t.Errorf("%s shows %q", c.path, c.lacks)
		}
	}
	if w := h.get(t, access.Viewer, "/trust?state=odd"); w.Code != http.StatusUnprocessableEntity || !strings.Contains(w.Body.String(), "is not a state") {
		t.Errorf("a filter without sense: got %d", w.Code)
	}
	h.shows(t, access.Viewer, "/trust?after=999", "The list has changed meanwhile")
}

func TestTrustHasPages(t *testing.T) {
	h := shopHouse(t)
	one := h.trust.images[0]
	for i := range store.DefaultPage + 5 {
		m := one
		m.ID, m.Repository = int64(100+i), one.Repository+strings.Repeat("x", i)
		h.trust.images = append(h.trust.images, m)
	}
	body := h.get(t, access.Viewer, "/trust").Body.String()
	if !strings.Contains(body, `rel="next"`) || strings.Count(body, `<tr id="t`) != store.DefaultPage {
		t.Errorf("got %d images on the first page", strings.Count(body, `<tr id="t`))
	}
	if got := strings.Count(h.get(t, access.Viewer, "/trust?after=150").Body.String(), "data-live-part"); got != 0 {
		t.Error("a further page is followed")
	}
}

func TestTrustBeforeThereIsAPolicy(t *testing.T) {
	h := shopHouse(t)
	h.trust.policies, h.trust.images = nil, nil
	h.shows(t, access.Viewer, "/trust", "There is no trust policy yet", "castellan trust init", "castellan trust policy set", "It needs an administrator", "No image is known yet")
	if got := h.get(t, access.Administrator, "/trust").Body.String(); !strings.Contains(got, `href="/trust/policy/edit"`) {
		t.Error("an administrator is not led to where a policy is written")
	}
	h = shopHouse(t)
	h.store.shop.Agents = nil
	h.shows(t, access.Viewer, "/trust", "No agent reports")
	h = shopHouse(t)
	for i := range h.store.shop.Agents {
		h.store.shop.Agents[i].Abilities = nil
	}
	h.shows(t, access.Viewer, "/trust", "No agent verifies images")
}

func TestImageSaysWhoHasSignedIt(t *testing.T) {
	h := shopHouse(t)
	h.shows(t, access.Viewer, "/images/"+storefrontImage, "Signatures", "allowed", `By the rule "shop" (line 23)`, "Attestation: provenance (SLSA)",
		"Signature", "Sigstore", "AWS Signer", "signing-profiles/quality", "(entry 48211734)", "Step by step", "signed by build: key")
	h.shows(t, access.Viewer, "/images/"+consoletest.ImageID("worker:2.4.0"), "denied", "Unsigned. No signature and no attestation of it was found.", "castellan trust sign")
	h.shows(t, access.Viewer, "/images/"+consoletest.ImageID("api:2.4.1"), "holds, and is by nobody whom the policy names", "refused: forged", "In a form that its makers have given up", "which is none of the signers")
	h.shows(t, access.Viewer, "/images/"+consoletest.ImageID("store:16"), "undecided", "401 Unauthorized", "docker login")
	h.shows(t, access.Viewer, "/images/"+consoletest.ImageID("hostile"), "there is nowhere to look for a signature of it")
	h.shows(t, access.Viewer, "/images/"+consoletest.ImageID("storefront:2.4.2"), "It is not known to the trust policy")
}

func TestWorkloadsOfDeniedImagesAreMarked(t *testing.T) {
	h := shopHouse(t)
	body := h.shows(t, access.Viewer, "/workloads", "image denied", "image undecided")
	if n := strings.Count(body, "image denied"); n != 2 {
		t.Errorf("got %d marks, want those of two workloads", n)
	}
	mark := `href="/images/` + consoletest.ImageID("worker:2.4.0") + `#signatures"`
	for _, path := range []string{"/workloads/" + consoletest.Worker, "/workloads/" + consoletest.Worker + "/files"} {
		if got := h.get(t, access.Viewer, path).Body.String(); !strings.Contains(got, mark) || !strings.Contains(got, "image denied") {
			t.Errorf("%s has no mark that leads to the signatures", path)
		}
	}
	if got := h.get(t, access.Viewer, "/workloads/"+consoletest.Storefront).Body.String(); strings.Contains(got, "image denied") {
		t.Error("what is allowed is marked")
	}
	i := slices.IndexFunc(h.store.shop.Workloads, func(w asset.Workload) bool { return w.ID == consoletest.Worker })
	h.store.shop.Workloads[i].State = asset.Exited
	if got := h.get(t, access.Viewer, "/workloads/"+consoletest.Worker).Body.String(); strings.Contains(got, "image denied") {
		t.Error("what runs no more is marked")
	}
}
