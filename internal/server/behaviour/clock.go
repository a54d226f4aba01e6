package behaviour

import (
	"context"
	"fmt"
	"time"

	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/internal/watch"
)

const (
	// mostDrift is how far a clock may be from the time that goes by without having been
	// set: a clock that is kept right is moved by less between two looks.
	mostDrift = time.Minute
	// mostAway is how long a server may be away for that time to count as watched: what
	// agents keep meanwhile comes after its start, and what lay outside is not known
	// until then. An update takes less.
	mostAway = 15 * time.Minute
)

// ticks notices that the clock was set.
type ticks struct {
	wall   time.Time // of the last look, without a monotonic reading
	uptime time.Duration
}

// set reports whether the clock was set since the last look, and what it would say if
// it had not been.
func (t *ticks) set(now time.Time, uptime time.Duration) (was time.Time, set bool) {
	was = t.wall.Add(uptime - t.uptime)
	t.wall, t.uptime = now.Round(0), uptime
	return was, t.wall.Sub(was).Abs() > mostDrift
}

// monotonic measures the time since from by monotonic readings.
func monotonic(from time.Time) func(time.Time) time.Duration {
	return func(now time.Time) time.Duration { return now.Sub(from) }
}

// gap is time that nobody watched, or that a clock jumped over.
type gap struct{ was, now time.Time }

// jump has all groups hear of a gap: for how long anything has been so counts anew.
// Their learners hear of it when they are used next, or by tellLearners.
func (k *keeper) jump(was, now time.Time) {
	for _, g := range k.groups {
		k.step(g, watch.ClockSet{Now: now.UTC()})
		g.missed = append(g.missed, gap{was, now})
	}
}

// tellLearners has learners hear of gaps and stores them, some at a time: not all fit
// into memory.
func (k *keeper) tellLearners(ctx context.Context) error {
	for _, g := range k.groups {
		if len(g.missed) == 0 && !g.heard {
			continue
		}
		idle := g.learner == nil
		l, err := k.learner(ctx, g)
		if err != nil {
			return err
		}
		st := store.BehaviourState{Group: g.Group, Position: k.position}
		if st.State, err = l.Save(); err != nil {
			return fmt.Errorf("write what was learned of %s: %w", g.Group, err)
		}
		if err := k.s.Store.SaveBehaviour(ctx, &store.BehaviourChange{States: []store.BehaviourState{st}}); err != nil {
			return fmt.Errorf("store that the clock was set: %w", err)
		}
		g.heard = false
		if idle && !g.dirty {
			g.learner = nil
			k.learners--
		}
	}
	return nil
}

// away is since when nobody has watched, as the server starts: false if that was a
// moment ago, or nothing is known of before.
func (s *Service) away(ctx context.Context, now time.Time) (since time.Time, long bool, err error) {
	p, err := s.Store.Events(ctx, store.EventQuery{Limit: 1})
	if err != nil {
		return since, false, err
	}
	if len(p.Events) > 0 {
		since = p.Events[0].Received
	}
	agents, err := s.Store.Agents(ctx)
	if err != nil {
		return since, false, err
	}
	for i := range agents {
		if agents[i].Seen.After(since) {
			since = agents[i].Seen
		}
	}
	if since.IsZero() {
		return since, false, nil
	}
	d := now.Sub(since)
	return since, d > mostAway || d < -mostDrift, nil
}
