package bpf_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/castellan-security/castellan/internal/event"
)

// answer is what the resolver of the tests says: an alias with an address for
// every name, nothing for those that begin with "no", and for "big" that it does
// not fit. To "turn" and "long" it says another address by the number of the
// question, to the latter without compression; to "spin" the same two in an order
// by that number, and how long they hold.
func answer(question []byte, stream bool) []byte {
	var p dnsmessage.Parser
	head, err := p.Start(question)
	if err != nil {
		return nil
	}
	q, err := p.Question()
	if err != nil {
		return nil
	}
	head.Response = true
	name := strings.ToLower(q.Name.String())
	if strings.HasPrefix(name, "no") {
		head.RCode = dnsmessage.RCodeNameError
	}
	head.Truncated = strings.HasPrefix(name, "big") && !stream
	b := dnsmessage.NewBuilder(nil, head)
	if !strings.HasPrefix(name, "long") {
		b.EnableCompression()
	}
	_ = b.StartQuestions()
	_ = b.Question(q)
	_ = b.StartAnswers()
	if first, _, _ := strings.Cut(name, "."); q.Type == dnsmessage.TypeA && (first == "turn" || first == "long" || first == "spin") {
		h := dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET, TTL: uint32(head.ID)}
		last := []byte{byte(head.ID)}
		if first == "spin" {
			last = []byte{1 + byte(head.ID)%2, 2 - byte(head.ID)%2}
		}
		for _, n := range last {
			_ = b.AResource(h, dnsmessage.AResource{A: [4]byte{127, 0, 77, n}})
		}
		out, _ := b.Finish()
		return out
	}
	if head.RCode == 0 && !head.Truncated {
		alias := dnsmessage.MustNewName("alias.example.")
		_ = b.CNAMEResource(dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET, TTL: 5}, dnsmessage.CNAMEResource{CNAME: alias})
		h := dnsmessage.ResourceHeader{Name: alias, Class: dnsmessage.ClassINET, TTL: 5}
		if q.Type == dnsmessage.TypeA {
			_ = b.AResource(h, dnsmessage.AResource{A: [4]byte{127, 0, 77, 1}})
		}
	}
	out, _ := b.Finish()
	return out
}

// resolver answers over UDP and TCP at the same address.
func resolver(t *testing.T, ip string, port int) netip.AddrPort {
	t.Helper()
	u := bothFree(t, ip, port)
	var group sync.WaitGroup
	group.Go(func() {
		b := make([]byte, 1500)
		for {
			n, from, err := u.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = u.WriteTo(answer(b[:n], false), from)
		}
	})
	t.Cleanup(func() { u.Close(); group.Wait() })
	server(t, "tcp", u.LocalAddr().String(), func(c net.Conn) {
		var length [2]byte
		for {
			if _, err := io.ReadFull(c, length[:]); err != nil {
				return
			}
			q := make([]byte, binary.BigEndian.Uint16(length[:]))
			if _, err := io.ReadFull(c, q); err != nil {
				return
			}
			a := answer(q, true)
			// In two parts: a message need not come at once.
			_, _ = c.Write(binary.BigEndian.AppendUint16(nil, uint16(len(a))))
			_, _ = c.Write(a)
		}
	})
	return netip.MustParseAddrPort(u.LocalAddr().String())
}

// bothFree opens a UDP port whose TCP twin is free, too: other tests of this
// host use ports at the same time.
func bothFree(t *testing.T, ip string, port int) net.PacketConn {
	t.Helper()
	const tries = 50
	var last error
	for range tries {
		u, err := net.ListenPacket("udp", net.JoinHostPort(ip, fmt.Sprint(port)))
		if err != nil {
			t.Fatal(err)
		}
		l, err := net.Listen("tcp", u.LocalAddr().String())
		if err == nil {
			l.Close()
			return u
		}
		last = err
		u.Close()
	}
	t.Fatal(last)
	return nil
}

func ask(t *testing.T, at netip.AddrPort, name string) error {
	t.Helper()
	r := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, at.String())
	}}
	_, err := r.LookupIP(t.Context(), "ip4", name)
	return err
}

func (w *watcher) dns(kind event.Kind, name, protocol string) *event.DNS {
	w.t.Helper()
	return w.wait(string(kind)+" of "+name, func(e event.Event) bool {
		return e.Kind == kind && e.DNS.Name == name && e.DNS.Protocol == protocol && e.DNS.Type == "A"
	}).DNS
}

func TestDNS(t *testing.T) {
	w := watch(t)
	tests := []struct {
		name, ip  string
		port      int
		ask, want string
		code      string
		answers   []string
	}{
		{"any port", "127.0.0.1", 0, "one.example.", "one.example", "NOERROR", []string{"alias.example", "127.0.77.1"}},
		{"IPv6", "::1", 0, "two.example.", "two.example", "NOERROR", []string{"alias.example", "127.0.77.1"}},
		{"mixed case", "127.0.0.1", 0, "ThReE.eXample.", "three.example", "NOERROR", []string{"alias.example", "127.0.77.1"}},
		{"no such name", "127.0.0.1", 0, "no.example.", "no.example", "NXDOMAIN", nil},
		{"its own port", "127.0.53.1", 53, "four.example.", "four.example", "NOERROR", []string{"alias.example", "127.0.77.1"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			at := resolver(t, tt.ip, tt.port)
			if err := ask(t, at, tt.ask); (err != nil) != (tt.code != "NOERROR") {
				t.Fatal(err)
			}
			query := w.dns(event.KindQuery, tt.want, "udp")
			if query.Server != at || query.Client.Port() == 0 || query.Size == 0 {
				t.Errorf("query %+v, want it to %s", query, at)
			}
			got := w.dns(event.KindAnswer, tt.want, "udp")
			if got.Server != at || got.Code != tt.code || !slices.Equal(got.Answers, tt.answers) || got.ID != query.ID || got.Truncated {
				t.Errorf("answer %+v, want %s %v of %s", got, tt.code, tt.answers, at)
			}
		})
	}
}

// An answer that does not fit is asked for again over TCP.
func TestDNSOverTCP(t *testing.T) {
	w := watch(t)
	at := resolver(t, "127.0.53.2", 53)
	if err := ask(t, at, "big.example."); err != nil {
		t.Fatal(err)
	}
	if got := w.dns(event.KindAnswer, "big.example", "udp"); !got.Truncated || len(got.Answers) != 0 {
		t.Errorf("first answer %+v, want it truncated", got)
	}
	if got := w.dns(event.KindQuery, "big.example", "tcp"); got.Server != at {
		t.Errorf("query over TCP: %+v", got)
	}
	got := w.dns(event.KindAnswer, "big.example", "tcp")
	if got.Truncated || !slices.Equal(got.Answers, []string{"alias.example", "127.0.77.1"}) {
		t.Errorf("answer over TCP: %+v", got)
	}
}

// An answer with other addresses is another answer, with the same ones in another
// order it is not: so each address that a program was told has its name.
func TestAnswersThatDiffer(t *testing.T) {
	w := watch(t)
	at := resolver(t, "127.0.0.1", 0)
	peer := server(t, "tcp4", "127.0.77.2:0", echo)
	for _, tt := range []struct {
		name    string
		numbers []int
		answers int
	}{
		{"turn", []int{1, 3, 1, 2, 1}, 3},
		{"long", []int{1, 3, 1, 2, 1}, 3},
		{"spin", []int{1, 2, 3, 4}, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			id := newID(t)
			const question = `\x00\x0%d\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x04%s\x07example\x00\x00\x01\x00\x01`
			var lines strings.Builder
			for _, n := range tt.numbers {
				fmt.Fprintf(&lines, "exec 3<>/dev/udp/127.0.0.1/%d; printf '"+question+"' >&3; head -c 1 <&3 >/dev/null; ", at.Port(), n, tt.name)
			}
			h := script(t, nil, id, lines.String()+fmt.Sprintf("exec 4<>/dev/tcp/127.0.77.2/%d; exit 0", peer.Port()))
			h.finish()
			connect := w.connection(event.KindConnect, func(e event.Event, c *event.Connection) bool { return e.WorkloadID == id && c.Remote == peer })
			if want := tt.name + ".example"; connect.Connection.Name != want {
				t.Errorf("the connection's name is %q, want %q", connect.Connection.Name, want)
			}
			for kind, want := range map[event.Kind]int{event.KindQuery: 1, event.KindAnswer: tt.answers} {
				if all, _ := w.seen(func(e event.Event) bool { return e.Kind == kind && e.WorkloadID == id }); len(all) != want {
					t.Errorf("%s told %d times, want %d", kind, len(all), want)
				}
			}
		})
	}
}

// What a container connects to is named by what it asked for, and questions
// that are alike are counted.
func TestNameOfConnection(t *testing.T) {
	w := watch(t)
	at := resolver(t, "127.0.0.1", 0)
	peer := server(t, "tcp4", "127.0.77.1:0", echo)
	id := newID(t)
	const question = `\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x04NAME\x07example\x00\x00\x01\x00\x01`
	h := script(t, nil, id, fmt.Sprintf("for i in 1 2 3; do exec 3<>/dev/udp/127.0.0.1/%d; printf '%s' >&3; head -c 1 <&3 >/dev/null; done; "+
		"exec 4<>/dev/tcp/127.0.77.1/%d; exit 0", at.Port(), question, peer.Port()))
	h.finish()
	query := w.wait("query", func(e event.Event) bool { return e.Kind == event.KindQuery && e.WorkloadID == id })
	if query.DNS.Name != "name.example" || query.DNS.ID != 0x1234 || query.Process.Key.PID != uint32(h.pid()) && query.Process.Parent.PID != uint32(h.pid()) {
		t.Errorf("query %+v by %d", query.DNS, query.Process.Key.PID)
	}
	connect := w.connection(event.KindConnect, func(e event.Event, c *event.Connection) bool { return c.Remote == peer })
	if connect.Connection.Name != "name.example" || connect.WorkloadID != id {
		t.Errorf("connect %+v of %q, want it named", connect.Connection, connect.WorkloadID)
	}
	for _, kind := range []event.Kind{event.KindQuery, event.KindAnswer} {
		if all, _ := w.seen(func(e event.Event) bool { return e.Kind == kind && e.WorkloadID == id }); len(all) != 1 {
			t.Errorf("%s told %d times, want once: the others are counted", kind, len(all))
		}
	}
}
