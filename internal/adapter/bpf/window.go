package bpf

import (
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/cilium/ebpf"

	"github.com/castellan-security/castellan/internal/event"
)

// windowMap is the map that WINDOW of window.bpf.h declares.
const windowMap = "window"

// sweepBatch is how many entries of a window are read by one system call: a window that
// is full takes 32 of them, and each sensor keeps room for one.
const sweepBatch = 256

// keepTold is how long what was told is remembered at least, however short the
// window: longer than the process sensor takes to say which processes that it
// only counted still run.
const keepTold = 5 * time.Second

// repeats is struct repeats of window.bpf.h.
type repeats struct {
	ID, Since, Last, Count uint64
}

// told is an event that was handed over, for as long as the kernel counts what
// is like it. A busy host has some ten thousand of them.
type told struct {
	like  like
	count uint64 // how many repeats of it were handed over
	at    uint64 // when that was, or the event itself, in nanoseconds since boot
	swept uint64 // when its entry was seen last
	// nothing says that the record was understood and is no event: nor is what
	// the kernel counts as being like it.
	nothing bool
}

// window tells what the kernel only counted. It belongs to one sensor and to
// the goroutine that reads records.
type window struct {
	entries      *ebpf.Map
	told         map[uint64]*told
	bound        int           // of told: the kernel counts no more than it has entries
	keys, values reflect.Value // slices to read into
	// lost is what was counted as being like something that never arrived.
	lost uint64
}

// newWindow returns the window of a sensor; nil for one that has none.
func newWindow(maps map[string]*ebpf.Map) *window {
	m := maps[windowMap]
	if m == nil {
		return nil
	}
	key := reflect.SliceOf(reflect.ArrayOf(int(m.KeySize()), reflect.TypeFor[byte]()))
	return &window{
		entries: m,
		told:    map[uint64]*told{},
		bound:   int(m.MaxEntries()),
		keys:    reflect.MakeSlice(key, sweepBatch, sweepBatch),
		values:  reflect.ValueOf(make([]repeats, sweepBatch)),
	}
}

// remember keeps an event that was told under id.
func (w *window) remember(id, at uint64, e *event.Event) {
	if w == nil || id == 0 {
		return
	}
	if t := w.told[id]; t != nil {
		t.like, t.nothing = likeOf(e), false
		return // what was counted before it is still to be told
	}
	if w.hasRoom() {
		w.told[id] = &told{like: likeOf(e), at: at}
	}
}

// hasRoom reports whether another one can be remembered.
func (w *window) hasRoom() bool { return len(w.told) < w.bound }

// ignore notes that what was told under id is no event.
func (w *window) ignore(id, at uint64) {
	if w != nil && id != 0 && w.told[id] == nil && w.hasRoom() {
		w.told[id] = &told{at: at, nothing: true}
	}
}

// find returns what was told under id, or nil. It is the caller's to read only.
func (w *window) find(id uint64) *like {
	if w == nil || w.told[id] == nil || w.told[id].nothing {
		return nil
	}
	return &w.told[id].like
}

// sweep hands over, as one event each, what was counted for at least a window,
// and forgets what did not happen for one. What is like something that never arrived
// is forgotten a window after that was sent, however often it happens: the next of it
// is news. With all, everything that was counted is handed over. now is in nanoseconds
// since boot.
func (w *window) sweep(now uint64, length time.Duration, all bool, c *Clock, hand func(event.Event)) error {
	if w == nil {
		return nil
	}
	var (
		cursor ebpf.MapBatchCursor
		old    []reflect.Value
		span   = uint64(length)
		keep   = uint64(max(length, keepTold))
	)
	for {
		n, err := w.entries.BatchLookup(&cursor, w.keys.Interface(), w.values.Interface(), nil)
		if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("read what was counted: %w", err)
		}
		for i, r := range w.values.Interface().([]repeats)[:n] {
			t := w.told[r.ID]
			if t != nil && t.nothing {
				t.count = r.Count
			}
			if t != nil && r.Count > t.count && (all || now-min(now, t.at) >= span) {
				hand(t.repeat(r, c))
				t.count, t.at = r.Count, now
			}
			if t != nil {
				t.swept = now
			}
			idle := now-min(now, r.Since) >= keep && (t == nil || now-min(now, r.Last) >= keep)
			if idle && (t == nil || r.Count == t.count) {
				if t == nil {
					w.lost += r.Count
				}
				key := reflect.New(w.keys.Type().Elem()).Elem()
				key.Set(w.keys.Index(i))
				old = append(old, key)
				delete(w.told, r.ID)
			}
		}
		if err != nil {
			break
		}
	}
	for _, key := range old {
		if err := w.entries.Delete(key.Interface()); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("forget what was counted: %w", err)
		}
	}
	// What arrived after its entry was forgotten.
	for id, t := range w.told {
		if t.swept != now && now-min(now, t.at) >= keep {
			delete(w.told, id)
		}
	}
	return nil
}

// repeat returns the event that stands for what was counted since the last.
func (t *told) repeat(r repeats, c *Clock) event.Event {
	e := t.like.event()
	e.Time, e.Last = c.Time(t.at), c.Time(max(r.Last, t.at))
	e.Count = r.Count - t.count
	return e
}
