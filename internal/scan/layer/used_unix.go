//go:build unix

package layer

import (
	"syscall"
	"time"
)

// processorTime is how much of a processor this process has had.
func processorTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return time.Duration(time.Now().UnixNano()) // then the clock on the wall counts
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
