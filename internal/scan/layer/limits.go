package layer

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/castellan-security/castellan/internal/fault"
)

// Limits bound what a layer may cost. A zero field takes its default.
type Limits struct {
	// Bytes is how much one layer may hold when decompressed. There is no limit
	// on how well it compresses: layers of zeros are honest (preallocated disks
	// and databases), and this limit bounds what they cost.
	Bytes int64
	// Entries is how many entries one layer may have.
	Entries int64
	// Held is how many bytes one scan may hold of what it found in all layers.
	Held int64
	// FileBytes is how much of one file one analyser may read, FileTime how
	// long it may take.
	FileBytes int64
	FileTime  time.Duration
	// AnalyserTime is how long one analyser may work on all files of a scan; what
	// is left goes without it, which Budget.Spent says.
	AnalyserTime time.Duration
}

const (
	// defaultBytes: layers of machine-learning images reach 30 GiB; 64 GiB of
	// zeros are decompressed in under a minute.
	defaultBytes = 64 << 30
	// defaultEntries: images of millions of files exist; each costs eight bytes.
	defaultEntries = 10_000_000
	// defaultHeld: an image with 10,000 packages needs some 10 MB.
	defaultHeld = 512 << 20
	// defaultFileBytes: the largest program seen in an image has 1.3 GB.
	defaultFileBytes = 4 << 30
	// defaultFileTime: a jar of 300 MB with all that is nested in it takes 5 s.
	defaultFileTime = time.Minute
	// defaultAnalyserTime: an agent gives a scan half an hour, and a quarter of an
	// hour of its processor, after which nothing of it is left. A third of that
	// takes an honest analyser, which goes through text at 80 MB a second, through
	// 20 GB; an image that is made to cost more is not worth the rest of its scan.
	defaultAnalyserTime = 5 * time.Minute
)

func (l Limits) withDefaults() Limits {
	for _, f := range [...]struct {
		v *int64
		d int64
	}{{&l.Bytes, defaultBytes}, {&l.Entries, defaultEntries}, {&l.Held, defaultHeld}, {&l.FileBytes, defaultFileBytes}} {
		if *f.v <= 0 {
			*f.v = f.d
		}
	}
	if l.FileTime <= 0 {
		l.FileTime = defaultFileTime
	}
	if l.AnalyserTime <= 0 {
		l.AnalyserTime = defaultAnalyserTime
	}
	return l
}

// Budget is the memory that all layers of one scan share, and the time of each
// analyser.
type Budget struct {
	limit    int64
	held     atomic.Int64
	decoders *decoders
	clocks   *clocks
}

// NewBudget returns a budget of l.Held bytes, and of l.AnalyserTime for each
// analyser.
func NewBudget(l Limits) *Budget {
	l = l.withDefaults()
	return &Budget{limit: l.Held, decoders: newDecoders(), clocks: newClocks(l.AnalyserTime, processorTime)}
}

// Take uses up n bytes, or returns fault.Exhausted.
func (b *Budget) Take(n int64) error {
	if b.held.Add(n) > b.limit {
		return limitReached("what was found takes more than %d bytes of memory", b.limit, "held")
	}
	return nil
}

// limitError marks the errors of limits, after which the rest is unread.
type limitError struct{ error }

func (e limitError) Unwrap() error { return e.error }

// limitReached names the option that raises the limit.
func limitReached(format string, limit int64, option string) error {
	return limitError{fault.New(fault.Exhausted, format, limit).
		With("if the image can be trusted, raise it with --limit " + option + "=N")}
}

func isLimit(err error) bool {
	var l limitError
	return errors.As(err, &l)
}
