package authz

import (
	"sync"
	"time"
)

// holdFor is how long a name is held at most, should the engine never say that it
// is done: longer than a start takes.
const (
	holdFor  = 2 * time.Minute
	maxHolds = 10_000
)

// names holds the names by which containers are being started or changed. What
// was decided is the container that has the name now; until the engine is done,
// no other may get it.
type names struct {
	mu   sync.Mutex
	held map[string]hold // by name
}

type hold struct {
	count int
	until time.Time
}

// take holds a name. A whole id needs none: no name goes before it. It reports
// false where too many are held.
func (n *names) take(name string, now time.Time) bool {
	if isHex(name) {
		return true
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.held) >= maxHolds {
		for k, h := range n.held {
			if now.After(h.until) {
				delete(n.held, k)
			}
		}
		if len(n.held) >= maxHolds {
			return false
		}
	}
	h := n.held[name]
	if now.After(h.until) {
		h.count = 0
	}
	n.held[name] = hold{count: h.count + 1, until: now.Add(holdFor)}
	return true
}

// free lets a name go once.
func (n *names) free(name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	h, ok := n.held[name]
	if !ok {
		return
	}
	if h.count--; h.count <= 0 {
		delete(n.held, name)
		return
	}
	n.held[name] = h
}

// busy says that a name is held.
func (n *names) busy(name string, now time.Time) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	h, ok := n.held[name]
	return ok && h.count > 0 && !now.After(h.until)
}
