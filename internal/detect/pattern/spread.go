package pattern

import (
	"hash/maphash"
	"net/netip"
	"time"

	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/threat"
)

// seed is of this process: what strangers choose must not make maps slow.
var seed = maphash.MakeSeed()

// HashText returns a number for a text, the same within one run of the program.
func HashText(s string) uint64 { return maphash.String(seed, s) }

// HashPeer returns a number for an address and port.
func HashPeer(a netip.AddrPort) uint64 {
	return maphash.Comparable(seed, netip.AddrPortFrom(a.Addr().Unmap(), a.Port()))
}

// HashAddr returns a number for an address.
func HashAddr(a netip.Addr) uint64 { return maphash.Comparable(seed, a.Unmap()) }

// HashProcess returns a number for a process of a host.
func HashProcess(k event.Key) uint64 { return maphash.Comparable(seed, k) }

// Spread counts different values within a while. The zero value is empty.
type Spread struct {
	seen   map[uint64]int64 // when, in nanoseconds
	purged int64
}

// Add notes a value, and returns how many there were within the while before now. At
// most so many are remembered: beyond that new ones are not counted.
func (s *Spread) Add(v uint64, now time.Time, within time.Duration, most int) int {
	at := now.UnixNano()
	if s.seen == nil {
		s.seen = map[uint64]int64{}
	}
	// Old ones are dropped only now and then, so that a value costs little; a count
	// is right to an eighth of the while.
	if at-s.purged > int64(within/8) || at < s.purged {
		s.purged = at
		for k, t := range s.seen {
			if at-t > int64(within) {
				delete(s.seen, k)
			}
		}
	}
	if _, known := s.seen[v]; known || len(s.seen) < most {
		s.seen[v] = max(at, s.seen[v])
	}
	return len(s.seen)
}

// Len is how many there are, old ones included that were not dropped yet.
func (s *Spread) Len() int { return len(s.seen) }

// Has says whether a value is among them.
func (s *Spread) Has(v uint64) bool { _, ok := s.seen[v]; return ok }

// Clear forgets all.
func (s *Spread) Clear() { s.seen, s.purged = nil, 0 }

// buckets are of a rate's while: it is right to an eighth of it.
const buckets = 8

// Rate sums up within a while. The zero value is empty.
type Rate struct {
	epoch  int64
	counts [buckets]uint64
}

// late is how long after it was over a count comes at most: who comes later than that
// has a clock that stepped back.
const late = 2 * time.Minute

// Add adds n at a time, and returns the sum of the while before it. What comes too
// late for that while counts by itself.
func (r *Rate) Add(now time.Time, within time.Duration, n uint64) uint64 {
	width := int64(max(within/buckets, 1))
	epoch := now.UnixNano() / width
	switch ahead := epoch - r.epoch; {
	case ahead <= -buckets && -ahead <= int64(late)/width:
		return n
	case ahead >= buckets || ahead <= -buckets:
		r.counts, r.epoch = [buckets]uint64{}, epoch
	case ahead > 0:
		for ; r.epoch < epoch; r.epoch++ {
			r.counts[slot(r.epoch+1)] = 0
		}
	}
	r.counts[slot(epoch)] += n
	var sum uint64
	for _, c := range r.counts {
		sum += c
	}
	return sum
}

// AddEvent adds an event that may be a count: of one that lasted longer than the
// while, what fell into the last while of it if it was even.
func (r *Rate) AddEvent(e *event.Event, within time.Duration) uint64 {
	from, to := Span(e)
	n := e.Times()
	if lasted := to.Sub(from); lasted > within {
		n = uint64(float64(n) * float64(within) / float64(lasted))
	}
	return r.Add(to, within, n)
}

// slot is where a bucket is; times before 1970 have negative numbers.
func slot(epoch int64) int64 { return (epoch%buckets + buckets) % buckets }

// maxTrail are the events before it that a match names.
const maxTrail = 8

// Trail names the first events that a match rests on. The zero value is empty.
type Trail struct{ events []threat.Evidence }

// Add names an event, if there is room. Its words are not made: they take time.
func (t *Trail) Add(e *event.Event) {
	if len(t.events) < maxTrail {
		t.events = append(t.events, threat.Evidence{Boot: e.Boot, Seq: e.Seq, ID: e.ID, Time: e.Time, Kind: e.Kind})
	}
}

// Before returns those before an event.
func (t *Trail) Before(e *event.Event) []threat.Evidence {
	var out []threat.Evidence
	for _, v := range t.events {
		if v.Boot != e.Boot || v.Seq != e.Seq || v.Kind != e.Kind {
			out = append(out, v)
		}
	}
	return out
}
