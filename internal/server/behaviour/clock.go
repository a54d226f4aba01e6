package behaviour

import "time"

// mostDrift is how far a clock may be from the time that goes by without having been
// set: a clock that is kept right is moved by less between two looks.
const mostDrift = time.Minute

// ticks notices that the clock was set.
type ticks struct {
	wall   time.Time // of the last look, without a monotonic reading
	uptime time.Duration
}

// set reports whether the clock was set since the last look.
func (t *ticks) set(now time.Time, uptime time.Duration) bool {
	was := *t
	t.wall, t.uptime = now.Round(0), uptime
	drift := t.wall.Sub(was.wall) - (uptime - was.uptime)
	return drift.Abs() > mostDrift
}

// monotonic measures the time since from by monotonic readings.
func monotonic(from time.Time) func(time.Time) time.Duration {
	return func(now time.Time) time.Duration { return now.Sub(from) }
}
