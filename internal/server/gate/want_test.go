package gate_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/store"
)

// signed refuses what nobody has vouched for, and waits while that is found out.
const signed = `version: 1
mode: enforce
rules:
  - use: not-signed
    unknown: wait
`

// hold has the registry r hold images of the repository shop.
func (h *house) hold(digests ...string) {
	h.Helper()
	var all []store.ListedImage
	for i, d := range digests {
		all = append(all, store.ListedImage{RegistryImage: asset.RegistryImage{Repository: "shop", Digest: d, Tags: []string{fmt.Sprint(i)}}})
	}
	_, err := h.st.PutListing(h.Context(), store.Listing{Registry: "r", Repository: "shop", At: h.clock(), Images: all})
	h.must(err)
	h.s.Touch()
}

// TestADecisionHasAnImageVerified: an image that runs nowhere is verified because a
// deployment asks for it, which waits until that is done.
func TestADecisionHasAnImageVerified(t *testing.T) {
	h := start(t)
	h.must(h.st.CreateRegistry(t.Context(), store.WatchedRegistry{Registry: asset.Registry{Name: "r", Kind: asset.RegistryOCI, Host: "reg.example"}, Created: h.clock()}))
	_, err := h.st.PutTrustPolicy(t.Context(), store.TrustPolicy{Digest: "p", Text: "x"}, 0)
	h.must(err)
	h.set(signed, 0)
	name := store.TrustName{Repository: "reg.example/shop", Digest: digest("a")}
	why := func(want string) {
		t.Helper()
		if f := h.facts("reg.example/shop@" + name.Digest).Trust; f.State != admission.Waiting || f.Why != want {
			t.Errorf("its signatures are %q (%s), want it to wait: %s", f.State, f.Why, want)
		}
	}
	// Its registry is asked for it first.
	h.decide(ask("r1", "shop", name.Digest), admission.Wait, "being verified")
	why("its registry is asked for it, to verify it")
	if len(h.wanted) > 0 {
		t.Errorf("wanted before a registry has it: %v", h.wanted)
	}
	h.hold(name.Digest)
	h.decide(ask("r2", "shop", name.Digest), admission.Wait, "being verified")
	why("registry r holds it, and it is about to be verified")
	h.decide(ask("r3", "shop", name.Digest), admission.Wait, "")
	if len(h.wanted) != 1 || h.wanted[0] != name {
		t.Errorf("wanted %v, want %v once", h.wanted, name)
	}
	h.must(h.st.NoteTrustImages(t.Context(), []store.TrustSeen{{Repository: name.Repository, Digest: name.Digest}}, h.clock(), h.clock().Add(-time.Hour)))
	h.s.Touch()
	h.decide(ask("r4", "shop", name.Digest), admission.Wait, "being verified")
	why("it is about to be verified")
	h.must(h.st.PutTrustVerdict(t.Context(), store.TrustVerdict{
		Repository: name.Repository, Digest: name.Digest, State: store.TrustAllowed, Policy: "p", Agent: "server", Checked: h.clock(), Next: h.clock().Add(time.Hour),
		Signers: []store.TrustSigner{{Names: []string{"build"}, Identity: "key", Kind: "sigstore"}},
	}))
	h.s.Touch()
	h.decide(ask("r5", "shop", name.Digest), admission.Allow, "")
	// What no registry holds is not waited for.
	r := ask("r6", "pay", digest("b"))
	r.Task.Containers[0].Image.Registry = "elsewhere.example"
	h.decide(r, admission.Deny, "")
}

// TestARequesterHasOnlySoMuchVerified: one that asks for more has it verified when
// its turn comes, and others are not kept from asking.
func TestARequesterHasOnlySoMuchVerified(t *testing.T) {
	h := start(t)
	h.must(h.st.CreateRegistry(t.Context(), store.WatchedRegistry{Registry: asset.Registry{Name: "r", Kind: asset.RegistryOCI, Host: "reg.example"}, Created: h.clock()}))
	_, err := h.st.PutTrustPolicy(t.Context(), store.TrustPolicy{Digest: "p", Text: "x"}, 0)
	h.must(err)
	h.set(signed, 0)
	var all []string
	for i := range 70 {
		all = append(all, fmt.Sprintf("sha256:%064d", i))
	}
	h.hold(all...)
	for i, d := range all {
		h.decide(ask(fmt.Sprint("many-", i), "shop", d), admission.Wait, "being verified")
	}
	if len(h.wanted) != 60 {
		t.Errorf("%d are wanted for one requester", len(h.wanted))
	}
	bert := access.Identity{Actor: "user:bert", Scopes: access.Administrator.Scopes()}
	if _, err := h.s.Decide(t.Context(), bert, ask("other", "shop", all[69])); err != nil || len(h.wanted) != 61 {
		t.Errorf("%d are wanted with another requester's, %v", len(h.wanted), err)
	}
	h.pass(time.Minute)
	h.decide(ask("later", "shop", all[68]), admission.Wait, "")
	if len(h.wanted) != 62 {
		t.Errorf("%d are wanted a minute later", len(h.wanted))
	}
}

// TestEndOfLife: a distribution's end is known of what the server has scanned, and
// counts from the day on.
func TestEndOfLife(t *testing.T) {
	h := start(t)
	h.set("version: 1\nmode: enforce\nrules:\n  - use: end-of-life\n", 0)
	old := func(id, manifest, version string) {
		now := h.clock()
		_, err := h.st.NoteImages(t.Context(), []store.Image{{ID: id, Digest: manifest}}, now)
		h.must(err)
		_, err = h.st.LeaseImage(t.Context(), id, store.Lease{AgentID: agentID, Job: "j", Now: now, Until: now.Add(time.Hour)})
		h.must(err)
		h.must(h.st.PutInventory(t.Context(), id, "j", inventory.Inventory{Image: &inventory.Image{}, OS: inventory.OS{ID: "alpine", Version: version}}, now))
		h.must(h.st.PutFindings(t.Context(), store.ImageFindings{ImageID: id, Database: "gen", Matched: now, Vulnerabilities: []finding.Vulnerability{}}))
		h.s.Touch()
	}
	old(digest("1"), digest("a"), "3.12.0")
	old(digest("2"), digest("b"), "3.22.0") // until 2027-05-01
	h.decide(ask("r1", "shop", digest("a")), admission.Deny, "which gets no fixes since 2022-05-02")
	h.decide(ask("r2", "shop", digest("b")), admission.Allow, "")
	h.pass(365 * 24 * time.Hour)
	h.decide(ask("r3", "shop", digest("b")), admission.Deny, "gets no fixes since 2027-05-0")
}
