package bpf

import (
	"fmt"
	"net/netip"
	"slices"
	"unsafe"

	"github.com/cilium/ebpf"

	"github.com/castellan-security/castellan/internal/event"
)

//go:generate go tool bpf2go -cc clang -strip llvm-strip -target amd64,arm64 -type message -type kind dns dns.bpf.c -- -O2 -Wall -Werror -mcpu=v2

const messageLen = int(unsafe.Sizeof(dnsMessage{}))

// dockerAddr is where Docker's resolver is in every container. The kernel
// translates port 53 there to one that the engine chose.
var dockerAddr = netip.AddrFrom4([4]byte{127, 0, 0, 11})

// dockerResolver returns the address that was asked, when it is Docker's
// resolver as the kernel translated it.
func dockerResolver(a netip.AddrPort) netip.AddrPort {
	if a.Addr() == dockerAddr {
		return netip.AddrPortFrom(dockerAddr, dnsPort)
	}
	return a
}

// dns is the Go side of the DNS sensor. It belongs to the goroutine that reads
// records.
type dns struct {
	names   *names
	streams streams
	more    []event.Event // further messages of a segment, until the next tick
}

// dnsSensor reports questions to the DNS and the answers to them, of containers
// and of the host, and teaches n the names of addresses. An answer belongs to
// who asked; one that nobody asked for is not told.
//
// Over TCP only connections to port 53 or to Docker's resolver are looked at,
// and each message is told; over UDP what is alike is counted, and an answer with
// other addresses is not like the one before.
func dnsSensor(n *names) sensor {
	s := &dns{names: n, streams: streams{}}
	return sensor{
		name:    "dns",
		number:  4, // SENSOR_DNS
		spec:    loadDns,
		decode:  s.decode,
		tick:    s.tick,
		packets: map[string]uint32{"on_dns_egress": packetDNS, "on_dns_ingress": packetDNS},
	}
}

func (s *dns) tick(_ map[string]*ebpf.Map, _ *decoder, _ bool, hand func(event.Event)) error {
	for _, e := range s.more {
		hand(e)
	}
	s.more = nil
	return nil
}

func (s *dns) decode(d *decoder, record []byte, e *event.Event) error {
	h, err := d.head(record, e)
	if err != nil {
		return err
	}
	if len(record) < messageLen {
		return errShort
	}
	var at dnsMessage
	kept := int(u16(record, unsafe.Offsetof(at.Kept)))
	payload := record[messageLen:]
	if kept > len(payload) {
		return errShort
	}
	payload = payload[:kept]
	size := int(u32(record, unsafe.Offsetof(at.Size)))
	e.DNS = dnsOf(record)
	switch kind := dnsKind(h.kind); kind {
	case dnsKindKIND_QUERY, dnsKindKIND_ANSWER:
		return s.message(record, h, payload, size, kind == dnsKindKIND_ANSWER, e)
	case dnsKindKIND_SEGMENT_OUT, dnsKindKIND_SEGMENT_IN:
		return s.segment(record, h, payload, kind == dnsKindKIND_SEGMENT_IN, e)
	}
	return fmt.Errorf("unknown kind %d", h.kind)
}

// dnsOf reads who asked whom.
func dnsOf(record []byte) *event.DNS {
	var at dnsMessage
	place := record[unsafe.Offsetof(at.Place):]
	remote := addrPort(place[unsafe.Offsetof(at.Place.Remote):], u16(place, unsafe.Offsetof(at.Place.RemotePort)))
	return &event.DNS{
		Protocol: protocolName(u16(record, unsafe.Offsetof(at.Protocol))),
		Server:   dockerResolver(remote),
		Client:   addrPort(place[unsafe.Offsetof(at.Place.Local):], u16(place, unsafe.Offsetof(at.Place.LocalPort))),
	}
}

// message reads a message into e, of which e.DNS says who asked whom.
func (s *dns) message(record []byte, h header, b []byte, size int, answer bool, e *event.Event) error {
	m, err := parseMessage(b)
	if err != nil || m.response != answer {
		return errNothing // it looked like one
	}
	x := e.DNS
	x.ID, x.Name, x.Type, x.Size = m.id, m.name, typeName(m.kind), size
	x.Truncated = m.truncated || size > len(b)
	e.Kind = event.KindQuery
	if !answer {
		return nil
	}
	e.Kind = event.KindAnswer
	x.Code, x.Answers = codeName(m.code), m.answers
	netns := u32(record, unsafe.Offsetof(dnsMessage{}.Place)+unsafe.Offsetof(dnsMessage{}.Place.Netns))
	for _, a := range m.addresses {
		s.names.learn(e.WorkloadID, netns, a.addr, m.name, a.ttl, h.time)
	}
	return nil
}

// segment adds a part of a connection to what came before it. Of several
// messages that it completes, the first becomes e.
func (s *dns) segment(record []byte, h header, b []byte, in bool, e *event.Event) error {
	var at dnsMessage
	key := streamKey{u64(record, unsafe.Offsetof(at.Stream)), in}
	template, told := e.Clone(), false
	for _, m := range s.streams.add(key, u32(record, unsafe.Offsetof(at.Sequence)), b) {
		one := template.Clone()
		if err := s.message(record, h, m, len(m), in, &one); err != nil {
			continue
		}
		if !told {
			*e, told = one, true
			continue
		}
		s.more = append(s.more, one)
	}
	if !told {
		return errNothing
	}
	return nil
}

// Limits of what is put together of connections.
const (
	// maxStreams bounds the connections at a time; with maxStreamMessage it
	// bounds their memory to 2 MiB.
	maxStreams = 128
	// maxStreamMessage is more than resolvers answer, and less than a zone.
	maxStreamMessage = 16 << 10
)

// streamKey is one direction of a connection.
type streamKey struct {
	cookie uint64
	in     bool
}

type stream struct {
	next   uint32 // sequence number
	buf    []byte
	broken bool // a part is missing, or it is no DNS
}

// streams puts messages together that go over connections: each is preceded by
// its length (RFC 1035 section 4.2.2).
type streams map[streamKey]*stream

// add adds bytes that begin at a sequence number and returns the messages that
// are complete with them. What comes again is ignored; where something is
// missing, the connection is given up.
func (s streams) add(k streamKey, sequence uint32, b []byte) [][]byte {
	t := s[k]
	if t == nil {
		if len(s) >= maxStreams {
			clear(s) // those that are under way are given up
		}
		t = &stream{next: sequence}
		s[k] = t
	}
	ahead := int32(sequence - t.next)
	if t.broken || ahead < 0 {
		return nil
	}
	if ahead > 0 {
		t.giveUp()
		return nil
	}
	t.next += uint32(len(b))
	t.buf = append(t.buf, b...)
	var out [][]byte
	for len(t.buf) >= 2 {
		n := int(t.buf[0])<<8 | int(t.buf[1])
		if n < dnsHeadLen || n > maxStreamMessage {
			t.giveUp()
			break
		}
		if len(t.buf) < 2+n {
			break
		}
		out = append(out, slices.Clone(t.buf[2:2+n]))
		t.buf = t.buf[2+n:]
	}
	return out
}

func (t *stream) giveUp() { t.broken, t.buf = true, nil }
