package kernel

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// LetGoOfProgram unmaps what this process has mapped of its own program's file:
// code and constants, of which the start alone needs most. Nothing is lost: what is
// used again is mapped again, a microsecond for some 64 KiB, from the kernel's
// cache of files, which can let go of the rest when memory is short.
func LetGoOfProgram() error {
	file, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return fmt.Errorf("find this program's file: %w", err)
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return fmt.Errorf("read what this program has mapped: %w", err)
	}
	var errs []error
	for line := range strings.Lines(string(maps)) {
		begin, end, ok := constantOf(strings.TrimSuffix(line, "\n"), file)
		if !ok {
			continue
		}
		if _, _, errno := unix.Syscall(unix.SYS_MADVISE, begin, end-begin, unix.MADV_DONTNEED); errno != 0 {
			errs = append(errs, fmt.Errorf("unmap %x to %x of this program: %w", begin, end, errno))
		}
	}
	return errors.Join(errs...)
}

// constantOf reads a line of proc(5) maps: from where to where it maps the file, if
// nobody can have written to it there.
func constantOf(line, file string) (begin, end uintptr, ok bool) {
	f := strings.SplitN(line, " ", 6)
	if len(f) < 6 || strings.TrimLeft(f[5], " ") != file || (f[1] != "r-xp" && f[1] != "r--p") {
		return 0, 0, false
	}
	from, to, found := strings.Cut(f[0], "-")
	if !found {
		return 0, 0, false
	}
	b, err := strconv.ParseUint(from, 16, 64)
	if err != nil {
		return 0, 0, false
	}
	e, err := strconv.ParseUint(to, 16, 64)
	if err != nil || e <= b {
		return 0, 0, false
	}
	return uintptr(b), uintptr(e), true
}
