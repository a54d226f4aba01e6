package learn

import (
	"github.com/castellan-security/castellan/internal/event"
)

// life is what was seen of the group's workloads as such.
type life struct {
	first, last int64 // of all events; Unix nanoseconds
	events      uint64
	workloads   map[string]*workload
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
	t := e.Time.UnixNano()
	if l.events == 0 || t < l.first {
		l.first = t
	}
	if e.Last.After(e.Time) {
		t = e.Last.UnixNano()
	}
	l.last = max(l.last, t)
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
