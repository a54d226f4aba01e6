package main

import "testing"

func TestPercentFor(t *testing.T) {
	const mib = 1 << 20
	for _, tc := range []struct {
		held uint64
		want int
	}{{0, 100}, {5 * mib, 100}, {6 * mib, 80}, {10 * mib, 40}, {24 * mib, 20}, {1 << 40, 20}} {
		if got := percentFor(tc.held); got != tc.want {
			t.Errorf("percentFor(%d) = %d, want %d", tc.held, got, tc.want)
		}
	}
}
