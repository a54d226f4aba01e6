package behaviour_test

import (
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
