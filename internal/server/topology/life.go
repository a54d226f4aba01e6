package topology

import "time"

// How well a workload's life fits a moment; less is better.
const (
	then  = iota // it ran
	after        // it had ended a short while before
	soon         // it started a little later, by another clock
	never
)

// rank says how well. On one host one clock tells both, so that what began after
// the end of a workload was not with it: its address is another's by then, also
// while that one is not known yet.
func rank(w *workload, q Question) int {
	at, early, late := q.At, skew, keepEnded
	if w.agent == q.AgentID {
		if early = startLag; q.Begins {
			late = endLag
		}
	}
	switch {
	case w.from.Sub(at) > early:
		return never
	case !w.until.IsZero() && at.Sub(w.until) > late:
		return never
	case w.from.After(at):
		return soon
	case !w.until.IsZero() && at.After(w.until):
		return after
	}
	return then
}

// nearest returns those whose life fits the moment best. Of those that had
// ended, the last one counts.
func nearest(ws []*workload, q Question) []*workload {
	best, latest := never, time.Time{}
	var out []*workload
	for _, w := range ws {
		r := rank(w, q)
		switch {
		case r == never || r > best:
			continue
		case r < best, r == after && w.until.After(latest):
			out = out[:0]
		case r == after && w.until.Before(latest):
			continue
		}
		best, latest = r, w.until
		out = append(out, w)
	}
	return out
}
