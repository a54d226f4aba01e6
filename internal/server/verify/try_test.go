package verify_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/server/verify"
	"github.com/castellan-security/castellan/internal/signature"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/internal/trust"
)

// keyPair is a public key as policies have it, and its fingerprint.
func keyPair(t *testing.T) (text, print string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&k.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(der)
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})), "sha256:" + hex.EncodeToString(sum[:])
}

// signedBy is a registry with signatures by keys, and a door that finds them true.
type signedBy []string

func (s signedBy) Envelopes(context.Context, signature.Subject) (all []signature.Envelope, err error) {
	for _, print := range s {
		all = append(all, signature.Envelope{Digest: print, MediaType: "application/vnd.dev.sigstore.bundle.v0.3+json", Payload: []byte(print), Way: signature.ByReferrer})
	}
	return all, nil
}

func (signedBy) Open(_ context.Context, e signature.Envelope, _ signature.Subject, _ time.Time) (signature.Signed, error) {
	return signature.Signed{Kind: signature.Sigstore, Envelope: e.Digest, Way: e.Way, Identity: signature.Identity{Key: string(e.Payload)}}, nil
}

// decided is what an agent answers that finds an image signed by keys.
func decided(t *testing.T, w link.VerifyWish, by ...string) link.Verified {
	t.Helper()
	p, err := trust.Read(w.Policy, "policy", nil)
	if err != nil {
		t.Fatal(err)
	}
	d := trust.Decider{Policy: p, Finder: signedBy(by), Openers: map[signature.Kind]trust.Opener{signature.Sigstore: signedBy(nil)}, Facts: true}
	v, err := d.Explain(t.Context(), trust.Image{Subject: signature.Subject{Repository: w.Repository, Digest: w.Digest}}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return link.Verified{AgentID: agentID, Job: w.Job, Repository: w.Repository, Digest: w.Digest, PolicyDigest: w.PolicyDigest, Verdict: b}
}

func (f *fleet) run(id, repository, digest string) {
	f.Helper()
	err := f.st.PutWorkloads(f.Context(), []asset.Workload{{ID: strings.Repeat(id, 64), AgentID: agentID, Group: "shop/" + asset.Group(id), State: asset.Running,
		Image: asset.Image{Reference: repository + ":1", ID: "sha256:" + strings.Repeat(id, 64), Digest: digest}}})
	if err != nil {
		f.Fatal(err)
	}
	f.pass(time.Second) // so that it is noted
}

func (f *fleet) try(text string) verify.Trial {
	f.Helper()
	t, err := f.s.Try(f.Context(), f.admin, text)
	if err != nil {
		f.Fatal(err)
	}
	return t
}

// twoKeys is a policy by which one key or both must have signed.
func twoKeys(a, b, require string) string {
	indent := func(key string) string { return strings.ReplaceAll(strings.TrimSpace(key), "\n", "\n        ") }
	return fmt.Sprintf(`version: 1
roots:
  keys:
    a:
      pem: |
        %s
    b:
      pem: |
        %s
signers:
  build: {key: a}
  quality: {key: b}
images:
  - {match: "reg.example/**", require: [{signers: %s}]}
`, indent(a), indent(b), require)
}

func TestAPolicyIsTriedOnWhatRuns(t *testing.T) {
	f := start(t)
	a, printA := keyPair(t)
	b, printB := keyPair(t)
	bank, pay := "reg.example/bank", "reg.example/pay"
	f.run("3", bank, digest)
	f.set(twoKeys(a, b, "[build]"), 0)
	by := map[string][]string{shop: {printA}, bank: {printA, printB}}
	for range 2 {
		w := f.wish()
		f.send(decided(t, w, by[w.Repository]...))
	}
	f.want(store.TrustAllowed)

	if t1 := f.try(twoKeys(a, b, "[build]")); len(t1.Changes) > 0 || t1.Untried > 0 || !maps.Equal(t1.Before, t1.After) {
		t.Errorf("the same policy: got %+v", t1)
	}
	got := f.try(twoKeys(a, b, "[build, quality]"))
	want := verify.Trial{
		Before: map[store.TrustState]int{store.TrustAllowed: 2, store.TrustLocal: 1},
		After:  map[store.TrustState]int{store.TrustAllowed: 1, store.TrustDenied: 1, store.TrustLocal: 1},
		Changes: []verify.Change{{
			Repository: shop, Digest: digest, Groups: []asset.Group{"shop/web"}, Running: 1, Before: store.TrustAllowed, After: store.TrustDenied,
			Reason: "there is no signature that counts by quality: 1 of 2 count",
			Remedy: "let the signer run castellan trust sign " + shop + "@" + digest,
		}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("one more signer (-want +got):\n%s", diff)
	}
	f.want(store.TrustAllowed) // nothing is changed
	one, err := f.s.TryImage(t.Context(), f.admin, twoKeys(a, b, "[build, quality]"), shop, digest)
	if err != nil || one.After != store.TrustDenied || one.Verdict == nil || len(one.Verdict.Signatures) != 1 || len(one.Verdict.Steps) == 0 {
		t.Errorf("explained: got %+v, %v", one, err)
	}
	if v, err := f.s.Image(t.Context(), f.admin, shop, digest); err != nil || strings.Contains(string(v.Details), `"facts"`) {
		t.Errorf("people are told the facts that are kept: %s, %v", v.Details, err)
	}

	// Another key where nothing was refused leaves no doubt; an image that nobody has
	// looked at does, unless no signature could help it.
	f.run("4", pay, "sha256:"+strings.Repeat("c", 64))
	w := f.wish()
	if w.Repository != pay {
		t.Fatalf("asked for %s", w.Repository)
	}
	third, _ := keyPair(t)
	got = f.try(twoKeys(a, third, "[quality]"))
	if got.After[store.TrustDenied] != 2 || got.After[verify.TrustAnew] != 1 || len(got.Changes) != 2 {
		t.Errorf("by a key that is new: got %+v", got)
	}
	if one, err = f.s.TryImage(t.Context(), f.admin, twoKeys(a, b, "[build]"), pay, w.Digest); err != nil || one.After != verify.TrustAnew || one.Before != store.TrustWaiting ||
		!strings.Contains(one.Reason, "nothing was found out of it yet") {
		t.Errorf("never looked at: got %+v, %v", one, err)
	}
	got = f.try(policy("gone"))
	if got.After[store.TrustDenied] != 3 {
		t.Errorf("no signature can help: got %+v", got)
	}
}

func TestOnlyPoliciesAreTriedByThoseWhoMay(t *testing.T) {
	f := start(t)
	got := f.try("version: 1\nodd: 1\n")
	if len(got.Problems) == 0 || got.Problems[0].Line != 2 || len(got.Before) > 0 {
		t.Errorf("got %+v, want a problem in line 2", got)
	}
	if _, err := f.s.Try(t.Context(), access.Identity{Actor: "token:feed", Scopes: []access.Scope{access.ReadEvents}}, policy("x")); !fault.Is(err, fault.Denied) {
		t.Errorf("without a scope: got %v, want denied", err)
	}
	if _, err := f.s.TryImage(t.Context(), f.admin, policy("x"), "reg.example/other", digest); !fault.Is(err, fault.NotFound) {
		t.Errorf("an image that is not known: got %v, want not found", err)
	}
}
