package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// prefix begins the name of every engine's folder.
const prefix = "castellan-engine-"

// A folder whose lock nobody holds is what is left of an engine whose test
// program was killed. The kernel lets go of a lock with the last process.
const lockFile = "lock"

// claim marks a new folder as in use for as long as the file stays open.
func claim(dir string) (*os.File, error) {
	// Locked before it has its name: a sweep never sees it unlocked.
	f, err := os.CreateTemp(dir, "claim-*")
	if err != nil {
		return nil, fmt.Errorf("claim folder of engine: %w", err)
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err == nil {
		err = os.Rename(f.Name(), filepath.Join(dir, lockFile))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("claim folder of engine: %w", err), f.Close())
	}
	return f, nil
}

// sweep removes what engines of killed test programs left behind.
func sweep() error {
	dirs, err := filepath.Glob(filepath.Join(os.TempDir(), prefix+"*"))
	if err != nil {
		return fmt.Errorf("look for remains of engines: %w", err)
	}
	var errs []error
	for _, dir := range dirs {
		f, err := os.Open(filepath.Join(dir, lockFile))
		if err != nil {
			continue // being made or removed right now
		}
		if syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
			errs = append(errs, killProcesses(dir), unmountBelow(dir), removeBridge(bridgeName(dir)), os.RemoveAll(dir))
		}
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}

// killProcesses ends what a killed engine left behind: the daemons and shims
// that name the engine's folder on their command line, and the containers below
// the shims.
func killProcesses(dir string) error {
	parents := processes()
	var errs []error
	for pid, parent := range parents {
		if program(pid, dir) == "" && !strings.HasPrefix(program(parent, dir), "containerd-shim") {
			continue
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			errs = append(errs, fmt.Errorf("kill process %d: %w", pid, err))
		}
	}
	return errors.Join(errs...)
}

// program returns the name of a process if it is part of the engine in dir.
func program(pid int, dir string) string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return "" // ended meanwhile
	}
	args := strings.Split(string(b), "\x00")
	name := filepath.Base(args[0])
	if !strings.HasPrefix(name, "containerd") && name != "dockerd" {
		return ""
	}
	if !slices.ContainsFunc(args, func(a string) bool { return strings.Contains(a, dir+"/") }) {
		return ""
	}
	return name
}

// processes returns the parent of every process.
func processes() map[int]int {
	parents := map[int]int{}
	entries, _ := os.ReadDir("/proc") // nothing listed is nothing found
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			continue // ended meanwhile
		}
		// After the name, which may hold anything, come state and parent.
		fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
		if len(fields) > 1 {
			parents[pid], _ = strconv.Atoi(fields[1])
		}
	}
	return parents
}

// unmountBelow detaches every mount below dir, the last one first.
func unmountBelow(dir string) error {
	b, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return fmt.Errorf("read mounts: %w", err)
	}
	var errs []error
	for _, line := range slices.Backward(strings.Split(string(b), "\n")) {
		fields := strings.Fields(line)
		if len(fields) < 2 || !strings.HasPrefix(fields[1], dir+"/") {
			continue
		}
		err := syscall.Unmount(fields[1], syscall.MNT_DETACH)
		if err != nil && !errors.Is(err, syscall.EINVAL) && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("unmount %s: %w", fields[1], err))
		}
	}
	return errors.Join(errs...)
}

// removeBridge removes a bridge of ours; one that is not there is no error.
func removeBridge(name string) error {
	if _, err := os.Stat("/sys/class/net/" + name); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), stopWithin)
	defer cancel()
	return ip(ctx, "link", "del", name)
}
