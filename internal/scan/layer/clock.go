package layer

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// clocks are how long each analyser has been at work in one scan, by its name.
type clocks struct {
	limit time.Duration
	// used is how much of a processor this process has had, and begun how much it
	// had when the scan began.
	used  func() time.Duration
	begun time.Duration

	mu sync.Mutex // guards of
	of map[string]*clock
}

func newClocks(limit time.Duration, used func() time.Duration) *clocks {
	return &clocks{limit: limit, used: used, begun: used(), of: map[string]*clock{}}
}

// clock returns that of one analyser.
func (c *clocks) clock(name string) *clock {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := c.of[name]
	if k == nil {
		k = &clock{all: c}
		c.of[name] = k
	}
	return k
}

// clock runs while an analyser works on at least one file. What it waits for, to
// be read and decompressed, is not its own.
type clock struct {
	all  *clocks
	over atomic.Bool  // its time is spent
	left atomic.Int64 // files that it was not asked to take since

	mu      sync.Mutex // guards the rest
	working int
	since   time.Time
	spent   time.Duration
}

// start says that a file is worked on, stop that it is no longer, or for a while.
func (k *clock) start() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.working++; k.working == 1 {
		k.since = time.Now()
	}
}

func (k *clock) stop() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.working--; k.working != 0 {
		return
	}
	// A scan gives way to all else on its host, and may stand still for minutes: time
	// alone says nothing of what it costs.
	if k.spent += time.Since(k.since); k.spent >= k.all.limit && k.all.used()-k.all.begun >= k.all.limit {
		k.over.Store(true)
	}
}

// refuses says that an analyser's time is spent, and counts the file.
func (k *clock) refuses() bool {
	if !k.over.Load() {
		return false
	}
	k.left.Add(1)
	return true
}

// Spent is an analyser whose time was up before the scan's end.
type Spent struct {
	Analyser string
	Time     time.Duration // that it had
	Files    int64         // that it did not look at
}

// Spent returns the analysers that were stopped, by name. The rest of the scan is
// whole.
func (b *Budget) Spent() (spent []Spent) {
	c := b.clocks
	c.mu.Lock()
	defer c.mu.Unlock()
	for name, k := range c.of {
		if n := k.left.Load(); n > 0 {
			spent = append(spent, Spent{name, c.limit, n})
		}
	}
	slices.SortFunc(spent, func(a, b Spent) int { return cmp.Compare(a.Analyser, b.Analyser) })
	return spent
}
