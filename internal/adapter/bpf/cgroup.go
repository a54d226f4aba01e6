package bpf

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// openCgroups returns the root of the unified cgroup hierarchy, to attach
// programs to that see the sockets of all processes. It need not be mounted
// anywhere: a mount of our own, which nobody else sees, gives the same root
// (fsopen, fsmount: Linux 5.2), whichever version the host's containers use.
// The caller closes the descriptor.
func openCgroups() (int, error) {
	fs, err := unix.Fsopen("cgroup2", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("open the unified cgroup hierarchy: %w", err)
	}
	defer unix.Close(fs)
	if err := unix.FsconfigCreate(fs); err != nil {
		return -1, fmt.Errorf("mount the unified cgroup hierarchy: %w", err)
	}
	root, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("mount the unified cgroup hierarchy: %w", err)
	}
	return root, nil
}
