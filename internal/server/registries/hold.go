package registries

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/store"
)

const (
	// maxHold is how long nothing is scanned of a registry that refuses, before one
	// image tries whether it still does: Docker Hub counts by six hours, which are
	// some two dozen such tries.
	maxHold = 15 * time.Minute
	// maxHolds bounds the repositories that are held one by one; beyond it the whole
	// registry is. Each is handed to the store whenever a scan is taken.
	maxHolds = 1_000
	// maxPutOff bounds the entries of which it is known that they were put off.
	maxPutOff = 10_000
)

// Broken says that it is the image, or what scans it, that keeps it from being
// scanned, and not the registry. With an Exhausted one the image is larger than the
// scanner takes, and another try would end the same; of a registry that kind says
// that it is asked too much.
type Broken struct{ Err error }

// Error is the cause's.
func (b *Broken) Error() string { return b.Err.Error() }

// Unwrap returns the cause.
func (b *Broken) Unwrap() error { return b.Err }

// place is a host, or one of its repositories.
type place struct{ host, repository string }

// hold is how long nothing is scanned of a place.
type hold struct {
	strikes     int // refusals in a row
	last, until time.Time
	err         error // the last
}

// holds are the places of which nothing is scanned because the registry is away,
// asked too much, or does not let us in. A refusal is no try of the image that met
// it; whether it still holds, one image tries after a pause. It is safe for
// concurrent use.
type holds struct {
	mu sync.Mutex
	of map[place]*hold
	// read is when an image of a host was last read, off when an entry was put off
	// because its registry was away.
	read map[string]time.Time
	off  map[int64]time.Time
}

func newHolds() *holds {
	return &holds{of: map[place]*hold{}, read: map[string]time.Time{}, off: map[int64]time.Time{}}
}

// refused notes that a registry did not let an entry be read, and returns when the
// entry is tried again. ok is false when that is the entry's own fault: others were
// read since it was put off for the same reason.
//
// Who may not enter is held by repository, until giveUpAfter of them in a row
// say the same: rights differ between repositories. A rate and an outage are the
// whole registry's.
func (h *holds) refused(at place, entry int64, err error, now time.Time) (next time.Time, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	host := place{host: at.host}
	switch fault.Of(err) {
	case fault.Unavailable:
		if before, again := h.off[entry]; again && h.read[at.host].After(before) {
			return time.Time{}, false
		}
		if len(h.off) >= maxPutOff {
			clear(h.off) // each is put off once more
		}
		h.off[entry] = now
		at = host
	case fault.Denied, fault.Unauthenticated:
		if h.of[at] == nil && len(h.of) >= maxHolds {
			at = host
		}
	default:
		at = host
	}
	until := h.extend(at, err, now)
	if at != host && h.inARow(at.host) >= giveUpAfter {
		until = h.extend(host, err, now)
	}
	// Others try before it does, in case it is the only one that can't be read.
	return until.Add(time.Second + rand.N(firstBackoff)), true
}

// extend holds a place for longer each time.
func (h *holds) extend(at place, err error, now time.Time) time.Time {
	k := h.of[at]
	if k == nil {
		k = &hold{}
		h.of[at] = k
	}
	k.last, k.err = now, err
	if now.Before(k.until) {
		return k.until // of a scan that was under way when the pause began
	}
	k.strikes++
	k.until = now.Add(jitter(backoff(k.strikes, maxHold)))
	return k.until
}

// inARow returns how many repositories of a host have refused since one was read.
func (h *holds) inARow(host string) (n int) {
	for at, k := range h.of {
		if at.host == host && at.repository != "" && k.last.After(h.read[host]) {
			n++
		}
	}
	return n
}

// answered notes that an image was found, or read to its end.
func (h *holds) answered(at place, read bool, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.of, place{host: at.host})
	delete(h.of, at)
	if read {
		h.read[at.host] = now
	}
}

// forget lets all of a host be tried at once: somebody may have mended it.
func (h *holds) forget(host string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for at := range h.of {
		if at.host == host {
			delete(h.of, at)
		}
	}
	delete(h.read, host)
}

// held adds what is held of a registry at that host, and returns the first end of
// it; zero when nothing is.
func (h *holds) held(registry, host string, now time.Time, to []store.Held) (_ []store.Held, end time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for at, k := range h.of {
		if at.host != host || !k.until.After(now) {
			continue
		}
		to = append(to, store.Held{Registry: registry, Repository: at.repository})
		if end.IsZero() || k.until.Before(end) {
			end = k.until
		}
	}
	return to, end
}

// why returns what keeps images of a host from being scanned, and until when: all
// of them, or those of some repositories. The error is nil when nothing does.
func (h *holds) why(host string) (until time.Time, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if k := h.of[place{host: host}]; k != nil {
		return k.until, fmt.Errorf("nothing is scanned of registry %s: %w", host, k.err)
	}
	n := 0
	var first *hold
	for at, k := range h.of {
		if at.host != host {
			continue
		}
		if n++; first == nil || k.until.Before(first.until) {
			first = k
		}
	}
	if first == nil {
		return time.Time{}, nil
	}
	return first.until, fmt.Errorf("nothing is scanned of %d repositories of registry %s: %w", n, host, first.err)
}

// Pause says why the images of a registry are not scanned now, or those of some
// of its repositories.
type Pause struct {
	Until  time.Time `json:"until" doc:"When the next image tries whether that is over"`
	Error  string    `json:"error" doc:"Why"`
	Remedy string    `json:"remedy,omitempty" doc:"What helps"`
}

// pause returns what people are shown of why; nil when nothing is held.
func (h *holds) pause(host string) *Pause {
	until, err := h.why(host)
	if err == nil {
		return nil
	}
	return &Pause{Until: until, Error: said(err), Remedy: fault.Remedy(err)}
}
