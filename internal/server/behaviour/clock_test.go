package behaviour_test

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/profile"
	"github.com/castellan-security/castellan/internal/server/behaviour"
	"github.com/castellan-security/castellan/internal/store"
)

// busy has the group start twice and end once, and do enough; what its profile waits
// for then is time alone.
func (h *house) busy() {
	h.Helper()
	h.workloads(nginx(1, "v1"), nginx(2, "v1"))
	for n := 1; n <= 2; n++ {
		first := exec(n, "/usr/sbin/nginx")
		first.Exec.Ancestors, first.Process.Key = nil, event.Key{PID: 1, Start: uint64(n)}
		h.happen(first)
	}
	h.happen(event.Event{Kind: event.KindExit, WorkloadID: container(1), Group: string(web), Process: event.Process{Key: event.Key{PID: 1, Start: 1}}, Exit: &event.Exit{}})
	again := exec(2, "/usr/sbin/nginx")
	again.Count = 600
	h.happen(again)
}

// settled is how settled the group is.
func (h *house) settled() float64 {
	h.Helper()
	return h.group().Settled.Measure
}

// A clock that is set, forward or back, is no time in which a group was watched, or in
// which nothing new came: the server's own, and those of hosts.
func TestAClockThatIsSetSettlesNothing(t *testing.T) {
	h := start(t)
	h.busy()
	young := h.settled()
	if young > 0.5 {
		t.Fatalf("settled by %v before any time went by", young)
	}
	for _, by := range []time.Duration{26 * time.Hour, -49 * time.Hour, 400 * 24 * time.Hour, -400 * 24 * time.Hour} {
		h.setClock(by)
		h.eventually("the server has noticed", func() bool { return h.settled() <= young+0.01 })
		if _, err := h.s.SetMode(t.Context(), h.admin, web, behaviour.Decision{Mode: profile.Protect}); !fault.Is(err, fault.Conflict) {
			t.Errorf("the clock was set by %s: it may protect: %v", by, err)
		}
		h.halt()
		h.run(slog.New(slog.DiscardHandler))
		if got := h.settled(); got > young+0.01 {
			t.Errorf("the clock was set by %s: settled by %v after a restart of the server", by, got)
		}
	}
	for range 52 { // what goes by counts, an hour at a time
		h.pass(time.Hour)
		h.happen(exec(2, "/usr/sbin/nginx"))
	}
	if got := h.settled(); got < 0.95 {
		t.Errorf("settled by %v after two days, waits for %q", got, h.group().Settled.Waits)
	}
}

// What is monitored is protected without more only once nothing lay outside for a day.
func TestMonitoringForADayIsEnoughToProtect(t *testing.T) {
	h := start(t)
	h.workloads(nginx(1, "v1"))
	h.happen(exec(1, "/usr/sbin/nginx"))
	h.mode(profile.Monitor)
	protect := func() error {
		_, err := h.s.SetMode(t.Context(), h.admin, web, behaviour.Decision{Mode: profile.Protect})
		return err
	}
	day := func() {
		for range 25 {
			h.pass(time.Hour)
			h.happen(exec(1, "/usr/sbin/nginx"))
		}
	}
	if err := protect(); !fault.Is(err, fault.Conflict) || !strings.Contains(err.Error(), "not settled") {
		t.Errorf("protected at once: got %v, want a conflict", err)
	}
	day()
	h.happen(exec(1, "/bin/evil"))
	if err := protect(); !fault.Is(err, fault.Conflict) {
		t.Errorf("something lay outside a moment ago: got %v, want a conflict", err)
	}
	day()
	if err := protect(); err != nil {
		t.Errorf("nothing lay outside for a day: %v", err)
	}
}

// A host whose clock is years behind tells of what lies outside now, and not years
// ago, when it would not be kept.
func TestAHostWithAWrongClockHidesNothing(t *testing.T) {
	h := start(t)
	h.workloads(nginx(1, "v1"))
	h.happen(exec(1, "/usr/sbin/nginx"))
	h.mode(profile.Monitor)
	h.wrongBy = -26 * 365 * 24 * time.Hour
	h.happen(exec(1, "/bin/evil"))
	all := h.violations(store.ViolationQuery{Group: web, Limit: 10})
	if len(all) != 1 {
		t.Fatalf("%d violations, want 1", len(all))
	}
	if v := &all[0]; !v.First.Equal(h.clock()) || !v.Last.Equal(h.clock()) {
		t.Errorf("seen from %s to %s, want %s", v.First, v.Last, h.clock())
	}
}

// A server that was away has not seen that nothing lay outside: its agents tell it
// what did once it is back.
func TestNothingIsPromotedForTimeThatNobodyWatched(t *testing.T) {
	h := start(t)
	h.workloads(nginx(1, "v1"))
	h.happen(exec(1, "/usr/sbin/nginx"))
	h.mode(profile.Monitor)
	h.must(h.s.SetPromotion(t.Context(), h.admin, "", &store.BehaviourPromotion{Promote: "promote", After: 24 * time.Hour, Most: profile.Protect}))
	h.halt()
	h.pass(30 * time.Hour)
	h.run(slog.New(slog.DiscardHandler))
	h.eventually("it counts anew", func() bool { return h.group().Quiet.Equal(h.clock()) })
	h.pass(23 * time.Hour)
	h.happen(exec(1, "/usr/sbin/nginx"))
	if m := h.group().Mode; m != profile.Monitor {
		t.Fatalf("the group is in %s", m)
	}
	// A short one is an update.
	h.halt()
	h.pass(5 * time.Minute)
	h.run(slog.New(slog.DiscardHandler))
	h.group() // it has started
	h.pass(time.Hour)
	h.eventually("it is protected", func() bool { return h.group().Mode == profile.Protect })
}
