package kernel

import (
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/castellan-security/castellan/internal/event"
)

// Executable returns the path of the file that a process runs, as its own root
// shows it; empty when it has ended or is not ours to see.
func (h *Host) Executable(k event.Key) string {
	s := scan{buf: make([]byte, linkLimit)}
	dir, err := unix.Open(h.proc+"/"+strconv.FormatUint(uint64(k.PID), 10), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return ""
	}
	defer unix.Close(dir)
	b, err := s.read(dir, "stat", statLimit)
	if err != nil {
		return ""
	}
	st, ok := parseStat(b)
	if !ok || !k.Same(event.Key{PID: k.PID, Start: st.start}) {
		return "" // another process has the number now
	}
	path, _ := s.executable(dir)
	return path
}
