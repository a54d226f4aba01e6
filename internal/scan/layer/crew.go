package layer

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan/analyse"
)

const (
	// maxTakes is how many files of a layer analysers may have in hand at once:
	// while one is parsed the next ones are read. Each holds a few blocks.
	maxTakes = 4
	// maxStrikes is how often an analyser may take too long in one layer before
	// it is not asked any more.
	maxStrikes = 3
	// maxProblem bounds the text of one problem: it quotes what others wrote.
	maxProblem = 500
)

// crew runs analysers on files, each on its own goroutine, while the layer goes
// on. It waits for all of them, except for one that neither reads nor heeds its
// context after its time is up: that one is left behind and what it found is
// not used.
type crew struct {
	ctx       context.Context
	analysers []analyse.Analyser
	limits    Limits
	budget    *Budget
	clocks    []*clock // of the analysers
	grace     time.Duration
	slots     chan struct{}
	running   sync.WaitGroup
	blocks    sync.Pool

	mu      sync.Mutex // guards the rest
	done    []*taken
	strikes []int
	late    bool // one took too long, or was not asked because its time was spent
	err     error
}

// offer is a file that analysers are asked about: under the name that it has, or
// under another one.
type offer struct {
	entry *analyse.Entry
	path  string // under which what is shown is kept
	key   uint64 // of where it is
	order int64  // of the entry in the layer
}

// taken is what one analyser found in one file.
type taken struct {
	path     string
	key      uint64
	order    int64
	analyser int
	folder   bool
	as       string // the name that was asked for, if it is another one
	shown    analyse.Shown
}

func (o *offer) taken(analyser int) taken {
	t := taken{path: o.path, key: o.key, order: o.order, analyser: analyser, folder: o.entry.Mode.IsDir()}
	if o.entry.Path != o.path {
		t.as = o.entry.Path
	}
	return t
}

func newCrew(ctx context.Context, o Options) *crew {
	w := &crew{ctx: ctx, analysers: o.Analysers, limits: o.Limits, budget: o.Budget,
		grace: cmp.Or(o.grace, graceTime), slots: make(chan struct{}, maxTakes), strikes: make([]int, len(o.Analysers))}
	for _, a := range o.Analysers {
		w.clocks = append(w.clocks, o.Budget.clocks.clock(a.Name()))
	}
	w.blocks.New = func() any { return &block{data: make([]byte, 0, blockSize)} }
	return w
}

// wanting returns the analysers that want the file. One that panics doesn't
// want it, and that is said.
func (w *crew) wanting(o *offer, head []byte) (who []int) {
	for i := 0; i < len(w.analysers); i++ {
		i = w.askFrom(i, o, head, &who)
	}
	return slices.DeleteFunc(who, w.struckOut)
}

// askFrom asks the analysers from i on and returns the last that was asked: it
// guards a whole row of calls at the price of one.
func (w *crew) askFrom(i int, o *offer, head []byte, who *[]int) (last int) {
	defer func() {
		if r := recover(); r != nil {
			t := o.taken(last)
			t.shown = problem(o.path, fmt.Sprintf("%s: panic: %v", w.analysers[last].Name(), r))
			w.keep(&t)
		}
	}()
	for last = i; last < len(w.analysers); last++ {
		if w.analysers[last].Wants(o.entry, head) {
			*who = append(*who, last)
		}
	}
	return last
}

// begin hands a file to the analysers that want it and adds them to f, where its
// content goes.
func (w *crew) begin(f *feed, o *offer, who []int) error {
	if len(f.takes) == 0 {
		select {
		case w.slots <- struct{}{}:
		case <-w.ctx.Done():
			return w.ctx.Err()
		}
		f.crew = w
		f.readers.Store(1) // until the file is handed out
	}
	f.readers.Add(int32(len(who)))
	for _, i := range who {
		f.takes = append(f.takes, w.start(f, o, i))
	}
	return w.failed()
}

// struckOut says that an analyser took too long too often in this layer, or for too
// long in all of the scan.
func (w *crew) struckOut(i int) bool {
	spent := w.clocks[i].refuses()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.late = w.late || spent
	return spent || w.strikes[i] >= maxStrikes
}

// failed returns the error that ends the layer, if there is one.
func (w *crew) failed() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// keep records what was found, unless it is nothing.
func (w *crew) keep(t *taken) {
	if t.shown.Empty() {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.budget.Take(weigh(&t.shown) + int64(len(t.path))); err != nil && w.err == nil {
		w.err = err
	}
	if w.err == nil {
		w.done = append(w.done, t)
	}
}

// wait returns what was found, when all are done.
func (w *crew) wait() ([]*taken, error) {
	w.running.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.done, w.err
}

func problem(path, what string) analyse.Shown {
	if len(what) > maxProblem {
		what = what[:maxProblem] + "…"
	}
	return analyse.Shown{Problems: []inventory.Problem{{Place: inventory.Place{Path: "/" + path}, What: what}}}
}
