package bpf_test

import (
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/adapter/bpf"
)

func TestClockFollowsSteps(t *testing.T) {
	var boot, wall time.Duration
	c := bpf.NewClock(func() (time.Duration, time.Duration) { return boot, wall })
	tests := []struct {
		name       string
		boot, wall time.Duration // what the clocks show
		event      time.Duration // since boot
		want       time.Duration // since the epoch
	}{
		{"as measured first", 0, 0, time.Second, time.Second},
		{"noise does not count", 10 * time.Second, 10*time.Second + 900*time.Microsecond, 11 * time.Second, 11 * time.Second},
		{"set forwards", 20 * time.Second, time.Hour, 21 * time.Second, time.Hour + time.Second},
		{"set backwards, and time does not stand still", 30 * time.Second, time.Minute, 31 * time.Second, 61 * time.Second},
		{"an event of the past", 30 * time.Second, time.Minute, 29 * time.Second, 59 * time.Second},
		{"before the epoch", 30 * time.Second, -time.Minute, 31 * time.Second, -59 * time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			boot, wall = tt.boot, tt.wall
			c.Measure()
			if got, want := c.Time(uint64(tt.event)), time.Unix(0, int64(tt.want)).UTC(); !got.Equal(want) {
				t.Errorf("got %s, want %s", got, want)
			}
		})
	}
}
