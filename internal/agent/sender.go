package agent

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/castellan-security/castellan/internal/agent/spool"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/pace"
)

// Pauses after a report that did not get through: doubled from the first to the
// last, each with up to half of it at random, so that a fleet does not come
// back as one.
const (
	firstPause = 200 * time.Millisecond
	lastPause  = 10 * time.Second
)

// trial is what a report carries while it is found out what of it the server
// refuses as invalid.
type trial int

const (
	everything trial = iota // nothing is refused
	noEvents                // everything was refused: is it the events?
	bare                    // that was refused, too: is anything taken at all?
	onlyEvents              // fewer and fewer of them, until a bad one is found
)

// sender hands over what is new, one report after the other. Only its own
// goroutine uses it.
type sender struct {
	a        *Agent
	snapshot bool // the server wants everything
	pause    pauses
	away     bool       // the last report did not get through
	why      fault.Kind // for what reason, while away
	looked   time.Time  // when it was last looked for strangers that ended
	trial    trial
	width    int  // how many events a trial of onlyEvents has
	blamed   news // what a trial of noEvents had
	threats  suspects
}

// suspects are threats that a report had which was refused as invalid. The next has
// none: if that is taken, it was them.
type suspects struct {
	held bool   // no threats are sent for now
	last uint64 // number of the newest; 0 when they are cleared
}

func newSender(a *Agent) *sender { return &sender{a: a, snapshot: true} }

// run reports until ctx ends.
func (s *sender) run(ctx context.Context) {
	heartbeat := time.NewTimer(s.beat())
	defer heartbeat.Stop()
	for {
		now := time.Now()
		s.a.workloads.adopt(now)
		if now.Sub(s.looked) >= s.a.cfg.Heartbeat {
			s.looked = now
			s.a.workloads.strangersWithout(s.a.procs.workloads, now)
		}
		if s.a.wishes.takeSnapshot() {
			s.snapshot = true
			s.a.workloads.all()
			s.a.uses.again()
		}
		more, err := s.report(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			if !pace.Wait(ctx, s.pause.next()) {
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
			heartbeat.Reset(s.beat())
		case <-s.a.queue.ready:
			if s.a.queue.Len() < link.MaxEvents && !pace.Wait(ctx, s.a.cfg.Flush) {
				return
			}
		}
	}
}

// beat is the time to the next heartbeat: up to a fifth shorter than the
// longest, so that agents that were started at once do not stay in step.
func (s *sender) beat() time.Duration { return s.a.cfg.Heartbeat - rand.N(s.a.cfg.Heartbeat/5+1) }

// drain hands over what is left, giving up when ctx ends or the server is away.
func (s *sender) drain(ctx context.Context) {
	for {
		if more, err := s.report(ctx); err != nil || !more {
			return
		}
	}
}

// report sends one report and says whether there is more to send at once.
func (s *sender) report(ctx context.Context) (more bool, err error) {
	s.a.queue.Tend()
	var batch spool.Batch
	if s.trial == everything || s.trial == onlyEvents {
		batch = s.a.queue.Peek(s.most())
	}
	for i := range batch.Events {
		batch.Events[i].AgentID = s.a.self.ID
	}
	r := link.Report{Agent: s.a.describe(), Events: batch.Events, Sent: time.Now().UTC()}
	if batch.Boot != s.a.self.Boot {
		r.Boot = batch.Boot
	}
	var changed news
	if s.trial == everything || s.trial == noEvents {
		changed = s.a.workloads.pending(link.MaxWorkloads)
		r.Workloads, r.Complete, r.Samples = changed.workloads, changed.complete, s.a.samples.take()
		r.Uses = s.a.uses.pending()
		if s.snapshot {
			r.Snapshot, r.Processes = true, s.a.procs.list(link.MaxProcesses)
		}
	}
	moreThreats := s.addThreats(&r)
	receipt, err := s.a.parts.Server.Report(ctx, r)
	if err != nil {
		return s.failed(ctx, err, r, changed)
	}
	if s.away {
		s.a.log.Info("server reached again")
	}
	s.away = false
	if s.trial == everything {
		s.pause = pauses{} // a trial that passed says only that not all is refused
	}
	s.a.queue.Ack(len(batch.Events))
	moreThreats = s.threatsPassed(r, receipt) && moreThreats
	s.a.workloads.acknowledged(changed)
	s.snapshot = receipt.WantSnapshot || s.snapshot && !r.Snapshot
	tried := s.trial
	again := s.passed(batch.More)
	if receipt.WantSnapshot {
		s.a.workloads.all()
		s.a.uses.again()
	}
	if tried == bare {
		// Not at once: it may ask again for what it refuses.
		return true, fault.New(fault.Invalid, "something of the report before was refused")
	}
	// Who wants a snapshot right after one gets it with the next report.
	return receipt.WantSnapshot && !r.Snapshot || batch.More || moreThreats || again || len(changed.workloads) == link.MaxWorkloads, nil
}

// addThreats puts the threats that wait into a report, and says whether there are more.
func (s *sender) addThreats(r *link.Report) (more bool) {
	if s.a.parts.Hunter == nil || s.trial != everything || s.threats.held {
		return false
	}
	r.Threats, r.ThreatSeries, more = s.a.parts.Hunter.Threats()
	return more
}

// threatsPassed says what became of the threats of a report that was taken, and whether
// others may follow at once.
func (s *sender) threatsPassed(r link.Report, receipt link.Receipt) bool {
	if s.threats.held {
		if s.threats.last > 0 {
			s.a.parts.Hunter.Refused(s.threats.last)
		}
		s.threats = suspects{}
	}
	if len(r.Threats) == 0 {
		return false
	}
	s.a.parts.Hunter.Taken(receipt.ThreatsTaken)
	return receipt.ThreatsTaken > 0
}

// most is how many events the next report may carry.
func (s *sender) most() int {
	if s.trial == onlyEvents {
		return s.width
	}
	return link.MaxEvents
}

// passed goes on with a trial after a report that was taken, and says whether
// the next report is due at once.
func (s *sender) passed(more bool) bool {
	switch s.trial {
	case noEvents:
		s.trial, s.width = onlyEvents, link.MaxEvents
		return true
	case bare:
		s.a.log.Error("server refuses what this agent says of its workloads; some is left out", "workloads", len(s.blamed.workloads))
		s.a.workloads.acknowledged(s.blamed)
		s.a.samples.take()
		s.a.uses.pending()
		s.snapshot = false // until the server asks for it again
		s.trial, s.width = onlyEvents, link.MaxEvents
		return true
	case onlyEvents:
		if s.width *= 2; s.width > link.MaxEvents || !more {
			s.trial = everything
		}
		return true
	}
	return false
}

// failed decides what an error means: away and worth waiting for, or something
// that the server will never take, which must not stop all that follows.
func (s *sender) failed(ctx context.Context, err error, r link.Report, changed news) (more bool, _ error) {
	if ctx.Err() != nil {
		s.giveBack(r)
		return false, ctx.Err()
	}
	kind := fault.Of(err)
	if kind == fault.Invalid {
		return s.refused(err, r, changed)
	}
	s.giveBack(r)
	if !s.away || kind != s.why {
		s.a.log.Warn("report not delivered", "error", err, "remedy", fault.Remedy(err))
	}
	s.away, s.why = true, kind
	if kind == fault.Denied || kind == fault.Unauthenticated {
		s.pause.last = lastPause // a person must act first; the spool holds what is sensed
	}
	return false, err
}

// giveBack keeps what a report carried and nobody got.
func (s *sender) giveBack(r link.Report) {
	s.a.samples.back(r.Samples)
	s.a.uses.back(r.Uses)
}

// refused finds out what of a report the server will never take, and gives up
// that alone. It returns an error when a pause is due before the next try.
func (s *sender) refused(err error, r link.Report, changed news) (more bool, _ error) {
	n := len(r.Events)
	switch {
	case s.trial == onlyEvents && n > 1:
		s.width = n / 2
		return true, nil
	case s.trial == onlyEvents && n == 1:
		e := &r.Events[0]
		s.a.log.Error("server refuses an event; it is lost", "error", err, "kind", e.Kind, "seq", e.Seq, "boot", e.Boot)
		s.a.queue.Refuse(1)
		s.width = 1
		return true, err
	}
	s.giveBack(r)
	if k := len(r.Threats); k > 0 {
		s.threats = suspects{held: true, last: r.Threats[k-1].Number}
		return true, nil
	}
	s.threats.last = 0 // it was refused without them, too
	switch {
	case n > 0:
		s.trial = noEvents
		return true, nil
	case s.trial != bare && len(r.Workloads)+len(r.Samples)+len(r.Processes)+len(r.Uses) > 0:
		s.trial, s.blamed = bare, changed
		return true, nil
	}
	// Nothing of this agent is taken: what it holds is not to blame.
	if !s.away || s.why != fault.Invalid {
		s.a.log.Error("server refuses this agent's reports", "error", err, "remedy", fault.Remedy(err))
	}
	s.trial, s.away, s.why = everything, true, fault.Invalid
	return false, err
}
