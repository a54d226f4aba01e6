package camera

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/castellan-security/castellan/internal/fault"
)

// Limits of captured packets.
const (
	// maxPacketBytes bounds a capture as it is written.
	maxPacketBytes = 32 << 20
	// maxPacket is what is kept of one: its heads, and of most all.
	maxPacket = 2 << 10
	// packetBuffer is what waits in the kernel while we write.
	packetBuffer = 4 << 20
)

// capture is packets that are being captured.
type capture struct {
	fd    int
	until time.Time
	done  chan struct{}
	body  bytes.Buffer
	note  string
}

// capture begins to capture the packets of a process's network: from a socket that is
// made in its namespace and stays there. Nothing of the container takes part, and
// frozen or cut off it still shows what comes in.
func (s *shot) capture(ctx context.Context, pid uint32) (*capture, error) {
	name := filepath.Join(s.o.Proc, strconv.FormatUint(uint64(pid), 10), "ns/net")
	theirs, err := namespaceOf(name)
	if err != nil {
		return nil, err
	}
	shared := s.w.Settings.NetworkMode == "host"
	for _, of := range []string{filepath.Join(s.o.Proc, "1/ns/net"), "/proc/thread-self/ns/net"} {
		// The first one is closed to an agent whose host is itself a container; its own
		// network is the host's then: of this thread, for the program's first one may have
		// stayed in a container's.
		if hosts, err := namespaceOf(of); err == nil && theirs == hosts {
			shared = true
		}
	}
	if shared {
		return nil, fault.New(fault.Denied, "it is in the host's own network: that would capture everybody's").With("capture on the host, with a filter")
	}
	fd, err := socketIn(name)
	if err != nil {
		return nil, err
	}
	c := &capture{fd: fd, until: time.Now().Add(s.d.Packets), done: make(chan struct{})}
	c.begin()
	go func() {
		defer close(c.done)
		c.run(ctx)
	}()
	return c, nil
}

// namespaceOf tells namespaces apart.
func namespaceOf(name string) (id [2]uint64, err error) {
	var st unix.Stat_t
	if err := unix.Stat(name, &st); err != nil {
		return id, fmt.Errorf("look at its network: %w", err)
	}
	return [2]uint64{st.Dev, st.Ino}, nil
}

// socketIn makes a packet socket in a network namespace. The thread that goes there
// ends with it: it is never another goroutine's.
func socketIn(namespace string) (fd int, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked
		var ns int
		if ns, err = unix.Open(namespace, unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
			err = fmt.Errorf("open its network: %w", err)
			return
		}
		defer unix.Close(ns)
		if err = unix.Setns(ns, unix.CLONE_NEWNET); err != nil {
			err = fault.New(fault.Unsupported, "enter its network: %w", err).With("run the agent as root, with CAP_SYS_ADMIN")
			return
		}
		const all = unix.ETH_P_ALL<<8 | unix.ETH_P_ALL>>8 // in network order
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, all&0xffff); err != nil {
			err = fmt.Errorf("make a packet socket: %w", err)
			return
		}
		// A smaller buffer loses packets, which is told.
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, packetBuffer)
	}()
	<-done
	return fd, err
}

// linuxSLL is the link type of packets with a head of Linux "cooked" captures, for
// interfaces of all kinds (https://www.tcpdump.org/linktypes/LINKTYPE_LINUX_SLL.html).
const linuxSLL = 113

// begin writes the head of a capture file, with times in nanoseconds
// (https://www.ietf.org/archive/id/draft-ietf-opsawg-pcap-03.html).
func (c *capture) begin() {
	head := binary.LittleEndian.AppendUint32(nil, 0xa1b23c4d)
	head = binary.LittleEndian.AppendUint16(head, 2)
	head = binary.LittleEndian.AppendUint16(head, 4)
	head = append(head, make([]byte, 8)...)
	head = binary.LittleEndian.AppendUint32(head, maxPacket)
	head = binary.LittleEndian.AppendUint32(head, linuxSLL)
	c.body.Write(head)
}

func (c *capture) run(ctx context.Context) {
	defer unix.Close(c.fd)
	buf := make([]byte, maxPacket)
	for {
		left := time.Until(c.until)
		if left <= 0 || ctx.Err() != nil {
			c.lost()
			return
		}
		const look = 200 * time.Millisecond // at whether it is to end
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(c.fd), Events: unix.POLLIN}}, int(min(left, look).Milliseconds())+1)
		if n == 0 || errors.Is(err, unix.EINTR) {
			continue
		}
		size, from, err := unix.Recvfrom(c.fd, buf, unix.MSG_TRUNC)
		switch {
		case errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) || errors.Is(err, unix.ENETDOWN):
			continue
		case err != nil:
			c.note = err.Error()
			return
		}
		if c.body.Len()+maxPacket > maxPacketBytes {
			c.note = fmt.Sprintf("there was room for %d MiB", maxPacketBytes>>20)
			return
		}
		if ll, ok := from.(*unix.SockaddrLinklayer); ok {
			c.packet(time.Now(), ll, buf[:min(size, len(buf))], size)
		}
	}
}

// packet writes one packet.
func (c *capture) packet(at time.Time, from *unix.SockaddrLinklayer, b []byte, size int) {
	const head = 16
	r := binary.LittleEndian.AppendUint32(nil, uint32(at.Unix()))
	r = binary.LittleEndian.AppendUint32(r, uint32(at.Nanosecond()))
	r = binary.LittleEndian.AppendUint32(r, uint32(head+len(b)))
	r = binary.LittleEndian.AppendUint32(r, uint32(head+size))
	r = binary.BigEndian.AppendUint16(r, uint16(from.Pkttype))
	r = binary.BigEndian.AppendUint16(r, from.Hatype)
	r = binary.BigEndian.AppendUint16(r, uint16(from.Halen))
	r = append(r, from.Addr[:]...)
	r = binary.LittleEndian.AppendUint16(r, from.Protocol) // it is in network order already
	c.body.Write(append(r, b...))
}

// lost notes how many packets found no room in the kernel.
func (c *capture) lost() {
	if st, err := unix.GetsockoptTpacketStats(c.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS); err == nil && st.Drops > 0 {
		c.note = fmt.Sprintf("%d came too fast to be written", st.Drops)
	}
}

// wait returns what was captured once its time is over, and what is to be said of it.
func (c *capture) wait(ctx context.Context) ([]byte, string) {
	<-c.done
	if ctx.Err() != nil && c.note == "" {
		c.note = "it was ended before its time"
	}
	return c.body.Bytes(), c.note
}
