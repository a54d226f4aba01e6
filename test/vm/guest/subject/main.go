// Command subject is the program that the tests in the virtual machine watch,
// confine and refuse. It does what its arguments say:
//
//	exit N                      end with code N
//	read FILE                   end with the error number of opening FILE, 0 for none
//	connect ADDRESS:PORT        end with the error number of connecting by TCP
//	wait                        say "ready" and wait for the end of standard input
//	drop FILE ARG…              copy itself to FILE and become that
//	memory ARG…                 copy itself to a file in memory and become that
//	confined PROFILE PROGRAM ARG…
//	                            become PROGRAM under an AppArmor profile
//	write FILE, mkdir FOLDER, run FILE, memfd, map FILE, mount FOLDER, chown FILE,
//	unshare, socket KIND, signal PID
//	                            end with the error number of doing that
//	steps STEP…                 do one after the other, see steps.go, and end with the
//	                            error number of what fails
//	script FILE                 do the steps that stand in a file
//	act                         do one thing that each of the sensors tells
//	enter CGROUPS ROOT PROGRAM ARG…
//	                            move into the cgroups (folders, separated by commas),
//	                            make ROOT the root, and become PROGRAM
package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// misused is the exit code when subject itself could not do what it was told.
const misused = 99

func main() {
	// Roots and namespaces are of a thread here, and so is who executes: only what the main
	// one does is what the kernel tells of the process, and later we may be on another.
	runtime.LockOSThread()
	code, err := begin(os.Args)
	if err != nil {
		fmt.Fprintln(os.Stderr, "subject:", err)
		os.Exit(misused)
	}
	os.Exit(code)
}

// begin does what its arguments say, or, under the name of an interpreter, the steps
// that stand in the file that is its last argument.
func begin(args []string) (int, error) {
	switch filepath.Base(args[0]) {
	case "python3.11", "node", "java":
		return interpreted(args[len(args)-1])
	}
	if strings.HasPrefix(args[0], "/interpreters/") {
		last := args[len(args)-1]
		return interpreted(last[max(0, strings.Index(last, "/tmp/")):]) // behind an option
	}
	return run(args[1:])
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
	case verb == "connect" && len(args) == 1:
		return connect(args[0])
	case verb == "wait" && len(args) == 0:
		fmt.Println("ready")
		_, err := io.Copy(io.Discard, os.Stdin)
		return 0, err
	case verb == "drop" && len(args) >= 1:
		return 0, drop(args[0], args[1:])
	case verb == "memory":
		return 0, memory(args)
	case verb == "confined" && len(args) >= 2:
		return 0, confined(args[0], args[1:])
	case verb == "steps":
		return steps(args)
	case verb == "script" && len(args) >= 1:
		return interpreted(args[0])
	case isDeed(verb):
		return deed(verb, args)
	case verb == "act" && len(args) == 0:
		return 0, act()
	case verb == "exhaust" && len(args) == 1:
		return 0, exhaust(args[0])
	case verb == "enter" && len(args) >= 3:
		return 0, enter(strings.Split(args[0], ","), args[1], args[2:])
	}
	return 0, fmt.Errorf("%s with %d arguments is nothing I know", verb, len(args))
}

// exhaust takes that many bytes of memory.
func exhaust(bytes string) error {
	n, err := strconv.Atoi(bytes)
	if err != nil {
		return err
	}
	taken := make([]byte, n)
	for i := 0; i < n; i += os.Getpagesize() {
		taken[i] = 1
	}
	fmt.Println(taken[n-1])
	return nil
}

func read(file string) (int, error) {
	_, err := os.ReadFile(file)
	var number syscall.Errno
	if errors.As(err, &number) {
		return int(number), nil
	}
	return 0, err
}

func connect(address string) (int, error) {
	conn, err := net.Dial("tcp", address)
	var number syscall.Errno
	if errors.As(err, &number) {
		return int(number), nil
	}
	if err != nil {
		return 0, err
	}
	return 0, conn.Close()
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

// act writes a file, makes memory that can be written and executed, leaves a
// namespace, connects to itself, and asks for a name that nobody answers.
func act() error {
	if err := os.WriteFile("/acted", []byte("x"), 0o644); err != nil {
		return err
	}
	const everything = unix.PROT_READ | unix.PROT_WRITE | unix.PROT_EXEC
	if _, err := unix.Mmap(-1, 0, os.Getpagesize(), everything, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS); err != nil {
		return fmt.Errorf("map memory: %w", err)
	}
	if err := unix.Unshare(unix.CLONE_NEWUTS); err != nil {
		return fmt.Errorf("leave namespace: %w", err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		return err
	}
	defer c.Close()
	ask, err := net.Dial("udp", "127.0.0.1:53")
	if err != nil {
		return err
	}
	defer ask.Close()
	_, err = ask.Write([]byte("\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x05acted\x07example\x00\x00\x01\x00\x01"))
	return err
}

func enter(cgroups []string, root string, command []string) error {
	for _, c := range cgroups {
		if c == "" {
			continue // whoever started us put us there
		}
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
