package agent

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/castellan-security/castellan/internal/event"
)

// stuckAfter is how long handing over what was sensed may take: it takes milliseconds,
// and a second where the disk is slow.
const stuckAfter = 20 * time.Second

// passage is the way of events from one source into the agent.
type passage struct {
	since atomic.Pointer[time.Time] // when the batch that passes came; nil: none does
}

// passes has sensed called, and notes since when it has been.
func (p *passage) passes(sensed func()) {
	now := time.Now()
	p.since.Store(&now)
	sensed()
	p.since.Store(nil)
}

// isStuck tells that a batch has been on its way for too long.
func (p *passage) isStuck(now time.Time) bool {
	since := p.since.Load()
	return since != nil && now.Sub(*since) > stuckAfter
}

// by returns what takes in the events of the nth source: 0 are the sensors, then come
// the tellers.
func (a *Agent) by(n int) func([]event.Event) {
	return func(events []event.Event) { a.passages[n].passes(func() { a.sensed(events) }) }
}

// tell says something to the supervisor, if there is one.
func (a *Agent) tell(say func(Supervisor) error) {
	if a.parts.Supervisor == nil {
		return
	}
	if err := say(a.parts.Supervisor); err != nil {
		a.log.Error("service manager not told how the agent is", "error", err)
	}
}

// answer tells the supervisor that the agent is alive, until ctx ends. It is alive while
// what was sensed passes and what an agent reports of itself can be put together: that
// takes each lock that the halves of it share. An agent that is not is ended and started
// anew, and what holds containers in the kernel stays there.
func (a *Agent) answer(ctx context.Context) {
	every := a.parts.Supervisor.Every()
	if every <= 0 {
		return
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		a.describe()
		if a.isStuck(time.Now()) {
			a.log.Error("what the sensors see is not taken in any more: this agent waits to be started anew")
		} else {
			a.tell(Supervisor.Alive)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (a *Agent) isStuck(now time.Time) bool {
	for i := range a.passages {
		if a.passages[i].isStuck(now) {
			return true
		}
	}
	return false
}
