package kernel

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

// WatchAddresses calls ring when the addresses of the host's network namespace
// may have changed, and when an interface came into it or left it, as those
// that are moved into awsvpc tasks do; first of all at once, since what changed
// before could not be told. It does until ctx ends, and then returns ctx's
// error. Any other error means that the kernel tells nothing any more, and only
// asking again does.
//
// What the kernel tells is a reason to look and nothing else: none of it is
// believed, so that nothing is lost when a message of it is.
func (h *Host) WatchAddresses(ctx context.Context, ring func()) error {
	socket, err := h.routeSocket()
	if err != nil {
		return err
	}
	defer func() { _ = socket.Close() }()
	defer context.AfterFunc(ctx, func() { _ = socket.Close() })() // ends a read that waits
	var message [unix.NLMSG_HDRLEN]byte                           // the rest of it is let go
	for {
		ring()
		// An overrun is a message, too: the kernel had more to tell than it kept.
		if _, err := socket.Read(message[:]); err != nil && !errors.Is(err, unix.ENOBUFS) {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return fmt.Errorf("read changes of the network: %w", err)
		}
	}
}

// routeSocket returns a socket in the host's network namespace on which the
// kernel tells changes of interfaces and addresses; rtnetlink(7).
func (h *Host) routeSocket() (*os.File, error) {
	type result struct {
		socket *os.File
		err    error
	}
	opened := make(chan result)
	go func() {
		// The thread may be in another namespace afterwards, so it ends with this
		// goroutine: it is never unlocked.
		runtime.LockOSThread()
		err := h.enterNetwork()
		if err != nil {
			opened <- result{nil, err}
			return
		}
		socket, err := openRoute()
		opened <- result{socket, err}
	}()
	got := <-opened
	return got.socket, got.err
}

// enterNetwork moves the calling thread into the host's network namespace, if
// it is not there.
func (h *Host) enterNetwork() error {
	path := h.inProc(strconv.Itoa(h.netOf), "ns", "net")
	target, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("open the host's network namespace: %w", err)
	}
	defer func() { _ = target.Close() }()
	there, err := target.Stat()
	if err != nil {
		return fmt.Errorf("look at the host's network namespace: %w", err)
	}
	here, err := os.Stat("/proc/thread-self/ns/net")
	if err != nil {
		return fmt.Errorf("look at the own network namespace: %w", err)
	}
	if os.SameFile(here, there) {
		return nil
	}
	if err := unix.Setns(int(target.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter the host's network namespace: %w", os.NewSyscallError("setns", err))
	}
	return nil
}

func openRoute() (*os.File, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	groups := &unix.SockaddrNetlink{
		Family: unix.AF_NETLINK, Groups: unix.RTMGRP_LINK | unix.RTMGRP_IPV4_IFADDR | unix.RTMGRP_IPV6_IFADDR,
	}
	if err := unix.Bind(fd, groups); err != nil {
		_ = unix.Close(fd)
		return nil, os.NewSyscallError("bind", err)
	}
	return os.NewFile(uintptr(fd), "rtnetlink"), nil
}
