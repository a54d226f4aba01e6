// Command subject is the program that the tests in the virtual machine watch,
// confine and refuse. It does what its arguments say:
//
//	exit N                      end with code N
//	read FILE                   end with the error number of opening FILE, 0 for none
//	wait                        say "ready" and wait for the end of standard input
//	drop FILE ARG…              copy itself to FILE and become that
//	memory ARG…                 copy itself to a file in memory and become that
//	enter CGROUPS ROOT PROGRAM ARG…
//	                            move into the cgroups (folders, separated by commas),
//	                            make ROOT the root, and become PROGRAM
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// misused is the exit code when subject itself could not do what it was told.
const misused = 99

func main() {
	code, err := run(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "subject:", err)
		os.Exit(misused)
	}
	os.Exit(code)
}

func run(args []string) (int, error) {
	if len(args) == 0 {
		return 0, errors.New("nothing to do")
	}
	verb, args := args[0], args[1:]
	switch {
	case verb == "exit" && len(args) == 1:
		return strconv.Atoi(args[0])
	case verb == "read" && len(args) == 1:
		return read(args[0])
	case verb == "wait" && len(args) == 0:
		fmt.Println("ready")
		_, err := io.Copy(io.Discard, os.Stdin)
		return 0, err
	case verb == "drop" && len(args) >= 1:
		return 0, drop(args[0], args[1:])
	case verb == "memory":
		return 0, memory(args)
	case verb == "enter" && len(args) >= 3:
		return 0, enter(strings.Split(args[0], ","), args[1], args[2:])
	}
	return 0, fmt.Errorf("%s with %d arguments is nothing I know", verb, len(args))
}

func read(file string) (int, error) {
	_, err := os.ReadFile(file)
	var number syscall.Errno
	if errors.As(err, &number) {
		return int(number), nil
	}
	return 0, err
}

func drop(file string, args []string) error {
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(file, self, 0o755); err != nil {
		return err
	}
	return syscall.Exec(file, append([]string{file}, args...), nil)
}

func memory(args []string) error {
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return err
	}
	fd, err := unix.MemfdCreate("payload", unix.MFD_CLOEXEC)
	if err != nil {
		return err
	}
	if _, err := unix.Write(fd, self); err != nil {
		return err
	}
	return syscall.Exec(fmt.Sprintf("/proc/self/fd/%d", fd), append([]string{"payload"}, args...), nil)
}

func enter(cgroups []string, root string, command []string) error {
	for _, c := range cgroups {
		if err := os.WriteFile(filepath.Join(c, "cgroup.procs"), []byte("0"), 0o644); err != nil {
			return err
		}
	}
	if err := syscall.Chroot(root); err != nil {
		return fmt.Errorf("change root to %s: %w", root, err)
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	// A container has its own process ids, and so a proc file system of its own.
	if err := syscall.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("mount proc: %w", err)
	}
	return syscall.Exec(command[0], command, nil)
}
