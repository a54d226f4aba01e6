package live

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/fault"
)

// Limits of the feed. Every reader costs a pass over each batch of events.
const (
	maxReaders = 256
	// waitingBatches is what a reader may fall behind by: with batches of at
	// most link.MaxEvents it bounds what one reader pins in memory.
	waitingBatches = 64
)

// Feed hands events on as they are stored. It is safe for concurrent use, and
// no reader can hold it up.
type Feed struct {
	mu       sync.Mutex
	readers  map[*Subscription]struct{}
	watchers map[*watcher]struct{}
	waiters  map[*watcher]struct{} // for events, whichever
}

// NewFeed returns a feed without readers.
func NewFeed() *Feed {
	return &Feed{readers: map[*Subscription]struct{}{}, watchers: map[*watcher]struct{}{}, waiters: map[*watcher]struct{}{}}
}

// Publish hands stored events to everybody whose match takes them. It never
// blocks: a reader who is behind loses the batch, and is told how many events
// that were.
func (f *Feed) Publish(events []event.Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for s := range f.readers {
		s.offer(events)
	}
	for w := range f.waiters {
		w.wake()
	}
}

// Touch wakes those who wait for a change of these workloads.
func (f *Feed) Touch(workloadIDs ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for w := range f.watchers {
		for _, id := range workloadIDs {
			if w.workloadID == "" || w.workloadID == id {
				w.wake()
				break
			}
		}
	}
}

// Subscribe hands over the events that match takes, in batches, until ctx
// ends. match must be quick and must not keep its argument; nil takes all. The
// error is Exhausted when too many read already.
func (f *Feed) Subscribe(ctx context.Context, match func(*event.Event) bool) (*Subscription, error) {
	s := &Subscription{match: match, c: make(chan []event.Event, waitingBatches)}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.readers) >= maxReaders {
		return nil, tooMany()
	}
	f.readers[s] = struct{}{}
	context.AfterFunc(ctx, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.readers, s)
		close(s.c)
	})
	return s, nil
}

// Changed returns a channel that gets a value after the process tree of the
// workload changed; "" stands for any workload. At most one value waits, so
// the reader sets the pace by pausing between two reads (a few times a second
// is enough for a page). It is closed when ctx ends. The error is Exhausted
// when too many wait already.
func (f *Feed) Changed(ctx context.Context, workloadID string) (<-chan struct{}, error) {
	return f.wait(ctx, f.watchers, workloadID)
}

// News returns a channel that gets a value after events were stored. Else it is as
// that of Changed.
func (f *Feed) News(ctx context.Context) (<-chan struct{}, error) {
	return f.wait(ctx, f.waiters, "")
}

func (f *Feed) wait(ctx context.Context, among map[*watcher]struct{}, workloadID string) (<-chan struct{}, error) {
	w := &watcher{workloadID: workloadID, c: make(chan struct{}, 1)}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(among) >= maxReaders {
		return nil, tooMany()
	}
	among[w] = struct{}{}
	context.AfterFunc(ctx, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(among, w)
		close(w.c)
	})
	return w.c, nil
}

func tooMany() error {
	return fault.New(fault.Exhausted, "%d pages or commands follow events already", maxReaders).
		With("close some of them, or ask again later")
}

// Subscription is one reader of a Feed.
type Subscription struct {
	match   func(*event.Event) bool
	c       chan []event.Event
	dropped atomic.Uint64
}

// C returns the channel of batches, each oldest first; it is closed when the
// subscription's context ends. The slices are shared: don't change them.
func (s *Subscription) C() <-chan []event.Event { return s.c }

// Dropped returns how many events this reader was too slow for. They are
// stored: read them from the store.
func (s *Subscription) Dropped() uint64 { return s.dropped.Load() }

// offer hands over what matches, or counts it.
func (s *Subscription) offer(events []event.Event) {
	taken := events
	if s.match != nil {
		taken = nil
		for i := range events {
			if s.match(&events[i]) {
				taken = append(taken, events[i])
			}
		}
	}
	if len(taken) == 0 {
		return
	}
	select {
	case s.c <- taken:
	default:
		s.dropped.Add(uint64(len(taken)))
	}
}

// watcher waits for changes of one workload's tree.
type watcher struct {
	workloadID string
	c          chan struct{}
}

func (w *watcher) wake() {
	select {
	case w.c <- struct{}{}:
	default: // one value waits already
	}
}
