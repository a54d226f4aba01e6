package registries

import (
	"context"
	"errors"
	"time"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/store"
)

// ours is an error of this server's store: the next image would meet it too.
type ours struct{ error }

// Unwrap returns the cause.
func (o *ours) Unwrap() error { return o.error }

// ofRegistry reports whether it is the registry that keeps an image from being
// read, as it would keep others: it is away, asked too much, or does not let us
// in.
func ofRegistry(err error) bool {
	var broken *Broken
	if errors.As(err, &broken) {
		return false
	}
	switch fault.Of(err) {
	case fault.Exhausted, fault.Unavailable, fault.Denied, fault.Unauthenticated:
		return true
	}
	return false
}

// isFinal reports whether another try would end the same.
func isFinal(err error) bool {
	switch fault.Of(err) {
	case fault.Invalid, fault.Unsupported, fault.Corrupt:
		return true
	case fault.Exhausted: // a limit of the scanner: the image is too large
		return !ofRegistry(err)
	}
	return false
}

// combine adds how the scan of one image stands to how the entry ends: it waits
// as long as one waits, and is done when all are, by the oldest analysis of them.
func combine(end *store.RegistryScanEnd, scan store.Scan, now time.Time) {
	next := scan.Next
	switch scan.State {
	case store.ScanDone:
		end.Analysis = min(end.Analysis, scan.Analysis) // it may have kept what an older one found
		return
	case store.ScanFailed, store.ScanGone:
		if end.State == store.RegistryDone {
			end.State, end.Analysis = store.RegistryFailed, 0
		}
		end.Error = scan.Error
		return
	case store.ScanRunning:
		next = now.Add(busyPause)
	case store.ScanWaiting:
		if !next.After(now) {
			next = now.Add(time.Second) // asked for anew meanwhile
		}
	}
	if end.State != store.RegistryWaiting || next.Before(end.Next) {
		end.Next = next
	}
	end.State, end.Analysis = store.RegistryWaiting, 0
	if scan.State == store.ScanWaiting && scan.Error != "" {
		end.Error = scan.Error
	}
}

// failed says what follows from an entry that could not be read.
func (s *Service) failed(ctx context.Context, at place, e *store.RegistryImage, err error) store.RegistryScanEnd {
	now := s.clock()
	end := store.RegistryScanEnd{State: store.RegistryWaiting, Error: worded(err)}
	var mine *ours
	switch {
	case ctx.Err() != nil:
		return end
	case errors.As(err, &mine):
		s.condition(ctx, PartScans, err)
		end.Next, end.Uncounted = now.Add(jitter(busyPause)), true
		return end
	case fault.Is(err, fault.Unsupported):
		end.State = store.RegistrySkipped
		return end
	case ofRegistry(err):
		next, ok := s.holds.refused(at, e.ID, err, now)
		if s.showPause(ctx, at.host); ok {
			end.Next, end.Uncounted = next, true
			return end
		}
	}
	if isFinal(err) || e.Tries >= maxTries {
		end.State = store.RegistryFailed
		return end
	}
	pause := firstPause
	for range e.Tries - 1 {
		pause *= pauseGrows
	}
	end.Next = now.Add(min(pause, maxBackoff))
	return end
}

// worded is what people are shown of an error, with what helps.
func worded(err error) string {
	why := said(err)
	if remedy := fault.Remedy(err); remedy != "" {
		why += "; " + remedy
	}
	return why
}
