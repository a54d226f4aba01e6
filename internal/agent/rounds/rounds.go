// Package rounds asks a server again and again for what an agent keeps of it: as
// often as is needed while it answers, with growing pauses while it does not.
//
// What is asked, and by what an agent is woken between rounds, is its caller's.
package rounds

import (
	"context"
	"log/slog"
	"time"

	"github.com/castellan-security/castellan/internal/fault"
)

const (
	// firstPause and lastPause are between tries while the server does not answer.
	firstPause = 2 * time.Second
	lastPause  = time.Minute
)

// Rounds are those of one keeper. All fields are required.
type Rounds struct {
	// Every is how long a round waits at most after one that went well, or after a
	// server that is too old answered.
	Every time.Duration
	// Turn does what there is to do.
	Turn func(ctx context.Context) error
	// Wait returns true when there is something to do: after d, or before if wakes and
	// somebody wakes it. It returns false when ctx ends.
	Wait func(ctx context.Context, d time.Duration, wakes bool) bool
	Log  *slog.Logger
	// Failed is logged when a turn fails by another kind of error than the last.
	Failed string
}

// Run makes rounds until ctx ends. In the pause after an error nothing wakes it, so
// that a host on which much happens does not try for each.
func (r Rounds) Run(ctx context.Context) {
	var pause time.Duration
	next := time.Duration(0) // at once
	var said fault.Kind
	for r.Wait(ctx, next, pause == 0) {
		err := r.Turn(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			pause, next, said = 0, r.Every, fault.Unknown
			continue
		case fault.Is(err, fault.Unsupported):
			next = r.Every // an older server
		default:
			pause = min(max(2*pause, firstPause), lastPause)
			next = pause
		}
		if kind := fault.Of(err); kind != said || kind == fault.Unknown {
			said = kind
			r.Log.Warn(r.Failed, "error", err, "remedy", fault.Remedy(err))
		}
	}
}

// Bell wakes a keeper between its rounds. However often it was rung, it wakes once.
type Bell chan struct{}

// NewBell returns one that was not rung.
func NewBell() Bell { return make(Bell, 1) }

// Ring has who listens look soon. It never waits.
func (b Bell) Ring() {
	select {
	case b <- struct{}{}:
	default: // it will look anyway
	}
}

// Wait is Rounds.Wait of a keeper that this bell alone wakes.
func (b Bell) Wait(ctx context.Context, d time.Duration, wakes bool) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	if !wakes {
		b = nil
	}
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
	case <-b:
	}
	return ctx.Err() == nil
}
