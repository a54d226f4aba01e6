package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// reach comes to a unix socket, or to a connection, in a way that is not connect.
func reach(verb, to string) error {
	switch verb {
	case "datagram", "datagrams":
		return datagram(to, verb == "datagrams")
	case "ringconnect":
		return connectByRing(to, 0)
	case "ringworker":
		return connectByRing(to, ringAsync)
	case "ringtcp":
		return connectTCPByRing(to)
	case "receive":
		return receiveAsInput(to)
	}
	return fmt.Errorf("%s is no step that I know", verb)
}

// datagram sends one to a unix socket, by either call.
func datagram(name string, message bool) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	to := &unix.SockaddrUnix{Name: name}
	if message {
		return unix.Sendmsg(fd, []byte{0}, nil, to, 0)
	}
	return unix.Sendto(fd, []byte{0}, 0, to)
}

// connectByRing connects to an abstract unix socket by an io_uring.
func connectByRing(name string, flags uint8) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	at := unix.RawSockaddrUnix{Family: unix.AF_UNIX}
	for i := 1; i < len(name); i++ { // an abstract one, written with an @
		at.Path[i] = int8(name[i])
	}
	var pin runtime.Pinner
	pin.Pin(&at)
	defer pin.Unpin()
	return byRing(ringEntry{opcode: ringConnect, flags: flags, fd: int32(fd), offset: uint64(2 + len(name)), addr: uint64(uintptr(unsafe.Pointer(&at)))})
}

// connectTCPByRing connects to an address by an io_uring.
func connectTCPByRing(address string) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	at := unix.RawSockaddrInet4{Family: unix.AF_INET, Port: to.Port()<<8 | to.Port()>>8, Addr: to.Addr().As4()}
	var pin runtime.Pinner
	pin.Pin(&at)
	defer pin.Unpin()
	return byRing(ringEntry{opcode: ringConnect, flags: ringAsync, fd: int32(fd), offset: uint64(unsafe.Sizeof(at)), addr: uint64(uintptr(unsafe.Pointer(&at)))})
}

// receiveAsInput has a connection to an address sent to ourselves, in the place of our
// input.
func receiveAsInput(address string) error {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	conn, ok := c.(*net.TCPConn)
	if !ok {
		return fmt.Errorf("%T is no connection of TCP", c)
	}
	f, err := conn.File()
	if err != nil {
		return err
	}
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	if err := errors.Join(unix.Sendmsg(ends[0], []byte{0}, unix.UnixRights(int(f.Fd())), nil, 0), unix.Close(0)); err != nil {
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
	if err == nil && got[0] != 0 {
		err = fmt.Errorf("it has the number %d", got[0])
	}
	return err
}
