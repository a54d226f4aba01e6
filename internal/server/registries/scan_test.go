package registries_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/scan"
	"github.com/castellan-security/castellan/internal/server/registries"
	"github.com/castellan-security/castellan/internal/store"
)

// kept returns what is known of the images, the newest first.
func (w *world) kept() []store.RegistryImage {
	w.t.Helper()
	all, err := w.st.RegistryImages(w.t.Context(), store.RegistryImageQuery{Limit: store.MaxPage})
	if err != nil {
		w.t.Fatal(err)
	}
	return all
}

// A rate limit, an outage and missing credentials are the registry's: its images
// wait, however long it takes, none of them is tried too often, and all are
// scanned once it is over.
func TestARegistryThatRefusesCostsNoTries(t *testing.T) {
	for _, tc := range []struct {
		name, where string
		kind        fault.Kind
	}{
		{"rate limit", "resolve", fault.Exhausted},
		{"rate limit of layers", "scan", fault.Exhausted},
		{"outage", "resolve", fault.Unavailable},
		{"outage of layers", "scan", fault.Unavailable},
		{"no credentials", "resolve", fault.Unauthenticated},
		{"not permitted", "resolve", fault.Denied},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				for n := range 40 {
					w.push(fmt.Sprintf("shop-%d", n%8), fmt.Sprint(n), n+1)
				}
				w.fail(tc.where, fault.New(tc.kind, "it says no").With("ask nicely"))
				w.watch()
				before := w.lookups()
				w.pass(8 * time.Hour) // a try was after 1, 5, 25 and 120 minutes
				if n := w.lookups() - before; n < 8 || n > 8*4*2 {
					t.Errorf("asked for images %d times in eight hours, want a few times an hour", n)
				}
				told := 0
				for _, e := range w.kept() {
					if e.State != store.RegistryWaiting || e.Tries != 0 {
						t.Fatalf("got %+v, want it to wait with no try behind it", e)
					}
					if strings.Contains(e.Error, "it says no; ask nicely") {
						told++
					}
				}
				v, err := w.Registry(t.Context(), "hub")
				if err != nil {
					t.Fatal(err)
				}
				if told == 0 || v.Paused == nil || !strings.Contains(v.Paused.Error, "it says no") || v.Paused.Remedy != "ask nicely" {
					t.Errorf("told of %d images; registry %+v", told, v.Paused)
				}
				if all := w.conditions.List(); len(all) != 1 || all[0].Name != "registry/hub/scans" {
					t.Errorf("conditions %+v", all)
				}
				w.fail(tc.where, nil)
				if err := w.Check(t.Context(), operator, "hub"); err != nil {
					t.Fatal(err)
				}
				w.pass(20 * time.Minute) // those that tried wait for their next
				for _, e := range w.kept() {
					if e.State != store.RegistryDone {
						t.Errorf("when it is over: %+v", e)
					}
				}
				if v, err = w.Registry(t.Context(), "hub"); err != nil || v.Paused != nil || len(w.conditions.List()) != 0 {
					t.Errorf("when it is over: %+v, %v; conditions %v", v.Paused, err, w.conditions.List())
				}
			})
		})
	}
}

// What the scanner says is the image's own, whatever its kind.
func TestAnImageThatIsTooLargeIsGivenUpAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.push("shop", "1", 1)
		w.fail("scan", &registries.Broken{Err: fault.New(fault.Exhausted, "a layer has more than 1 byte").With("raise the limit")})
		w.watch()
		w.want("first", "shop 1 1 failed")
		if e := w.kept()[0]; !strings.Contains(e.Error, "more than 1 byte; raise the limit") {
			t.Errorf("got %+v", e)
		}
	})
}

// One image that its registry has lost keeps no other waiting, and is given up.
func TestOneImageThatCantBeReadIsItsOwn(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		for n := range 10 {
			w.push("shop", fmt.Sprint(n), n+1)
		}
		w.fail("resolve #10", fault.New(fault.Unavailable, "500 Internal Server Error"))
		w.watch()
		w.pass(10 * time.Minute)
		done := 0
		for _, e := range w.kept() {
			if e.State == store.RegistryDone {
				done++
			}
		}
		if done != 9 {
			t.Errorf("%d of the 9 others are scanned: %v", done, w.entries())
		}
		for n := range 24 { // of which some are pushed now and then
			w.push("shop", fmt.Sprint("later-", n), n+11)
			w.pass(time.Hour)
		}
		for _, e := range w.kept() {
			want := store.RegistryDone
			if e.Digest == digest(10) {
				want = store.RegistryFailed
			}
			if e.State != want {
				t.Errorf("a day later: %+v, want %s", e, want)
			}
		}
	})
}

func TestARepositoryThatIsNotPermittedHoldsNoOther(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		for n := range 20 {
			w.push("secret", fmt.Sprint(n), n+1)
		}
		w.fail("resolve secret", fault.New(fault.Denied, "403 Forbidden").With("log in"))
		w.watch()
		w.push("shop", "1", 21)
		if err := w.Check(t.Context(), operator, "hub"); err != nil {
			t.Fatal(err)
		}
		w.pass(time.Minute)
		v, err := w.Registry(t.Context(), "hub")
		if err != nil {
			t.Fatal(err)
		}
		if v.Totals.States[store.RegistryDone] != 1 || v.Totals.States[store.RegistryWaiting] != 20 || v.Paused == nil || w.lookups() > 6 {
			t.Errorf("registry %+v, asked %d times", v, w.lookups())
		}
	})
}

func TestAScanOfWhichTheEndWasNotWrittenEnds(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.push("shop", "1", 1)
		w.flaky.fail("end", 4)
		w.watch()
		w.want("soon", "shop 1 1 done")
		if len(w.scanned) != 1 || len(w.conditions.List()) != 0 {
			t.Errorf("scanned %v, conditions %v", w.scanned, w.conditions.List())
		}
	})
}

func TestWhatAScanFoundIsStoredOrScannedAnew(t *testing.T) {
	for _, tc := range []struct {
		name           string
		fails, scanned int
	}{
		{"stored in the end", 2, 1},
		{"given back, and scanned anew", 6, 2},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.push("shop", "1", 1)
				w.flaky.fail("inventory", tc.fails)
				w.watch()
				w.pass(5 * time.Minute) // much less than the time that a scan has
				w.want("soon", "shop 1 1 done")
				m, err := w.st.Image(t.Context(), imageID(1))
				if err != nil {
					t.Fatal(err)
				}
				if len(w.scanned) != tc.scanned || m.Scan.Tries > 1 || w.kept()[0].Tries != 0 || len(w.conditions.List()) != 0 {
					t.Errorf("scanned %v, image %+v, conditions %v", w.scanned, m.Scan, w.conditions.List())
				}
			})
		})
	}
}

func TestAStopOfTheServerIsNoTry(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.push("shop", "1", 1)
		stuck := make(chan struct{})
		w.change(func() { w.stuck = stuck })
		w.watch()
		for range 6 {
			w.end()
			w.start()
			w.pass(time.Minute)
		}
		m, err := w.st.Image(t.Context(), imageID(1))
		if err != nil {
			t.Fatal(err)
		}
		if e := w.kept()[0]; e.State != store.RegistryRunning || e.Tries != 1 || m.Scan.Tries != 1 {
			t.Errorf("after six starts: %+v, %+v", e, m.Scan)
		}
		close(stuck)
		w.pass(time.Minute)
		w.want("at last", "shop 1 1 done")
	})
}

// An image that a newer analysis can't scan stays as the older one found it, and
// nothing says that the newer one had.
func TestWhatANewerAnalysisFailedOnIsOfTheOlder(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.change(func() { w.analysis = scan.Analysis - 1 })
		w.push("shop", "1", 1)
		w.watch()
		w.fail("scan", &registries.Broken{Err: fault.New(fault.Invalid, "the layer is none")})
		w.end()
		w.start()
		w.pass(time.Minute)
		w.want("tried anew", "shop 1 1 done")
		if e := w.kept()[0]; e.Analysis != scan.Analysis-1 {
			t.Errorf("got analysis %d, want the older one's", e.Analysis)
		}
	})
}

// What refuses one registry of a host refuses the other.
func TestTwoRegistriesOfOneHostWaitTogether(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		for n := range 10 {
			w.push("shop", fmt.Sprint(n), n+1)
		}
		w.fail("resolve", fault.New(fault.Exhausted, "429 Too Many Requests"))
		w.watch()
		if _, _, err := w.Create(t.Context(), operator, registries.Spec{Name: "twin", Host: "hub.example", Kind: string(asset.RegistryOCI)}, false); err != nil {
			t.Fatal(err)
		}
		before := w.lookups()
		w.pass(time.Hour)
		if n := w.lookups() - before; n > 10 {
			t.Errorf("asked for images %d times in an hour", n)
		}
		v, err := w.Registry(t.Context(), "twin")
		if err != nil || v.Paused == nil {
			t.Errorf("the other: %+v, %v", v, err)
		}
	})
}
