package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// oddFile is a step that brings in a file by a way that nobody takes for work.
func oddFile(verb string, args []string) error {
	a, b := args[0], args[1]
	switch verb {
	case "execas": // under another name than its own
		return syscall.Exec(a, args[1:], os.Environ())
	case "nofollow": // by a call that follows no link
		return execNotFollowing(args)
	case "executable": // in memory that is said to be for that
		f, err := inMemory(unix.MFD_EXEC)
		if err == unix.EINVAL { // before Linux 6.3 all is
			f, err = inMemory(0)
		}
		if err != nil {
			return err
		}
		return execAt(f, args)
	case "reopened": // to be written, by a descriptor that is good for its path alone
		fd, err := unix.Open(a, unix.O_PATH|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		_, err = unix.Open(fmt.Sprintf("/proc/self/fd/%d", fd), unix.O_RDWR|unix.O_CLOEXEC, 0)
		return err
	case "punch": // a hole into a program, which reads as it did
		return punched(a)
	case "rewritten": // by shared memory
		return rewritten(a)
	case "ranged": // by a copy that the kernel makes
		return ranged(a, b)
	case "handle": // by the number that its file system knows it by
		return execByHandle(args)
	case "handed": // over by a socket
		return execHanded(args)
	case "attach-over": // a mount of its own, attached over another file
		return attachedOver(a, b)
	case "numbered": // a script by the number of a descriptor
		return numbered(args)
	}
	return oddCode(verb, a)
}

func execNotFollowing(args []string) error {
	path, err := unix.BytePtrFromString(args[0])
	if err != nil {
		return err
	}
	argv, err := syscall.SlicePtrFromStrings(args)
	if err != nil {
		return err
	}
	var env [1]*byte
	here := unix.AT_FDCWD
	_, _, number := syscall.RawSyscall6(unix.SYS_EXECVEAT, uintptr(here), uintptr(unsafe.Pointer(path)),
		uintptr(unsafe.Pointer(&argv[0])), uintptr(unsafe.Pointer(&env[0])), unix.AT_SYMLINK_NOFOLLOW, 0)
	return number
}

func punched(file string) error {
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 1<<40, 1), f.Close())
}

func rewritten(file string) error {
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	b, err := unix.Mmap(int(f.Fd()), 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	b[15]++ // padding of the head
	return errors.Join(unix.Munmap(b), f.Close())
}

func ranged(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = unix.CopyFileRange(int(in.Fd()), nil, int(out.Fd()), nil, 4096, 0)
	return errors.Join(err, out.Close())
}

func execByHandle(args []string) error {
	handle, _, err := unix.NameToHandleAt(unix.AT_FDCWD, args[0], 0)
	if err != nil {
		return err
	}
	folder, err := unix.Open(filepath.Dir(args[0]), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	fd, err := unix.OpenByHandleAt(folder, handle, unix.O_RDONLY|unix.O_CLOEXEC)
	if err != nil {
		return err
	}
	return execAt(os.NewFile(uintptr(fd), args[0]), args)
}

func execHanded(args []string) error {
	f, err := inMemory(0)
	if err != nil {
		return err
	}
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	if err := errors.Join(unix.Sendmsg(ends[0], []byte{0}, unix.UnixRights(int(f.Fd())), nil, 0), f.Close()); err != nil {
		return err
	}
	control := make([]byte, unix.CmsgSpace(4))
	if _, _, _, _, err := unix.Recvmsg(ends[1], make([]byte, 1), control, 0); err != nil {
		return err
	}
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return err
	}
	got, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		return err
	}
	return execAt(os.NewFile(uintptr(got[0]), "handed"), args)
}

func attachedOver(from, to string) error {
	fd, err := unix.OpenTree(unix.AT_FDCWD, from, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return err
	}
	return unix.MoveMount(fd, "", unix.AT_FDCWD, to, unix.MOVE_MOUNT_F_EMPTY_PATH)
}

func numbered(args []string) error {
	fd, err := unix.Open(args[1], unix.O_RDONLY, 0)
	if err != nil {
		return err
	}
	return syscall.Exec(args[0], []string{args[0], fmt.Sprintf("%s/%d", args[2], fd)}, nil)
}

// oddCode is a step that makes code of memory by such a way.
func oddCode(verb, a string) error {
	size := os.Getpagesize()
	switch verb {
	case "moved": // after it was written
		b, err := writtenMemory()
		if err != nil {
			return err
		}
		to, err := unix.MremapPtr(unsafe.Pointer(&b[0]), uintptr(size), nil, uintptr(2*size), unix.MREMAP_MAYMOVE)
		if err != nil {
			return err
		}
		return unix.Mprotect(unsafe.Slice((*byte)(to), size), unix.PROT_READ|unix.PROT_EXEC)
	case "keyed":
		b, err := writtenMemory()
		if err != nil {
			return err
		}
		return numberOf(syscall.RawSyscall6(unix.SYS_PKEY_MPROTECT, uintptr(unsafe.Pointer(&b[0])), uintptr(size), unix.PROT_READ|unix.PROT_EXEC, ^uintptr(0), 0, 0))
	case "grown": // downwards, from the end of what was written
		return grown()
	case "ringcode": // what an io_uring shares with the kernel
		var p ringParams
		fd, _, number := syscall.Syscall(unix.SYS_IO_URING_SETUP, 4, uintptr(unsafe.Pointer(&p)), 0)
		if number != 0 {
			return fmt.Errorf("no ring: %v", number)
		}
		_, err := unix.Mmap(int(fd), ringEntries, size, unix.PROT_READ|unix.PROT_EXEC, unix.MAP_SHARED)
		return err
	case "perfcode": // what a performance event shares
		attr := unix.PerfEventAttr{Type: unix.PERF_TYPE_SOFTWARE, Config: unix.PERF_COUNT_SW_TASK_CLOCK, Size: uint32(unsafe.Sizeof(unix.PerfEventAttr{}))}
		fd, err := unix.PerfEventOpen(&attr, 0, -1, -1, unix.PERF_FLAG_FD_CLOEXEC)
		if err != nil {
			return err
		}
		_, err = unix.Mmap(fd, 0, 2*size, unix.PROT_READ|unix.PROT_EXEC, unix.MAP_SHARED)
		return err
	case "persona": // all that can be read, from now on
		return readable()
	case "codefirst": // shared memory that is written when it is code
		return codeFirst()
	case "hugecode": // memory of large pages
		return hugeCode()
	case "wide", "widefile": // by a number of a call with more above it
		return wide(verb == "widefile")
	case "lent", "lentfile": // by a child that shares our memory, and our descriptors
		return lent(verb == "lentfile")
	}
	return reach(verb, a)
}

func numberOf(_, _ uintptr, number syscall.Errno) error {
	if number != 0 {
		return number
	}
	return nil
}

func writtenMemory() ([]byte, error) {
	b, err := unix.Mmap(-1, 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err == nil {
		b[0] = 0xc3
	}
	return b, err
}

func grown() error {
	size := os.Getpagesize()
	b, err := unix.Mmap(-1, 0, 4*size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_GROWSDOWN)
	if err != nil {
		return err
	}
	b[0], b[3*size] = 0xc3, 0xc3
	return unix.Mprotect(b[3*size:], unix.PROT_READ|unix.PROT_EXEC|unix.PROT_GROWSDOWN)
}

// readable asks that all memory that can be read be code.
func readable() error {
	const readImpliesExec = 0x0400000
	return numberOf(syscall.RawSyscall(unix.SYS_PERSONALITY, readImpliesExec, 0, 0))
}

// unlessCode returns EPERM where memory is no code.
func unlessCode(at unsafe.Pointer) error {
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return err
	}
	begin := fmt.Sprintf("%x-", uintptr(at))
	for line := range strings.Lines(string(maps)) {
		if rest, ok := strings.CutPrefix(line, begin); ok && strings.Contains(strings.Fields(rest)[1], "x") {
			return nil
		}
	}
	return unix.EPERM
}

func lent(file bool) error {
	const shared = unix.CLONE_VM | unix.CLONE_VFORK | unix.CLONE_FILES | uintptr(unix.SIGCHLD)
	b, err := writtenMemory()
	if err != nil {
		return err
	}
	if !file {
		lend(shared, unix.SYS_MPROTECT, uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), unix.PROT_READ|unix.PROT_EXEC)
		return unlessCode(unsafe.Pointer(&b[0]))
	}
	next, err := unix.Dup(2)
	if err != nil {
		return err
	}
	if err := unix.Close(next); err != nil {
		return err
	}
	path, err := unix.BytePtrFromString("/proc/self/mem")
	if err != nil {
		return err
	}
	here := unix.AT_FDCWD
	lend(shared, unix.SYS_OPENAT, uintptr(here), uintptr(unsafe.Pointer(path)), unix.O_RDWR)
	if _, err := unix.FcntlInt(uintptr(next), unix.F_GETFD, 0); err != nil {
		return unix.EPERM
	}
	return nil
}

// codeFirst has shared memory as code, and writes it by another mapping of it.
func codeFirst() error {
	size := os.Getpagesize()
	b, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_EXEC, unix.MAP_SHARED|unix.MAP_ANONYMOUS)
	if err != nil {
		return err
	}
	second, err := unix.MremapPtr(unsafe.Pointer(&b[0]), 0, nil, uintptr(size), unix.MREMAP_MAYMOVE)
	if err != nil {
		return err
	}
	written := unsafe.Slice((*byte)(second), size)
	if err := unix.Mprotect(written, unix.PROT_READ|unix.PROT_WRITE); err != nil {
		return err
	}
	written[0] = 0xc3
	if b[0] != 0xc3 {
		return errors.New("what was written by one mapping is not seen by the other")
	}
	return nil
}

func hugeCode() error {
	fd, err := unix.MemfdCreate("x", unix.MFD_HUGETLB)
	if err != nil {
		return err
	}
	_, err = unix.Mmap(fd, 0, 2<<20, unix.PROT_READ|unix.PROT_EXEC, unix.MAP_SHARED|unix.MAP_NORESERVE)
	return err
}

// wideCall is what the kernel does not look at of the number of a call, since 5.14.
const wideCall = 1 << 32

func wide(file bool) error {
	if file {
		path, err := unix.BytePtrFromString("/proc/self/mem")
		if err != nil {
			return err
		}
		here := unix.AT_FDCWD
		return numberOf(syscall.RawSyscall(wideCall+unix.SYS_OPENAT, uintptr(here), uintptr(unsafe.Pointer(path)), unix.O_RDWR))
	}
	const all = unix.PROT_READ | unix.PROT_WRITE | unix.PROT_EXEC
	return numberOf(syscall.RawSyscall6(wideCall+unix.SYS_MMAP, 0, uintptr(os.Getpagesize()), all, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS, ^uintptr(0), 0))
}
