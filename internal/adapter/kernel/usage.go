package kernel

import (
	"bytes"
	"os"
	"runtime"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/castellan-security/castellan/internal/asset"
)

// Usage is what this process has cost since it started. What cannot be read is
// zero.
func (h *Host) Usage() asset.Usage {
	u := asset.Usage{Goroutines: runtime.NumGoroutine()}
	var ru unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &ru); err == nil {
		u.CPUSeconds = (time.Duration(ru.Utime.Nano()) + time.Duration(ru.Stime.Nano())).Seconds()
	}
	if statm, err := readBounded(h.inProc("self", "statm"), lineLimit); err == nil {
		u.RSS = residentPages(statm) * uint64(os.Getpagesize())
	}
	return u
}

// residentPages returns the second number of /proc/PID/statm, 0 when there is
// none.
func residentPages(statm []byte) uint64 {
	fields := bytes.Fields(statm)
	if len(fields) < 2 {
		return 0
	}
	n, err := strconv.ParseUint(string(fields[1]), 10, 64)
	if err != nil {
		return 0
	}
	return n
}
