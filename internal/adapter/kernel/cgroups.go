package kernel

import (
	"bytes"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/castellan-security/castellan/internal/asset"
)

// cgroupMount is one mounted hierarchy of cgroups.
type cgroupMount struct {
	controllers []string // of version 1; nil for version 2
	unified     bool
	root        string // the cgroup that is mounted, as our cgroup namespace names it
	point       string // where we find it
}

// cgroupMounts lists the hierarchies that the host has mounted, as its first
// process sees them, or as we do where we may not look at that.
func (h *Host) cgroupMounts() []cgroupMount {
	for _, pid := range []string{"1", "self"} {
		b, err := readBounded(h.inProc(pid, "mountinfo"), mountsLimit)
		if err != nil {
			continue
		}
		if mounts := parseCgroupMounts(b); len(mounts) > 0 {
			for i := range mounts {
				mounts[i].point = h.reach(mounts[i].point)
			}
			return mounts
		}
	}
	return nil
}

// reach returns where a path of the host is for us: in the sysfs that we were
// given, or below the root of the host's first process.
func (h *Host) reach(point string) string {
	if below, ok := strings.CutPrefix(point, "/sys/"); ok {
		return h.inSys(below)
	}
	return h.inProc("1", "root", point)
}

// parseCgroupMounts reads the cgroup mounts of a mountinfo file;
// proc_pid_mountinfo(5): id, parent, device, root, mount point, options,
// optional fields, a dash, type, source, options of the file system.
func parseCgroupMounts(file []byte) []cgroupMount {
	var out []cgroupMount
	for line := range bytes.Lines(file) {
		before, after, ok := bytes.Cut(line, []byte(" - "))
		kind := fileSystem(line)
		if !ok || kind != "cgroup" && kind != "cgroup2" {
			continue
		}
		const root, point, options = 3, 4, 2
		place, what := fieldsOf(before), fieldsOf(after)
		if len(place) <= point || len(what) <= options {
			continue
		}
		m := cgroupMount{unified: kind == "cgroup2", root: unescape(place[root]), point: unescape(place[point])}
		if !m.unified {
			m.controllers = strings.Split(what[options], ",")
		}
		out = append(out, m)
	}
	return out
}

// unescape undoes what the kernel does to blanks and the like in paths: a
// backslash and three octal digits.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	const digits = 3
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+digits < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+1+digits], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += digits
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// cgroups are the folders of one container: by controller in version 1, and
// under unified in version 2.
type cgroups map[string]string

const unified = ""

// cgroupsOf finds the cgroups of a container by /proc/PID/cgroup of one of its
// processes, which can be in cgroups below. A hierarchy in which the process is
// not in the container's cgroup is left out: its numbers are another's.
func (h *Host) cgroupsOf(file []byte, mounts []cgroupMount, id string) cgroups {
	found := cgroups{}
	for line := range bytes.Lines(file) {
		hierarchy, rest, _ := strings.Cut(strings.TrimSuffix(string(line), "\n"), ":")
		controllers, group, ok := strings.Cut(rest, ":")
		if !ok {
			continue
		}
		group = upTo(group, id)
		if group == "" {
			continue
		}
		for _, m := range mounts {
			if m.unified != (hierarchy == "0" && controllers == "") {
				continue
			}
			if !m.unified && !slices.Contains(m.controllers, strings.Split(controllers, ",")[0]) {
				continue
			}
			below, ok := under(m.root, group)
			if !ok {
				continue
			}
			for controller := range strings.SplitSeq(controllers, ",") {
				found[controller] = path.Join(m.point, below)
			}
			break
		}
	}
	return found
}

// upTo cuts a cgroup's path behind the one that is named after the container;
// empty when there is none.
func upTo(group, id string) string {
	end := 0
	for component := range strings.SplitSeq(group, "/") {
		end += len(component)
		if containerInName(component) == id {
			return group[:end]
		}
		end++
	}
	return ""
}

// under returns a cgroup's path relative to the mounted one. Seen from a cgroup
// namespace both can begin with "/..", as often as it is deep.
func under(root, group string) (string, bool) {
	base, parts := components(root), components(group)
	if len(parts) < len(base) || !slices.Equal(parts[:len(base)], base) {
		return "", false
	}
	below := parts[len(base):]
	return strings.Join(below, "/"), !slices.Contains(below, "..")
}

func components(p string) []string {
	return strings.FieldsFunc(p, func(r rune) bool { return r == '/' })
}

// of returns the folder in which a controller's files are, and whether they are
// those of version 1.
func (c cgroups) of(controller string) (dir string, v1 bool) {
	if dir = c[controller]; dir != "" {
		return dir, true
	}
	return c[unified], false
}

// any returns a folder that lists the container's processes.
func (c cgroups) any() string {
	for _, controller := range []string{unified, "pids", "memory", "devices", "cpu"} {
		if dir := c[controller]; dir != "" {
			return dir
		}
	}
	return ""
}

// lack notes fields that can't be told.
func lack(s *asset.Sample, names ...string) { s.Missing = append(s.Missing, names...) }

// number reads a file of one number.
func number(dir, name string) (uint64, bool) {
	if dir == "" {
		return 0, false
	}
	return parseUint([]byte(readLine(path.Join(dir, name))))
}

// table reads a file of lines with a name and a number each.
func table(dir, name string) []byte {
	if dir == "" {
		return nil
	}
	b, err := readBounded(path.Join(dir, name), fileLimit)
	if err != nil {
		return nil
	}
	return b
}

// fieldsOf splits at blanks.
func fieldsOf(b []byte) []string { return strings.Fields(string(b)) }

// foldersIn lists the folders in a folder. A cgroup without any below has two
// links: its own and its name's.
func foldersIn(dir string) []string {
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil || st.Nlink == 2 {
		return nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	var out []string
	for _, e := range entries {
		if e.IsDir() {
			out = append(out, path.Join(dir, e.Name()))
		}
	}
	return out
}
