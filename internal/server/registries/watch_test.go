package registries_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/server/registries"
	"github.com/castellan-security/castellan/internal/store"
)

func TestWhatARegistryHoldsIsListedAndScanned(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.push("shop/web", "1", 1)
		w.push("shop/web", "2", 2)
		w.push("shop/web", "latest", 2)
		w.push("attic/web", "old", 1) // the same image elsewhere
		w.push("shop/web-test", "1", 3)
		w.push("shop/web", "dev", 4)
		w.watch(func(s *registries.Spec) {
			s.Repositories, s.Tags = []string{"**", "!**-test"}, []string{"*", "!dev"}
		})
		w.want("after the first look", "attic/web 1 old done", "shop/web 1 1 done", "shop/web 2 2,latest done")
		if len(w.scanned) != 2 {
			t.Errorf("scanned %v, want each image once", w.scanned)
		}
		m, err := w.st.Image(t.Context(), imageID(2))
		if err != nil {
			t.Fatal(err)
		}
		if m.Workloads != 0 || m.Scan.State != store.ScanDone || m.Counts == (store.Counts{}) || m.References[0] != "hub.example/shop/web:latest" {
			t.Errorf("image %+v", m)
		}
		v, err := w.Registry(t.Context(), "hub")
		if err != nil {
			t.Fatal(err)
		}
		if v.Totals.Images() != 3 || v.Totals.Repositories != 2 || v.Totals.Critical+v.Totals.High+v.Totals.Medium+v.Totals.Unrated == 0 || v.Poll.Ended.IsZero() {
			t.Errorf("registry %+v", v)
		}

		w.push("shop/web", "latest", 5)
		w.remove("attic/web", "old")
		w.pass(2 * registries.DefaultEvery)
		w.want("after a push and a deletion", "attic/web 1 old gone", "shop/web 1 1 done", "shop/web 2 2 done", "shop/web 5 latest done")
		if len(w.conditions.List()) != 0 {
			t.Errorf("conditions %v", w.conditions.List())
		}
	})
}

func TestOnlyTheNewestAreKept(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		now := time.Now()
		for n := 1; n <= 5; n++ {
			w.push("shop", fmt.Sprint(n), n)
			w.built[n] = now.Add(-time.Duration(n) * 24 * time.Hour)
		}
		w.watch(func(s *registries.Spec) { s.Keep, s.MaxAge = 3, "60h" })
		w.want("by when they were built", "shop 1 1 done", "shop 2 2 done", "shop 3 3 left", "shop 4 4 left", "shop 5 5 left")
		before := w.resolved
		w.pass(2 * registries.DefaultEvery)
		if w.resolved != before {
			t.Errorf("dates were looked up again: %d times", w.resolved-before)
		}
		w.built[6] = now
		w.push("shop", "6", 6)
		w.pass(24 * time.Hour)
		w.want("a day later", "shop 1 1 done", "shop 2 2 left", "shop 3 3 left", "shop 4 4 left", "shop 5 5 left", "shop 6 6 done")
	})
}

func TestWhatFailsIsShownAndLeftAloneForAWhile(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.push("ops", "1", 1)
		w.push("shop", "1", 2)
		w.fail("shop", fault.New(fault.Denied, "403 Forbidden").With("log in"))
		w.watch()
		w.want("the others are listed", "ops 1 1 done")
		v, err := w.Registry(t.Context(), "hub")
		if err != nil {
			t.Fatal(err)
		}
		if v.Totals.Failing != 1 || v.Poll.Error != "" {
			t.Errorf("registry %+v", v)
		}
		all := w.conditions.List()
		if len(all) != 1 || !strings.Contains(all[0].What, "1 of 2 repositories") || all[0].Remedy != "log in" {
			t.Errorf("conditions %+v", all)
		}
		w.pass(24 * time.Hour)
		ops, shop := w.times("ops"), w.times("shop")
		if shop < 5 || shop > ops/4 {
			t.Errorf("what fails was asked %d times in a day, what works %d times", shop, ops)
		}
		w.fail("shop", nil)
		if err := w.Check(t.Context(), operator, "hub"); err != nil {
			t.Fatal(err)
		}
		w.pass(time.Minute)
		w.want("when asked at once", "ops 1 1 done", "shop 2 1 done")
		if len(w.conditions.List()) != 0 {
			t.Errorf("conditions %v", w.conditions.List())
		}
	})
}

func TestARegistryThatIsDownCostsLittle(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		for n := range 50 {
			w.push(fmt.Sprintf("shop-%02d", n), "1", n+1)
			w.fail(fmt.Sprintf("shop-%02d", n), fault.New(fault.Unavailable, "no route").With("wait"))
		}
		w.watch()
		asked := 0
		for n := range 50 {
			asked += w.times(fmt.Sprintf("shop-%02d", n))
		}
		v, err := w.Registry(t.Context(), "hub")
		if err != nil {
			t.Fatal(err)
		}
		// The second look comes after a minute, somewhat sooner or later.
		if asked != 5*v.Poll.Tries {
			t.Errorf("asked for %d repositories in %d looks, want each given up after 5", asked, v.Poll.Tries)
		}
		if !strings.Contains(v.Poll.Error, "no route") || v.Poll.Remedy != "wait" || v.Poll.Tries < 1 {
			t.Errorf("poll %+v", v.Poll)
		}
		before := w.times("")
		w.pass(24 * time.Hour)
		if n := w.times("") - before; n > 24 {
			t.Errorf("asked for the catalogue %d times in a day", n)
		}
	})
}

func TestWithoutACatalogueWhatIsNamedIsWatched(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.push("shop", "1", 1)
		w.push("ops", "1", 2)
		w.fail("", fault.New(fault.Unsupported, "it shows none"))
		w.watch(func(s *registries.Spec) { s.Named = []string{"shop"} })
		w.want("what is named", "shop 1 1 done")
		if len(w.conditions.List()) != 0 {
			t.Errorf("conditions %v", w.conditions.List())
		}
		w.fail("shop", fault.New(fault.NotFound, "no such repository").With("is the name right?"))
		w.pass(time.Hour)
		if all := w.conditions.List(); len(all) != 1 || all[0].Remedy != "is the name right?" {
			t.Errorf("what is named and not there: conditions %v", all)
		}
	})
}

// pushed is what a hub sends to its webhook.
func pushed(repository, tag string) []byte {
	return fmt.Appendf(nil, `[{"host":"whatever","repository":%q,"tag":%q}]`, repository, tag)
}

func TestARegistryTellsOfChanges(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.push("shop", "1", 1)
		token := w.watch(func(s *registries.Spec) { s.Every = "1d"; s.Tags = []string{"!*-dev"} })
		before := w.times("shop")
		for n := 2; n <= 20; n++ { // a burst
			w.push("shop", fmt.Sprint(n), n)
			told, err := w.Hook(t.Context(), "hub", token, pushed("shop", fmt.Sprint(n)), "")
			if err != nil || told != 1 {
				t.Fatalf("told %d, %v", told, err)
			}
			time.Sleep(500 * time.Millisecond)
		}
		w.pass(20 * time.Second)
		if n := w.times("shop") - before; n != 1 {
			t.Errorf("a burst of pushes made %d listings, want 1", n)
		}
		if got := len(w.entries()); got != 20 {
			t.Errorf("%d images are known, want 20", got)
		}
		for _, tc := range []struct{ name, repository, tag string }{
			{"a tag that is not wanted", "shop", "x-dev"}, {"a name that none can have", "../etc", "1"}, {"none", "", ""},
		} {
			if told, err := w.Hook(t.Context(), "hub", token, pushed(tc.repository, tc.tag), ""); told != 0 || err != nil {
				t.Errorf("%s: told %d, %v", tc.name, told, err)
			}
		}
		for _, tc := range []struct{ name, registry, token string }{
			{"another token", "hub", "csw_x"}, {"none", "hub", ""}, {"of no registry", "bub", token},
		} {
			if _, err := w.Hook(t.Context(), tc.registry, tc.token, pushed("shop", "1"), ""); !fault.Is(err, fault.Unauthenticated) {
				t.Errorf("%s: got %v, want unauthenticated", tc.name, err)
			}
		}
	})
}

func TestAQueueTellsOfChanges(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		const host = "123456789012.dkr.ecr.eu-central-1.amazonaws.com"
		w.push("shop", "1", 1)
		w.watch(func(s *registries.Spec) {
			s.Host, s.Every, s.Queue = host, "1d", "https://sqs.eu-central-1.amazonaws.com/123456789012/castellan"
		})
		w.push("shop", "2", 2)
		before := w.times("shop")
		w.changes <- []asset.RegistryChange{{Host: "999999999999.dkr.ecr.eu-central-1.amazonaws.com", Repository: "shop", Tag: "2"}}
		w.pass(time.Minute)
		if n := w.times("shop") - before; n != 0 || w.taken != 1 {
			t.Errorf("another registry's change: %d listings, %d taken", n, w.taken)
		}
		w.changes <- []asset.RegistryChange{{Host: host, Repository: "shop", Tag: "2"}}
		w.pass(time.Minute)
		w.want("after the change", "shop 1 1 done", "shop 2 2 done")
	})
}

func TestScansAreTriedAgainAndGivenUp(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.push("shop", "1", 1)
		w.fail("scan", &registries.Broken{Err: fault.New(fault.Unavailable, "the scanner was killed").With("wait")})
		w.watch()
		w.want("first", "shop 1 1 waiting")
		w.pass(24 * time.Hour)
		w.want("a day later", "shop 1 1 failed")
		all, err := w.st.RegistryImages(t.Context(), store.RegistryImageQuery{})
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(all[0].Error, "the scanner was killed") || !strings.Contains(all[0].Error, "wait") {
			t.Errorf("error %q", all[0].Error)
		}
		w.fail("scan", nil)
		if err := w.Rescan(t.Context(), operator, all[0].ID); err != nil {
			t.Fatal(err)
		}
		w.pass(time.Minute)
		w.want("asked for anew", "shop 1 1 done")

		w.fail("resolve", errors.New("SELECT secret"))
		w.push("shop", "2", 2)
		w.pass(24 * time.Hour)
		w.want("never read", "shop 1 1 done", "shop 2 2 failed")
		all, err = w.st.RegistryImages(t.Context(), store.RegistryImageQuery{State: store.RegistryFailed})
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(all[0].Error, "SELECT") || all[0].Tries != 5 {
			t.Errorf("got %+v, want 5 tries and nothing of an unexpected error", all[0])
		}
		w.fail("resolve", fault.New(fault.Unsupported, "it is a chart"))
		w.push("shop", "3", 3)
		w.pass(time.Hour)
		w.want("what is no image", "shop 1 1 done", "shop 2 2 failed", "shop 3 3 skipped")
	})
}

func TestAScanGoesOnAfterARestart(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.push("shop", "1", 1)
		w.fail("scan", fault.New(fault.Unavailable, "away"))
		w.watch()
		// As if the server had died in the middle: taken, and claimed.
		w.pass(time.Hour)
		w.end()
		w.fail("scan", nil)
		w.start()
		w.pass(3 * time.Hour)
		w.want("after the restart", "shop 1 1 done")
	})
}

func TestOneThatAnAgentHasScannedIsNotScannedAgain(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.push("shop", "1", 1)
		w.watch()
		if len(w.scanned) != 1 {
			t.Fatalf("scanned %v", w.scanned)
		}
		if _, _, err := w.Create(t.Context(), operator, registries.Spec{Name: "mirror", Host: "mirror.example"}, false); err != nil {
			t.Fatal(err)
		}
		w.pass(time.Minute)
		w.want("in both", "shop 1 1 done", "shop 1 1 done")
		if len(w.scanned) != 1 {
			t.Errorf("scanned again: %v", w.scanned)
		}
		at, err := w.st.ImageEntries(t.Context(), imageID(1))
		if err != nil || len(at) != 2 {
			t.Errorf("it is in %v, %v", at, err)
		}
	})
}

func TestThePlatformsOfTheFleetAreScanned(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		if err := w.st.PutAgent(t.Context(), asset.Agent{ID: "AGENTAAAAAAAA", Host: asset.Host{Arch: "arm64"}}); err != nil {
			t.Fatal(err)
		}
		w.push("shop", "1", 1)
		w.watch()
		if len(w.wanted) != 1 || w.wanted[0].String() != "linux/arm64" {
			t.Errorf("wanted %v", w.wanted)
		}
	})
}

func TestARegistryIsChangedAndRemoved(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.push("shop", "1", 1)
		w.push("ops", "1", 2)
		token := w.watch()
		v, err := w.Registry(t.Context(), "hub")
		if err != nil {
			t.Fatal(err)
		}
		v.Repositories = []string{"shop"}
		_, fresh, err := w.Update(t.Context(), operator, v.Spec, registries.WebhookAnew)
		if err != nil || fresh == token || fresh == "" {
			t.Fatalf("token %q, %v", fresh, err)
		}
		w.pass(time.Minute)
		w.want("narrowed", "ops 2 1 gone", "shop 1 1 done")
		if _, err := w.Hook(t.Context(), "hub", token, []byte("[]"), ""); !fault.Is(err, fault.Unauthenticated) {
			t.Errorf("the former token: got %v", err)
		}
		for _, who := range []error{
			second(w.Create(t.Context(), viewer, v.Spec, false)), second(w.Update(t.Context(), viewer, v.Spec, registries.WebhookStays)),
			w.Delete(t.Context(), viewer, "hub"), w.Check(t.Context(), viewer, "hub"),
		} {
			if !fault.Is(who, fault.Denied) {
				t.Errorf("a viewer: got %v, want denied", who)
			}
		}
		if err := w.Delete(t.Context(), operator, "hub"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		w.want("removed")
		before := w.times("shop")
		w.pass(time.Hour)
		if n := w.times("shop") - before; n != 0 {
			t.Errorf("asked %d times after it was removed", n)
		}
		lines, err := w.st.Audit(t.Context(), 0, 10)
		if err != nil || len(lines) != 3 || lines[0].Action != "registry.delete" || lines[2].Action != "registry.create" {
			t.Errorf("audit %+v, %v", lines, err)
		}
	})
}

func second[A, B any](_ A, _ B, err error) error { return err }
