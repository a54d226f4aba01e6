package kernel

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/castellan-security/castellan/internal/profile"
)

// Bounds of looking for a container's cgroups.
const (
	// cgroupDepth is how deep engines put containers: one level with cgroupfs, three
	// below systemd's slices, three with a task of ECS in them.
	cgroupDepth = 5
	// cgroupFolders bounds the folders that are looked at in one hierarchy.
	cgroupFolders = 20_000
)

// wish is a file of a cgroup that is to be written.
type wish struct{ file, value, before string }

// findCgroups finds the cgroups of a container by their names, whether or not a
// process is in them; none for one that has not started or has ended.
func (h *Host) findCgroups(id string) cgroups {
	found := cgroups{}
	for _, m := range h.cgroupMounts() {
		left := cgroupFolders
		dir := findNamed(m.point, id, cgroupDepth, &left)
		if dir == "" {
			continue
		}
		if m.unified {
			found[unified] = dir
			continue
		}
		for _, controller := range m.controllers {
			found[controller] = dir
		}
	}
	return found
}

// findNamed returns the folder below dir that is named after the container, the
// outermost one: what is below another container's is of that one.
func findNamed(dir, id string, depth int, left *int) string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return ""
	}
	var below []string
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		if *left--; *left < 0 {
			return ""
		}
		switch containerInName(e.Name()) {
		case id:
			return path.Join(dir, e.Name())
		case "":
			below = append(below, path.Join(dir, e.Name()))
		}
	}
	for _, b := range below {
		if depth == 0 {
			break
		}
		if found := findNamed(b, id, depth-1, left); found != "" {
			return found
		}
	}
	return ""
}

// cpuPeriod is the kernel's default, in microseconds.
const cpuPeriod = 100_000

// wanted returns what is to be written for these limits, where they are narrower
// than what is there; Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/.
func (h *Host) wanted(c cgroups, l profile.Limits) []wish {
	var out []wish
	if dir, _ := c.of("pids"); dir != "" {
		out = append(out, narrower(dir, "pids.max", l.Processes, "max")...)
	}
	// memory.high holds a container back where memory.max has it killed. Version 1
	// has no such thing: there it is as if the engine had set the limit.
	if dir, v1 := c.of("memory"); v1 {
		out = append(out, narrower(dir, "memory.limit_in_bytes", l.Memory, "-1")...)
	} else if dir != "" {
		out = append(out, narrower(dir, "memory.high", l.Memory, "max")...)
	}
	if dir, v1 := c.of("cpu"); dir != "" && l.CPU > 0 {
		now, ok := cpuLimit(dir, v1)
		quota := strconv.FormatUint(l.CPU*cpuPeriod/1000, 10)
		switch {
		case !ok || now > 0 && now <= l.CPU:
		case v1:
			// In this order the quota is never larger than the period allows.
			out = append(out, rewritten(dir, "cpu.cfs_period_us", strconv.Itoa(cpuPeriod)), rewritten(dir, "cpu.cfs_quota_us", quota))
		default:
			out = append(out, rewritten(dir, "cpu.max", quota+" "+strconv.Itoa(cpuPeriod)))
		}
	}
	return append(out, h.wantedWrites(c, l.WriteBytes)...)
}

// narrower is for files of one number.
func narrower(dir, name string, most uint64, none string) []wish {
	if most == 0 {
		return nil
	}
	now, ok := limitOf(dir, name)
	if !ok || now > 0 && now <= most {
		return nil
	}
	w := rewritten(dir, name, strconv.FormatUint(most, 10))
	if now == 0 {
		w.before = none
	}
	return []wish{w}
}

func rewritten(dir, name, value string) wish {
	return wish{file: path.Join(dir, name), value: value, before: readLine(path.Join(dir, name))}
}

// wantedWrites limits what is written to each disk, where the engine did not.
func (h *Host) wantedWrites(c cgroups, most uint64) []wish {
	dir, v1 := c.of("blkio")
	name := "io.max"
	if v1 {
		name = "blkio.throttle.write_bps_device"
	}
	if dir == "" || most == 0 {
		return nil
	}
	now, err := readBounded(path.Join(dir, name), fileLimit)
	if err != nil {
		return nil // the controller is not there, or not for this cgroup
	}
	var out []wish
	for _, disk := range h.disks() {
		set := slices.ContainsFunc(strings.Split(string(now), "\n"), func(line string) bool {
			return strings.HasPrefix(line, disk+" ") && (v1 || strings.Contains(line, "wbps=") && !strings.Contains(line, "wbps=max"))
		})
		value, before := fmt.Sprintf("%s wbps=%d", disk, most), disk+" wbps=max"
		if v1 {
			value, before = fmt.Sprintf("%s %d", disk, most), disk+" 0"
		}
		if !set {
			out = append(out, wish{file: path.Join(dir, name), value: value, before: before})
		}
	}
	return out
}

// disks returns the numbers, "major:minor", of whole disks: what is written to a
// partition counts for its disk.
func (h *Host) disks() []string {
	const most = 64
	entries, err := os.ReadDir(h.inSys("block"))
	if err != nil {
		return nil
	}
	var out []string
	for _, e := range entries {
		name := e.Name()
		if len(out) == most || strings.HasPrefix(name, "loop") || strings.HasPrefix(name, "ram") || strings.HasPrefix(name, "zram") {
			continue
		}
		if number := readLine(h.inSys("block", name, "dev")); number != "" {
			out = append(out, number)
		}
	}
	return out
}

// writeLimit writes a file of a cgroup.
func writeLimit(file, value string) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_TRUNC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}

// gone reports that a cgroup is not there any more.
func gone(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) }

// descriptorLimit is RLIMIT_NOFILE.
type descriptorLimit struct {
	Soft uint64 `json:"soft"`
	Hard uint64 `json:"hard"`
}

// descriptorsOf returns the limit that the processes of a container have, if it is
// to be made narrower; else nil.
func (h *Host) descriptorsOf(c cgroups, most uint64) *descriptorLimit {
	if most == 0 {
		return nil
	}
	for _, pid := range processesIn(c.any()) {
		var now unix.Rlimit
		if unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &now) == nil && now.Cur > most {
			return &descriptorLimit{Soft: now.Cur, Hard: now.Max}
		}
	}
	return nil
}

// limitDescriptors makes the limit narrower for every process of a container; those
// that are made meanwhile inherit it, or are met in another round. Without
// CAP_SYS_RESOURCE what is taken from the hard limit can't be given back: then only
// the soft one is narrower, which a program can undo.
func (h *Host) limitDescriptors(c cgroups, most uint64) error {
	raises := mayRaise()
	return h.eachProcess(c, func(now unix.Rlimit) unix.Rlimit {
		to := unix.Rlimit{Cur: min(now.Cur, most), Max: now.Max}
		if raises {
			to.Max = min(now.Max, most)
		}
		return to
	})
}

// mayRaise reports whether this program may make a hard limit wider.
func mayRaise() bool {
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	return unix.Capget(&head, &data[0]) == nil && data[0].Effective&(1<<unix.CAP_SYS_RESOURCE) != 0
}

// freeDescriptors gives every process that has our limit what was before.
func (h *Host) freeDescriptors(c cgroups, most uint64, before descriptorLimit) error {
	return h.eachProcess(c, func(now unix.Rlimit) unix.Rlimit {
		if now.Cur != most {
			return now // it has one of its own
		}
		return unix.Rlimit{Cur: before.Soft, Max: max(now.Max, before.Hard)}
	})
}

// eachProcess changes the limit of each process of a container once.
func (h *Host) eachProcess(c cgroups, to func(unix.Rlimit) unix.Rlimit) error {
	const rounds = 10
	seen := map[int]bool{}
	var errs []error
	for range rounds {
		met := false
		for _, pid := range processesIn(c.any()) {
			if seen[pid] {
				continue
			}
			seen[pid], met = true, true
			var now unix.Rlimit
			err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &now)
			if err == nil {
				if wanted := to(now); wanted != now {
					err = unix.Prlimit(pid, unix.RLIMIT_NOFILE, &wanted, nil)
				}
			}
			if err != nil && !errors.Is(err, unix.ESRCH) {
				errs = append(errs, fmt.Errorf("limit the descriptors of process %d: %w", pid, err))
			}
		}
		if !met {
			break
		}
	}
	return errors.Join(errs...)
}

// processesIn lists the processes of a cgroup, those of cgroups below left out.
func processesIn(dir string) []int {
	var out []int
	for line := range strings.Lines(string(table(dir, "cgroup.procs"))) {
		if pid, err := strconv.Atoi(strings.TrimSpace(line)); err == nil && pid > 0 {
			out = append(out, pid)
		}
	}
	return out
}
