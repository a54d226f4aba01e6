package kernel

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/castellan-security/castellan/internal/fault"
)

// mountinfoLimit bounds the list of a process's mounts, in bytes; one has some
// hundred, of some hundred bytes each.
const mountinfoLimit = 4 << 20

// UpperFolder returns the folder on this host in which overlayfs keeps what was
// written to the root file system of a process, in its container. The error is
// of kind Unsupported where the root is no overlay, and NotFound when there is
// no such process.
func (h *Host) UpperFolder(pid int) (string, error) {
	b, err := readBounded(h.inProc(strconv.Itoa(pid), "mountinfo"), mountinfoLimit)
	if err != nil {
		return "", fault.New(fault.NotFound, "look at the mounts of process %d: %w", pid, err)
	}
	upper, err := upperOf(string(b))
	if err != nil {
		return "", fmt.Errorf("mounts of process %d: %w", pid, err)
	}
	return upper, nil
}

// upperOf finds the root in mountinfo (proc_pid_mountinfo(5)): the last one that
// is mounted there is what the process sees.
func upperOf(mounts string) (string, error) {
	upper, kind := "", "nothing"
	for line := range strings.Lines(mounts) {
		before, after, ok := strings.Cut(line, " - ")
		fields, rest := strings.Fields(before), strings.Fields(after)
		if !ok || len(fields) < 5 || len(rest) < 3 || fields[4] != "/" {
			continue
		}
		upper, kind = "", rest[0]
		if kind != "overlay" {
			continue
		}
		for option := range strings.SplitSeq(rest[2], ",") {
			if v, ok := strings.CutPrefix(option, "upperdir="); ok {
				upper = unescapeMount(v)
			}
		}
	}
	if upper == "" {
		return "", fault.New(fault.Unsupported, "its root file system is of kind %s, without a folder of what was written", kind).
			With("scan its image instead")
	}
	return upper, nil
}

// unescapeMount undoes the octal escapes of blanks and backslashes.
func unescapeMount(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}
