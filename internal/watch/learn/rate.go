package learn

import (
	"time"

	"github.com/castellan-security/castellan/internal/event"
)

// Bounds of what is kept to see how many connections begin in a second.
const (
	// rateSeconds is how far back connections are told apart by their second: sensors
	// tell those that are alike as one event over ten seconds at most, some of it late.
	rateSeconds = 32
	// maxRates bounds the workloads, at some 400 bytes each; beyond, all begin anew.
	maxRates = 500
)

// rate is how many connections a workload began in each of the last seconds.
type rate struct {
	second [rateSeconds]int64
	count  [rateSeconds]uint64
}

// begun learns from a connection that a workload began, or from many alike, which
// are spread evenly over the time in which they were counted.
func (l *Learner) begun(e *event.Event) {
	if e.Kind != event.KindConnect {
		return
	}
	r := l.rates[e.WorkloadID]
	if r == nil {
		if len(l.rates) >= maxRates {
			clear(l.rates)
		}
		r = &rate{}
		l.rates[e.WorkloadID] = r
	}
	first := e.Time.Unix()
	seconds := int64(1)
	if e.Last.After(e.Time) {
		seconds += int64(e.Last.Sub(e.Time) / time.Second)
	}
	n := e.Times() / uint64(seconds)
	if e.Times()%uint64(seconds) > 0 {
		n++
	}
	for s := first; s < first+min(seconds, rateSeconds); s++ {
		l.usage.Connections = max(l.usage.Connections, r.add(s, n))
	}
}

// add counts connections of a second, and returns how many those are by now.
func (r *rate) add(second int64, n uint64) uint64 {
	i := uint64(second) % rateSeconds
	switch {
	case r.second[i] < second:
		r.second[i], r.count[i] = second, n
	case r.second[i] > second:
		return n // of long ago: what else began then is not known any more
	default:
		r.count[i] += n
	}
	return r.count[i]
}
