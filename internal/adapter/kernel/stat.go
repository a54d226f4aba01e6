package kernel

import (
	"bytes"
	"strconv"

	"github.com/castellan-security/castellan/internal/event"
)

// kernelThread is PF_KTHREAD of include/linux/sched.h, in the flags of stat.
const kernelThread = 0x00200000

// tick is the resolution of start times in stat, in nanoseconds: the kernel
// counts 100 clock ticks a second for user space on every architecture that
// Castellan runs on, and rounds down. event.Key.Same knows of it.
const tick = 10_000_000

// stat is the part of /proc/PID/stat that we read; proc_pid_stat(5).
type stat struct {
	name    string // comm, not yet valid UTF-8
	state   byte
	parent  uint32
	flags   uint64
	threads int64
	start   uint64 // nanoseconds since boot, whole ticks
}

// ended reports whether all that is left is a parent's duty to wait. A leader
// that ended before its other threads is a zombie too, but its process runs.
func (s stat) ended() bool {
	return s.state == 'X' || s.state == 'x' || s.state == 'Z' && s.threads <= 1
}

// parseStat reads /proc/PID/stat. The name is between the first opening and
// the last closing parenthesis: it can hold any byte but NUL, parentheses,
// blanks and newlines included, and nothing after it can hold a parenthesis.
func parseStat(b []byte) (stat, bool) {
	open := bytes.IndexByte(b, '(')
	end := bytes.LastIndexByte(b, ')')
	if open < 0 || end < open {
		return stat{}, false
	}
	s := stat{name: string(b[open+1 : end])}
	// Numbers of the manual page; the third is the first after the name.
	const state, parent, flags, threads, start = 3, 4, 9, 20, 22
	rest, ok := b[end+1:], true
	for n := state; n <= start; n++ {
		var field []byte
		field, rest = nextField(rest)
		if len(field) == 0 {
			return stat{}, false
		}
		switch n {
		case state:
			s.state = field[0]
		case parent:
			s.parent, ok = parseUint32(field)
		case flags:
			s.flags, ok = parseUint(field)
		case threads:
			var err error
			s.threads, err = strconv.ParseInt(string(field), 10, 64)
			ok = err == nil
		case start:
			s.start, ok = parseUint(field)
		}
		if !ok {
			return stat{}, false
		}
	}
	const most = ^uint64(0) / tick
	if s.start > most {
		return stat{}, false
	}
	s.start *= tick
	return s, true
}

// status is the part of /proc/PID/status that we read.
type status struct {
	uid, euid, gid uint32
	innermost      uint32 // process id in its innermost pid namespace
	effective      event.Capabilities
}

// parseStatus reads /proc/PID/status; what is not there stays zero. The kernel
// escapes newlines in the name, so a program cannot write lines of its own.
func parseStatus(b []byte) status {
	var s status
	for len(b) > 0 {
		var line []byte
		line, b, _ = bytes.Cut(b, []byte{'\n'})
		key, value, ok := bytes.Cut(line, []byte{':'})
		if !ok {
			continue
		}
		switch string(key) {
		case "Uid":
			first, rest := nextField(value)
			second, _ := nextField(rest)
			s.uid, _ = parseUint32(first)
			s.euid, _ = parseUint32(second)
		case "Gid":
			first, _ := nextField(value)
			s.gid, _ = parseUint32(first)
		case "NSpid":
			fields := bytes.Fields(value)
			if len(fields) > 0 {
				s.innermost, _ = parseUint32(fields[len(fields)-1])
			}
		case "CapEff":
			set, err := strconv.ParseUint(string(bytes.TrimSpace(value)), 16, 64)
			if err == nil {
				s.effective = event.Capabilities(set)
			}
		}
	}
	return s
}

// nextField returns the first blank-separated field of b and what follows it.
func nextField(b []byte) (field, rest []byte) {
	b = bytes.TrimLeft(b, " \t\n")
	if i := bytes.IndexAny(b, " \t\n"); i >= 0 {
		return b[:i], b[i:]
	}
	return b, nil
}

func parseUint(b []byte) (uint64, bool) {
	n, err := strconv.ParseUint(string(b), 10, 64)
	return n, err == nil
}

func parseUint32(b []byte) (uint32, bool) {
	n, err := strconv.ParseUint(string(b), 10, 32)
	return uint32(n), err == nil
}
