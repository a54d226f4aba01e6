package docker

import (
	"sync"
	"time"

	"github.com/moby/moby/api/types/events"

	"github.com/castellan-security/castellan/internal/asset"
)

// maxTries is how often a container is inspected for one change when the engine
// answers with an error.
const maxTries = 3

// change is what events said of one container since it was last inspected.
type change struct {
	told      bool      // by an event of its own
	at        time.Time // when the first of the events was read
	name      string
	image     string
	ecs       asset.ECS
	state     asset.State // that the events lead to; empty when they say nothing of it
	created   time.Time
	started   time.Time
	finished  time.Time
	exitCode  *int
	oom       bool
	spoofs    bool // see entry: an event other than of its end had an exit code
	destroyed bool
	tries     int
}

// add takes one more event into the change. Events come in the order in which
// they happened.
func (c *change) add(m message) {
	if !m.told {
		return
	}
	c.told, c.name, c.image, c.ecs = true, m.name, m.image, m.ecs
	if m.action != events.ActionDie && m.exitCode != nil {
		c.spoofs = true
	}
	switch m.action {
	case events.ActionCreate:
		c.state, c.created = asset.Created, m.at
	case events.ActionStart:
		c.state, c.started, c.finished, c.exitCode = asset.Running, m.at, time.Time{}, nil
	case events.ActionUnPause:
		c.state = asset.Running
	case events.ActionPause:
		c.state = asset.Paused
	case events.ActionOOM:
		c.oom = true
	case events.ActionDie:
		c.state, c.finished, c.exitCode = asset.Exited, m.at, m.exitCode
	case events.ActionDestroy:
		c.state, c.destroyed = asset.Exited, true
	}
}

// changes collects the events that the reader hands over, one change a
// container, until the session takes them. The reader never waits: an engine
// drops the events of a listener that is slow.
type changes struct {
	news chan struct{} // holds one while there is something to take

	mu      sync.Mutex
	pending map[string]*change
	missed  error     // why pending may not be everything that happened
	last    time.Time // when the last event happened, by the engine's clock
}

func newChanges() *changes {
	return &changes{news: make(chan struct{}, 1), pending: map[string]*change{}}
}

func (c *changes) add(m message) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if m.at.After(c.last) {
		c.last = m.at
	}
	p, ok := c.pending[m.id]
	if !ok {
		if len(c.pending) == maxPending {
			c.missed = errTooMany
			return
		}
		p = &change{at: time.Now()}
		c.pending[m.id] = p
	}
	p.add(m)
	c.wake()
}

// miss notes that something happened that could not be read.
func (c *changes) miss(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.missed = err
	c.wake()
}

// again puts a change back that could not be looked into, unless that was tried
// often enough or more happened meanwhile, which has its own try.
func (c *changes) again(id string, old *change) {
	c.mu.Lock()
	defer c.mu.Unlock()
	old.tries++
	if _, ok := c.pending[id]; ok || old.tries >= maxTries {
		return
	}
	c.pending[id] = old
	c.wake()
}

// wake is called with mu held.
func (c *changes) wake() {
	select {
	case c.news <- struct{}{}:
	default: // it is awake already
	}
}

// take returns the changes of containers that were not looked at within the
// last settle, and when the next of the others is due (zero for none). Networks that a
// container joins or leaves which does not run, as far as running says, wait for what it
// does that for: it starts, or has ended. looked says when each container was last looked
// at; what is too old to matter is removed from it.
func (c *changes) take(now time.Time, looked map[string]time.Time, running func(id string) bool) (batch map[string]*change, next time.Duration) {
	for id, at := range looked {
		if now.Sub(at) >= settle {
			delete(looked, id)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	batch = map[string]*change{}
	for id, p := range c.pending {
		var due time.Duration
		if at, recent := looked[id]; recent {
			due = settle - now.Sub(at)
		}
		if !p.told && !running(id) {
			due = max(due, joins-now.Sub(p.at))
		}
		if due > 0 {
			if next == 0 || due < next {
				next = due
			}
			continue
		}
		batch[id] = p
		delete(c.pending, id)
	}
	return batch, next
}

// takeMissed returns why events may be missing, once.
func (c *changes) takeMissed() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	err := c.missed
	c.missed = nil
	return err
}

// after returns the time from which on events are still unknown.
func (c *changes) after(since time.Time) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.last.Before(since) {
		return since
	}
	return c.last.Add(1) // the engine's filter includes its bound
}
