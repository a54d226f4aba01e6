package pace_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/pace"
)

func TestTurns(t *testing.T) {
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, tc := range []struct {
		name  string
		rate  float64
		pause time.Duration // set before the first turn
		at    []time.Duration
		want  []time.Duration
	}{
		{"no limit", 0, 0, []time.Duration{0, 0, 0}, []time.Duration{0, 0, 0}},
		{"one a second", 1, 0, []time.Duration{0, 0, 0}, []time.Duration{0, 750 * time.Millisecond, 1750 * time.Millisecond}},
		{"eight a second has a burst", 8, 0, []time.Duration{0, 0, 0, 0}, []time.Duration{0, 0, 0, 125 * time.Millisecond}},
		{"time that was not used is lost", 1, 0, []time.Duration{0, time.Hour, time.Hour}, []time.Duration{0, time.Hour, time.Hour + 750*time.Millisecond}},
		{"a pause", 8, time.Minute, []time.Duration{0, 0}, []time.Duration{time.Minute, time.Minute + 125*time.Millisecond}},
		{"a pause without a limit", 0, time.Minute, []time.Duration{0, 0, 2 * time.Minute}, []time.Duration{time.Minute, time.Minute, 2 * time.Minute}},
		{"hardly ever", 1e-300, 0, []time.Duration{0, 0}, []time.Duration{0, 24*time.Hour - 250*time.Millisecond}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := &pace.Pace{}
			p.Limit(tc.rate)
			if tc.pause > 0 {
				p.Pause(start.Add(tc.pause))
				p.Pause(start.Add(tc.pause / 2)) // makes it no shorter
				if got := p.Until(); !got.Equal(start.Add(tc.pause)) {
					t.Errorf("Until() = %s", got)
				}
			}
			var got []time.Duration
			for _, at := range tc.at {
				got = append(got, p.Turn(start.Add(at)).Sub(start))
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("turns (-want +got):\n%s", diff)
			}
		})
	}
}

func TestWait(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	if !pace.Wait(ctx, time.Nanosecond) {
		t.Error("Wait says that its context ended, which lives")
	}
	if !pace.Wait(ctx, -time.Hour) {
		t.Error("Wait waited for what is past")
	}
	cancel()
	if pace.Wait(ctx, time.Hour) {
		t.Error("Wait waited on although its context had ended")
	}
}
