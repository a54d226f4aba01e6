// Command init is the first process of the virtual machine: it mounts what
// programs expect, brings the loopback interface up, loads the kernel modules,
// and becomes the test program.
//
// It is a program of its own because libraries look at /proc while they are
// initialised, which is before the first line of a test program runs.
package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/castellan-security/castellan/test/vm/guest"
)

func main() {
	if _, err := os.Stat(guest.Marker); err != nil || os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "init: this is not the virtual machine of test/vm")
		os.Exit(1)
	}
	err := run(os.Args[1:])
	fmt.Fprintln(os.Stderr, "init:", err)
	// With -no-reboot this ends the emulator, on every architecture.
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART); err != nil {
		fmt.Fprintln(os.Stderr, "init: restart:", err)
	}
}

// run returns only if it could not become the test program.
func run(args []string) error {
	if err := mount(); err != nil {
		return err
	}
	if err := loopback(); err != nil {
		return fmt.Errorf("bring loopback up: %w", err)
	}
	modules, err := filepath.Glob(filepath.Join(guest.Modules, "*.ko"))
	if err != nil {
		return err
	}
	for _, file := range modules {
		if err := load(file); err != nil {
			return fmt.Errorf("load module %s: %w", file, err)
		}
	}
	return syscall.Exec(guest.Tests, append([]string{guest.Tests}, args...), os.Environ())
}

func mount() error {
	mounts := []struct{ kind, target string }{
		{"proc", "/proc"}, {"sysfs", "/sys"}, {"devtmpfs", "/dev"}, {"tmpfs", "/tmp"},
		{"securityfs", "/sys/kernel/security"}, {"tracefs", "/sys/kernel/tracing"}, {"bpf", "/sys/fs/bpf"},
	}
	for _, m := range mounts {
		if err := os.MkdirAll(m.target, 0o755); err != nil {
			return err
		}
		// The kernel itself may have mounted devtmpfs.
		if err := unix.Mount(m.kind, m.target, m.kind, 0, ""); err != nil && !errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("mount %s: %w", m.target, err)
		}
	}
	return nil
}

func load(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.FinitModule(int(f.Fd()), "", 0)
}

func loopback() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	r, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	r.SetUint16(unix.IFF_UP)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, r)
}
