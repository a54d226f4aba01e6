package layer

import (
	"testing"
	"time"
)

// An analyser's time is spent when both have passed: time, and that of a processor.
// Of a scan that had to wait for others on its host nothing is left out.
func TestClock(t *testing.T) {
	used := time.Minute // before the scan
	c := newClocks(time.Second, func() time.Duration { return used })
	k := c.clock("a")
	if c.clock("a") != k || c.clock("b") == k {
		t.Fatal("an analyser has one clock of its own")
	}
	if k.charge(time.Minute); k.refuses() {
		t.Error("it is stopped, and has used nothing of a processor")
	}
	used += time.Second
	k.charge(0)
	first, second := k.refuses(), k.refuses()
	if !first || !second || c.clock("b").refuses() {
		t.Error("it goes on, or the other one does not")
	}
	c.clock("b").charge(time.Second - 1)
	want := Spent{"a", time.Second, 2}
	if got := (&Budget{clocks: c}).Spent(); len(got) != 1 || got[0] != want {
		t.Errorf("spent %v, want %v", got, want)
	}
}

// Those that work at the same time share the processors, and what one waits for is
// not its own.
func TestStintsShare(t *testing.T) {
	c := newClocks(time.Hour, func() time.Duration { return 0 })
	c.procs = 2
	for _, tc := range []struct {
		name    string
		working int64
		least   time.Duration
	}{
		{"alone", 1, 10 * time.Second},
		{"one for each processor", 2, 10 * time.Second},
		{"five for two", 5, 4 * time.Second},
	} {
		s := stint{clock: c.clock(tc.name)}
		c.working.Store(tc.working - 1)
		s.begin()
		s.since = time.Now().Add(-10 * time.Second)
		s.rest()
		s.since = time.Now().Add(-time.Hour) // it waits
		s.begin()
		s.rest()
		s.end()
		if got := time.Duration(s.clock.spent.Load()); got < tc.least || got > tc.least+time.Second {
			t.Errorf("%s: %v of 10s, want %v", tc.name, got, tc.least)
		}
		if got := c.working.Load(); got != tc.working-1 {
			t.Errorf("%s: %d work afterwards, want %d", tc.name, got, tc.working-1)
		}
	}
}
