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
	procs int64
	// used is how much of a processor this process has had, and begun how much it
	// had when the scan began.
	used  func() time.Duration
	begun time.Duration
	// working is on how many files analysers work.
	working atomic.Int64

	mu sync.Mutex // guards of
	of map[string]*clock
}

func newClocks(limit time.Duration, used func() time.Duration) *clocks {
	return &clocks{limit: limit, procs: int64(runtime.GOMAXPROCS(0)), used: used, begun: used(), of: map[string]*clock{}}
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

// clock is how long one analyser has worked.
type clock struct {
	all   *clocks
	spent atomic.Int64 // nanoseconds
	over  atomic.Bool  // its time is spent
	left  atomic.Int64 // files that it was not asked to take since
}

// charge adds to what is spent.
func (k *clock) charge(d time.Duration) {
	// A scan gives way to all else on its host, and may stand still for minutes: time
	// alone says nothing of what it costs.
	if limit := k.all.limit; time.Duration(k.spent.Add(int64(d))) >= limit && k.all.used()-k.all.begun >= limit {
		k.over.Store(true)
	}
}

// stint is an analyser's work on one file. It is for one goroutine at a time.
type stint struct {
	clock *clock
	since time.Time
	spent time.Duration
}

// begin says that it goes on, rest that it waits: to be read and decompressed is not
// its own work.
func (s *stint) begin() {
	s.clock.all.working.Add(1)
	s.since = time.Now()
}

func (s *stint) rest() {
	c := s.clock.all
	d := time.Since(s.since)
	if n := c.working.Load(); n > c.procs {
		d = time.Duration(float64(d) * float64(c.procs) / float64(n))
	}
	s.spent += d
	c.working.Add(-1)
}

// end charges all of it, after the last rest.
func (s *stint) end() { s.clock.charge(s.spent) }

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
