package layer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/castellan-security/castellan/internal/scan/analyse"
)

const (
	// blockSize is how much of a file is handed to analysers at once; most of
	// what they want is smaller.
	blockSize = 32 << 10
	// maxAhead is how many blocks a file may be ahead of an analyser.
	maxAhead = 4
	// graceTime is how long an analyser may go on after its time is up.
	graceTime = 10 * time.Second
)

var (
	errTooLong = errors.New("takes too long")
	errTooMuch = errors.New("file is larger than is read of one")
)

// block is a piece of a file, shared by all analysers that read it.
type block struct {
	at   int64 // where in the file it begins
	data []byte
	refs atomic.Int32
}

// feed copies a file's content to its takes.
type feed struct {
	crew    *crew
	takes   []*take // that still read
	at      int64   // how much of the file has come
	cur     *block
	readers atomic.Int32 // analysers that are not done with the file
}

// write passes on a piece of the content. It returns an error only if the whole
// scan ends.
func (f *feed) write(b []byte) error {
	for len(b) > 0 && len(f.takes) > 0 {
		if f.cur == nil {
			if n := f.skip(int64(len(b))); n > 0 {
				b = b[n:]
				continue
			}
			f.cur = f.crew.blocks.Get().(*block)
			f.cur.at, f.cur.data = f.at, f.cur.data[:0]
		}
		n := min(len(b), cap(f.cur.data)-len(f.cur.data))
		f.cur.data = append(f.cur.data, b[:n]...)
		f.at += int64(n)
		b = b[n:]
		if len(f.cur.data) == cap(f.cur.data) {
			if err := f.flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

// skip passes over as much of the next n bytes as nobody wants.
func (f *feed) skip(n int64) int64 {
	for _, t := range f.takes {
		n = min(n, t.from.Load()-f.at)
	}
	n = max(n, 0)
	f.at += n
	return n
}

// zeros passes on a hole, as long as somebody still reads.
func (f *feed) zeros(n int64) error {
	var zero [4096]byte
	for n > 0 && len(f.takes) > 0 {
		if f.cur == nil {
			if n -= f.skip(n); n == 0 {
				break
			}
		}
		piece := min(n, int64(len(zero)))
		if err := f.write(zero[:piece]); err != nil {
			return err
		}
		n -= piece
	}
	return nil
}

// flush gives the block to all that still read.
func (f *feed) flush() error {
	b := f.cur
	f.cur = nil
	b.refs.Store(int32(len(f.takes)))
	var err error
	f.takes = slices.DeleteFunc(f.takes, func(t *take) bool {
		if err != nil || t.give(b) {
			return false
		}
		err = f.crew.ctx.Err()
		return true
	})
	return err
}

// end says that the file is complete, or broken off.
func (f *feed) end(why error) {
	if f.cur != nil && len(f.cur.data) > 0 && len(f.takes) > 0 {
		if err := f.flush(); err != nil {
			why = err
		}
	}
	for _, t := range f.takes {
		t.why = why
		close(t.in)
	}
	f.takes = nil
	f.leave()
}

// leave gives the file's place to another when nobody has it in hand any more.
func (f *feed) leave() {
	if f.readers.Add(-1) == 0 {
		<-f.crew.slots
	}
}

// take is one analyser reading one file.
type take struct {
	crew   *crew
	work   stint
	feed   *feed
	entry  analyse.Entry
	out    taken
	ctx    context.Context
	cancel context.CancelFunc
	in     chan *block
	why    error         // set before in is closed: why the file ends early
	ended  chan struct{} // closed when the analyser is done or left behind

	cur  *block
	rest []byte
	read int64        // how much was read or skipped; -1: tried to read what is elsewhere
	from atomic.Int64 // nothing before that is wanted
	// elsewhere says that the entry is a link.
	elsewhere bool

	timer *time.Timer
	mu    sync.Mutex // guards the rest
	state takeState
}

type takeState uint8

const (
	working takeState = iota
	overdue           // its time is up, its context cancelled
	finished
	leftBehind
)

func (w *crew) start(f *feed, o *offer, analyser int) *take {
	t := &take{crew: w, feed: f, entry: *o.entry, in: make(chan *block, maxAhead), ended: make(chan struct{}), out: o.taken(analyser)}
	t.work.clock = w.clocks[analyser]
	t.elsewhere = o.entry.HardLink || o.entry.Mode&fs.ModeSymlink != 0
	t.ctx, t.cancel = context.WithCancel(w.ctx)
	t.mu.Lock()
	t.timer = time.AfterFunc(w.limits.FileTime, t.tooLate)
	t.mu.Unlock()
	w.running.Add(1)
	t.work.begin()
	go t.run()
	return t
}

// run calls the analyser and keeps what it found.
func (t *take) run() {
	a := t.crew.analysers[t.out.analyser]
	err := t.call(a)
	t.work.rest()
	t.from.Store(math.MaxInt64)
	t.mu.Lock()
	before := t.state
	if before != leftBehind {
		t.state = finished
	}
	t.mu.Unlock()
	if before == leftBehind {
		return // its place was given away and its result is not used
	}
	t.work.end()
	t.timer.Stop()
	t.cancel()
	if before == overdue {
		t.crew.strike(t.out.analyser)
		err = fmt.Errorf("%w: stopped after %v", errTooLong, t.crew.limits.FileTime)
	}
	switch {
	case t.elsewhere && t.read < 0:
		t.out.shown = analyse.Shown{} // it looked for content, which goes by another name
	case err != nil:
		why := problem(t.out.path, a.Name()+": "+err.Error())
		t.out.shown.Problems = append(t.out.shown.Problems, why.Problems...)
	}
	// What was found is kept until the layer has ended; the rest of a take, with
	// the block that an analyser has not read to its end, is not.
	t.release()
	found := t.out
	t.crew.keep(&found)
	t.leave()
}

// call guards against bugs: an analyser that panics has found what it had found
// until then.
func (t *take) call(a analyse.Analyser) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v", r)
		}
	}()
	return a.Take(t.ctx, &t.entry, t, &t.out.shown)
}

func (t *take) leave() {
	close(t.ended)
	t.feed.leave()
	t.crew.running.Done()
}

// tooLate first asks the analyser to stop, and later leaves it behind.
func (t *take) tooLate() {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch t.state {
	case working:
		t.state = overdue
		t.cancel()
		t.timer.Reset(t.crew.grace)
	case overdue:
		t.state = leftBehind
		t.work.clock.charge(t.crew.limits.FileTime + t.crew.grace)
		t.crew.strike(t.out.analyser)
		name := t.crew.analysers[t.out.analyser].Name()
		// What it writes into its own result meanwhile is not looked at.
		left := taken{path: t.out.path, key: t.out.key, order: t.out.order, analyser: t.out.analyser, folder: t.out.folder}
		left.shown = problem(t.out.path, name+": does not stop")
		t.crew.keep(&left)
		t.leave()
	}
}

// strike counts an analyser's being late.
func (w *crew) strike(analyser int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.strikes[analyser]++
	w.late = true
}

// give hands over a block; it is false if the analyser reads no more.
func (t *take) give(b *block) bool {
	select {
	case t.in <- b:
		return true
	default:
	}
	select {
	case t.in <- b:
		return true
	case <-t.ended:
	case <-t.ctx.Done():
	}
	return false
}

// Read is what the analyser reads from.
func (t *take) Read(p []byte) (int, error) {
	if t.elsewhere {
		t.read = -1
		return 0, io.EOF
	}
	for len(t.rest) == 0 {
		t.release()
		b, err := t.next()
		if err != nil {
			return 0, err
		}
		t.cur, t.rest = b, b.data[min(t.read-b.at, int64(len(b.data))):]
	}
	if t.read >= t.crew.limits.FileBytes {
		return 0, errTooMuch
	}
	n := copy(p, t.rest)
	t.rest = t.rest[n:]
	t.read += int64(n)
	return n, nil
}

// next waits for a block. The clock stands still meanwhile.
func (t *take) next() (*block, error) {
	if err := t.ctx.Err(); err != nil {
		return nil, err
	}
	select {
	case b, ok := <-t.in:
		return b, t.ending(ok)
	default:
	}
	t.work.rest()
	defer t.work.begin()
	select {
	case b, ok := <-t.in:
		return b, t.ending(ok)
	case <-t.ctx.Done():
		return nil, t.ctx.Err()
	}
}

// ending is how the file ends, if there is no more of it.
func (t *take) ending(more bool) error {
	switch {
	case more:
		return nil
	case t.why != nil:
		return t.why
	}
	return io.EOF
}

// Skip is analyse.Skipper.
func (t *take) Skip(n int64) {
	if t.elsewhere {
		return
	}
	t.rest = t.rest[min(n, int64(len(t.rest))):]
	t.read += n
	t.from.Store(t.read)
}

// release gives the block back if nobody else reads it. A block that an analyser
// left unread is not given back; the garbage collector has it.
func (t *take) release() {
	if t.cur == nil {
		return
	}
	if t.cur.refs.Add(-1) == 0 {
		t.crew.blocks.Put(t.cur)
	}
	t.cur = nil
}
