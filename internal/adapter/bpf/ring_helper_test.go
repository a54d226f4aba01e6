package bpf_test

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Of include/uapi/linux/io_uring.h.
const (
	ringConnect  = 16
	ringAsync    = 1 << 4
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

// callRing connects to an address by an io_uring, by no system call that is called
// connect: at once, or with "async/" before it by a thread of the kernel.
func callRing(where string) error {
	entry := ringEntry{opcode: ringConnect}
	if rest, ok := strings.CutPrefix(where, "async/"); ok {
		where, entry.flags = rest, ringAsync
	}
	to, err := netip.ParseAddrPort(where)
	if err != nil {
		return err
	}
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	defer unix.Close(socket)
	address := unix.RawSockaddrInet4{Family: unix.AF_INET, Addr: to.Addr().As4()}
	binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(&address.Port))[:], to.Port())
	entry.fd, entry.addr, entry.offset = int32(socket), uint64(uintptr(unsafe.Pointer(&address))), uint64(unsafe.Sizeof(address))

	var p ringParams
	fd, _, number := unix.Syscall(unix.SYS_IO_URING_SETUP, 4, uintptr(unsafe.Pointer(&p)), 0)
	if number != 0 {
		fmt.Println("no ring:", number)
		os.Exit(failed)
	}
	defer unix.Close(int(fd))
	var areas [3][]byte
	for i, a := range [3]struct {
		offset int64
		size   uint32
	}{{ringSQ, p.sq.array + p.sqEntries*4}, {ringCQ, p.cq.dropped + p.cqEntries*uint32(unsafe.Sizeof(ringResult{}))}, {ringEntries, p.sqEntries * uint32(unsafe.Sizeof(ringEntry{}))}} {
		if areas[i], err = unix.Mmap(int(fd), a.offset, int(a.size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE); err != nil {
			return err
		}
	}
	*(*ringEntry)(unsafe.Pointer(&areas[2][0])) = entry
	*(*uint32)(unsafe.Pointer(&areas[0][p.sq.array])) = 0
	*(*uint32)(unsafe.Pointer(&areas[0][p.sq.tail])) = 1
	if _, _, number := unix.Syscall6(unix.SYS_IO_URING_ENTER, fd, 1, 1, ringGetEvent, 0, 0); number != 0 {
		return fmt.Errorf("nothing by the ring: %w", number)
	}
	// The results are where the other direction has what it dropped.
	if result := (*ringResult)(unsafe.Pointer(&areas[1][p.cq.dropped])); result.result < 0 {
		fmt.Println("connect by a ring:", unix.Errno(-result.result))
		os.Exit(failed)
	}
	return nil
}
