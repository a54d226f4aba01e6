package images

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/store"
)

func TestStep(t *testing.T) {
	now := time.Date(2026, 11, 28, 6, 0, 0, 0, time.UTC)
	running := store.Scan{State: store.ScanRunning, Job: "j", Agent: "a", Tries: 1, Next: now.Add(leaseFor)}
	with := func(change func(*store.Scan)) store.Scan {
		s := running
		change(&s)
		return s
	}
	late := with(func(s *store.Scan) { s.Next = now.Add(-time.Second) })
	mine := func(what happened) input { return input{what: what, agent: "a", job: "j", now: now} }
	const taken = "the scan was taken from the agent, or asked for anew"
	for _, tc := range []struct {
		name string
		scan store.Scan
		in   input
		want effect
	}{
		{"handed out", running, mine(handedOut), effect{deed: send}},
		{"handed out for the last time", with(func(s *store.Scan) { s.Tries = maxTries }), mine(handedOut), effect{deed: send}},
		{"handed out once too often", with(func(s *store.Scan) { s.Tries, s.Error = maxTries+1, "no space" }), mine(handedOut),
			effect{deed: giveUp, why: "no space"}},
		{"handed out once too often, in silence", with(func(s *store.Scan) { s.Tries = maxTries + 1 }), mine(handedOut),
			effect{deed: giveUp, why: "no agent answered in 5 tries"}},
		{"answered", running, mine(answered), effect{deed: keep}},
		{"answered late, and nobody else has it", late, mine(answered), effect{deed: keep}},
		{"answered by another agent", running, input{what: answered, agent: "b", job: "j", now: now}, effect{deed: refuse, why: taken}},
		{"answered for another job", running, input{what: answered, agent: "a", job: "k", now: now}, effect{deed: refuse, why: taken}},
		{"answered twice", with(func(s *store.Scan) { s.State, s.Job = store.ScanDone, "" }), mine(answered), effect{deed: refuse, why: taken}},
		{"nobody is at it", store.Scan{}, input{what: answered, now: now}, effect{deed: refuse, why: taken}},
		{"failed", running, input{what: failed, agent: "a", job: "j", now: now, why: "no space"},
			effect{deed: again, at: now.Add(time.Minute), why: "no space"}},
		{"failed again", with(func(s *store.Scan) { s.Tries = 3 }), input{what: failed, agent: "a", job: "j", now: now, why: "no space"},
			effect{deed: again, at: now.Add(25 * time.Minute), why: "no space"}},
		{"failed for the last time", with(func(s *store.Scan) { s.Tries = maxTries }), input{what: failed, agent: "a", job: "j", now: now, why: "no space"},
			effect{deed: giveUp, why: "no space"}},
		{"failed for good", running, input{what: failed, agent: "a", job: "j", now: now, why: "no such image", final: true},
			effect{deed: giveUp, why: "no such image"}},
		{"gone from its engine", running, input{what: failed, agent: "a", job: "j", now: now, why: "no such image", unused: true},
			effect{deed: letGo, why: "no such image"}},
		{"gone, said another agent", running, input{what: failed, agent: "b", job: "j", now: now, unused: true}, effect{deed: refuse, why: taken}},
		{"failed for good, said another agent", running, input{what: failed, agent: "b", job: "j", now: now, final: true}, effect{deed: refuse, why: taken}},
		{"overdue", late, mine(overdue), effect{deed: again, at: now.Add(time.Minute), why: "agent a did not answer within 10m0s"}},
		{"overdue at the last try", with(func(s *store.Scan) { s.Tries, s.Next = maxTries, now.Add(-time.Second) }), mine(overdue),
			effect{deed: giveUp, why: "agent a did not answer within 10m0s"}},
		{"not overdue", running, mine(overdue), effect{deed: refuse, why: "its time is not over"}},
		{"overdue, and handed to another", with(func(s *store.Scan) { s.Agent, s.Job = "b", "k" }), mine(overdue), effect{deed: refuse, why: taken}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, step(tc.scan, tc.in), cmp.AllowUnexported(effect{})); diff != "" {
				t.Errorf("step (-want +got):\n%s", diff)
			}
		})
	}
}

func TestPausesGrow(t *testing.T) {
	var got []time.Duration
	for tries := 1; tries <= 7; tries++ {
		got = append(got, pause(tries))
	}
	want := []time.Duration{time.Minute, 5 * time.Minute, 25 * time.Minute, 2 * time.Hour, 2 * time.Hour, 2 * time.Hour, 2 * time.Hour}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("pauses (-want +got):\n%s", diff)
	}
}
