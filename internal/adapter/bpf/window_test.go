package bpf

import (
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/need"
)

// minute is the window of these tests, in nanoseconds.
const minute = uint64(time.Minute)

// newTestWindow returns a window with a map of its own, keyed by a number.
func newTestWindow(t *testing.T, entries map[uint64]repeats) *window {
	t.Helper()
	need.Root(t)
	need.BPF(t, "tp_btf")
	m, err := ebpf.NewMap(&ebpf.MapSpec{Name: windowMap, Type: ebpf.Hash, KeySize: 8, ValueSize: 32, MaxEntries: 64})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	for key, r := range entries {
		if err := m.Put(key, &r); err != nil {
			t.Fatal(err)
		}
	}
	return newWindow(map[string]*ebpf.Map{windowMap: m})
}

func TestSweep(t *testing.T) {
	const now = 100 * minute
	told := &event.Event{Kind: event.KindExec, Exec: &event.Exec{}}
	tests := []struct {
		name   string
		r      repeats
		toldAt uint64 // 0: its event never arrived
		length time.Duration
		all    bool
		count  uint64 // that is handed over; 0: nothing
		kept   bool
		lost   uint64
	}{
		{name: "counted for a window", r: repeats{Since: now - minute, Last: now, Count: 7}, toldAt: now - minute, count: 7, kept: true},
		{name: "counted for less", r: repeats{Since: now - minute/2, Last: now, Count: 7}, toldAt: now - minute/2, kept: true},
		{name: "at the end", r: repeats{Since: now - minute/2, Last: now, Count: 7}, toldAt: now - minute/2, all: true, count: 7, kept: true},
		{name: "never again", r: repeats{Since: now - minute, Last: now - minute}, toldAt: now - minute},
		{name: "counted, and never again", r: repeats{Since: now - 2*minute, Last: now - minute, Count: 3}, toldAt: now - 2*minute, count: 3},
		{name: "counted like what never arrived", r: repeats{Last: now - minute, Count: 3}, lost: 3},
		{name: "again and again like what never arrived", r: repeats{Since: now - minute, Last: now, Count: 3}, lost: 3},
		{name: "like what there was no room for", r: repeats{Last: now, Count: 3}, lost: 3},
		{name: "like what may still arrive", r: repeats{Since: now, Last: now, Count: 3}, kept: true},
		{name: "a window shorter than what is remembered", r: repeats{Since: now - uint64(time.Second), Last: now - uint64(time.Second)},
			toldAt: now - uint64(time.Second), length: time.Millisecond, kept: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.r.ID = 9
			w := newTestWindow(t, map[uint64]repeats{1: tt.r})
			if tt.toldAt != 0 {
				w.remember(9, tt.toldAt, told)
			}
			if tt.length == 0 {
				tt.length = time.Minute
			}
			var count uint64
			// Twice: what is told is told once.
			for range 2 {
				err := w.sweep(now, tt.length, tt.all, stoppedClock(), func(e event.Event) { count += e.Count })
				if err != nil {
					t.Fatal(err)
				}
			}
			if count != tt.count || w.lost != tt.lost {
				t.Errorf("%d told, %d lost, want %d, %d", count, w.lost, tt.count, tt.lost)
			}
			var r repeats
			if err := w.entries.Lookup(uint64(1), &r); (err == nil) != tt.kept {
				t.Errorf("look for the entry: %v, want it kept: %v", err, tt.kept)
			}
			if (w.find(9) != nil) != (tt.kept && tt.toldAt != 0) {
				t.Errorf("its event is remembered: %v", w.find(9) != nil)
			}
		})
	}
}

// What is like a record that is no event is neither told nor lost.
func TestSweepOfNothing(t *testing.T) {
	const now = 100 * minute
	w := newTestWindow(t, map[uint64]repeats{1: {ID: 9, Since: now - 2*minute, Last: now - minute, Count: 7}})
	w.ignore(9, now-2*minute)
	if w.find(9) != nil {
		t.Error("an event is remembered that there was not")
	}
	err := w.sweep(now, time.Minute, true, stoppedClock(), func(e event.Event) { t.Errorf("%+v is told", e) })
	if err != nil {
		t.Fatal(err)
	}
	var r repeats
	if err := w.entries.Lookup(uint64(1), &r); err == nil || w.lost != 0 || len(w.told) != 0 {
		t.Errorf("entry kept: %v, %d lost, %d remembered", err == nil, w.lost, len(w.told))
	}
}

// No more is remembered than the kernel has entries for.
func TestWindowIsBounded(t *testing.T) {
	w := newTestWindow(t, nil)
	e := &event.Event{Kind: event.KindExec, Exec: &event.Exec{}}
	bound := uint64(w.bound)
	for id := range 2 * bound {
		w.remember(2*id+1, id, e)
		w.ignore(2*id+2, id)
	}
	if got := uint64(len(w.told)); got != bound {
		t.Errorf("%d remembered, want %d", got, bound)
	}
	w.remember(1, 0, &event.Event{Kind: event.KindFileCreate, File: &event.File{}})
	if f := w.find(1); f == nil || f.kind != event.KindFileCreate {
		t.Errorf("what is remembered already is not told anew: %+v", f)
	}
}
