package agent

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/link"
)

// Pauses after a report that did not get through: doubled from the first to the
// last, each with up to half of it at random, so that a fleet does not come
// back as one.
const (
	firstPause = 200 * time.Millisecond
	lastPause  = 10 * time.Second
)

// sender hands over what is new, one report after the other. Only its own
// goroutine uses it.
type sender struct {
	a        *Agent
	snapshot bool // the server wants everything
	pause    time.Duration
	away     bool      // the last report did not get through
	looked   time.Time // when it was last looked for strangers that ended
}

func newSender(a *Agent) *sender { return &sender{a: a, snapshot: true} }

// run reports until ctx ends.
func (s *sender) run(ctx context.Context) {
	heartbeat := time.NewTicker(s.a.cfg.Heartbeat)
	defer heartbeat.Stop()
	for {
		now := time.Now()
		s.a.workloads.adopt(now)
		if now.Sub(s.looked) >= s.a.cfg.Heartbeat {
			s.looked = now
			s.a.workloads.strangersWithout(s.a.procs.workloads, now)
		}
		more, err := s.report(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			if !wait(ctx, s.backoff()) {
				return
			}
			continue
		case more:
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-heartbeat.C:
		case <-s.a.queue.ready:
			if s.a.queue.len() < link.MaxEvents && !wait(ctx, s.a.cfg.Flush) {
				return
			}
		}
	}
}

// drain hands over what is left, giving up when ctx ends or the server is away.
func (s *sender) drain(ctx context.Context) {
	for {
		more, err := s.report(ctx)
		if err != nil {
			if n := s.a.queue.len(); n > 0 {
				s.a.log.Error("events lost at stop", "count", n, "error", err)
			}
			return
		}
		if !more {
			return
		}
	}
}

// report sends one report and says whether there is more to send at once.
func (s *sender) report(ctx context.Context) (more bool, err error) {
	batch, waiting := s.a.queue.peek(link.MaxEvents)
	changed := s.a.workloads.pending(link.MaxWorkloads)
	r := link.Report{
		Agent:     s.a.describe(),
		Workloads: changed.workloads,
		Events:    s.stamp(batch),
		Complete:  changed.complete,
	}
	if s.snapshot {
		r.Snapshot = true
		r.Processes = s.a.procs.list(link.MaxProcesses)
	}
	receipt, err := s.a.parts.Server.Report(ctx, r)
	if err != nil {
		return false, s.failed(ctx, err, len(batch), changed)
	}
	if s.away {
		s.a.log.Info("server reached again")
	}
	s.away, s.pause = false, 0
	s.a.queue.drop(len(batch))
	s.a.workloads.acknowledged(changed)
	s.snapshot = receipt.WantSnapshot
	if receipt.WantSnapshot {
		s.a.workloads.all()
		return true, nil
	}
	return waiting || len(changed.workloads) == link.MaxWorkloads, nil
}

// failed decides what an error means: away and worth waiting for, or a report
// that the server will never take, which must not stop all that follow.
func (s *sender) failed(ctx context.Context, err error, events int, changed news) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if !s.away {
		s.a.log.Warn("report not delivered", "error", err, "remedy", fault.Remedy(err))
	}
	s.away = true
	if fault.Is(err, fault.Invalid) {
		s.a.log.Error("server refuses a report; its events are lost", "error", err, "events", events, "workloads", len(changed.workloads))
		s.a.queue.refuse(events)
		s.a.workloads.acknowledged(changed)
	}
	return err
}

// stamp completes the events with what only the agent as a whole knows.
func (s *sender) stamp(events []event.Event) []event.Event {
	for i := range events {
		events[i].Version = event.Version
		events[i].AgentID = s.a.self.ID
		events[i].Boot = s.a.self.Boot
	}
	return events
}

func (s *sender) backoff() time.Duration {
	s.pause = min(max(2*s.pause, firstPause), lastPause)
	return s.pause/2 + rand.N(s.pause/2+1)
}

// wait pauses for d and reports false if ctx ended first.
func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
