package kernel

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/fault"
)

// Limits of ending and freezing.
const (
	// endWithin is how long the kernel has to end or freeze all processes of a
	// container: most need milliseconds, one that writes to a slow disk needs more.
	endWithin = 5 * time.Second
	// endPoll is between two looks at whether it has.
	endPoll = 5 * time.Millisecond
	// cgroupTree bounds the cgroups below a container's, which it can make itself.
	cgroupTree = 10_000
	// procsBytes holds the numbers of half a million processes.
	procsBytes = 4 << 20
)

// Kill ends the process that key names, if it still is that one and in the
// container, and returns its name: NotFound when it has ended, even if another one
// has its pid by now, Denied when it is in another container or in none. With dry it
// only looks.
//
// All is read and sent through one open folder of /proc, which stays with the process:
// whoever gets its pid later is not hit (pidfd_send_signal(2), Linux 5.1).
func (h *Host) Kill(_ context.Context, container string, key event.Key, dry bool) (string, error) {
	const never = 1 // the host's first process
	if key.PID <= never {
		return "", fault.New(fault.Denied, "process %d is never killed", key.PID)
	}
	dir, err := unix.Open(h.inProc(strconv.FormatUint(uint64(key.PID), 10)), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", hasEnded(key, err)
	}
	defer unix.Close(dir)
	name, err := isIn(dir, container, key)
	if err != nil || dry {
		return name, err
	}
	if err := sendKill(dir); err != nil {
		return name, hasEnded(key, err)
	}
	return name, nil
}

// isIn returns the name of a process, whose folder of /proc is open, if it is the one
// that key names and in the container.
func isIn(dir int, container string, key event.Key) (string, error) {
	s := scan{buf: make([]byte, cgroupLimit)}
	b, err := s.read(dir, "stat", statLimit)
	if err != nil {
		return "", hasEnded(key, err)
	}
	st, ok := parseStat(b)
	if !ok {
		return "", fmt.Errorf("stat of process %d is not as proc_pid_stat(5) says: %.80q", key.PID, b)
	}
	if !key.Same(event.Key{PID: key.PID, Start: st.start}) {
		return "", fault.New(fault.NotFound, "process %d has ended already; another one has its pid by now, and is left alone", key.PID).With(whatRuns)
	}
	if st.ended() {
		return "", hasEnded(key, unix.ESRCH)
	}
	if b, err = s.read(dir, "cgroup", cgroupLimit); err != nil {
		return "", hasEnded(key, err)
	}
	if in := containerOf(b); in != container {
		where := "is in no container"
		if in != "" {
			where = "is in container " + asset.ShortID(in)
		}
		return "", fault.New(fault.Denied, "process %d %s, not in %s", key.PID, where, asset.ShortID(container))
	}
	return text(st.name), nil
}

const whatRuns = "castellan workloads ID shows what runs in it now"

func sendKill(dir int) error {
	err := unix.PidfdSendSignal(dir, unix.SIGKILL, nil, 0)
	switch {
	case errors.Is(err, unix.EINVAL):
		return fault.New(fault.Unsupported, "this agent may not send signals to processes of the host: %w", err).
			With("run it in the host's pid namespace (docker run --pid=host)")
	case errors.Is(err, unix.EPERM):
		return fault.New(fault.Unsupported, "this agent may not send signals to that process: %w", err).With("run it as root, with CAP_KILL")
	}
	return err
}

// hasEnded gives an error about a process that is not there its kind.
func hasEnded(key event.Key, err error) error {
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESRCH) {
		return fault.New(fault.NotFound, "process %d has ended already", key.PID).With(whatRuns)
	}
	return fmt.Errorf("process %d: %w", key.PID, err)
}

// KillAll ends all processes of a container and returns how many there were; with
// dry it only counts. NotFound when it does not run.
func (h *Host) KillAll(ctx context.Context, container string, dry bool) (int, error) {
	groups := h.findCgroups(container)
	dir := groups.any()
	n := countIn(dir)
	if dir == "" || n == 0 {
		return 0, fault.New(fault.NotFound, "container %s does not run", asset.ShortID(container))
	}
	if dry {
		return n, nil
	}
	if tree := groups[unified]; tree != "" {
		// Linux 5.14; Documentation/admin-guide/cgroup-v2.rst. It ends frozen ones, too,
		// and those that are being made.
		err := writeLimit(path.Join(tree, "cgroup.kill"), "1")
		if err == nil {
			return n, waitFor(ctx, "end the processes of container "+asset.ShortID(container), func() bool { return countIn(dir) == 0 })
		}
		if !errors.Is(err, os.ErrNotExist) && !errors.Is(err, unix.EOPNOTSUPP) {
			return 0, fmt.Errorf("end the processes of container %s: %w", asset.ShortID(container), err)
		}
	}
	return n, h.killEach(ctx, container, groups)
}

// killEach ends the processes of a container one by one, until none is left. They
// are frozen before if the kernel can, so that they make no others meanwhile.
func (h *Host) killEach(ctx context.Context, container string, groups cgroups) error {
	if _, err := h.Freeze(ctx, container, false); err == nil {
		defer func() { _ = h.Thaw(ctx, container) }() // gone with its processes
	}
	dir := groups.any()
	var last error
	round := func() bool {
		all, err := h.Processes(ctx)
		last = err
		for _, p := range all {
			if p.WorkloadID != container {
				continue
			}
			if _, err := h.Kill(ctx, container, p.Process.Key, false); err != nil && !fault.Is(err, fault.NotFound) {
				last = err
			}
		}
		// Version 1 delivers the signal when they are let go.
		if freezer, v1 := groups.of("freezer"); v1 {
			_ = writeLimit(path.Join(freezer, "freezer.state"), "THAWED")
		}
		return countIn(dir) == 0
	}
	return errors.Join(waitFor(ctx, "end the processes of container "+asset.ShortID(container), round), last)
}

// Freeze has all processes of a container stand still and returns when they do, with
// how many they are. With dry it only counts. Unsupported where the kernel has no
// means: version 2 of cgroups has since Linux 5.2, version 1 with its freezer.
func (h *Host) Freeze(ctx context.Context, container string, dry bool) (int, error) {
	f, err := h.freezerOf(container)
	if err != nil {
		return 0, err
	}
	n := countIn(f.dir)
	if dry {
		return n, nil
	}
	if err := writeLimit(f.file, f.frozen); err != nil {
		return 0, fmt.Errorf("freeze container %s: %w", asset.ShortID(container), err)
	}
	return n, waitFor(ctx, "freeze container "+asset.ShortID(container), f.isFrozen)
}

// Thaw lets the processes of a container go on. NotFound when it does not run.
func (h *Host) Thaw(_ context.Context, container string) error {
	f, err := h.freezerOf(container)
	if err != nil {
		return err
	}
	if err := writeLimit(f.file, f.thawed); err != nil {
		return fmt.Errorf("let container %s go on: %w", asset.ShortID(container), err)
	}
	return nil
}

// Frozen reports whether the processes of a container are to stand still, whoever said
// so. NotFound when it does not run.
func (h *Host) Frozen(container string) (bool, error) {
	f, err := h.freezerOf(container)
	if err != nil {
		return false, err
	}
	return f.isFrozen(), nil
}

// AllFrozen returns the containers whose processes are to stand still, whoever said so.
func (h *Host) AllFrozen(ctx context.Context) (frozen []string, err error) {
	all, err := h.Processes(ctx)
	if err != nil {
		return nil, err
	}
	looked := map[string]bool{"": true} // of the host itself
	for i := range all {
		id := all[i].WorkloadID
		if looked[id] {
			continue
		}
		looked[id] = true
		is, err := h.Frozen(id)
		if err != nil && !fault.Is(err, fault.NotFound) {
			return frozen, err
		}
		if is {
			frozen = append(frozen, id)
		}
	}
	return frozen, nil
}

// Unified returns a container's folder in the unified hierarchy: Unsupported when
// it is in version 1 alone, NotFound when it does not run.
func (h *Host) Unified(container string) (string, error) {
	groups := h.findCgroups(container)
	if dir := groups[unified]; dir != "" {
		return dir, nil
	}
	if groups.any() == "" {
		return "", fault.New(fault.NotFound, "container %s does not run", asset.ShortID(container))
	}
	return "", fault.New(fault.Unsupported, "the container engine puts containers into version 1 of the cgroups alone, where no network can be cut").
		With("have the host boot with version 2 (systemd.unified_cgroup_hierarchy=1), or freeze or stop the container")
}

// capNetRaw is CAP_NET_RAW of include/uapi/linux/capability.h.
const capNetRaw = 13

// SendsRaw reports whether a process of a container may send frames as they are
// (AF_PACKET), which pass by all that is attached to its cgroup.
func (h *Host) SendsRaw(ctx context.Context, container string) (bool, error) {
	all, err := h.Processes(ctx)
	if err != nil {
		return false, err
	}
	for _, p := range all {
		if p.WorkloadID != container {
			continue
		}
		b, err := readBounded(h.inProc(strconv.FormatUint(uint64(p.Process.Key.PID), 10), "status"), statusLimit)
		if err != nil {
			continue // it has ended
		}
		if parseStatus(b).effective&(1<<capNetRaw) != 0 {
			return true, nil
		}
	}
	return false, nil
}

// freezer is how one container is frozen.
type freezer struct {
	dir, file, frozen, thawed string
	isFrozen                  func() bool
}

func (h *Host) freezerOf(container string) (freezer, error) {
	groups := h.findCgroups(container)
	if dir := groups[unified]; dir != "" && exists(path.Join(dir, "cgroup.freeze")) {
		return freezer{dir, path.Join(dir, "cgroup.freeze"), "1", "0", func() bool {
			n, _ := parseUint(valueIn(table(dir, "cgroup.events"), "frozen"))
			return n == 1
		}}, nil
	}
	if dir := groups["freezer"]; dir != "" {
		file := path.Join(dir, "freezer.state")
		return freezer{dir, file, "FROZEN", "THAWED", func() bool { return readLine(file) == "FROZEN" }}, nil
	}
	if groups.any() == "" {
		return freezer{}, fault.New(fault.NotFound, "container %s does not run", asset.ShortID(container))
	}
	return freezer{}, fault.New(fault.Unsupported, "this kernel cannot freeze containers: its cgroups have no freezer").
		With("stop the container instead")
}

func exists(file string) bool { return unix.Access(file, unix.F_OK) == nil }

// valueIn returns the second word of the line that begins with name.
func valueIn(file []byte, name string) []byte {
	for line := range bytes.Lines(file) {
		if f := bytes.Fields(line); len(f) == 2 && string(f[0]) == name {
			return f[1]
		}
	}
	return nil
}

// countIn counts the processes in a cgroup and in those below.
func countIn(dir string) int {
	if dir == "" {
		return 0
	}
	n, left := 0, cgroupTree
	waiting := []string{dir}
	for len(waiting) > 0 && left > 0 {
		dir, waiting = waiting[0], waiting[1:]
		left--
		if b, err := readBounded(path.Join(dir, "cgroup.procs"), procsBytes); err == nil {
			n += bytes.Count(b, []byte{'\n'})
		}
		waiting = append(waiting, foldersIn(dir)...)
	}
	return n
}

// waitFor asks until something is so.
func waitFor(ctx context.Context, what string, so func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, endWithin)
	defer cancel()
	for !so() {
		select {
		case <-ctx.Done():
			return fault.New(fault.Unavailable, "%s: not done within %s", what, endWithin).
				With("a process that waits for a disk or a network file system ends when that answers")
		case <-time.After(endPoll):
		}
	}
	return nil
}

// OwnContainer returns the id of the container that this program runs in, empty for
// none or one that can't be found out: in a cgroup namespace of its own its engine's
// mounts tell it.
func (h *Host) OwnContainer() string {
	if b, err := readBounded("/proc/self/cgroup", cgroupLimit); err == nil {
		if id := containerOf(b); id != "" {
			return id
		}
	}
	b, err := readBounded("/proc/self/mountinfo", mountinfoLimit)
	if err != nil {
		return ""
	}
	const root, point = 3, 4
	for line := range bytes.Lines(b) {
		f := fieldsOf(line)
		if len(f) <= point || f[point] != "/etc/hostname" {
			continue
		}
		// …/containers/<id>/hostname, as Docker mounts it.
		if id := path.Base(path.Dir(f[root])); asset.IsContainerID(id) {
			return id
		}
	}
	return ""
}
