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
	k.start()
	k.start()
	k.stop()
	if k.spent != 0 {
		t.Errorf("%v are spent while it still works on another file", k.spent)
	}
	for k.stop(); k.spent == 0; k.stop() { // a coarse clock may not have moved
		k.start()
	}
	if k.refuses() {
		t.Error("it is stopped, and has used nothing of a processor")
	}
	used += time.Second
	k.start()
	k.stop()
	if !k.refuses() || !k.refuses() || c.clock("b").refuses() {
		t.Error("it goes on, or the other one does not")
	}
	want := Spent{"a", time.Nanosecond, 2}
	if got := (&Budget{clocks: c}).Spent(); len(got) != 1 || got[0] != want {
		t.Errorf("spent %v, want %v", got, want)
	}
}
