package bpf

import (
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/castellan-security/castellan/internal/event"
)

// knobPlace returns the pseudo file system of a file and its place in it. Of a
// file that could not be opened only the path is known, so the usual mount
// points stand for the file systems.
func knobPlace(c *change, file string) (magic uint32, inside string) {
	if c.inside != "" {
		return c.magic, c.inside
	}
	if c.open {
		return 0, ""
	}
	if inside, ok := strings.CutPrefix(file, "/sys/fs/cgroup"); ok {
		return unix.CGROUP_SUPER_MAGIC, inside
	}
	if inside, ok := strings.CutPrefix(file, "/proc/sys/fs/binfmt_misc"); ok {
		return unix.BINFMTFS_MAGIC, inside
	}
	if inside, ok := strings.CutPrefix(file, "/proc"); ok {
		return unix.PROC_SUPER_MAGIC, inside
	}
	if inside, ok := strings.CutPrefix(file, "/sys"); ok {
		return unix.SYSFS_MAGIC, inside
	}
	return 0, ""
}

// knobKind returns the kind of event that writing a file of a pseudo file
// system is; empty where it is a file like others.
func knobKind(magic uint32, inside string) event.Kind {
	under := func(folders ...string) event.Kind {
		for _, f := range folders {
			if strings.HasPrefix(inside, f) {
				return event.KindKernelKnob
			}
		}
		return ""
	}
	switch magic {
	case unix.PROC_SUPER_MAGIC:
		return under("/sys/kernel/", "/sysrq-trigger")
	case unix.SYSFS_MAGIC:
		return under("/kernel/", "/power/", "/module/")
	case unix.BINFMTFS_MAGIC:
		return under("/")
	case unix.CGROUP_SUPER_MAGIC:
		switch path.Base(inside) {
		case "release_agent":
			return event.KindKernelKnob
		case "devices.allow", "devices.deny":
			return event.KindDevice
		}
	}
	return ""
}

// procRuleOf is procRule for a file of procfs, wherever that is mounted; for
// one that could not be opened, at its usual place.
func procRuleOf(c *change, file string) string {
	if magic, inside := knobPlace(c, file); magic == unix.PROC_SUPER_MAGIC {
		return procRule(inside)
	}
	return ""
}
