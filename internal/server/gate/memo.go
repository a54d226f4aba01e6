package gate

import (
	"crypto/sha256"
	"encoding/json"
	"hash"
	"sync"
	"time"

	"github.com/castellan-security/castellan/internal/admission"
)

const (
	// memoFor is how long a verdict is given again to the same request: a service of
	// many tasks asks the same within seconds. What depends on the clock is at most
	// that much off.
	memoFor = time.Minute
	// maxMemo bounds the verdicts that are remembered: some 10 MiB.
	maxMemo = 5_000
)

// memo are verdicts by all that they rest on: the request but for its id and time,
// the policy and the exceptions, and what is known of the images.
type memo struct {
	mu sync.Mutex
	of map[[sha256.Size]byte]remembered
}

type remembered struct {
	verdict admission.Verdict
	until   time.Time
}

// memoKey names what a verdict rests on; false when it has no name.
func memoKey(r *admission.Request, stamp string, known []gathered) (key [sha256.Size]byte, ok bool) {
	same := *r
	same.ID, same.At = "", time.Time{}
	b, err := json.Marshal(&same)
	if err != nil {
		return key, false
	}
	h := sha256.New()
	write(h, []byte(stamp))
	for i := range known {
		write(h, known[i].packed.Hash[:])
	}
	write(h, b)
	return [sha256.Size]byte(h.Sum(nil)), true
}

func write(h hash.Hash, b []byte) {
	_, _ = h.Write(b) // a hash takes everything
	_, _ = h.Write([]byte{0})
}

// get returns a verdict that holds still, as one on this request.
func (m *memo) get(key [sha256.Size]byte, id string, now time.Time) (admission.Verdict, bool) {
	m.mu.Lock()
	x, have := m.of[key]
	m.mu.Unlock()
	if !have || !now.Before(x.until) || now.Before(x.verdict.At) {
		return admission.Verdict{}, false
	}
	v := x.verdict
	v.Request, v.At = id, now
	return v, true
}

// put remembers a verdict, unless nobody decided or more is about to be known.
func (m *memo) put(key [sha256.Size]byte, v admission.Verdict, now time.Time) {
	if v.Declared || v.Outcome == admission.Wait {
		return
	}
	until := now.Add(memoFor)
	if !v.Until.IsZero() && v.Until.Before(until) {
		until = v.Until
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.of == nil || len(m.of) >= maxMemo {
		m.of = map[[sha256.Size]byte]remembered{}
	}
	m.of[key] = remembered{v, until}
}
