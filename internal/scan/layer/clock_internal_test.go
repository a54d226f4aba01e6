package layer

import (
	"testing"
	"time"
)

// An analyser's time is spent when both have passed: time, and that of a processor.
// Of a scan that had to wait for others on its host nothing is left out.
func TestClock(t *testing.T) {
	used := time.Minute // before the scan
	c := newClocks(time.Nanosecond, func() time.Duration { return used })
	k := c.clock("a")
	if c.clock("a") != k || c.clock("b") == k {
		t.Fatal("an analyser has one clock of its own")
	}
	for k.spent == 0 { // a coarse clock may not have moved
		k.start()
		k.stop()
	}
	if k.refuses() {
		t.Error("it is stopped, and has used nothing of a processor")
	}
	used += time.Second
	k.start()
	k.stop()
	first, second := k.refuses(), k.refuses()
	if !first || !second || c.clock("b").refuses() {
		t.Error("it goes on, or the other one does not")
	}
	want := Spent{"a", time.Nanosecond, 2}
	if got := (&Budget{clocks: c}).Spent(); len(got) != 1 || got[0] != want {
		t.Errorf("spent %v, want %v", got, want)
	}
}

// Those that work at the same time share the processors, and what one waits for is
// not all its own.
func TestClocksShare(t *testing.T) {
	c := newClocks(time.Hour, func() time.Duration { return 0 })
	c.procs = 2
	now := time.Now()
	greedy, other := c.clock("greedy"), c.clock("other")
	// Four files of one and one of another, for ten seconds.
	greedy.working, other.working, c.working = 4, 1, 5
	c.at = now.Add(-10 * time.Second)
	greedy.stop()
	other.stop()
	if got := greedy.spent.Round(100 * time.Millisecond); got < 16*time.Second || got > 17*time.Second {
		t.Errorf("spent %v, want four fifths of two processors for ten seconds", got)
	}
	if got := other.spent.Round(100 * time.Millisecond); got < 4*time.Second || got > 5*time.Second {
		t.Errorf("the other one has spent %v, want a fifth of that", got)
	}
	// What works alone has no more than a processor.
	greedy.working, other.working, c.working = 0, 1, 1
	c.at, other.spent = time.Now().Add(-time.Second), 0
	if other.stop(); other.spent < time.Second || other.spent > 2*time.Second {
		t.Errorf("alone: spent %v in a second", other.spent)
	}
}
