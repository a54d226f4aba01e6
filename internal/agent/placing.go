package agent

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/castellan-security/castellan/internal/event"
)

// maxUnplaced bounds the events that wait until their container is known, some 20 MiB;
// beyond, those of whichever container came first go on.
const maxUnplaced = 20_000

// placing holds back what happens in a container until the agent knows which one that
// is. A container's first program often runs while the engine is still telling of it:
// told then, it would belong to no group, and nobody would learn that it is normal. All
// of one container stays in its order, and nothing else waits with it.
type placing struct {
	// known reports whether a container is known, or nobody will tell of it.
	known func(id string) bool
	// adopt has containers known that the engine did not tell of in time.
	adopt func(now time.Time)
	push  func([]event.Event)
	news  chan struct{} // one token when something waits

	mu     sync.Mutex
	of     map[string]*unplaced
	order  []string // of the keys of of, the oldest first
	events int      // of all
}

// unplaced is what happened in one container that is not known.
type unplaced struct {
	events []event.Event
	until  time.Time
}

func newPlacing(w *workloads, push func([]event.Event)) *placing {
	return &placing{known: w.placed, adopt: w.adopt, push: push, news: make(chan struct{}, 1), of: map[string]*unplaced{}}
}

// pass pushes events, those of containers that are not known as soon as they are, or
// after strangerAfter. It never waits.
func (p *placing) pass(events []event.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	at := slices.IndexFunc(events, func(e event.Event) bool { return p.waits(e.WorkloadID) })
	if at < 0 {
		p.push(events)
		return
	}
	now := events[:at:at]
	for _, e := range events[at:] {
		if !p.waits(e.WorkloadID) {
			now = append(now, e)
			continue
		}
		u := p.of[e.WorkloadID]
		if u == nil {
			u = &unplaced{until: time.Now().Add(strangerAfter)}
			p.of[e.WorkloadID] = u
			p.order = append(p.order, e.WorkloadID)
		}
		u.events = append(u.events, e)
		p.events++
	}
	if len(now) > 0 {
		p.push(now)
	}
	for p.events > maxUnplaced {
		p.release(p.order[0])
	}
	select {
	case p.news <- struct{}{}:
	default:
	}
}

// waits reports whether an event of a container waits; p.mu is held.
func (p *placing) waits(id string) bool { return id != "" && (p.of[id] != nil || !p.known(id)) }

// release pushes what waits of a container; p.mu is held.
func (p *placing) release(id string) {
	u := p.of[id]
	delete(p.of, id)
	p.order = slices.DeleteFunc(p.order, func(o string) bool { return o == id })
	p.events -= len(u.events)
	p.push(u.events)
}

// look pushes what waits of containers that are known by now, or waited long enough.
func (p *placing) look(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, id := range slices.Clone(p.order) {
		if !now.Before(p.of[id].until) || p.known(id) {
			p.release(id)
		}
	}
}

// flush pushes all that waits.
func (p *placing) flush() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.order) > 0 {
		p.release(p.order[0])
	}
}

// first returns until when what waits longest does.
func (p *placing) first() (until time.Time, any bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.order) == 0 {
		return time.Time{}, false
	}
	return p.of[p.order[0]].until, true
}

// run lets go of what waited long enough until ctx ends; flush is to follow it.
func (p *placing) run(ctx context.Context) {
	for {
		var due <-chan time.Time // for ever, unless something waits
		if until, any := p.first(); any {
			due = time.After(time.Until(until))
		}
		select {
		case <-ctx.Done():
			return
		case <-p.news:
		case now := <-due:
			p.adopt(now)
			p.look(now)
		}
	}
}
