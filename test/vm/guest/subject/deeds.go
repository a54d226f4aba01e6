package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// deed does one thing, and returns the error number that came of it.
func deed(verb string, args []string) (int, error) {
	arg := ""
	if len(args) > 0 {
		arg = args[0]
	}
	err := do(verb, arg)
	var number syscall.Errno
	if errors.As(err, &number) {
		return int(number), nil
	}
	return 0, err
}

// isDeed reports whether deed knows the verb.
func isDeed(verb string) bool {
	switch verb {
	case "write", "mkdir", "run", "memfd", "map", "mount", "chown", "unshare", "socket", "signal":
		return true
	}
	return false
}

func do(verb, arg string) error {
	switch verb {
	case "write":
		f, err := os.OpenFile(arg, os.O_WRONLY|os.O_CREATE, 0o755)
		if err != nil {
			return err
		}
		return f.Close()
	case "mkdir":
		if err := os.Remove(arg); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		return os.Mkdir(arg, 0o755)
	case "run":
		return syscall.Exec(arg, []string{arg, "exit", "0"}, nil)
	case "memfd":
		return memory([]string{"exit", "0"})
	case "map":
		return mapped(arg)
	case "mount":
		if err := unix.Mount("none", arg, "tmpfs", 0, ""); err != nil {
			return err
		}
		return unix.Unmount(arg, 0)
	case "chown":
		return os.Chown(arg, 1, 1)
	case "unshare":
		return unix.Unshare(unix.CLONE_NEWUTS)
	case "socket":
		return socket(arg)
	case "signal":
		pid, err := strconv.Atoi(arg)
		if err != nil {
			return err
		}
		return syscall.Kill(pid, syscall.SIGURG) // which Go programs ignore
	}
	return fmt.Errorf("%s is nothing I know", verb)
}

func mapped(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	b, err := unix.Mmap(int(f.Fd()), 0, 1, unix.PROT_READ|unix.PROT_EXEC, unix.MAP_PRIVATE)
	if err != nil {
		return err
	}
	return unix.Munmap(b)
}

func socket(kind string) error {
	family, typ := unix.AF_INET, unix.SOCK_STREAM
	switch kind {
	case "raw":
		typ = unix.SOCK_RAW
	case "packet":
		family, typ = unix.AF_PACKET, unix.SOCK_RAW
	}
	protocol := 0
	if kind == "raw" {
		protocol = unix.IPPROTO_ICMP
	}
	fd, err := unix.Socket(family, typ|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

// confined becomes a program under an AppArmor profile, as a container's engine
// does.
func confined(label string, command []string) error {
	runtime.LockOSThread() // the label is of the thread that executes
	if err := os.WriteFile("/proc/thread-self/attr/apparmor/exec", []byte("exec "+label), 0); err != nil {
		return err
	}
	return syscall.Exec(command[0], command, nil)
}
