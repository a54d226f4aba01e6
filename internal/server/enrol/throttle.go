package enrol

import (
	"math"
	"net/netip"
	"sync"
	"time"
)

// Limits of failed joins. A token has 256 random bits, so nobody guesses one:
// these bound what trying costs the store and the audit log.
const (
	throttleWindow = time.Minute
	maxPerAddress  = 10  // failures of one address within the window
	maxEverywhere  = 300 // failures of all
	// maxTracked bounds the memory: with that many addresses maxEverywhere is
	// reached long before.
	maxTracked = maxEverywhere
)

// throttle counts failed joins in windows of a minute. It is safe for
// concurrent use.
type throttle struct {
	mu     sync.Mutex
	began  time.Time
	failed map[string]int
	all    int
	told   map[string]bool // whose refusal was already said in this window
}

func newThrottle() *throttle {
	return &throttle{failed: map[string]int{}, told: map[string]bool{}}
}

// wait returns how long an address must wait before anything of its attempt may
// be checked; first says that it is the first one refused for its reason in
// this window.
func (t *throttle) wait(address string, now time.Time) (wait time.Duration, first bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.turn(now)
	from, reason := origin(address), ""
	switch {
	case t.all >= maxEverywhere:
		reason = "all"
	case t.failed[from] >= maxPerAddress:
		reason = from
	default:
		return 0, false
	}
	first = !t.told[reason]
	t.told[reason] = true
	return t.began.Add(throttleWindow).Sub(now), first
}

// fail counts an attempt that failed. What is in order is never counted: a
// whole fleet may join from one address at once.
func (t *throttle) fail(address string, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.turn(now)
	t.all++
	if from := origin(address); t.failed[from] > 0 || len(t.failed) < maxTracked {
		t.failed[from]++
	}
}

// turn begins a new window when the last one is over; a clock that steps back
// begins one, too.
func (t *throttle) turn(now time.Time) {
	if age := now.Sub(t.began); age < 0 || age >= throttleWindow {
		t.began, t.all = now, 0
		clear(t.failed)
		clear(t.told)
	}
}

// origin is an IPv4 address, or the /64 that one IPv6 subscriber has.
func origin(address string) string {
	a, err := netip.ParseAddr(address)
	if err != nil {
		return "unknown"
	}
	a = a.Unmap().WithZone("")
	if p, err := a.Prefix(64); err == nil && a.Is6() {
		return p.String()
	}
	return a.String()
}

func seconds(d time.Duration) int { return max(1, int(math.Ceil(d.Seconds()))) }
