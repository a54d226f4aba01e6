package registries_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/server/registries"
	"github.com/castellan-security/castellan/internal/store"
)

func (w *world) repositories() []store.RegistryRepository {
	w.t.Helper()
	all, err := w.st.RegistryRepositories(w.t.Context(), store.RegistryRepositoryQuery{Registry: "hub"})
	if err != nil {
		w.t.Fatal(err)
	}
	return all
}

// A tag that can't be read keeps no other from being listed, makes nothing gone,
// and is looked at again long before the next look at all.
func TestWhatCouldBeListedCounts(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		lost := fault.New(fault.Unavailable, "tag 2: 500 Internal Server Error").With("ask whoever runs it")
		w.push("shop", "1", 1)
		w.push("shop", "2", 2)
		w.push("shop", "3", 3)
		w.push("shop", "latest", 3)
		w.fail("tag shop:2", lost)
		w.watch(func(s *registries.Spec) { s.Every = "1d" })
		w.want("at first", "shop 1 1 done", "shop 3 3,latest done")
		r := w.repositories()[0]
		if r.Images != 2 || !strings.Contains(r.Error, "only 2 images could be listed") || r.Remedy != lost.Remedy || r.Next.IsZero() {
			t.Errorf("repository %+v", r)
		}
		w.pass(10 * time.Minute)
		w.fail("tag shop:2", nil)
		w.pass(10 * time.Minute)
		w.want("when it can be read", "shop 1 1 done", "shop 2 2 done", "shop 3 3,latest done")
		if r := w.repositories()[0]; r.Images != 3 || r.Error != "" || len(w.conditions.List()) != 0 {
			t.Errorf("repository %+v, conditions %v", r, w.conditions.List())
		}

		w.remove("shop", "3")
		w.fail("tag shop:latest", lost)
		w.push("shop", "4", 4)
		if err := w.Check(t.Context(), operator, "hub"); err != nil {
			t.Fatal(err)
		}
		w.pass(30 * time.Second)
		w.want("while another can't", "shop 1 1 done", "shop 2 2 done", "shop 3 3,latest done", "shop 4 4 done")
		w.push("shop", "latest", 4)
		w.fail("tag shop:latest", nil)
		w.pass(10 * time.Minute)
		w.want("at last", "shop 1 1 done", "shop 2 2 done", "shop 3 3,latest gone", "shop 4 4,latest done")
	})
}

// Dates that were looked up stay, and an image of which none could be had is
// neither taken for new nor for old.
func TestDatesAreLookedUpAsFarAsItGoes(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		now := time.Now()
		for n := 1; n <= 20; n++ {
			w.push("shop", fmt.Sprintf("%02d", n), n)
			w.built[n] = now.Add(-time.Duration(n) * 24 * time.Hour)
		}
		w.fail("resolve #1", fault.New(fault.Unavailable, "500"))
		w.change(func() { w.budget = 7 })
		w.watch(func(s *registries.Spec) { s.Every, s.MaxAge = "1d", "12h" })
		if got := len(w.entries()); got != 6 {
			t.Errorf("%d images are known of 7 that were looked up: %v", got, w.entries())
		}
		before := w.lookups()
		w.change(func() { w.budget = -1 })
		w.pass(5 * time.Minute)
		if got, asked := len(w.entries()), w.lookups()-before; got != 19 || asked > 13+8 {
			t.Errorf("%d images are known after %d more were looked up", got, asked)
		}
		w.fail("resolve #1", nil)
		w.change(func() { w.built[1] = now })
		w.pass(2 * time.Hour)
		for i, e := range w.entries() {
			if want := fmt.Sprintf("shop %d %02[1]d left", i+1); i > 0 && !strings.HasSuffix(e, " left") || i == 0 && e != "shop 1 01 done" {
				t.Errorf("got %q, want %q", e, want)
			}
		}
	})
}

const (
	east = "123456789012.dkr.ecr.us-east-1.amazonaws.com"
	west = "123456789012.dkr.ecr.us-west-2.amazonaws.com"
)

// One queue has one reader, and each registry is told what is its own.
func TestSeveralRegistriesHaveOneQueue(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		const queue = "https://sqs.us-east-1.amazonaws.com/123456789012/castellan"
		for name, host := range map[string]string{
			"east": east, "west": west, "dual": "210987654321.dkr-ecr.us-east-1.on.aws",
		} {
			s := registries.Spec{Name: name, Host: host, Every: "7d", Queue: queue}
			if _, _, err := w.Create(t.Context(), operator, s, false); err != nil {
				t.Fatal(err)
			}
		}
		w.pass(time.Minute)
		images := func() map[string]int {
			all := map[string]int{}
			for _, e := range w.kept() {
				all[e.Registry]++
			}
			return all
		}
		tell := func(hosts ...string) {
			var all []asset.RegistryChange
			for _, h := range hosts {
				all = append(all, asset.RegistryChange{Host: h, Repository: "shop", Tag: "1"})
			}
			w.changes <- all
			w.pass(time.Minute)
		}
		w.push("shop", "1", 1)
		tell(west)
		tell("210987654321.dkr.ecr.us-east-1.amazonaws.com", "999999999999.dkr.ecr.us-east-1.amazonaws.com")
		if diff := cmp.Diff(map[string]int{"west": 1, "dual": 1}, images()); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
		if _, most := w.reading.counts(); most != 1 || w.Strays() != 1 {
			t.Errorf("%d readers at once, %d strays", most, w.Strays())
		}
		w.change(func() {
			if w.taken != 2 {
				t.Errorf("%d times taken", w.taken)
			}
		})
		for _, name := range []string{"west", "dual"} {
			if err := w.Delete(t.Context(), operator, name); err != nil {
				t.Fatal(err)
			}
		}
		tell(east, west)
		if diff := cmp.Diff(map[string]int{"east": 1}, images()); diff != "" {
			t.Errorf("when one is left (-want +got)\n%s", diff)
		}
		if err := w.Delete(t.Context(), operator, "east"); err != nil {
			t.Fatal(err)
		}
		w.pass(time.Minute)
		if now, _ := w.reading.counts(); now != 0 || w.Strays() != 2 {
			t.Errorf("%d readers of a queue that nobody has, %d strays", now, w.Strays())
		}
	})
}

func TestQuickChangesDoNotOverlap(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.push("shop", "1", 1)
		slow := make(chan struct{})
		w.change(func() { w.slow = slow })
		w.watch()
		for range 3 {
			if _, _, err := w.Update(t.Context(), operator, registries.Spec{Name: "hub", Host: "hub.example"}, registries.WebhookStays); err != nil {
				t.Fatal(err)
			}
			w.pass(time.Minute)
		}
		close(slow)
		w.pass(time.Minute)
		if _, most := w.listing.counts(); most != 1 {
			t.Errorf("the repository was listed %d times at once", most)
		}
		w.want("in the end", "shop 1 1 done")
	})
}

func TestAWebhookThatEndedStaysSo(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		token := w.watch()
		w.flaky.read = make(chan struct{})
		w.flaky.fail("registry", 1)
		var both sync.WaitGroup
		change := func(hook registries.Webhook, keep int) {
			both.Go(func() {
				spec := registries.Spec{Name: "hub", Host: "hub.example", Keep: keep}
				if _, _, err := w.Update(t.Context(), operator, spec, hook); err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		change(registries.WebhookStays, 5) // which has read the registry, and not written it
		change(registries.WebhookEnds, 0)
		close(w.flaky.read)
		both.Wait()
		if _, err := w.Hook(t.Context(), "hub", token, []byte("[]"), ""); !fault.Is(err, fault.Unauthenticated) {
			t.Errorf("the token of a webhook that ended: got %v", err)
		}
		w.pass(time.Minute)
	})
}

func TestALookAtSomeSaysNothingOfTheOthers(t *testing.T) {
	says := func(t *testing.T, w *world, what, want string) {
		t.Helper()
		all := w.conditions.List()
		if len(all) != 1 || all[0].Name != "registry/hub" || !strings.Contains(all[0].What, want) {
			t.Errorf("%s: conditions %+v, want %q", what, all, want)
		}
	}
	tell := func(t *testing.T, w *world, token, repository string) {
		t.Helper()
		if _, err := w.Hook(t.Context(), "hub", token, pushed(repository, "1"), ""); err != nil {
			t.Fatal(err)
		}
		w.pass(30 * time.Second)
	}
	inBubble(t, func(t *testing.T, w *world) {
		w.push("ops", "1", 1)
		w.push("shop", "1", 2)
		w.fail("shop", fault.New(fault.Denied, "403 Forbidden"))
		token := w.watch(func(s *registries.Spec) { s.Every = "7d" })
		says(t, w, "after a look at all", "1 of 2 repositories of registry hub could not be listed; the first: repository shop: ")
		tell(t, w, token, "ops")
		says(t, w, "after the other was listed", "1 of 2 repositories of registry hub could not be listed; the first: repository shop: ")
		tell(t, w, token, "shop")
		says(t, w, "after it was tried again", "1 of 2 repositories of registry hub could not be listed; the first: repository shop: ")
		w.fail("shop", nil)
		tell(t, w, token, "shop")
		if len(w.conditions.List()) != 0 {
			t.Errorf("when all are listed: conditions %+v", w.conditions.List())
		}
		w.fail("", fault.New(fault.Unavailable, "no route"))
		if err := w.Check(t.Context(), operator, "hub"); err != nil {
			t.Fatal(err)
		}
		w.pass(10 * time.Second)
		says(t, w, "after the catalogue failed", "no route")
		tell(t, w, token, "ops")
		says(t, w, "after one was listed", "no route")
		v, err := w.Registry(t.Context(), "hub")
		if err != nil || v.Poll.Error == "" || time.Until(v.Poll.Next) > 7*24*time.Hour {
			t.Errorf("registry %+v, %v", v.Poll, err)
		}
	})
}

// What a registry told, and what could not be listed, is looked at after a start,
// however seldom the registry is asked.
func TestAStartKnowsWhatIsOpen(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.push("ops", "1", 1)
		w.push("shop", "1", 2)
		w.fail("shop", fault.New(fault.Unavailable, "500"))
		token := w.watch(func(s *registries.Spec) { s.Every = "7d" })
		w.end()
		w.fail("shop", nil)
		w.start()
		w.pass(10 * time.Minute)
		w.want("what could not be listed", "ops 1 1 done", "shop 2 1 done")

		w.push("ops", "2", 3)
		if n, err := w.Hook(t.Context(), "hub", token, pushed("ops", "2"), ""); n != 1 || err != nil {
			t.Fatalf("told of %d, %v", n, err)
		}
		w.end() // before it is quiet for long enough
		w.start()
		w.pass(time.Minute)
		w.want("what it told of", "ops 1 1 done", "ops 3 2 done", "shop 2 1 done")
		before := w.times("")
		w.end()
		w.start()
		w.pass(time.Minute)
		if n := w.times("") - before; n != 0 {
			t.Errorf("looked at %d times after a start when nothing was open", n)
		}
	})
}

// A repository that no catalogue has is listed when it is told of, also when all
// of the registry happens to be looked at then.
func TestWhatIsToldOfIsPartOfALookAtAll(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.push("shop", "1", 1)
		w.fail("", fault.New(fault.Unsupported, "it shows none"))
		token := w.watch(func(s *registries.Spec) { s.Named, s.Repositories, s.Every = []string{"shop"}, []string{"**"}, "7d" })
		w.push("ops", "1", 2)
		w.push("attic", "1", 3)
		for _, tell := range []func() error{
			func() error { return last(w.Hook(t.Context(), "hub", token, pushed("ops", "1"), "")) },
			func() error { return w.Check(t.Context(), operator, "hub") },
			func() error { return last(w.Hook(t.Context(), "hub", token, pushed("attic", "1"), "")) },
		} {
			if err := tell(); err != nil {
				t.Fatal(err)
			}
		}
		w.pass(time.Minute)
		w.want("after a look at all", "attic 3 1 done", "ops 2 1 done", "shop 1 1 done")
		if err := w.Check(t.Context(), operator, "hub"); err != nil {
			t.Fatal(err)
		}
		w.pass(time.Minute)
		w.want("after the next", "attic 3 1 done", "ops 2 1 done", "shop 1 1 done")

		w.push("cellar", "1", 4)
		if _, err := w.Hook(t.Context(), "hub", token, pushed("cellar", "1"), ""); err != nil {
			t.Fatal(err)
		}
		v, err := w.Registry(t.Context(), "hub")
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := w.Update(t.Context(), operator, v.Spec, registries.WebhookStays); err != nil {
			t.Fatal(err)
		}
		w.pass(time.Minute)
		w.want("after a change", "attic 3 1 done", "cellar 4 1 done", "ops 2 1 done", "shop 1 1 done")
	})
}

func last(_ int, err error) error { return err }
