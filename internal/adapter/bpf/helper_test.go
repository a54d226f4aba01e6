package bpf_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/castellan-security/castellan/internal/adapter/bpf"
)

// helperEnv makes the test binary act as a small program instead of testing.
const helperEnv = "CASTELLAN_BPF_HELPER"

const (
	helperTells = "tells" // in helperEnv: it closes helperReady as soon as it runs
	helperReady = 3
)

// Roots and namespaces are of a thread: only what the main one does is what sensors see
// of the process, and only here does Go say that we are on it.
func init() {
	if os.Getenv(helperEnv) != "" {
		runtime.LockOSThread()
	}
}

func TestMain(m *testing.M) {
	switch os.Getenv(helperEnv) {
	case "":
		os.Exit(m.Run())
	case helperTells:
		if err := errors.Join(unix.Close(helperReady), os.Setenv(helperEnv, "1")); err != nil {
			fmt.Fprintln(os.Stderr, "helper:", err)
			os.Exit(99)
		}
	}
	if err := help(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "helper:", err)
		os.Exit(99)
	}
}

// help does what its words say, one after the other.
func help(words []string) error {
	for i, word := range words {
		verb, value, _ := strings.Cut(word, "=")
		switch verb {
		case "wait": // until the test has put us where it wants us
			if _, err := bufio.NewReaderSize(os.Stdin, 16).ReadString('\n'); err != nil {
				return err
			}
		case "exec": // the rest is the argument list
			return syscall.Exec(value, words[i+1:], os.Environ())
		case "memfd": // execute a copy of value that was never in a folder
			return execMemfd(value, words[i+1:])
		case "made": // execute value after removing it and making it anew
			return execAgain(value, words[i+1:])
		case "deleted": // execute value after removing its name
			return execDeleted(value, words[i+1:])
		case "overlay": // make value/merged of value/lower… and value/upper the root
			if err := enterOverlay(value); err != nil {
				return err
			}
		case "fork": // start a process that executes nothing and ends with the code
			if err := forkOnly(value); err != nil {
				return err
			}
		case "again": // start the rest that many times, one after the other
			return startAgain(value, words[i+1:])
		case "forks": // like fork=0, that many times
			if err := forkAgain(value); err != nil {
				return err
			}
		case "hold": // start a process that executes nothing and waits for our end
			if err := forkAndHold(); err != nil {
				return err
			}
		case "threads": // start and end threads
			if err := startThreads(value); err != nil {
				return err
			}
		case "run": // start ourselves with the rest, as a child
			p, err := os.StartProcess("/proc/self/exe", append([]string{value}, words[i+1:]...), &os.ProcAttr{Files: []*os.File{os.Stdin, os.Stdout, os.Stderr}})
			if err != nil {
				return err
			}
			state, err := p.Wait()
			if err != nil {
				return err
			}
			os.Exit(state.ExitCode())
		case "memory": // take that many bytes
			n, err := strconv.Atoi(value)
			if err != nil {
				return err
			}
			taken := make([]byte, n)
			for i := 0; i < n; i += os.Getpagesize() {
				taken[i] = 1
			}
			runtime.KeepAlive(taken)
		case "dial": // connect to the unix socket, whether that succeeds or not
			if err := dialUnix(value); err != nil {
				return err
			}
		case "serve": // listen at a unix socket until the test lets us go on
			if err := serveUnix(value); err != nil {
				return err
			}
		case "redirect": // connect to the address, and make that our input and error
			if err := redirect(value); err != nil {
				return err
			}
		case "input": // make a connection our input, in that way
			if err := takeInput(value); err != nil {
				return err
			}
		case "newns": // leave the host's mount namespace
			if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
				return err
			}
		case "calls": // make the privileged calls of that name
			if err := makeCalls(value); err != nil {
				return err
			}
		case "agent": // hold a container, until we are killed
			dir, id, _ := strings.Cut(value, ",")
			if err := serveAsAgent(dir, id); err != nil {
				return err
			}
		case "script": // make system calls
			if err := callScript(value); err != nil {
				return err
			}
		case "status": // of sensors that we open
			if err := printStatus(); err != nil {
				return err
			}
		case "signal":
			n, err := strconv.Atoi(value)
			if err != nil {
				return err
			}
			signal.Reset()
			if err := unix.Kill(os.Getpid(), syscall.Signal(n)); err != nil {
				return err
			}
			select {}
		case "exit":
			n, err := strconv.Atoi(value)
			if err != nil {
				return err
			}
			os.Exit(n)
		}
	}
	return nil
}

func printStatus() error {
	s, err := bpf.Open(context.Background(), bpf.Options{}, quiet())
	if err != nil {
		return err
	}
	if err := json.NewEncoder(os.Stdout).Encode(s.Status()); err != nil {
		return err
	}
	return s.Close()
}

func execMemfd(source string, args []string) error {
	b, err := os.ReadFile(source)
	if err != nil {
		return err
	}
	fd, err := unix.MemfdCreate("payload", 0)
	if err != nil {
		return err
	}
	if _, err := os.NewFile(uintptr(fd), "payload").Write(b); err != nil {
		return err
	}
	return syscall.Exec(fmt.Sprintf("/proc/self/fd/%d", fd), args, os.Environ())
}

func execDeleted(path string, args []string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	if err := os.Remove(path); err != nil {
		return err
	}
	return syscall.Exec(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), args, os.Environ())
}

func enterOverlay(dir string) error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return err
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	lower, err := lowerDirs(dir)
	if err != nil {
		return err
	}
	options := fmt.Sprintf("lowerdir=%[2]s,upperdir=%[1]s/upper,workdir=%[1]s/work", dir, lower)
	merged := filepath.Join(dir, "merged")
	if err := unix.Mount("overlay", merged, "overlay", 0, options); err != nil {
		return fmt.Errorf("mount overlay: %w", err)
	}
	for source, target := range map[string]string{filepath.Join(dir, "volume"): "volume", "/proc": "proc"} {
		if err := unix.Mount(source, filepath.Join(merged, target), "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("mount %s: %w", target, err)
		}
	}
	if err := unix.Chroot(merged); err != nil {
		return err
	}
	return unix.Chdir("/bin")
}

// lowerDirs lists lower layers as the option of that name does, the topmost
// first: lower3, lower2, lower1, or lower alone. A folder called data holds data
// alone.
func lowerDirs(dir string) (string, error) {
	all, err := filepath.Glob(filepath.Join(dir, "lower*"))
	if err != nil {
		return "", err
	}
	slices.Sort(all)
	slices.Reverse(all)
	option := strings.Join(all, ":")
	if _, err := os.Stat(filepath.Join(dir, "data")); err == nil {
		option += "::" + filepath.Join(dir, "data") + ",metacopy=on,redirect_dir=on"
	}
	return option, nil
}

func execAgain(path string, args []string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := os.Remove(path); err != nil {
		return err
	}
	if err := os.WriteFile(path, b, 0o755); err != nil {
		return err
	}
	return syscall.Exec(path, args, os.Environ())
}

func forkOnly(code string) error {
	n, err := strconv.Atoi(code)
	if err != nil {
		return err
	}
	pid, _, errno := syscall.RawSyscall(syscall.SYS_CLONE, uintptr(syscall.SIGCHLD), 0, 0)
	if errno != 0 {
		return errno
	}
	if pid == 0 {
		syscall.RawSyscall(syscall.SYS_EXIT_GROUP, uintptr(n), 0, 0)
	}
	fmt.Println(pid)
	_, err = syscall.Wait4(int(pid), nil, 0, nil)
	return err
}

func startThreads(count string) error {
	n, err := strconv.Atoi(count)
	if err != nil {
		return err
	}
	var all, alive sync.WaitGroup
	alive.Add(n)
	for range n {
		all.Go(func() {
			runtime.LockOSThread() // and never unlock: the thread ends with us
			alive.Done()
			alive.Wait()
		})
	}
	all.Wait()
	return nil
}
