package verify_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/internal/trust"
)

// TestWhatSomebodyWaitsForIsVerifiedOutOfTurn: an image that a registry holds, and
// that no scan has looked at yet, is verified as soon as somebody asks.
func TestWhatSomebodyWaitsForIsVerifiedOutOfTurn(t *testing.T) {
	o := &own{say: func(_ asset.Registry, w link.VerifyWish) (trust.Verdict, error) { return verdictOn(w, true), nil }}
	f := startOwn(t, o)
	f.watch("a", 1)
	f.noted(1)
	f.set(policy("x"), 0)
	f.eventually("what is known is verified", func() bool {
		f.pass(10 * time.Millisecond)
		return f.states()["a.example/app-0"] == store.TrustAllowed
	})
	fresh := store.TrustName{Repository: "a.example/fresh", Digest: "sha256:" + strings.Repeat("f", 64)}
	// A name that is not of that registry, and a registry that there is not, are
	// nothing to verify.
	for _, w := range []struct{ registry, repository string }{{"a", "other"}, {"none", "fresh"}} {
		f.s.Want(w.registry, w.repository, store.TrustName{Repository: "b.example/fresh", Digest: fresh.Digest})
	}
	if !f.s.Want("a", "fresh", fresh) {
		t.Fatal("it is not taken")
	}
	f.eventually("it is verified", func() bool { return f.states()["a.example/fresh"] == store.TrustAllowed })
	for _, n := range o.names() {
		if strings.HasPrefix(n, "b.example") {
			t.Errorf("%s was read for a registry that it is not of", n)
		}
	}
}

// TestAnImageOfANewRegistryIsWaitedFor: a registry that was added since what
// registries hold was looked through is looked for when somebody waits.
func TestAnImageOfANewRegistryIsWaitedFor(t *testing.T) {
	o := &own{say: func(_ asset.Registry, w link.VerifyWish) (trust.Verdict, error) { return verdictOn(w, true), nil }}
	f := startOwn(t, o)
	f.watch("a", 1)
	f.noted(1)
	f.set(policy("x"), 0)
	f.watch("b", 1)
	f.pass(time.Millisecond) // less than between two looks, and more than before one that somebody waits for
	if !f.s.Want("b", "app-0", store.TrustName{Repository: "b.example/app-0", Digest: digest}) {
		t.Fatal("it is not taken")
	}
	f.eventually("it is verified", func() bool { return f.states()["b.example/app-0"] == store.TrustAllowed })
}

func TestOnlySoMuchIsWaitedFor(t *testing.T) {
	f := startOwn(t, &own{})
	taken := 0
	name := func(i int) store.TrustName {
		return store.TrustName{Repository: "a.example/x", Digest: fmt.Sprintf("sha256:%064d", i)}
	}
	for i := range 600 {
		if f.s.Want("a", "x", name(i)) {
			taken++
		}
	}
	if taken != 500 || !f.s.Want("a", "x", name(0)) {
		t.Errorf("%d are taken", taken)
	}
	f.pass(11 * time.Minute)
	if !f.s.Want("a", "x", name(599)) {
		t.Error("what nobody waits for any more keeps its place")
	}
	none := start(t)
	if none.s.Want("a", "x", name(0)) {
		t.Error("a server that verifies nothing itself takes it")
	}
}
