package learn

import (
	"time"

	"github.com/castellan-security/castellan/internal/event"
)

// life is what was seen of the group's workloads as such.
type life struct {
	first, last int64 // of all events; Unix nanoseconds
	events      uint64
	workloads   map[string]*workload
	// set is when the clock was set last, by what it was set to; 0 if it never was.
	// before is for how long the group had been watched then.
	set    int64
	before time.Duration
}

// clockSet begins to count anew at a clock that was set.
func (l *life) clockSet(was, now time.Time) {
	if l.events > 0 {
		l.before += max(0, was.Sub(at(l.first)))
	}
	l.set = now.UnixNano()
	l.first = l.set
}

// watched is for how long the group has been watched.
func (l *life) watched(now time.Time) time.Duration { return l.before + max(0, now.Sub(at(l.first))) }

// maxWindow is how long something alike is counted as one event, generously.
const maxWindow = time.Minute

// When is from when to when an event was. Where it is known when the server had it,
// that counts: the clock of a host may say anything, and neither how long a group has
// been watched nor how long what lay outside is kept must depend on it.
func When(e *event.Event) (first, last time.Time) {
	first, last = e.Time, e.Time
	if e.Last.After(first) {
		last = e.Last
	}
	if e.Received.IsZero() {
		return first, last
	}
	return e.Received.Add(-min(last.Sub(first), maxWindow)), e.Received
}

// when is When in Unix nanoseconds.
func when(e *event.Event) (int64, int64) {
	first, last := When(e)
	return first.UnixNano(), last.UnixNano()
}

// workload is one container that was seen.
type workload struct {
	First   event.Key `json:"first,omitzero"` // its first process
	Started bool      `json:"started,omitempty"`
	Ended   bool      `json:"ended,omitempty"`
}

// maxLives bounds the containers that are told apart: a hundred starts say as much
// as a thousand.
const maxLives = 500

func newLife() life { return life{workloads: map[string]*workload{}} }

func (l *life) take(e *event.Event, entered bool) {
	first, last := when(e)
	if l.events == 0 && l.set == 0 || first < l.first {
		l.first = max(first, l.set) // what was before that is in before
	}
	l.last = max(l.last, last)
	l.events += e.Times()
	w := l.workloads[e.WorkloadID]
	if w == nil {
		if len(l.workloads) >= maxLives || e.WorkloadID == "" {
			return
		}
		w = &workload{}
		l.workloads[e.WorkloadID] = w
	}
	switch {
	case !entered && Engine(e) && e.Exec.Origin != event.OriginHost:
		w.Started = true
		if w.First.IsZero() || e.Process.Key.Start < w.First.Start {
			w.First = e.Process.Key
		}
	case e.Kind == event.KindExit && e.Process.Key.Same(w.First):
		w.Ended = true
	}
}

// starts and ends counts the containers that were seen to begin and to end.
func (l *life) startsAndEnds() (starts, ends int) {
	for _, w := range l.workloads {
		if w.Started {
			starts++
		}
		if w.Ended {
			ends++
		}
	}
	return starts, ends
}
