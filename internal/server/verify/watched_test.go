package verify_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/server/verify"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/internal/trust"
)

// own is what verifies images of registries, as the test wants it.
type own struct {
	mu    sync.Mutex
	say   func(r asset.Registry, w link.VerifyWish) (trust.Verdict, error)
	asked []string
	held  string // registry of which nothing is to be read
}

func (o *own) VerifyImage(_ context.Context, r asset.Registry, w link.VerifyWish) ([]byte, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.asked = append(o.asked, w.Repository)
	v, err := o.say(r, w)
	if err != nil {
		return nil, err
	}
	return json.Marshal(v)
}

func (o *own) names() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.asked)
}

func (o *own) reset(say func(asset.Registry, link.VerifyWish) (trust.Verdict, error)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.asked, o.say = nil, say
}

func (o *own) hold(registry string) { o.mu.Lock(); defer o.mu.Unlock(); o.held = registry }

func verdictOn(w link.VerifyWish, allowed bool) trust.Verdict {
	at := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	return trust.Verdict{Allowed: allowed, Reason: "because", Repository: w.Repository, Digest: w.Digest, Policy: w.PolicyDigest, At: at, Until: at.Add(time.Hour)}
}

// watch has a registry hold images, scanned already, one in each repository; the
// last one is no image.
func (f *fleet) watch(registry string, images int) {
	f.Helper()
	host := registry + ".example"
	if err := f.st.CreateRegistry(f.Context(), store.WatchedRegistry{Registry: asset.Registry{Name: registry, Kind: asset.RegistryOCI, Host: host}}); err != nil {
		f.Fatal(err)
	}
	for i := range images + 1 {
		repository := fmt.Sprintf("app-%d", i)
		image := asset.RegistryImage{Repository: repository, Digest: digest}
		if _, err := f.st.PutListing(f.Context(), store.Listing{Registry: registry, Repository: repository, At: f.clock(), Images: []store.ListedImage{{RegistryImage: image}}}); err != nil {
			f.Fatal(err)
		}
		e, err := f.st.TakeRegistryScan(f.Context(), f.clock(), nil)
		if err != nil {
			f.Fatal(err)
		}
		end := store.RegistryScanEnd{State: store.RegistryDone, Platforms: []store.RegistryPlatform{{ImageID: "sha256:" + strings.Repeat("e", 64)}}}
		if i == images {
			end = store.RegistryScanEnd{State: store.RegistrySkipped}
		}
		if err := f.st.EndRegistryScan(f.Context(), e.ID, end); err != nil {
			f.Fatal(err)
		}
	}
}

// states are those of the images of registries.
func (f *fleet) states() map[string]store.TrustState {
	f.Helper()
	all, err := f.s.Images(f.Context(), f.admin, store.TrustQuery{})
	if err != nil {
		f.Fatal(err)
	}
	out := map[string]store.TrustState{}
	for _, v := range all {
		if v.Watched {
			out[v.Repository] = v.State
		}
	}
	return out
}

// eventually waits until the loops have done something.
func (f *fleet) eventually(what string, done func() bool) {
	f.Helper()
	late := time.After(20 * time.Second)
	for tick := time.Tick(time.Millisecond); !done(); {
		select {
		case <-tick:
		case <-late:
			f.Fatalf("%s does not happen: %v", what, f.states())
		}
	}
}

// noted lets time pass until the images of so many repositories are known: two
// loops look for them, in whichever order.
func (f *fleet) noted(repositories int) {
	f.Helper()
	f.eventually("what registries hold is noted", func() bool {
		f.pass(10 * time.Millisecond)
		return len(f.states()) == repositories
	})
}

func startOwn(t *testing.T, o *own) *fleet {
	return start(t, func(opts *verify.Options) {
		opts.Own = o
		opts.Held = func(r asset.Registry) func(string) bool {
			o.mu.Lock()
			defer o.mu.Unlock()
			held := o.held == r.Name
			return func(string) bool { return held }
		}
	})
}

func TestTheServerVerifiesWhatRegistriesHold(t *testing.T) {
	o := &own{say: func(_ asset.Registry, w link.VerifyWish) (trust.Verdict, error) {
		return verdictOn(w, !strings.HasSuffix(w.Repository, "/app-1")), nil
	}}
	f := startOwn(t, o)
	f.watch("a", 2)
	f.noted(2)
	f.set(policy("x"), 0)
	f.send(answer(f.wish(), true, nil)) // what runs is the agents' still
	f.pass(time.Second)
	want := map[string]store.TrustState{"a.example/app-0": store.TrustAllowed, "a.example/app-1": store.TrustDenied}
	f.eventually("both are verified, and what is no image is not", func() bool {
		got := f.states()
		return len(got) == 2 && got["a.example/app-0"] == want["a.example/app-0"] && got["a.example/app-1"] == want["a.example/app-1"]
	})
	v, err := f.s.Image(t.Context(), f.admin, "a.example/app-0", digest)
	if err != nil || v.Agent != verify.Server || !v.Next.Equal(v.Checked.Add(24*time.Hour)) {
		t.Errorf("got %+v, %v; want it to be kept a day, by the server", v, err)
	}
	// What was denied soon after it came is looked at again soon.
	o.reset(func(_ asset.Registry, w link.VerifyWish) (trust.Verdict, error) { return verdictOn(w, true), nil })
	f.pass(11 * time.Minute)
	f.eventually("the denied one is allowed", func() bool { return f.states()["a.example/app-1"] == store.TrustAllowed })
	if got := o.names(); !slices.Equal(got, []string{"a.example/app-1"}) {
		t.Errorf("asked for %q, want the denied one alone", got)
	}
	// Who answers nonsense allows nothing.
	o.reset(func(_ asset.Registry, w link.VerifyWish) (trust.Verdict, error) {
		return trust.Verdict{Allowed: true, Repository: "another", Digest: w.Digest, Policy: w.PolicyDigest}, nil
	})
	f.set(policy("y"), 1)
	f.eventually("nonsense is undecided", func() bool {
		got := f.states()
		return got["a.example/app-0"] == store.TrustUndecided && got["a.example/app-1"] == store.TrustUndecided
	})
}

func TestARegistryThatRefusesDoesNotStandInTheWay(t *testing.T) {
	o := &own{say: func(r asset.Registry, w link.VerifyWish) (trust.Verdict, error) {
		if r.Name == "a" {
			return trust.Verdict{}, &verify.Refused{Err: fault.New(fault.Exhausted, "too many requests").With("wait")}
		}
		return verdictOn(w, true), nil
	}, held: "c"}
	f := startOwn(t, o)
	for _, name := range []string{"a", "b", "c"} {
		f.watch(name, 30)
	}
	f.noted(90)
	f.set(policy("x"), 0)
	f.send(answer(f.wish(), true, nil))
	f.pass(time.Second)
	count := func(host string, state store.TrustState) (n int) {
		for repository, s := range f.states() {
			if strings.HasPrefix(repository, host) && s == state {
				n++
			}
		}
		return n
	}
	f.eventually("all of b are verified", func() bool { return count("b.", store.TrustAllowed) == 30 })
	if n := count("a.", store.TrustUndecided); n != 1 {
		t.Errorf("%d images of a registry that refuses were tried, want one", n)
	}
	if n := count("c.", store.TrustWaiting); n != 30 {
		t.Errorf("%d images of a registry wait of which nothing is to be read, want all", n)
	}
	// It refuses still, and is left alone for longer.
	o.reset(o.say)
	f.pass(61 * time.Second)
	f.eventually("it is tried again", func() bool { return len(o.names()) > 0 })
	f.pass(61 * time.Second)
	o.hold("")
	f.pass(time.Second)
	f.eventually("all of c are verified", func() bool { return count("c.", store.TrustAllowed) == 30 })
	tried := 0
	for _, n := range o.names() {
		if strings.HasPrefix(n, "a.") {
			tried++
		}
	}
	if tried != 1 {
		t.Errorf("it was tried %d times in two minutes, want once", tried)
	}
}

func TestAnImageThatBeginsToRunIsVerifiedByAnAgent(t *testing.T) {
	o := &own{say: func(_ asset.Registry, w link.VerifyWish) (trust.Verdict, error) { return verdictOn(w, true), nil }}
	f := startOwn(t, o)
	f.watch("a", 1)
	f.noted(1)
	f.set(policy("x"), 0)
	f.send(answer(f.wish(), true, nil))
	f.pass(time.Second)
	f.eventually("it is verified", func() bool { return f.states()["a.example/app-0"] == store.TrustAllowed })
	f.run("9", "a.example/app-0", digest)
	if w := f.wish(); w.Repository != "a.example/app-0" {
		t.Errorf("an agent is asked for %s", w.Repository)
	}
}

// TestARepositoryThatIsForbiddenCostsTheOthersNothing has more of its images than a
// turn has.
func TestARepositoryThatIsForbiddenCostsTheOthersNothing(t *testing.T) {
	o := &own{say: func(_ asset.Registry, w link.VerifyWish) (trust.Verdict, error) {
		if strings.HasSuffix(w.Repository, "/app-0") {
			return trust.Verdict{}, &verify.Refused{Err: fault.New(fault.Denied, "not yours")}
		}
		return verdictOn(w, true), nil
	}}
	f := startOwn(t, o)
	f.watch("a", 30)
	var more []store.ListedImage
	for i := range 50 {
		more = append(more, store.ListedImage{RegistryImage: asset.RegistryImage{Repository: "app-0", Digest: fmt.Sprintf("sha256:%064x", i)}})
	}
	if _, err := f.st.PutListing(t.Context(), store.Listing{Registry: "a", Repository: "app-0", At: f.clock(), Images: more}); err != nil {
		t.Fatal(err)
	}
	for range more {
		e, err := f.st.TakeRegistryScan(t.Context(), f.clock(), nil)
		if err == nil {
			err = f.st.EndRegistryScan(t.Context(), e.ID, store.RegistryScanEnd{State: store.RegistryDone, Platforms: []store.RegistryPlatform{{ImageID: digest}}})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	f.noted(30)
	f.set(policy("x"), 0)
	f.send(answer(f.wish(), true, nil))
	f.pass(time.Second)
	f.eventually("all others are verified", func() bool {
		n := 0
		for repository, s := range f.states() {
			if repository != "a.example/app-0" && s == store.TrustAllowed {
				n++
			}
		}
		return n == 29
	})
	tried := 0
	for _, n := range o.names() {
		if n == "a.example/app-0" {
			tried++
		}
	}
	if tried != 1 {
		t.Errorf("the forbidden one was tried %d times, want once", tried)
	}
}
