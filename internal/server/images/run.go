package images

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// stopWithin bounds what the loop still does when it is to stop.
const stopWithin = 3 * time.Second

// trendEvery is how often is counted what the day has come to.
const trendEvery = 10 * time.Minute

// round is what the loop remembers from one turn to the next.
type round struct {
	look   bool // at what is looked at every lookEvery
	sweep  bool // images that are gone
	begun  bool
	trend  time.Time // when the day is counted next
	rest   time.Time // nothing is compared before
	paused time.Time // the store is left alone until then
}

// Run does all that happens by itself until ctx ends, and then what cannot wait:
// what is in use is stored. Call it once.
func (s *Service) Run(ctx context.Context) {
	defer func() {
		if err := s.advisories.close(); err != nil {
			s.log.Error("advisory database not closed", "error", err)
		}
	}()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	timer := time.NewTimer(0)
	defer timer.Stop()
	r := round{look: true}
	for {
		select {
		case <-ctx.Done():
			s.lastTurn(ctx)
			return
		case <-s.wake:
		case <-s.joined:
			s.leases.ask()
		case <-tick.C:
			r.look = true
		case <-timer.C:
		}
		if now := time.Now(); now.Before(r.paused) {
			timer.Reset(r.paused.Sub(now))
			continue
		}
		err := s.turn(ctx, &r)
		s.condition(ctx, PartImages, err)
		if err != nil {
			r.paused = time.Now().Add(afterTrouble)
		}
		timer.Reset(s.idle(&r))
	}
}

// turn does one round of what there is to do. What it could not do because of an
// error is to do still.
func (s *Service) turn(ctx context.Context, r *round) error {
	if r.look {
		s.lookAtAdvisories(ctx)
		s.leases.ask()
		s.queue.wantList()
		s.owning.soon() // workloads of other groups may run images now
		r.look, r.sweep = false, true
	}
	if !r.begun {
		if err := s.resume(ctx); err != nil {
			return err
		}
		r.begun = true
	}
	now := s.clock()
	for _, do := range []struct {
		now  bool
		what func(context.Context) error
	}{
		{true, s.makeKnown},
		{isDue(s.leases.firstEnd(), now), s.endOverdue},
		{isDue(s.leases.lookAt(), now), s.openSilent},
		{isDue(s.used.dueAt(), now), s.storeUses},
		{true, s.assignOwners},
		{s.accepted.isDirty() || isDue(s.accepted.dueAt(), now), s.revise},
	} {
		if !do.now {
			continue
		}
		if err := do.what(ctx); err != nil {
			return err
		}
	}
	if !now.Before(r.trend) {
		if err := s.st.NoteTrend(ctx, now); err != nil {
			return fmt.Errorf("count what the day has come to: %w", err)
		}
		r.trend = now.Add(trendEvery)
	}
	if r.sweep {
		if err := s.sweepGone(ctx); err != nil {
			return err
		}
		r.sweep = false
	}
	if s.leases.takeAsked() {
		if err := s.handOut(ctx); err != nil {
			s.leases.ask()
			return err
		}
	}
	if s.queue.takeList() {
		if err := s.listUnmatched(ctx); err != nil {
			return err
		}
	}
	return s.compareOne(ctx, r)
}

func isDue(at, now time.Time) bool { return !at.IsZero() && !now.Before(at) }

// lookAtAdvisories puts other advisories in force when there are some.
func (s *Service) lookAtAdvisories(ctx context.Context) {
	changed, err := s.advisories.look(ctx)
	if ctx.Err() != nil {
		return
	}
	s.condition(ctx, PartAdvisories, err)
	if changed {
		d := s.advisories.status()
		s.log.Info("advisories are in force", "generation", d.Generation, "built", d.Built, "advisories", d.Advisories, "seed", d.Seeded)
		s.listeners.touch("")
	}
}

// compareOne compares one image, and then rests for as long as that took: reports
// of agents come first.
func (s *Service) compareOne(ctx context.Context, r *round) error {
	if s.queue.isEmpty() || time.Now().Before(r.rest) {
		return nil
	}
	begun := time.Now()
	err := s.refreshNext(ctx)
	r.rest = time.Now().Add(min(time.Since(begun), maxRest))
	return err
}

// idle returns how long there is nothing to do unless something happens.
func (s *Service) idle(r *round) time.Duration {
	d := lookEvery
	now := s.clock()
	for _, at := range []time.Time{s.leases.firstEnd(), s.leases.lookAt(), s.used.dueAt(), s.accepted.dueAt()} {
		if !at.IsZero() {
			d = min(d, at.Sub(now)+time.Millisecond) // a lease is over after its last moment
		}
	}
	if !s.queue.isEmpty() {
		d = min(d, time.Until(r.rest))
	}
	d = max(d, time.Until(r.paused))
	return max(d, 0)
}

// lastTurn does what would be forgotten: what is in use is told once.
func (s *Service) lastTurn(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopWithin)
	defer cancel()
	err := s.storeUses(ctx)
	if err == nil && s.accepted.isDirty() {
		err = s.revise(ctx)
	}
	for err == nil && s.queue.hasUrgent() {
		err = s.refreshNext(ctx)
	}
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		s.log.Error("what is in use was not stored before the end", "error", err)
	}
}
