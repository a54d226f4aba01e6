package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// trick is a step that brings code in by a way that nobody takes for work.
func trick(verb string, args []string) error {
	a, b := args[0], args[1]
	switch verb {
	case "environ":
		return os.Setenv(a, b)
	case "execenv": // with these variables
		return syscall.Exec(a, args, os.Environ())
	case "opath": // by a descriptor that is good for nothing but its path
		fd, err := unix.Open(a, unix.O_PATH|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		return execAt(os.NewFile(uintptr(fd), a), args)
	case "tree": // by a mount of its own that is attached nowhere
		fd, err := unix.OpenTree(unix.AT_FDCWD, a, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
		if err != nil {
			return err
		}
		return execAt(os.NewFile(uintptr(fd), a), args)
	case "ramfs":
		if err := os.MkdirAll(a, 0o755); err != nil {
			return err
		}
		return unix.Mount("none", a, "ramfs", 0, "")
	case "many": // by many threads at once
		return execByMany(args)
	case "raced":
		return raced(a)
	case "sized": // end with 5 if we are not the file of that size
		return sized(a)
	case "reattach":
		return reattached()
	case "changed", "changeable":
		return changed(a, verb == "changeable")
	case "behind", "hole":
		return madeCode(a, verb == "hole")
	case "registered":
		return registered(args)
	case "served":
		return served(args)
	}
	return oddFile(verb, args)
}

func execByMany(args []string) error {
	const threads = 8
	path, err := unix.BytePtrFromString(args[0])
	if err != nil {
		return err
	}
	argv, err := syscall.SlicePtrFromStrings(args)
	if err != nil {
		return err
	}
	var env [1]*byte
	var last atomic.Uint64
	var ready, all sync.WaitGroup
	ready.Add(threads)
	for range threads {
		all.Go(func() {
			runtime.LockOSThread()
			ready.Done()
			ready.Wait()
			_, _, number := syscall.RawSyscall(unix.SYS_EXECVE, uintptr(unsafe.Pointer(path)), uintptr(unsafe.Pointer(&argv[0])), uintptr(unsafe.Pointer(&env[0])))
			last.Store(uint64(number))
		})
	}
	all.Wait()
	return syscall.Errno(last.Load())
}

// raced starts a program again and again while another file is bound over it and taken
// away, and ends with 5 if the other one ever ran. At last it is bound over it for good.
func raced(program string) error {
	const times, other = 40, "/tmp/raced"
	if err := errors.Join(copyFile(program, other), appendTo(other)); err != nil {
		return err
	}
	own, err := os.Stat(program)
	if err != nil {
		return err
	}
	start := func() error {
		code, err := spawn([]string{program, "steps", "sized=" + strconv.FormatInt(own.Size(), 10)})
		if code == 5 {
			os.Exit(5)
		}
		return err
	}
	var stop atomic.Bool
	toggled := make(chan error, 1)
	go func() {
		for !stop.Load() {
			if err := errors.Join(unix.Mount(other, program, "", unix.MS_BIND, ""), unix.Unmount(program, unix.MNT_DETACH)); err != nil {
				toggled <- err
				return
			}
		}
		toggled <- unix.Mount(other, program, "", unix.MS_BIND, "")
	}()
	for range times {
		if err := start(); err != nil {
			return err
		}
	}
	stop.Store(true)
	if err := <-toggled; err != nil {
		return err
	}
	code, err := spawn([]string{program, "exit", "5"})
	if err == nil {
		os.Exit(code)
	}
	return err
}

func sized(want string) error {
	self, err := os.Stat("/proc/self/exe")
	if err != nil {
		return err
	}
	if strconv.FormatInt(self.Size(), 10) != want {
		os.Exit(5)
	}
	return nil
}

// reattached writes shared memory of System V, and attaches it again to be read and run.
func reattached() error {
	const create, readOnly, execute = 0o1700, 0o10000, 0o100000
	id, err := unix.SysvShmGet(unix.IPC_PRIVATE, os.Getpagesize(), create)
	if err != nil {
		return err
	}
	b, err := unix.SysvShmAttach(id, 0, 0)
	if err != nil {
		return err
	}
	b[0] = 0xc3
	if err := unix.SysvShmDetach(b); err != nil {
		return err
	}
	_, err = unix.SysvShmAttach(id, 0, readOnly|execute)
	return err
}

// changed makes code of a file's memory that is changed, or that can be.
func changed(file string, can bool) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	protection := unix.PROT_READ | unix.PROT_WRITE
	if can {
		protection |= unix.PROT_EXEC
	}
	b, err := unix.Mmap(int(f.Fd()), 0, os.Getpagesize(), protection, unix.MAP_PRIVATE)
	if err != nil || can {
		return err
	}
	b[0] = 0xc3
	return unix.Mprotect(b, unix.PROT_READ|unix.PROT_EXEC)
}

// madeCode makes memory code that was written, by a call that begins at a file that was
// not, or that fails at a hole behind it.
func madeCode(file string, hole bool) error {
	size := os.Getpagesize()
	b, err := unix.Mmap(-1, 0, 2*size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return err
	}
	b[0], b[size] = 0xc3, 0xc3
	if hole {
		if err := unix.MunmapPtr(unsafe.Pointer(&b[size]), uintptr(size)); err != nil {
			return err
		}
		if err := unix.Mprotect(b, unix.PROT_READ|unix.PROT_EXEC); err != unix.ENOMEM {
			return err
		}
		return nil // it is code
	}
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := unix.MmapPtr(int(f.Fd()), 0, unsafe.Pointer(&b[0]), uintptr(size), unix.PROT_READ, unix.MAP_PRIVATE|unix.MAP_FIXED); err != nil {
		return err
	}
	return unix.Mprotect(b, unix.PROT_READ|unix.PROT_EXEC)
}

// registered has the kernel run files that begin with some bytes by a program, given as
// name, bytes, program and flags.
func registered(args []string) error {
	const at = "/binfmts"
	if err := os.MkdirAll(at, 0o755); err != nil {
		return err
	}
	if err := unix.Mount("binfmt_misc", at, "binfmt_misc", 0, ""); err != nil {
		return err
	}
	line := fmt.Sprintf(":%s:M::%s::%s:%s", args[0], args[1], args[2], args[3])
	return os.WriteFile(filepath.Join(at, "register"), []byte(line), 0)
}

// served runs a program that is nowhere but in our answers: a file system that a process
// of the container serves (FUSE), with one file, which is a copy of ourselves.
func served(args []string) error {
	const at, device, number = "/served", "/fuse", 10<<8 | 229
	own, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(at, 0o755); err != nil {
		return err
	}
	if err := unix.Mknod(device, unix.S_IFCHR|0o600, number); err != nil {
		return err
	}
	fd, err := unix.Open(device, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	if err := unix.Mount("served", at, "fuse", 0, fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", fd)); err != nil {
		return err
	}
	go serve(fd, own)
	// By a child, which has begun when it asks us: while a program is started nothing of
	// ours answers, on one processor.
	code, err := spawn([]string{"/proc/self/exe", "steps", "exec=" + at + "/x," + strings.Join(args[1:], ",")})
	if err == nil {
		os.Exit(code)
	}
	return err
}

// Of include/uapi/linux/fuse.h.
const (
	fuseLookup  = 1
	fuseForget  = 2
	fuseGetAttr = 3
	fuseOpen    = 14
	fuseRead    = 15
	fuseRelease = 18
	fuseFlush   = 25
	fuseInit    = 26
)

type fuseIn struct {
	length, opcode        uint32
	unique, node          uint64
	uid, gid, pid, extend uint32
}

type fuseOut struct {
	length uint32
	err    int32
	unique uint64
}

type fuseAttr struct {
	inode, size uint64
	_           [4]uint64 // blocks and times
	_           [3]uint32
	mode, links uint32
	_           [3]uint32 // owners and device
	blockSize   uint32
	_           uint32
}

func fuseAttrOf(node uint64, size int) fuseAttr {
	if node == 1 {
		return fuseAttr{inode: 1, mode: unix.S_IFDIR | 0o755, links: 2, blockSize: 4096}
	}
	return fuseAttr{inode: node, size: uint64(size), mode: unix.S_IFREG | 0o755, links: 1, blockSize: 4096}
}

func bytesOf[T any](v *T) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(v)), unsafe.Sizeof(*v))
}

// serve answers for a file system with one file until we end.
func serve(fd int, file []byte) {
	const first = 2 // node of the file
	request := make([]byte, 1<<20)
	for {
		n, err := unix.Read(fd, request)
		if err == unix.EINTR || err == unix.ENOENT {
			continue
		}
		if err != nil || n < int(unsafe.Sizeof(fuseIn{})) {
			return
		}
		in := (*fuseIn)(unsafe.Pointer(&request[0]))
		body := request[unsafe.Sizeof(*in):n]
		out := fuseOut{unique: in.unique}
		var answer []byte
		switch in.opcode {
		case fuseForget:
			continue
		case fuseInit: // version 7.23, as far as is needed
			v := [6]uint32{7, 23, 0, 0, 0, 4096}
			answer = append(bytesOf(&v), make([]byte, 40)...)
		case fuseLookup:
			v := struct {
				node, generation, entryValid, attrValid uint64
				nanos                                   [2]uint32
				attr                                    fuseAttr
			}{node: first, attr: fuseAttrOf(first, len(file))}
			answer = bytesOf(&v)
		case fuseGetAttr:
			v := struct {
				valid        uint64
				nanos, dummy uint32
				attr         fuseAttr
			}{attr: fuseAttrOf(in.node, len(file))}
			answer = bytesOf(&v)
		case fuseOpen:
			answer = make([]byte, 16)
		case fuseRead:
			from := *(*uint64)(unsafe.Pointer(&body[8]))
			size := *(*uint32)(unsafe.Pointer(&body[16]))
			from = min(from, uint64(len(file)))
			answer = file[from:min(from+uint64(size), uint64(len(file)))]
		case fuseRelease, fuseFlush:
		default:
			out.err = -int32(unix.ENOSYS)
		}
		out.length = uint32(int(unsafe.Sizeof(out)) + len(answer))
		if _, err := unix.Write(fd, append(append([]byte{}, bytesOf(&out)...), answer...)); err != nil && err != unix.ENOENT {
			return
		}
	}
}
