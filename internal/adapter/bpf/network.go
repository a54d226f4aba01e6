package bpf

import (
	"fmt"
	"net/netip"
	"strconv"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/castellan-security/castellan/internal/event"
)

//go:generate go tool bpf2go -cc clang -strip llvm-strip -target amd64,arm64 -type connection -type local_connection -type unix_flag -type tracked -type endings -type flow_key -type peer_key -type kind -type flag network network.bpf.c -- -O2 -Wall -Werror -mcpu=v2

const connectionLen = int(unsafe.Sizeof(networkConnection{}))

// Protocols that a kernel may not name: include/uapi/linux/in.h.
const (
	protocolICMP   = 1
	protocolTCP    = 6
	protocolUDP    = 17
	protocolICMPv6 = 58
)

// network is the Go side of the network sensor. It belongs to the goroutine
// that reads records.
type network struct {
	names *names
	ended endings
	flows flows
}

// kindAt is where a record says its kind.
const kindAt = int(unsafe.Offsetof(processHeader{}.Kind))

// streamNames are the words for the first three descriptors.
var streamNames = [...]string{"input", "output", "error"}

// networkSensor reports connections of TCP, UDP and ping sockets, listeners,
// and raw and packet sockets, of containers and of the host; and of containers
// alone the unix sockets that they connect or send to, and connections that a process
// puts in the place of its input, output or error, or makes there after it has closed
// that descriptor (not what an io_uring makes there).
//
// The owner of a connection is the process that began or accepted it, also
// when another one inherited or was given the socket and ends it. Bytes are
// payload without retransmissions. Ends of alike connections are added up; the
// duration of several is that of all together. UDP has no end: a flow is told
// as closed when nothing came or went for flowIdle; before that, when 10,000
// packets were sent within ten seconds and hardly answered (KindFlow).
//
// What the functions of the kernel tell needs probes of it (CONFIG_KPROBES): elsewhere a
// connect of an io_uring to a unix socket is not seen, nor what is sent to one without
// connecting (datagrams), nor a connection that comes by SCM_RIGHTS or pidfd_getfd. An accept by
// io_uring is never seen, and the port of a peer that an unconnected
// UDP socket sends to is the one behind the kernel's address translation.
func networkSensor(n *names) sensor {
	s := &network{names: n, ended: endings{told: map[uint64]*ending{}}}
	return sensor{
		name:    "network",
		number:  3, // SENSOR_NETWORK
		spec:    loadNetwork,
		decode:  s.decode,
		tick:    s.tick,
		packets: map[string]uint32{"on_egress": packetNetwork, "on_ingress": packetNetwork},
		calls: map[string][]string{
			"on_accept":     {"accept", "accept4"},
			"on_connect":    {"connect"},
			"on_dup":        {"dup", "dup2", "dup3"},
			"on_fcntl":      {"fcntl", "fcntl64"},
			"on_socket":     {"socket"},
			"on_socketcall": {"socketcall"},
			"on_bind":       {"bind"},
		},
		functions: map[string][]string{
			"on_received":     {"__receive_fd", "receive_fd"},
			"on_ring_connect": {"security_unix_stream_connect"},
			"on_datagram":     {"security_unix_may_send"},
		},
	}
}

func (s *network) decode(d *decoder, record []byte, e *event.Event) error {
	if len(record) > kindAt && networkKind(record[kindAt]) == networkKindKIND_UNIX {
		return decodeUnix(d, record, e)
	}
	h, err := s.connection(d, record, e)
	if err != nil {
		return err
	}
	switch networkKind(h.kind) {
	case networkKindKIND_CONNECT:
		e.Kind = event.KindConnect
	case networkKindKIND_ACCEPT:
		e.Kind = event.KindAccept
	case networkKindKIND_LISTEN:
		e.Kind = event.KindListen
		e.Connection.Remote = netip.AddrPort{}
	case networkKindKIND_RAW:
		e.Kind = event.KindRaw
		e.Connection.Protocol = rawName(u16(record, unsafe.Offsetof(networkConnection{}.Family)))
		e.Connection.Local, e.Connection.Remote = netip.AddrPort{}, netip.AddrPort{}
	case networkKindKIND_STDIO:
		e.Kind = event.KindStdio
		e.Connection.Incoming = h.flags&uint32(networkFlagFLAG_INCOMING) != 0
		fd := int(u16(record, unsafe.Offsetof(networkConnection{}.Family)))
		if fd >= len(streamNames) {
			return fmt.Errorf("descriptor %d is none of the first three", fd)
		}
		e.Connection.Stream = streamNames[fd]
	case networkKindKIND_FLOW:
		e.Kind = event.KindFlow
		setEnd(record, e.Connection)
	case networkKindKIND_CLOSE:
		e.Kind = event.KindClose
		setEnd(record, e.Connection)
		s.ended.remember(u64(record, unsafe.Offsetof(networkConnection{}.Ending)), h.time, e)
	default:
		return fmt.Errorf("unknown kind %d", h.kind)
	}
	return nil
}

// connection reads what all records of the sensor have, and names the peer.
func (s *network) connection(d *decoder, b []byte, e *event.Event) (header, error) {
	if len(b) < connectionLen {
		return header{}, errShort
	}
	h, err := d.head(b, e)
	if err != nil {
		return header{}, err
	}
	var at networkConnection
	place := b[unsafe.Offsetof(at.Place):]
	c := &event.Connection{
		Protocol: protocolName(u16(b, unsafe.Offsetof(at.Protocol))),
		Local:    addrPort(place[unsafe.Offsetof(at.Place.Local):], u16(place, unsafe.Offsetof(at.Place.LocalPort))),
		Remote:   addrPort(place[unsafe.Offsetof(at.Place.Remote):], u16(place, unsafe.Offsetof(at.Place.RemotePort))),
		NetNS:    u32(place, unsafe.Offsetof(at.Place.Netns)),
		Resumed:  h.flags&uint32(networkFlagFLAG_RESUMED) != 0,
		Error:    errorName(u32(b, unsafe.Offsetof(at.Error))),
	}
	if c.Protocol == "udp" {
		c.Remote = dockerResolver(c.Remote)
	}
	c.Name = s.names.of(e.WorkloadID, c.NetNS, c.Remote.Addr(), h.time)
	e.Connection = c
	return h, nil
}

// setEnd reads what a record says of the whole of a connection.
func setEnd(b []byte, c *event.Connection) {
	var at networkConnection
	c.Incoming = u32(b, unsafe.Offsetof(processHeader{}.Flags))&uint32(networkFlagFLAG_INCOMING) != 0
	c.BytesSent = u64(b, unsafe.Offsetof(at.Sent))
	c.BytesReceived = u64(b, unsafe.Offsetof(at.Received))
	c.PacketsSent = u64(b, unsafe.Offsetof(at.PacketsSent))
	c.PacketsReceived = u64(b, unsafe.Offsetof(at.PacketsReceived))
	c.Duration = time.Duration(u64(b, unsafe.Offsetof(at.Duration)))
}

// tick tells what was only added up.
func (s *network) tick(maps map[string]*ebpf.Map, d *decoder, last bool, hand func(event.Event)) error {
	now := bootNow()
	if err := s.ended.sweep(maps, now, last, d.clock, hand); err != nil {
		return err
	}
	return s.sweepFlows(maps, now, last, d, hand)
}

// addrPort reads an address of 16 bytes; those of IPv4 become so again.
func addrPort(b []byte, port uint16) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom16([16]byte(b)).Unmap(), port)
}

func protocolName(n uint16) string {
	switch n {
	case protocolTCP:
		return "tcp"
	case protocolUDP:
		return "udp"
	case protocolICMP, protocolICMPv6:
		return "icmp"
	}
	return strconv.Itoa(int(n))
}

// rawName names a socket that is more than a connection by its family.
func rawName(family uint16) string {
	switch family {
	case unix.AF_PACKET:
		return "packet"
	case unix.AF_VSOCK:
		return "vsock"
	case unix.AF_ALG:
		return "alg"
	}
	return "raw"
}
