package authz

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"sync"
	"time"
)

// What an engine said of a container when it was made is what starts, as long as
// nothing happened in between that may have changed it: then its start needs not ask
// again. That is told by the calls that pass here, which are all calls there are
// (docs/decisions/0027).
const (
	// seenFor is how long that is used: what is started is mostly started at once.
	seenFor = 5 * time.Second
	// waitsForLook is how long a start waits for a look that is under way; asking the
	// engine takes as long.
	waitsForLook = 20 * time.Millisecond
	// strangeFor is how long nothing is used at first: calls may be under way that an
	// earlier plugin let pass.
	strangeFor = 10 * time.Second
	// maxSeen, maxLook and maxCalls bound what is remembered: a task has ten containers,
	// and of most the engine says 10 KiB.
	maxSeen, maxLook, maxCalls = 64, 64 << 10, 4096
)

// seen are containers that somebody else looks at, and the calls that may change them.
type seen struct {
	mu sync.Mutex
	of map[string]*look // by whole id
	// changes is how many calls are under way of which nobody knows what they change.
	changes int
	// changing are containers with so many calls about them alone.
	changing map[string]int
	calls    map[called]*underWay // those calls, by method and address
	beyond   bool                 // there were more than are followed
	since    time.Time            // when this began
}

func newSeen() seen {
	return seen{of: map[string]*look{}, changing: map[string]int{}, calls: map[called]*underWay{}, since: time.Now()}
}

// called tells calls apart.
type called [sha256.Size]byte

func callOf(method, uri string) called { return sha256.Sum256([]byte(method + " " + uri)) }

// underWay is a call that is being carried out, so many times.
type underWay struct {
	about string // the one container that it can change; empty for any
	count int
}

// look is one at a container.
type look struct {
	at     time.Time // when it began
	done   chan struct{}
	answer json.RawMessage // nil: there is none, or it is not of use any more
}

// Looking says that the engine is about to be asked for a container, of whole id, by
// whoever follows the engine and not by a call; what is returned takes the answer, as it
// came, or nil if there is none. It must be called.
func (p *Plugin) Looking(id string) func(answer json.RawMessage) {
	s := &p.seen
	s.mu.Lock()
	defer s.mu.Unlock()
	if !isHex(id) || s.changes > 0 || s.changing[id] > 0 || s.beyond || time.Since(s.since) < strangeFor {
		return func(json.RawMessage) {}
	}
	if len(s.of) >= maxSeen {
		s.drop()
	}
	if was := s.of[id]; was != nil {
		was.end(nil)
	}
	l := &look{at: time.Now(), done: make(chan struct{})}
	s.of[id] = l
	return func(answer json.RawMessage) {
		s.mu.Lock()
		defer s.mu.Unlock()
		switch {
		case s.of[id] != l: // a call came in between that may have changed it
		case len(answer) <= maxLook && bytes.Contains(answer, []byte(`"created"`)):
			l.end(answer)
		default:
			s.forget(id)
		}
	}
}

// end has those who wait for a look go on. The lock is held.
func (l *look) end(answer json.RawMessage) {
	select {
	case <-l.done:
	default:
		close(l.done)
	}
	l.answer = answer
}

// drop forgets all. s.mu is held.
func (s *seen) drop() {
	for _, l := range s.of {
		l.end(nil)
	}
	clear(s.of)
}

// forget forgets one. s.mu is held.
func (s *seen) forget(id string) {
	if l := s.of[id]; l != nil {
		l.end(nil)
		delete(s.of, id)
	}
}

// take returns what is known of a container that is to start, once; nil if that must be
// asked for.
func (s *seen) take(ctx context.Context, id string) json.RawMessage {
	s.mu.Lock()
	l := s.of[id]
	s.mu.Unlock()
	if l == nil {
		return nil
	}
	late := time.NewTimer(waitsForLook)
	defer late.Stop()
	select {
	case <-l.done:
	case <-late.C:
	case <-ctx.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.of[id] != l {
		return nil
	}
	answer := l.answer
	s.forget(id)
	if age := time.Since(l.at); age < 0 || age >= seenFor {
		return nil
	}
	return answer
}

// began notes that the engine carries a call out from now on.
func (s *seen) began(method, uri string, r route, what string) {
	about, changes := changed(r, what)
	if !changes {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	key := callOf(method, uri)
	c := s.calls[key]
	switch {
	case c != nil:
	case len(s.calls) < maxCalls:
		c = &underWay{about: about}
		s.calls[key] = c
	default: // more than are followed
		s.beyond = true
		s.drop()
		return
	}
	c.count++
	s.turn(about, 1)
}

// ended notes that it is done. What an earlier plugin let pass is none of its calls.
func (s *seen) ended(method, uri string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := callOf(method, uri)
	c, known := s.calls[key]
	if !known {
		return
	}
	if c.count--; c.count == 0 {
		delete(s.calls, key)
	}
	s.turn(c.about, -1)
}

// turn counts a call that may change one container, or any, and forgets what is known of
// it. s.mu is held.
func (s *seen) turn(about string, n int) {
	if about == "" {
		s.changes += n
		s.drop()
		return
	}
	if s.changing[about] += n; s.changing[about] == 0 {
		delete(s.changing, about)
	}
	s.forget(about)
}

// renew is for an engine that was started anew: nothing of the one before is known, and
// none of its calls is under way.
func (s *seen) renew() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drop()
	s.changes, s.beyond = 0, false
	clear(s.changing)
	clear(s.calls)
}

// changed says whether a call may change what an engine says of a container that was
// made and has not been started: all may but those that are known not to. about is the
// whole id of the one container that it can be; empty if it may be any.
func changed(r route, what string) (about string, changes bool) {
	switch r.method {
	case "GET", "HEAD", "OPTIONS":
		return "", false
	}
	switch r.name {
	case "container create", // another one
		"container wait", "container attach", "container resize", "exec resize",
		"exec start", // in one that runs: what it may ask the engine for are calls
		"ping", "registry login":
		return "", false
	case "container start", "container restart", "container unpause", "container stop", "container kill", "container pause",
		"container remove", "container update", "container rename", "container logs clear", "checkpoint create", "checkpoint remove",
		"container archive put", "exec create":
		// A container may be called like the id of another. What such a name could change
		// is refused: see alone.
		if isHex(what) {
			return what, true
		}
	}
	return "", true
}
