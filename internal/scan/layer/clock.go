package layer

import (
	"cmp"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// clocks are how much of a processor each analyser has taken in one scan, by its
// name. Nobody tells that of goroutines; it is estimated by the time for which they
// work, of which each has its share when there are more of them than processors. So
// an analyser that goes quickly through its files pays little of what it waits for
// one that does not.
type clocks struct {
	limit time.Duration
	procs float64
	// used is how much of a processor this process has had, and begun how much it
	// had when the scan began.
	used  func() time.Duration
	begun time.Duration

	mu      sync.Mutex // guards the rest, and what is in of
	of      map[string]*clock
	working int       // files that analysers work on
	share   float64   // of a processor, in nanoseconds, for one that worked all the time
	at      time.Time // as of which that is
}

func newClocks(limit time.Duration, used func() time.Duration) *clocks {
	return &clocks{limit: limit, procs: float64(runtime.GOMAXPROCS(0)), used: used, begun: used(), of: map[string]*clock{}}
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

	// guarded by all.mu
	working int
	share   float64 // all.share as of which spent is
	spent   time.Duration
}

// start says that a file is worked on, stop that it is no longer, or for a while.
func (k *clock) start() { k.work(1) }

func (k *clock) stop() {
	// A scan gives way to all else on its host, and may stand still for minutes: time
	// alone says nothing of what it costs.
	if spent := k.work(-1); spent >= k.all.limit && k.all.used()-k.all.begun >= k.all.limit {
		k.over.Store(true)
	}
}

// work notes how many files more are worked on, and returns what is spent.
func (k *clock) work(files int) time.Duration {
	c := k.all
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if c.working > 0 {
		c.share += float64(now.Sub(c.at)) * min(1, c.procs/float64(c.working))
	}
	c.at = now
	k.spent += time.Duration(float64(k.working) * (c.share - k.share))
	k.share = c.share
	k.working += files
	c.working += files
	return k.spent
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
