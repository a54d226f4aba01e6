package account

import (
	"fmt"
	"math"
	"net/netip"
	"sync"
	"time"
)

// Limits of guessing. With the longest pause a name gets some 1,400 guesses a
// day from the whole world, which a password of MinPassword characters stands
// for centuries; a longer pause would let anybody keep its owner out.
const (
	freeName    = 5  // wrong passwords of one name before the first pause
	freeAddress = 20 // of one address, behind which many people may sit

	maxPauseName    = time.Minute
	maxPauseAddress = 15 * time.Minute

	// forgetAfter without a try, a name or address begins anew.
	forgetAfter = time.Hour
	// maxTracked bounds the memory that guessing of names from many addresses
	// can take: about 2 MiB.
	maxTracked = 20_000
)

// Wait is why a sign-in was refused unchecked: too many failed before it.
type Wait struct{ For time.Duration }

// Error says how long, rounded up to seconds.
func (w *Wait) Error() string {
	return fmt.Sprintf("too many sign-ins failed: try again in %d s", w.Seconds())
}

// Seconds returns the wait rounded up, at least 1.
func (w *Wait) Seconds() int { return max(1, int(math.Ceil(w.For.Seconds()))) }

// throttle slows down who guesses. It is safe for concurrent use.
type throttle struct {
	mu    sync.Mutex
	tries map[string]*tries
}

// tries are the failures of one name or address.
type tries struct {
	failed  int
	last    time.Time
	until   time.Time // refused before
	refused int       // since the pause began
}

func newThrottle() *throttle { return &throttle{tries: map[string]*tries{}} }

// attempt is one sign-in under way. It counts as failed from its beginning, so
// that many at once gain nothing.
type attempt struct{ name, address string }

func newAttempt(name, address string) attempt {
	return attempt{name: "name " + name, address: "address " + Origin(address)}
}

// Origin is what is counted as one origin: an IPv4 address, or the /64 that
// one IPv6 subscriber has to himself.
func Origin(address string) string {
	a, err := netip.ParseAddr(address)
	if err != nil {
		return address
	}
	a = a.Unmap().WithZone("")
	if p, err := a.Prefix(64); err == nil && a.Is6() {
		return p.String()
	}
	return a.String()
}

// begin counts the attempt. When it must wait, wait is above zero, nothing may
// be checked, and first says that it is the first one refused in this pause.
func (t *throttle) begin(a attempt, now time.Time) (wait time.Duration, first bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	name, address := t.get(a.name, now), t.get(a.address, now)
	for _, k := range []*tries{name, address} {
		if d := k.until.Sub(now); d > 0 {
			k.refused++
			first = first || k.refused == 1
			wait = max(wait, d)
		}
	}
	if wait > 0 {
		return wait, first
	}
	name.fail(now, freeName, maxPauseName)
	address.fail(now, freeAddress, maxPauseAddress)
	return 0, false
}

// succeed forgets the name's failures and takes back the address's last one.
func (t *throttle) succeed(a attempt) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.tries, a.name)
	t.undo(a.address)
}

// cancel takes an attempt back that was not decided.
func (t *throttle) cancel(a attempt) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.undo(a.name)
	t.undo(a.address)
}

func (t *throttle) undo(key string) {
	if k := t.tries[key]; k != nil && k.failed > 0 {
		k.failed--
		k.until = time.Time{}
	}
}

func (t *throttle) get(key string, now time.Time) *tries {
	k := t.tries[key]
	if k == nil {
		if len(t.tries) >= maxTracked {
			t.makeRoom(now)
		}
		k = &tries{}
		t.tries[key] = k
	}
	// A clock that steps back must not lock anybody out for as long as it stepped.
	if now.Sub(k.last) > forgetAfter || k.until.Sub(now) > maxPauseAddress {
		*k = tries{}
	}
	k.last = now
	return k
}

// makeRoom forgets what is old, and if that is not enough, those with the
// fewest failures: whoever floods the table with names has one of each.
func (t *throttle) makeRoom(now time.Time) {
	fewest := math.MaxInt
	for key, k := range t.tries {
		if now.Sub(k.last) > forgetAfter {
			delete(t.tries, key)
			continue
		}
		fewest = min(fewest, k.failed)
	}
	if len(t.tries) < maxTracked {
		return
	}
	for key, k := range t.tries {
		if k.failed <= fewest {
			delete(t.tries, key)
		}
	}
}

func (k *tries) fail(now time.Time, free int, longest time.Duration) {
	k.failed++
	k.refused = 0
	if over := k.failed - free; over >= 0 {
		k.until = now.Add(min(longest, time.Second<<min(over, 20)))
	}
}
