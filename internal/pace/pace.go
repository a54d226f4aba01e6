// Package pace tells when the next request may be sent to somebody who answers
// only so many a second, or who wants to be left alone for a while.
//
// A Pace knows no clock and does not wait: callers say what time it is and sleep
// as they sleep elsewhere, by Wait unless a test does it for them.
//
// It is not for sharing a limit among processes.
package pace

import (
	"context"
	"sync"
	"time"
)

// burstFor is how much unused time is made up for by requests that follow one
// another at once: a quarter of a second's requests, so that a limit counted by
// the second is kept to by and large.
const burstFor = time.Second / 4

// Pace spaces requests. The zero value has no limit. It can be used by several
// goroutines.
type Pace struct {
	mu       sync.Mutex
	interval time.Duration // between two requests; 0 for none
	next     time.Time     // when the next turn is
	until    time.Time     // up to when nobody has one
}

// Limit permits perSecond requests a second from now on; 0 or less is no limit.
func (p *Pace) Limit(perSecond float64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.interval = 0
	if perSecond > 0 {
		// A rate of less than one a day is one a day: nothing overflows.
		p.interval = time.Duration(min(float64(time.Second)/perSecond, float64(24*time.Hour)))
	}
}

// Turn takes the next turn and returns when it is, which may be now. Who doesn't
// use it gives it away.
func (p *Pace) Turn(now time.Time) time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	if earliest := now.Add(-burstFor); p.next.Before(earliest) {
		p.next = earliest
	}
	if p.next.Before(p.until) {
		p.next = p.until
	}
	turn := p.next
	p.next = p.next.Add(p.interval)
	if turn.Before(now) {
		return now
	}
	return turn
}

// Pause gives nobody a turn until t. A pause is not made shorter by another one.
func (p *Pace) Pause(t time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if t.After(p.until) {
		p.until = t
	}
}

// Until returns the end of the last pause, which may be past: who took a turn
// before a pause began looks again before using it.
func (p *Pace) Until() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.until
}

// Wait waits for d, and reports false, at once, when ctx ends first. Why it ended is
// context.Cause(ctx).
func Wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
