package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// change is a step that changes or reads a file.
func change(verb string, args []string) error {
	a, b := args[0], args[1]
	switch verb {
	case "write":
		return opened(a, os.O_WRONLY)
	case "update":
		return opened(a, os.O_RDWR)
	case "make":
		return opened(a, os.O_WRONLY|os.O_CREATE|os.O_EXCL)
	case "empty": // cut without being opened for writing
		return opened(a, os.O_RDONLY|os.O_TRUNC)
	case "read":
		return opened(a, os.O_RDONLY)
	case "truncate":
		return unix.Truncate(a, 1)
	case "folder":
		return unix.Mkdir(a, 0o755)
	case "unfolder":
		return unix.Rmdir(a)
	case "fifo":
		return unix.Mknod(a, unix.S_IFIFO|0o644, 0)
	case "unlink":
		return unix.Unlink(a)
	case "exchange":
		return unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE)
	case "chmod", "chown":
		return attribute(verb, a, b)
	case "openat2":
		return openHow(a)
	case "nameless":
		return nameless(a, b)
	case "ring":
		return openByRing(a)
	case "around": // by the folder of an open file
		return opened(around(a), os.O_WRONLY)
	case "socket":
		return socketAt(a)
	case "timed": // many times, and how long one took
		return timed(a, b)
	case "burst": // many files, as a package manager makes
		return burst(a, b)
	}
	return privileged(verb, args)
}

func opened(file string, flags int) error {
	fd, err := unix.Open(file, flags|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

func attribute(verb, file, what string) error {
	if verb == "chmod" {
		mode, err := strconv.ParseUint(what, 8, 32)
		if err != nil {
			return err
		}
		return unix.Chmod(file, uint32(mode))
	}
	id, err := strconv.Atoi(what)
	if err != nil {
		return err
	}
	return unix.Chown(file, id, -1)
}

func openHow(file string) error {
	fd, err := unix.Openat2(unix.AT_FDCWD, file, &unix.OpenHow{Flags: unix.O_WRONLY | unix.O_CLOEXEC})
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

// nameless makes a file without a name in a folder, and then gives it one.
func nameless(folder, name string) error {
	fd, err := unix.Open(folder, unix.O_TMPFILE|unix.O_WRONLY|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if name == "" {
		return nil
	}
	return unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", fd), unix.AT_FDCWD, name, unix.AT_SYMLINK_FOLLOW)
}

// around is a path to the same file by the root of the process.
func around(file string) string { return "/proc/self/root" + file }

func socketAt(file string) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Bind(fd, &unix.SockaddrUnix{Name: file})
}

// timed prints how many nanoseconds one of many opens takes, with its close.
func timed(how, file string) error {
	const times = 2_000
	flags := map[string]int{"read": os.O_RDONLY, "write": os.O_WRONLY, "make": os.O_WRONLY | os.O_CREATE}[how]
	begin := time.Now()
	for range times {
		if err := opened(file, flags); err != nil {
			return err
		}
		if how != "make" {
			continue
		}
		if err := unix.Unlink(file); err != nil {
			return err
		}
	}
	fmt.Printf("%s %s %d ns\n", how, file, time.Since(begin).Nanoseconds()/times)
	return nil
}

func burst(folder, count string) error {
	n, err := strconv.Atoi(count)
	if err != nil {
		return err
	}
	for i := range n {
		name := folder + "/" + strings.Repeat("x", i%40) + strconv.Itoa(i)
		if err := opened(name+".new", os.O_WRONLY|os.O_CREATE); err != nil {
			return err
		}
		if err := unix.Rename(name+".new", name); err != nil {
			return err
		}
	}
	return nil
}

// Of include/uapi/linux/io_uring.h.
const (
	ringConnect  = 16
	ringOpenAt   = 18
	ringAsync    = 1 << 4 // of the flags of an entry: by a thread of the ring
	ringGetEvent = 1
	ringSQ       = 0
	ringCQ       = 0x8000000
	ringEntries  = 0x10000000
)

type ringOffsets struct {
	head, tail, mask, entries, flags, dropped, array, reserved uint32
	user                                                       uint64
}

type ringParams struct {
	sqEntries, cqEntries, flags, cpu, idle, features, wq uint32
	reserved                                             [3]uint32
	sq, cq                                               ringOffsets
}

type ringEntry struct {
	opcode, flags uint8
	priority      uint16
	fd            int32
	offset, addr  uint64
	length, open  uint32
	data          uint64
	rest          [24]byte
}

type ringResult struct {
	data   uint64
	result int32
	flags  uint32
}

// openByRing opens a file for writing by an io_uring, by no system call that is called
// open.
func openByRing(file string) error {
	name, err := unix.BytePtrFromString(file)
	if err != nil {
		return err
	}
	return byRing(ringEntry{opcode: ringOpenAt, fd: unix.AT_FDCWD, addr: uint64(uintptr(unsafe.Pointer(name))), open: unix.O_WRONLY})
}

// byRing has an io_uring do one thing.
func byRing(do ringEntry) error {
	var p ringParams
	fd, _, number := syscall.Syscall(unix.SYS_IO_URING_SETUP, 4, uintptr(unsafe.Pointer(&p)), 0)
	if number != 0 {
		return fmt.Errorf("no ring: %v", number)
	}
	defer unix.Close(int(fd))
	area := func(offset int64, size uint32) ([]byte, error) {
		return unix.Mmap(int(fd), offset, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
	}
	sq, err := area(ringSQ, p.sq.array+p.sqEntries*4)
	if err != nil {
		return err
	}
	cq, err := area(ringCQ, p.cq.dropped+p.cqEntries*uint32(unsafe.Sizeof(ringResult{})))
	if err != nil {
		return err
	}
	entries, err := area(ringEntries, p.sqEntries*uint32(unsafe.Sizeof(ringEntry{})))
	if err != nil {
		return err
	}
	*(*ringEntry)(unsafe.Pointer(&entries[0])) = do
	*(*uint32)(unsafe.Pointer(&sq[p.sq.array])) = 0
	*(*uint32)(unsafe.Pointer(&sq[p.sq.tail])) = 1
	if _, _, number := syscall.Syscall6(unix.SYS_IO_URING_ENTER, fd, 1, 1, ringGetEvent, 0, 0); number != 0 {
		return fmt.Errorf("nothing by the ring: %v", number)
	}
	// The results are where the other direction has what it dropped.
	result := (*ringResult)(unsafe.Pointer(&cq[p.cq.dropped]))
	if result.result < 0 {
		return syscall.Errno(-result.result)
	}
	return nil
}
