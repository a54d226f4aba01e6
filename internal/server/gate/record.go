package gate

import (
	"context"
	"sync"
	"time"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/pace"
	"github.com/castellan-security/castellan/internal/store"
)

const (
	// maxWaiting bounds the verdicts that wait to be stored: some seconds of more
	// decisions than two processors make. Who decides faster than the store takes is
	// slowed down to its pace, by roomFor at most each time. While the store takes
	// nothing at all, as on a full disk, the oldest are lost, and that is said:
	// deployments are not stopped by it. maxHeld is when.
	maxWaiting = 20_000
	maxHeld    = 2 * maxWaiting
	// maxBatch bounds those that are stored at once: enough that more would save little,
	// and few enough that the pace of the store shows soon.
	maxBatch = store.MaxAdmissionBatch / 4
	roomFor  = time.Second
	// company is how long a verdict waits for others to be stored with, unless an
	// answer waits for it.
	company = 20 * time.Millisecond
	// storedFor is how long an answer waits until its verdict is stored, so that a
	// server that is killed has kept what it said. What takes longer is answered
	// without: a deployment does not wait for a disk.
	storedFor = 500 * time.Millisecond
	// waitsASecond and waitsAtOnce bound the answers that wait, and waitsBehind the
	// verdicts that one waits for besides its own. A verdict that is stored with few
	// others takes five times the work of one among hundreds: a server that is asked
	// for more answers all of them first.
	waitsASecond = 50
	waitsAtOnce  = 50
	waitsBehind  = 8
	// slowest is for how long an answer is held back when maxWaiting verdicts wait, and a
	// part of it when fewer than that and more than easy do, so that nobody meets a wall
	// there: those who ask stay at the pace of the store. What is shorter than noticed
	// is not worth it; easy is what comes while a store is busy for a second.
	slowest = 20 * time.Millisecond
	noticed = 50 * time.Microsecond
	easy    = maxWaiting / 4
	// keepAgain follows a try to store that failed.
	keepAgain = time.Second
	// lastWords is how long a server that stops tries to store what waits.
	lastWords = 5 * time.Second
	// settleFor is how long who reads verdicts waits for those that wait.
	settleFor = 2 * time.Second
)

// records are verdicts on their way into the store.
type records struct {
	mu      sync.Mutex
	waiting []store.AdmissionVerdict
	begun   uint64        // verdicts that ever waited
	ended   uint64        // of them, those that wait no more
	lost    uint64        // of them, those that were not stored
	moved   chan struct{} // closed when ended grows, and replaced
	stuck   bool          // the store took nothing when it was asked last
	kept    bool          // somebody stores what waits
	left    float64       // how many answers may wait, as of counted; below 0 after too many
	counted time.Time

	wake  chan struct{} // one token when something waits
	hurry chan struct{} // one token when an answer waits for it
}

func newRecords() *records {
	return &records{moved: make(chan struct{}), wake: make(chan struct{}, 1), hurry: make(chan struct{}, 1)}
}

// put has a verdict stored. It waits for that as long as storedFor, unless too many
// wait or the store takes nothing.
func (r *records) put(ctx context.Context, v store.AdmissionVerdict) {
	r.room(ctx)
	r.mu.Lock()
	mine := r.add(v)
	waits := !r.stuck && r.kept && r.waits()
	behind := slowest * time.Duration(int(r.begun-r.ended)-easy) / (maxWaiting - easy)
	stuck := r.stuck
	r.mu.Unlock()
	signal(r.wake)
	switch {
	case waits:
		signal(r.hurry)
		r.await(ctx, mine, storedFor)
	case behind >= noticed && !stuck:
		pace.Wait(ctx, behind)
	}
}

// putAll has verdicts stored that somebody else keeps until they are, and says
// whether they are. While the store takes nothing they don't wait here, too, each time
// they are told; else those that aren't stored yet will be.
func (r *records) putAll(ctx context.Context, vs []store.AdmissionVerdict) bool {
	r.room(ctx)
	r.mu.Lock()
	if r.stuck {
		r.mu.Unlock()
		return false
	}
	mine := r.add(vs...)
	r.mu.Unlock()
	signal(r.wake)
	signal(r.hurry)
	return r.await(ctx, mine, storedFor)
}

// add has verdicts wait, and returns how many ever waited. r.mu is held.
func (r *records) add(vs ...store.AdmissionVerdict) uint64 {
	r.waiting = append(r.waiting, vs...)
	r.begun += uint64(len(vs))
	if over := len(r.waiting) - maxHeld; over > 0 {
		r.waiting = append([]store.AdmissionVerdict{}, r.waiting[over:]...)
		r.end(over, true)
	}
	return r.begun
}

func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default: // it is told already
	}
}

// waits says whether one answer more may wait. Those that may not count, too: while
// more is asked than may wait, none does, for one in twenty that did would be what
// the slowest of a hundred take. r.mu is held.
func (r *records) waits() bool {
	now := time.Now()
	r.left = min(waitsAtOnce, r.left+now.Sub(r.counted).Seconds()*waitsASecond)
	r.left = max(r.left-1, -waitsAtOnce)
	r.counted = now
	return r.left >= 0 && r.begun-r.ended <= waitsBehind
}

// room waits until there is room, for a while, while the store takes verdicts.
func (r *records) room(ctx context.Context) {
	var late <-chan time.Time
	for {
		r.mu.Lock()
		full, moved := len(r.waiting) >= maxWaiting && !r.stuck, r.moved
		r.mu.Unlock()
		if !full {
			return
		}
		if late == nil {
			late = time.After(roomFor)
		}
		select {
		case <-moved:
		case <-late:
			return
		case <-ctx.Done():
			return
		}
	}
}

// sticks notes whether the store takes verdicts.
func (r *records) sticks(stuck bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stuck = stuck; stuck {
		close(r.moved) // who waits for room looks again
		r.moved = make(chan struct{})
	}
}

// keeps notes whether somebody stores what waits.
func (r *records) keeps(kept bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.kept = kept
}

// end notes that verdicts wait no more. r.mu is held.
func (r *records) end(n int, lost bool) {
	r.ended += uint64(n)
	if lost {
		r.lost += uint64(n)
	}
	close(r.moved)
	r.moved = make(chan struct{})
}

// take returns the first that wait; they stay until done.
func (r *records) take() []store.AdmissionVerdict {
	r.mu.Lock()
	defer r.mu.Unlock()
	batch := r.waiting[:min(len(r.waiting), maxBatch)]
	r.waiting = r.waiting[len(batch):]
	return batch
}

// back puts verdicts back that could not be stored.
func (r *records) back(batch []store.AdmissionVerdict) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.waiting = append(batch, r.waiting...)
}

func (r *records) done(n int, lost bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.end(n, lost)
}

// settle waits until what waits now is stored, for a while.
func (r *records) settle(ctx context.Context) {
	r.mu.Lock()
	until := r.begun
	r.mu.Unlock()
	r.await(ctx, until, settleFor)
}

// await waits until so many of those that ever waited wait no more, for a while, and
// says whether they do. While the store takes nothing there is nothing to wait for.
func (r *records) await(ctx context.Context, until uint64, most time.Duration) bool {
	late := time.NewTimer(most)
	defer late.Stop()
	for {
		r.mu.Lock()
		there, stuck, moved := r.ended >= until, r.stuck, r.moved
		r.mu.Unlock()
		if there || stuck {
			return there
		}
		select {
		case <-moved:
		case <-late.C:
			return false
		case <-ctx.Done():
			return false
		}
	}
}

// keepAll stores verdicts until ctx ends, and then those that wait.
func (s *Service) keepAll(ctx context.Context) {
	s.records.keeps(true)
	defer s.records.keeps(false)
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastWords)
			defer cancel()
			if err := s.keep(last); err != nil {
				s.Log.Error("verdicts of admission are lost", "error", err)
			}
			return
		case <-s.records.wake:
		}
		s.records.gather(ctx)
		for {
			err := s.keep(ctx)
			if ctx.Err() == nil {
				s.Condition(ctx, PartAdmission, err)
			}
			if err == nil {
				s.news.Publish(nil)
			}
			if err == nil || ctx.Err() != nil {
				break
			}
			pace.Wait(ctx, keepAgain)
		}
	}
}

// gather waits for company, unless an answer waits.
func (r *records) gather(ctx context.Context) {
	t := time.NewTimer(company)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-r.hurry:
	case <-t.C:
	}
}

// keep stores all that waits.
func (s *Service) keep(ctx context.Context) error {
	for {
		batch := s.records.take()
		if len(batch) == 0 {
			return nil
		}
		err := s.Store.PutAdmissionVerdicts(ctx, batch)
		if fault.Is(err, fault.Invalid) {
			s.keepEach(ctx, batch)
			continue
		}
		s.records.sticks(err != nil)
		if err != nil {
			s.records.back(batch)
			return err
		}
		s.records.done(len(batch), false)
	}
}

// keepEach stores verdicts one by one, and loses those that can't be.
func (s *Service) keepEach(ctx context.Context, batch []store.AdmissionVerdict) {
	for i := range batch {
		err := s.Store.PutAdmissionVerdicts(ctx, batch[i:i+1])
		if err != nil {
			s.Log.Error("a verdict of admission is not kept", "request_id", batch[i].Request.ID, "error", err)
		}
		s.records.done(1, err != nil)
	}
}

// Lost returns how many verdicts were not kept since the server started.
func (s *Service) Lost() uint64 {
	s.records.mu.Lock()
	defer s.records.mu.Unlock()
	return s.records.lost
}
