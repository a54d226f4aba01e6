package bpf

import (
	"time"

	"golang.org/x/sys/unix"
)

// clockStep is how far the two clocks must have moved apart before Clock
// follows. Below it the offset stays as it is, so that the noise of measuring
// doesn't change the distance between two events.
const clockStep = time.Millisecond

// Clock turns the kernel's time since boot into wall-clock time.
//
// The offset between the two is measured again before each batch of events. A
// wall clock that is set, forwards or backwards, is followed from the next
// batch on: times of events jump as the clock did. Nothing waits for time to
// catch up, and the order of events is that of their sequence numbers, never
// of their times. Use Clock from one goroutine at a time.
type Clock struct {
	read   func() (boot, wall time.Duration)
	offset time.Duration
}

// NewClock returns a clock that has been measured once. read returns the time
// since boot, suspend included, and the time since the Unix epoch, both now;
// nil reads the kernel's clocks.
func NewClock(read func() (boot, wall time.Duration)) *Clock {
	if read == nil {
		read = readClocks
	}
	c := &Clock{read: read}
	boot, wall := read()
	c.offset = wall - boot
	return c
}

// Measure compares the clocks again.
func (c *Clock) Measure() {
	boot, wall := c.read()
	offset := wall - boot
	if apart := offset - c.offset; apart > clockStep || apart < -clockStep {
		c.offset = offset
	}
}

// Time returns the wall-clock time at boot nanoseconds since boot, in UTC.
func (c *Clock) Time(boot uint64) time.Time {
	return time.Unix(0, int64(boot)+int64(c.offset)).UTC()
}

// bootNow returns the time since boot in nanoseconds, as the sensors tell it.
func bootNow() uint64 { return uint64(now(unix.CLOCK_BOOTTIME)) }

// readClocks reads both clocks; of three tries it takes the one in which the
// least time passed in between.
func readClocks() (boot, wall time.Duration) {
	best := time.Duration(-1)
	for range 3 {
		before, between, after := now(unix.CLOCK_BOOTTIME), now(unix.CLOCK_REALTIME), now(unix.CLOCK_BOOTTIME)
		if d := after - before; best < 0 || d < best {
			best, boot, wall = d, before+d/2, between
		}
	}
	return boot, wall
}

// now reads one clock. Both exist since Linux 2.6.39, so there is no error to
// tell: a failure would show the epoch.
func now(clock int32) time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(clock, &t); err != nil {
		return 0
	}
	return time.Duration(t.Nano())
}
