package kernel

import (
	"bytes"
	"strings"
)

// idLen is the length of a container id: 64 lower-case hexadecimal digits.
const idLen = 64

// containerOf returns the container id in /proc/PID/cgroup, empty for a process
// of the host. The unified hierarchy (0::) is asked first, then the others in
// the kernel's order: a container is in all of them, except on hosts where the
// engine uses only version 1.
func containerOf(file []byte) string {
	var other string
	for len(file) > 0 {
		var line []byte
		line, file, _ = bytes.Cut(file, []byte{'\n'})
		// hierarchy:controllers:path. A path holds no newline, the kernel refuses it.
		hierarchy, rest, ok := bytes.Cut(line, []byte{':'})
		if !ok {
			continue
		}
		_, path, ok := bytes.Cut(rest, []byte{':'})
		if !ok {
			continue
		}
		id := containerInPath(string(path))
		if id != "" && string(hierarchy) == "0" {
			return id
		}
		if other == "" {
			other = id
		}
	}
	return other
}

// containerInPath returns the container id in a cgroup path: /docker/<id>,
// /ecs/<task>/<id>, …/docker-<id>.scope, …/cri-containerd-<id>.scope. Of
// containers within containers the outermost counts: it is the one that this
// host's engine knows. The process sensor has the same rule in the kernel.
func containerInPath(path string) string {
	path = strings.TrimSuffix(path, " (deleted)")
	for component := range strings.SplitSeq(path, "/") {
		if id := containerInName(component); id != "" {
			return id
		}
	}
	return ""
}

// containerInName returns the container id in the name of one cgroup: the id
// alone, or behind a dash in a systemd scope.
func containerInName(name string) string {
	id := name
	if scope, ok := strings.CutSuffix(name, ".scope"); ok {
		if len(scope) <= idLen || scope[len(scope)-idLen-1] != '-' {
			return ""
		}
		id = scope[len(scope)-idLen:]
	}
	if len(id) != idLen || !isLowerHex(id) {
		return ""
	}
	return id
}

func isLowerHex(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// The cgroup layouts of a host, as asset.Host names them.
const (
	cgroupV1     = "v1"
	cgroupHybrid = "hybrid"
	cgroupV2     = "v2"
)

// cgroupMode tells the layout from /proc/PID/mountinfo: v2 alone, v1 alone, or
// v1 with a v2 tree beside it. Empty when no cgroup file system is mounted.
func cgroupMode(mountinfo []byte) string {
	var v1, v2 bool
	for len(mountinfo) > 0 {
		var line []byte
		line, mountinfo, _ = bytes.Cut(mountinfo, []byte{'\n'})
		switch fileSystem(line) {
		case "cgroup":
			v1 = true
		case "cgroup2":
			v2 = true
		}
	}
	switch {
	case v1 && v2:
		return cgroupHybrid
	case v1:
		return cgroupV1
	case v2:
		return cgroupV2
	}
	return ""
}

// fileSystem returns the type of the file system in one line of mountinfo,
// which is the first field after a lone dash; proc_pid_mountinfo(5). Blanks in
// paths are escaped there.
func fileSystem(line []byte) string {
	_, after, ok := bytes.Cut(line, []byte(" - "))
	if !ok {
		return ""
	}
	kind, _ := nextField(after)
	return string(kind)
}
