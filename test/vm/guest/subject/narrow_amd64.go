package main

import (
	"encoding/binary"
	"os"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// narrowCall makes a call as 32-bit programs do, which a program of 64 bits can too. What it
// returns below 0 is the number of an error.
//
//go:noescape
func narrowCall(call, a, b, c, d, e uintptr) (r uintptr)

// Numbers of 32-bit calls: arch/x86/entry/syscalls/syscall_32.tbl.
const (
	narrowOpen     = 5
	narrowExec     = 11
	narrowMount    = 21
	narrowPtrace   = 26
	narrowOldMap   = 90
	narrowSockets  = 102
	narrowIPC      = 117
	narrowProtect  = 125
	narrowMap      = 192
	narrowSetns    = 346
	narrowSocket   = 1  // of narrowSockets
	narrowAttached = 21 // of narrowIPC
)

// low is memory that 32-bit calls can be told of: its bytes are given out one after the
// other.
type low struct {
	b  []byte
	at int
}

func newLow() (*low, error) {
	b, err := unix.Mmap(-1, 0, 4*os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_32BIT)
	return &low{b: b}, err
}

func (l *low) bytes(b []byte) uintptr {
	at := uintptr(unsafe.Pointer(&l.b[l.at]))
	l.at += (copy(l.b[l.at:], b) + 15) &^ 7 // what follows is zero
	return at
}

func (l *low) text(s string) uintptr { return l.bytes([]byte(s)) }

func (l *low) words(all ...uintptr) uintptr {
	var b []byte
	for _, w := range all {
		b = binary.LittleEndian.AppendUint32(b, uint32(w))
	}
	return l.bytes(append(b, 0, 0, 0, 0))
}

func called(call uintptr, args ...uintptr) (uintptr, error) {
	var a [5]uintptr
	copy(a[:], args)
	r := int32(narrowCall(call, a[0], a[1], a[2], a[3], a[4]))
	if r < 0 && r > -4096 {
		return 0, syscall.Errno(-r)
	}
	return uintptr(uint32(r)), nil
}

// narrow does something by a 32-bit call.
func narrow(what string, args []string) error {
	const executable = unix.PROT_READ | unix.PROT_EXEC
	size := uintptr(os.Getpagesize())
	l, err := newLow()
	if err != nil {
		return err
	}
	defer runtime.KeepAlive(l)
	switch what {
	case "exec":
		var argv []uintptr
		for _, a := range args {
			argv = append(argv, l.text(a))
		}
		_, err = called(narrowExec, argv[0], l.words(argv...), l.words())
	case "write":
		_, err = called(narrowOpen, l.text(args[0]), unix.O_RDWR)
	case "mount":
		_, err = called(narrowMount, l.text("none"), l.text(args[0]), l.text("tmpfs"))
	case "trace":
		_, err = called(narrowPtrace, unix.PTRACE_TRACEME)
	case "join":
		fd, failed := unix.Open("/proc/self/ns/uts", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if failed != nil {
			return failed
		}
		_, err = called(narrowSetns, uintptr(fd), unix.CLONE_NEWUTS)
	case "packets":
		_, err = called(narrowSockets, narrowSocket, l.words(unix.AF_PACKET, unix.SOCK_DGRAM, 0))
	case "protect": // what was written
		at := l.text("\xc3")
		_, err = called(narrowProtect, at&^(size-1), size, executable)
	case "map": // to be written and run
		_, err = called(narrowMap, 0, size, executable|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS, ^uintptr(0))
	case "oldmap": // the same, by the oldest of these calls
		_, err = called(narrowOldMap, l.words(0, size, executable|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS, ^uintptr(0), 0))
	case "attach": // shared memory of System V, as code
		const create, execute = 0o1700, 0o100000
		id, failed := unix.SysvShmGet(unix.IPC_PRIVATE, int(size), create)
		if failed != nil {
			return failed
		}
		_, err = called(narrowIPC, narrowAttached, uintptr(id), execute, l.words(0))
	}
	return err
}
