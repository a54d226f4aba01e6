package behaviour_test

import (
	"strings"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/profile"
	"github.com/castellan-security/castellan/internal/server/behaviour"
	"github.com/castellan-security/castellan/internal/store"
)

// What a host denies until it has the rules with a permit is no violation that is open
// again: it was told when it was permitted. What it denies by those rules is.
func TestDenialsThatArriveAfterAPermit(t *testing.T) {
	h := start(t)
	h.workloads(nginx(1, "v1"))
	h.happen(exec(1, "/usr/sbin/nginx"))
	h.mode(profile.Protect)
	killed := func() {
		t.Helper()
		e := exec(1, "/bin/backup")
		e.Reaction = event.ReactionKilled
		h.happen(e)
	}
	holds := func() { // the newest rules, from now on
		held := profile.Held{Group: web, Since: h.clock()}
		for _, r := range h.ask().Rules {
			held.Stamp = r.Stamp
		}
		h.ask(held)
	}
	open := func(want int) {
		t.Helper()
		if got := h.violations(store.ViolationQuery{Group: web, Open: true}); len(got) != want {
			t.Errorf("%d open violations, want %d: %+v", len(got), want, got)
		}
	}
	holds()
	h.pass(time.Second)
	killed()
	open(1)
	_, err := h.s.Permit(t.Context(), h.admin, h.violations(store.ViolationQuery{Group: web, Open: true})[0].ID, behaviour.Permitting{})
	h.must(err)
	killed() // the host has the rules of before
	open(0)
	late := exec(1, "/bin/backup") // denied before, and told after
	late.Reaction = event.ReactionKilled
	h.wrongBy = -time.Second
	holds()
	h.happen(late)
	open(0)
	h.wrongBy = 0
	h.pass(time.Second)
	killed() // by rules that have it
	open(1)
}

// What containers did while their group was learned from is learned, though it comes
// when the group is protected already: blocked the next time, it would be a false
// block. What they do from when their host holds them is outside.
func TestWhatArrivesAfterTheEndOfLearning(t *testing.T) {
	h := start(t)
	h.workloads(nginx(1, "v1"))
	h.happen(exec(1, "/usr/sbin/nginx"))
	stamp := ""
	holds := func(since time.Time) { // the newest rules
		for _, r := range h.ask().Rules {
			stamp = r.Stamp
		}
		rev := int64(0)
		if d := h.group(); d.Mode != profile.Discover {
			rev = d.Revision
		}
		h.ask(profile.Held{Group: web, Stamp: stamp, Since: since, Revision: rev})
	}
	learned := func(want string) {
		t.Helper()
		h.eventually("the profile has "+want, func() bool { return h.programs() == want })
	}
	holds(h.clock())
	h.stored([]event.Event{exec(1, "/bin/dash")}) // the server has not looked at it yet
	h.mode(profile.Protect)
	h.pass(time.Second)
	h.happen(exec(1, "/bin/early")) // its host has not heard of it
	learned("/bin/dash /bin/early /usr/sbin/nginx")
	h.pass(time.Second)
	since := h.clock()
	holds(since)
	h.wrongBy = -time.Second
	h.happen(exec(1, "/bin/late")) // done before the host held it, told after
	learned("/bin/dash /bin/early /bin/late /usr/sbin/nginx")
	h.wrongBy = 0
	h.pass(time.Second)
	h.happen(exec(1, "/bin/evil")) // the rules that have the last are not there yet
	learned("/bin/dash /bin/early /bin/late /usr/sbin/nginx")
	if open := h.violations(store.ViolationQuery{Group: web, Open: true}); len(open) != 1 || !strings.Contains(open[0].Sentence, "/bin/evil") {
		t.Errorf("open violations: got %+v, want /bin/evil alone", open)
	}
	killed := exec(1, "/bin/killed") // what was blocked teaches nothing, whenever it was
	killed.Reaction = event.ReactionKilled
	h.wrongBy = -time.Hour
	h.happen(killed)
	learned("/bin/dash /bin/early /bin/late /usr/sbin/nginx")
}
