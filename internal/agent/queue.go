package agent

import (
	"sync"

	"github.com/castellan-security/castellan/internal/event"
)

// DefaultQueueSize bounds, in bytes, the events held while the server is away.
// With the agent's own needs it keeps the whole process below 60 MiB.
const DefaultQueueSize = 16 << 20

// eventOverhead is what one event takes beside its text: the struct, its
// payload and the slice headers, rounded up.
const eventOverhead = 600

// reportSize bounds the events of one report in bytes, far below what a link
// carries at once, so that long argument lists never make a report too large.
const reportSize = 4 << 20

// queue holds events in order until the server has them. It never blocks who
// pushes: what does not fit is dropped and counted, newest first, because the
// older ones tell how it began.
type queue struct {
	limit int
	ready chan struct{} // one token when there is something to do

	mu      sync.Mutex
	events  []event.Event
	bytes   int
	seq     uint64 // of the last event offered
	dropped uint64
}

func newQueue(limit int) *queue {
	return &queue{limit: limit, ready: make(chan struct{}, 1)}
}

// push numbers the events and keeps what fits. A dropped event takes a number
// too, so that a gap in the numbers is a loss that the server can see.
func (q *queue) push(events []event.Event) {
	q.mu.Lock()
	for i := range events {
		q.seq++
		events[i].Seq = q.seq
		n := size(&events[i])
		if q.bytes+n > q.limit {
			q.dropped++
			continue
		}
		q.bytes += n
		q.events = append(q.events, events[i])
	}
	q.mu.Unlock()
	q.wake()
}

// wake makes the sender look, also when there is no event.
func (q *queue) wake() {
	select {
	case q.ready <- struct{}{}:
	default:
	}
}

// peek returns the oldest events without removing them: up to n, and no more
// than reportSize bytes but for a single large one. more says that others wait.
func (q *queue) peek(n int) (events []event.Event, more bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	n = min(n, len(q.events))
	total := 0
	for i := range q.events[:n] {
		if total += size(&q.events[i]); total > reportSize && i > 0 {
			n = i
			break
		}
	}
	return append([]event.Event(nil), q.events[:n]...), n < len(q.events)
}

// drop removes the n oldest events: the server has them, or never will.
func (q *queue) drop(n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i := range q.events[:n] {
		q.bytes -= size(&q.events[i])
	}
	rest := copy(q.events, q.events[n:])
	clear(q.events[rest:])
	q.events = q.events[:rest]
}

// refuse counts n events as lost that the server would not take.
func (q *queue) refuse(n int) {
	q.mu.Lock()
	q.dropped += uint64(n)
	q.mu.Unlock()
	q.drop(n)
}

func (q *queue) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.events)
}

// counts returns how many events were offered and how many of them were lost.
func (q *queue) counts() (offered, dropped uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.seq, q.dropped
}

// size estimates the memory of an event.
func size(e *event.Event) int {
	n := eventOverhead + len(e.Process.Executable)
	if e.Exec == nil {
		return n
	}
	n += len(e.Exec.Requested) + len(e.Exec.Cwd)
	for _, a := range e.Exec.Args {
		n += len(a) + 16
	}
	for i := range e.Exec.Ancestors {
		n += len(e.Exec.Ancestors[i].Executable) + 48
	}
	return n
}
