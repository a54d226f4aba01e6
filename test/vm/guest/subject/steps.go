package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// steps does one thing after the other, each given as verb=ARG,ARG…, and returns the
// error number of the first that fails. One that becomes another program is the last.
func steps(all []string) (int, error) {
	for _, one := range all {
		verb, rest, _ := strings.Cut(one, "=")
		args := strings.Split(rest, ",")
		if verb == "exit" {
			return strconv.Atoi(rest)
		}
		if verb == "spawn" {
			return spawn(args)
		}
		err := step(verb, args)
		var number syscall.Errno
		if errors.As(err, &number) {
			return int(number), nil
		}
		if err != nil {
			return 0, fmt.Errorf("%s: %w", one, err)
		}
	}
	return 0, nil
}

// interpreted does the steps that a script has, one a line, below its first line.
func interpreted(file string) (int, error) {
	b, err := os.ReadFile(file)
	var number syscall.Errno
	if errors.As(err, &number) {
		return int(number), nil
	}
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(b), "\n")
	return steps(strings.Fields(rest))
}

func step(verb string, args []string) error {
	for len(args) < 2 {
		args = append(args, "")
	}
	a, b := args[0], args[1]
	switch verb {
	case "copy":
		return copyFile(a, b)
	case "put": // a file with the lines of a script
		if err := os.MkdirAll(filepath.Dir(a), 0o755); err != nil {
			return err
		}
		return os.WriteFile(a, []byte(strings.Join(args[1:], "\n")+"\n"), 0o755)
	case "append":
		return appendTo(a)
	case "rename":
		return os.Rename(a, b)
	case "link":
		return os.Link(a, b)
	case "symlink":
		if err := os.MkdirAll(filepath.Dir(b), 0o755); err != nil {
			return err
		}
		return os.Symlink(a, b)
	case "remove":
		return os.Remove(a)
	case "mkdir":
		return os.MkdirAll(a, 0o755)
	case "chdir":
		return os.Chdir(a)
	case "chroot":
		if err := syscall.Chroot(a); err != nil {
			return err
		}
		return os.Chdir("/")
	case "tmpfs":
		if err := os.MkdirAll(a, 0o755); err != nil {
			return err
		}
		return unix.Mount("none", a, "tmpfs", 0, "")
	case "bind":
		return unix.Mount(a, b, "", unix.MS_BIND, "")
	case "overlay": // folders over one another, over the first
		return unix.Mount("none", a, "overlay", unix.MS_RDONLY, "lowerdir="+strings.Join(args[1:], ":"))
	case "turn": // the root, to the working folder
		return unix.PivotRoot(".", ".")
	case "unshare": // leave the namespace of mounts
		return unix.Unshare(unix.CLONE_NEWNS)
	case "threads":
		return threads(a)
	}
	return become(verb, args)
}

// become is for what makes code run.
func become(verb string, args []string) error {
	file := args[0]
	switch verb {
	case "exec":
		return syscall.Exec(file, args, nil)
	case "fdexec":
		f, err := os.Open(file)
		if err != nil {
			return err
		}
		return syscall.Exec(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), args, nil)
	case "unlinkexec": // of a file that has no name any more
		f, err := os.Open(file)
		if err != nil {
			return err
		}
		if err := os.Remove(file); err != nil {
			return err
		}
		return execAt(f, args)
	case "execveat":
		f, err := os.Open(file)
		if err != nil {
			return err
		}
		return execAt(f, args)
	case "nowhere": // on a file system that is mounted nowhere
		return execNowhere(args)
	case "memfd":
		return memory(args[1:])
	case "sealed": // in memory that nobody can change any more
		f, err := inMemory(unix.MFD_ALLOW_SEALING)
		if err != nil {
			return err
		}
		if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_WRITE|unix.F_SEAL_GROW|unix.F_SEAL_SHRINK|unix.F_SEAL_SEAL); err != nil {
			return err
		}
		return execAt(f, args)
	case "unnamed", "named": // a file that is made without a name, and gets one
		return execUnnamed(args, verb == "named")
	}
	return becomeCode(verb, args)
}

// becomeCode is for what makes code of memory and of files that are mapped.
func becomeCode(verb string, args []string) error {
	file := args[0]
	switch verb {
	case "duplicated": // shared memory that is written, and mapped a second time to be run
		return duplicated()
	case "memorymap":
		f, err := inMemory(0)
		if err != nil {
			return err
		}
		_, err = unix.Mmap(int(f.Fd()), 0, 1, unix.PROT_READ|unix.PROT_EXEC, unix.MAP_PRIVATE)
		return err
	case "map":
		return mapped(file)
	case "mapthen":
		return mappedThen(file)
	case "wx":
		b, err := unix.Mmap(-1, 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE|unix.PROT_EXEC, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
		if err != nil {
			return err
		}
		return unix.Munmap(b)
	case "shared": // memory that can be written and run
		_, err := unix.Mmap(-1, 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE|unix.PROT_EXEC, unix.MAP_SHARED|unix.MAP_ANONYMOUS)
		return err
	case "attach": // shared memory of System V, as code
		const create, execute = 0o1700, 0o100000
		id, err := unix.SysvShmGet(unix.IPC_PRIVATE, os.Getpagesize(), create)
		if err != nil {
			return err
		}
		_, err = unix.SysvShmAttach(id, 0, execute)
		return err
	case "implied": // a file mapped to be read, which a personality makes code
		const readImpliesExec = 0x0400000
		if _, _, number := syscall.RawSyscall(unix.SYS_PERSONALITY, readImpliesExec, 0, 0); number != 0 {
			return number
		}
		f, err := os.Open(file)
		if err != nil {
			return err
		}
		_, err = unix.Mmap(int(f.Fd()), 0, 1, unix.PROT_READ, unix.MAP_PRIVATE)
		return err
	case "written": // memory, and then made code
		b, err := unix.Mmap(-1, 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
		if err != nil {
			return err
		}
		b[0] = 0xc3
		return unix.Mprotect(b, unix.PROT_READ|unix.PROT_EXEC)
	}
	return change(verb, args)
}

// execNowhere executes a copy of a file on a file system that no namespace has mounted.
func execNowhere(args []string) error {
	fs, err := unix.Fsopen("tmpfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return err
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return err
	}
	at, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return err
	}
	file := fmt.Sprintf("/proc/self/fd/%d/x", at)
	if err := copyFile(args[0], file); err != nil {
		return err
	}
	return syscall.Exec(file, args, nil)
}

// inMemory returns a copy of this program in memory.
func inMemory(flags int) (*os.File, error) {
	fd, err := unix.MemfdCreate("x", flags)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "x")
	own, err := os.Open("/proc/self/exe")
	if err != nil {
		return nil, err
	}
	defer own.Close()
	_, err = io.Copy(f, own)
	return f, err
}

// execUnnamed executes a copy of this program that was made without a name: as it is, or
// when it got that of the first argument, in whose folder it is made.
func execUnnamed(args []string, named bool) error {
	fd, err := unix.Open(filepath.Dir(args[0]), unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o755)
	if err != nil {
		return err
	}
	own, err := os.Open("/proc/self/exe")
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), "x")
	if _, err := io.Copy(f, own); err != nil {
		return err
	}
	path := fmt.Sprintf("/proc/self/fd/%d", fd)
	if named {
		if err := unix.Linkat(unix.AT_FDCWD, path, unix.AT_FDCWD, args[0], unix.AT_SYMLINK_FOLLOW); err != nil {
			return err
		}
		path = args[0]
	}
	// Nobody executes a file that is open to be written.
	read, err := os.Open(path)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return execAt(read, args)
}

// duplicated maps shared memory twice, by a call that is for moving it.
func duplicated() error {
	size := uintptr(os.Getpagesize())
	b, err := unix.Mmap(-1, 0, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANONYMOUS)
	if err != nil {
		return err
	}
	b[0] = 0xc3
	second, err := unix.MremapPtr(unsafe.Pointer(&b[0]), 0, nil, size, unix.MREMAP_MAYMOVE)
	if err != nil {
		return err
	}
	return unix.Mprotect(unsafe.Slice((*byte)(second), size), unix.PROT_READ|unix.PROT_EXEC)
}

func execAt(f *os.File, args []string) error {
	argv, err := syscall.SlicePtrFromStrings(args)
	if err != nil {
		return err
	}
	empty, err := syscall.BytePtrFromString("")
	if err != nil {
		return err
	}
	var env [1]*byte
	_, _, number := syscall.RawSyscall6(unix.SYS_EXECVEAT, f.Fd(), uintptr(unsafe.Pointer(empty)),
		uintptr(unsafe.Pointer(&argv[0])), uintptr(unsafe.Pointer(&env[0])), unix.AT_EMPTY_PATH, 0)
	return number
}

// spawn runs a program as a child that shares our memory until it executes (vfork),
// and returns what it ended with.
func spawn(args []string) (int, error) {
	p, err := os.StartProcess(args[0], args, &os.ProcAttr{Files: []*os.File{os.Stdin, os.Stdout, os.Stderr}})
	var number syscall.Errno
	if errors.As(err, &number) {
		return int(number), nil
	}
	if err != nil {
		return 0, err
	}
	state, err := p.Wait()
	if err != nil {
		return 0, err
	}
	if status, ok := state.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		// As a shell does: the first process of a namespace can't kill itself.
		return 128 + int(status.Signal()), nil
	}
	return state.ExitCode(), nil
}

func mappedThen(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	b, err := unix.Mmap(int(f.Fd()), 0, 1, unix.PROT_READ, unix.MAP_PRIVATE)
	if err != nil {
		return err
	}
	return unix.Mprotect(b, unix.PROT_READ|unix.PROT_EXEC)
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

func appendTo(file string) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	_, err = f.Write([]byte{0})
	return errors.Join(err, f.Close())
}

func threads(count string) error {
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
