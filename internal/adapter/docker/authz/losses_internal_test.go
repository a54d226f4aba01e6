package authz

import (
	"testing"
	"time"
)

// TestLossesAreSaidOnce shows that a flood of losses is one line a minute, and that
// each is counted in one of them.
func TestLossesAreSaidOnce(t *testing.T) {
	var l losses
	start := time.Date(2026, 11, 28, 0, 0, 0, 0, time.UTC)
	var said []int
	for i := range 3_000 { // over two and a half minutes
		if n := l.add(start.Add(time.Duration(i) * 50 * time.Millisecond)); n > 0 {
			said = append(said, n)
		}
	}
	sum := l.rest()
	for _, n := range said {
		sum += n
	}
	if len(said) != 3 || said[0] != 1 || sum != 3_000 {
		t.Errorf("said %v, %d in all; want three lines and 3000", said, sum)
	}
	if n := l.rest(); n != 0 {
		t.Errorf("%d are left, want none", n)
	}
}
