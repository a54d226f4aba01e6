package bpf_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/castellan-security/castellan/internal/adapter/bpf"
	"github.com/castellan-security/castellan/internal/event"
)

// connection waits for an event of a kind that matches.
func (w *watcher) connection(kind event.Kind, match func(event.Event, *event.Connection) bool) event.Event {
	w.t.Helper()
	return w.wait(string(kind), func(e event.Event) bool { return e.Kind == kind && match(e, e.Connection) })
}

// server accepts connections on an address and hands each to serve.
func server(t *testing.T, network, address string, serve func(net.Conn)) netip.AddrPort {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { serve(c); c.Close() })
		}
	})
	t.Cleanup(func() { l.Close(); all.Wait() })
	return netip.MustParseAddrPort(l.Addr().String())
}

func echo(c net.Conn) { _, _ = io.Copy(c, c) }

// talk sends and reads until the other side ends, and ends.
func talk(t *testing.T, c net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, c); err != nil {
		t.Fatal(err)
	}
	c.Close()
}

// script runs a shell script in a container, or with namespaces of its own.
func script(t *testing.T, attr *syscall.SysProcAttr, container, text string) *helper {
	t.Helper()
	h := start(t, attr, "exec=/bin/bash", "bash", "-c", text)
	if container != "" {
		v2, _ := hierarchies()
		put(t, cgroup(t, v2, "castellan-test-net/docker/"+container), h.pid())
	}
	return h
}

func TestConnectionOfContainer(t *testing.T) {
	w := watch(t)
	for _, network := range []string{"tcp4", "tcp6"} {
		t.Run(network, func(t *testing.T) {
			host := map[string]string{"tcp4": "127.0.0.1", "tcp6": "::1"}[network]
			at := server(t, network, net.JoinHostPort(host, "0"), echo)
			id := newID(t)
			h := script(t, nil, id, fmt.Sprintf("exec 3<>/dev/tcp/%s/%d; echo -n hello >&3; read -N 5 x <&3; exec 3>&-; exit 0", host, at.Port()))
			h.finish()
			listen := w.connection(event.KindListen, func(_ event.Event, c *event.Connection) bool { return c.Local == at })
			if listen.Process.Key.PID != uint32(os.Getpid()) {
				t.Errorf("listener is of %d, want ours", listen.Process.Key.PID)
			}
			connect := w.connection(event.KindConnect, func(e event.Event, c *event.Connection) bool { return c.Remote == at })
			if connect.Process.Key.PID != uint32(h.pid()) || connect.WorkloadID != id || connect.Connection.Local.Port() == 0 || connect.Connection.NetNS != ownNetNS(t) {
				t.Errorf("connect %+v of %q by %d", connect.Connection, connect.WorkloadID, connect.Process.Key.PID)
			}
			accept := w.connection(event.KindAccept, func(e event.Event, c *event.Connection) bool { return c.Local == at })
			if accept.Process.Key.PID != uint32(os.Getpid()) || accept.Connection.Remote != connect.Connection.Local {
				t.Errorf("accept %+v by %d", accept.Connection, accept.Process.Key.PID)
			}
			for _, incoming := range []bool{false, true} {
				end := w.connection(event.KindClose, func(e event.Event, c *event.Connection) bool {
					return c.Incoming == incoming && (c.Remote == at || c.Local == at)
				})
				if c := end.Connection; c.BytesSent != 5 || c.BytesReceived != 5 || c.PacketsSent == 0 || c.PacketsReceived == 0 || c.Duration <= 0 {
					t.Errorf("end with incoming %t: %+v", incoming, c)
				}
			}
		})
	}
}

func ownNetNS(t *testing.T) uint32 {
	t.Helper()
	info, err := os.Stat("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	return uint32(info.Sys().(*syscall.Stat_t).Ino)
}

// What can't be connected to is told with the reason, once.
func TestConnectFails(t *testing.T) {
	if _, err := os.Stat("/sbin/ip"); err != nil {
		t.Skip("no /sbin/ip: install iproute2")
	}
	w := watch(t)
	const network = "ip link set lo up; ip link add d0 type veth peer name d1; ip addr add 203.0.113.2/24 dev d0; ip link set d0 up; ip link set d1 up; " +
		"ip neigh add 203.0.113.1 lladdr 02:00:00:00:00:01 dev d0; echo 1 >/proc/sys/net/ipv4/tcp_syn_retries; " +
		"ip route add unreachable 198.51.100.1; ip route add prohibit 198.51.100.2; "
	tests := []struct{ name, address, connect, want string }{
		{"refused", "127.0.0.1", "exec 3<>/dev/tcp/127.0.0.1/7", "ECONNREFUSED"},
		{"refused over IPv6", "::1", "exec 3<>/dev/tcp/::1/7", "ECONNREFUSED"},
		{"no network", "192.0.2.1", "exec 3<>/dev/tcp/192.0.2.1/7", "ENETUNREACH"},
		{"no host", "198.51.100.1", "exec 3<>/dev/tcp/198.51.100.1/7", "EHOSTUNREACH"},
		{"prohibited", "198.51.100.2", "exec 3<>/dev/tcp/198.51.100.2/7", "EACCES"},
		{"no answer", "203.0.113.1", "exec 3<>/dev/tcp/203.0.113.1/7", "ETIMEDOUT"},
		{"given up", "203.0.113.1", "timeout 0.2 bash -c 'exec 3<>/dev/tcp/203.0.113.1/7'", "ECANCELED"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			id := newID(t)
			h := script(t, &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}, id, network+"("+tt.connect+") 2>/dev/null; exit 0")
			h.finish()
			of := func(e event.Event) bool {
				return e.Kind == event.KindConnect && e.WorkloadID == id && e.Connection.Protocol == "tcp"
			}
			got := w.wait("failure", of).Connection
			if got.Error != tt.want || got.Remote.Addr() != netip.MustParseAddr(tt.address) || got.Remote.Port() != 7 || got.NetNS == ownNetNS(t) {
				t.Errorf("connection %+v, want %s", got, tt.want)
			}
			w.exit(h.pid())
			if all, _ := w.seen(of); len(all) != 1 {
				t.Errorf("told %d times, want once: %+v", len(all), all)
			}
		})
	}
}

// A connection is its opener's, also when a child has it longer.
func TestConnectionOutlivesOpener(t *testing.T) {
	w := watch(t)
	gone := make(chan struct{})
	at := server(t, "tcp4", "127.0.0.1:0", func(c net.Conn) {
		<-gone
		_, _ = io.WriteString(c, "go\n")
		_, _ = io.Copy(io.Discard, c)
	})
	id := newID(t)
	h := script(t, nil, id, fmt.Sprintf("exec 3<>/dev/tcp/127.0.0.1/%d; (read x <&3; echo -n abc >&3) >/dev/null 2>&1 & exit 0", at.Port()))
	h.finish()
	w.exit(h.pid())
	close(gone)
	end := w.connection(event.KindClose, func(e event.Event, c *event.Connection) bool { return c.Remote == at && !c.Incoming })
	if end.Process.Key.PID != uint32(h.pid()) || end.WorkloadID != id || end.Connection.BytesSent != 3 || end.Connection.BytesReceived != 3 {
		t.Errorf("end %+v of %q by %d, want %q and %d", end.Connection, end.WorkloadID, end.Process.Key.PID, id, h.pid())
	}
}

// record runs sensors while do runs, and returns every event of connections.
func record(t *testing.T, do func()) []event.Event {
	t.Helper()
	s := open(t, bpf.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	var all []event.Event
	go func() {
		done <- s.Run(ctx, func(batch []event.Event) {
			for _, e := range batch {
				if e.Connection != nil {
					all = append(all, e)
				}
			}
		})
	}()
	do()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	for _, st := range s.Status() {
		if st.Name == "network" && st.Lost != 0 {
			t.Errorf("%d records lost", st.Lost)
		}
	}
	return all
}

// sums adds up what events of a kind say.
func sums(all []event.Event, kind event.Kind, match func(*event.Connection) bool) (events, times, sent, received uint64) {
	for _, e := range all {
		if e.Kind == kind && match(e.Connection) {
			events++
			times += e.Times()
			sent += e.Connection.BytesSent
			received += e.Connection.BytesReceived
		}
	}
	return events, times, sent, received
}

// Of many alike connections few are told, and all are counted with their bytes.
func TestManyConnections(t *testing.T) {
	const each, threads, text = 2_500, 8, "ten bytes."
	var at netip.AddrPort
	all := record(t, func() {
		at = server(t, "tcp4", "127.0.0.1:0", echo)
		var group sync.WaitGroup
		for range threads {
			group.Go(func() {
				for range each {
					c, err := net.Dial("tcp", at.String())
					if err != nil {
						t.Error(err)
						return
					}
					talk(t, c, text)
				}
			})
		}
		group.Wait()
	})
	const want = each * threads
	toServer := func(c *event.Connection) bool { return c.Remote == at }
	atServer := func(c *event.Connection) bool { return c.Local == at }
	events, times, _, _ := sums(all, event.KindConnect, toServer)
	if times != want || events > 20 {
		t.Errorf("%d connects in %d events, want %d in a few", times, events, want)
	}
	if _, times, _, _ := sums(all, event.KindAccept, atServer); times != want {
		t.Errorf("%d accepts, want %d", times, want)
	}
	events, times, sent, received := sums(all, event.KindClose, toServer)
	if times != want || sent != want*uint64(len(text)) || received != sent || events > 20 {
		t.Errorf("%d ends with %d sent and %d received in %d events, want %d with %d", times, sent, received, events, want, want*len(text))
	}
	_, times, sent, received = sums(all, event.KindClose, atServer)
	if times < want-threads || times > want || sent != times*uint64(len(text)) || received != sent {
		t.Errorf("%d ends of the server with %d sent and %d received, want %d", times, sent, received, want)
	}
}

func TestUDP(t *testing.T) {
	var server, other, client *net.UDPConn
	local := func(c *net.UDPConn) netip.AddrPort { return c.LocalAddr().(*net.UDPAddr).AddrPort() }
	port := freePort(t)
	all := record(t, func() {
		var err error
		if server, err = net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port}); err != nil {
			t.Fatal(err)
		}
		defer server.Close()
		if other, err = net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}); err != nil {
			t.Fatal(err)
		}
		defer other.Close()
		if client, err = net.DialUDP("udp4", nil, server.LocalAddr().(*net.UDPAddr)); err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		buf := make([]byte, 64)
		for range 3 {
			if _, err := client.Write([]byte("question")); err != nil {
				t.Fatal(err)
			}
			_, from, err := server.ReadFromUDPAddrPort(buf)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := server.WriteToUDPAddrPort([]byte("reply"), from); err != nil {
				t.Fatal(err)
			}
			if _, err := client.Read(buf); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := other.WriteToUDPAddrPort([]byte("once"), local(server)); err != nil {
			t.Fatal(err)
		}
	})
	at := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(port))
	if events, _, _, _ := sums(all, event.KindListen, func(c *event.Connection) bool { return c.Protocol == "udp" && c.Local == at }); events != 1 {
		t.Errorf("listener told %d times, want once", events)
	}
	out := func(c *event.Connection) bool { return c.Protocol == "udp" && c.Remote == at && !c.Incoming }
	if _, times, _, _ := sums(all, event.KindConnect, out); times != 2 {
		t.Errorf("%d new peers, want 2", times)
	}
	if _, times, sent, received := sums(all, event.KindClose, out); times != 2 || sent != 3*8+4 || received != 3*5 {
		t.Errorf("%d flows with %d sent and %d received, want 2 with 28 and 15", times, sent, received)
	}
	in := func(c *event.Connection) bool { return c.Protocol == "udp" && c.Local == at && c.Incoming }
	if _, times, sent, received := sums(all, event.KindClose, in); times != 1 || sent != 3*5 || received != 3*8+4 {
		t.Errorf("%d flows of the server with %d sent and %d received, want 1 with 15 and 28", times, sent, received)
	}
	if _, times, _, _ := sums(all, event.KindConnect, func(c *event.Connection) bool { return c.Local == at }); times != 0 {
		t.Errorf("replies were told as %d connects", times)
	}
}

// Many packets to one peer are told before they end: 60 of them go with each write, so
// that they are fast on any machine.
func TestManyPackets(t *testing.T) {
	const size, segments, writes = 1000, 60, 500
	var at netip.AddrPort
	all := record(t, func() {
		server, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		defer server.Close()
		at = server.LocalAddr().(*net.UDPAddr).AddrPort()
		client, err := net.DialUDP("udp4", nil, server.LocalAddr().(*net.UDPAddr))
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		raw, err := client.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		if control := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_UDP, unix.UDP_SEGMENT, size) }); control != nil || err != nil {
			t.Fatal(control, err)
		}
		text := make([]byte, size*segments)
		for range writes {
			if _, err := client.Write(text); err != nil {
				t.Fatal(err)
			}
		}
	})
	var flows []event.Event
	for _, e := range all {
		if e.Kind == event.KindFlow && e.Connection.Remote == at {
			flows = append(flows, e)
		}
	}
	if len(flows) == 0 {
		t.Fatal("the flow was not told while it went on")
	}
	c := flows[0].Connection
	if c.PacketsSent < 10_000 || c.PacketsSent > 10_000+segments || c.BytesSent < c.PacketsSent*size || c.PacketsReceived != 0 || c.Duration <= 0 || c.Protocol != "udp" {
		t.Errorf("told %+v, want some 10,000 packets of %d bytes", c, size)
	}
	if pid := flows[0].Process.Key.PID; pid != uint32(os.Getpid()) {
		t.Errorf("told of process %d, want ours", pid)
	}
	out := func(c *event.Connection) bool { return c.Protocol == "udp" && c.Remote == at && !c.Incoming }
	if _, times, sent, _ := sums(all, event.KindClose, out); times != 1 || sent != writes*segments*size {
		t.Errorf("%d ends with %d bytes sent, want 1 with all", times, sent)
	}
}

// freePort returns a port that nobody has now.
func freePort(t *testing.T) int {
	t.Helper()
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return c.LocalAddr().(*net.UDPAddr).Port
}

func TestRawSockets(t *testing.T) {
	for name, tt := range map[string]struct {
		family, kind, protocol int
		want                   string
	}{
		"raw":              {unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP, "raw"},
		"packet":           {unix.AF_PACKET, unix.SOCK_DGRAM, 0, "packet"},
		"packet of old":    {unix.AF_INET, unix.SOCK_PACKET, 0, "packet"},
		"another protocol": {unix.AF_INET6, unix.SOCK_DGRAM, unix.IPPROTO_UDPLITE, "raw"},
	} {
		t.Run(name, func(t *testing.T) {
			w := watch(t)
			fd, err := unix.Socket(tt.family, tt.kind|unix.SOCK_CLOEXEC, tt.protocol)
			if err != nil {
				t.Fatal(err)
			}
			unix.Close(fd)
			got := w.connection(event.KindRaw, func(e event.Event, c *event.Connection) bool {
				return e.Process.Key.PID == uint32(os.Getpid()) && c.Protocol == tt.want
			})
			if got.Connection.NetNS != ownNetNS(t) || got.Connection.Error != "" {
				t.Errorf("told as %+v", got.Connection)
			}
		})
	}
}

// A ping socket has no ports, and is told by the first packet.
func TestPing(t *testing.T) {
	const ranges = "/proc/sys/net/ipv4/ping_group_range"
	before, err := os.ReadFile(ranges)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(ranges, []byte("0 0"), 0); err != nil {
		t.Skip("ping sockets can't be allowed here: " + err.Error())
	}
	t.Cleanup(func() { _ = os.WriteFile(ranges, before, 0) })
	w := watch(t)
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMP)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Sendto(fd, []byte{8, 0, 0, 0, 0, 0, 0, 1}, 0, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 9}}); err != nil {
		t.Fatal(err)
	}
	got := w.connection(event.KindConnect, func(e event.Event, c *event.Connection) bool { return c.Protocol == "icmp" })
	if got.Connection.Remote.Addr() != netip.MustParseAddr("127.0.0.9") || got.Process.Key.PID != uint32(os.Getpid()) {
		t.Errorf("ping: %+v by %d", got.Connection, got.Process.Key.PID)
	}
}

// What was open before the sensors is told as resumed, once, and its end with
// the bytes of the whole connection.
func TestResumedConnections(t *testing.T) {
	var at netip.AddrPort
	var c net.Conn
	first := record(t, func() {
		at = server(t, "tcp4", "127.0.0.1:0", echo)
		var err error
		if c, err = net.Dial("tcp", at.String()); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(c, "before"); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, make([]byte, 6)); err != nil {
			t.Fatal(err)
		}
	})
	ours := func(c *event.Connection) bool { return c.Remote == at || c.Local == at }
	for _, e := range first {
		if ours(e.Connection) && (e.Connection.Resumed || e.Kind == event.KindClose) {
			t.Errorf("first run: %s %+v", e.Kind, e.Connection)
		}
	}

	w := watch(t)
	for _, kind := range []event.Kind{event.KindConnect, event.KindAccept, event.KindListen} {
		match := func(e event.Event) bool { return e.Kind == kind && ours(e.Connection) }
		got := w.wait(string(kind), match)
		if !got.Connection.Resumed || got.Process.Key.PID != uint32(os.Getpid()) {
			t.Errorf("%s after the restart: %+v by %d", kind, got.Connection, got.Process.Key.PID)
		}
	}
	talk(t, c, "after")
	for _, incoming := range []bool{false, true} {
		end := w.connection(event.KindClose, func(e event.Event, c *event.Connection) bool { return ours(c) && c.Incoming == incoming })
		if end.Connection.BytesSent != 11 || end.Connection.BytesReceived != 11 {
			t.Errorf("end: %+v, want 11 bytes each way", end.Connection)
		}
	}
	for _, kind := range []event.Kind{event.KindConnect, event.KindAccept, event.KindListen, event.KindClose} {
		want := 1
		if kind == event.KindClose {
			want = 2
		}
		if all, _ := w.seen(func(e event.Event) bool { return e.Kind == kind && ours(e.Connection) }); len(all) != want {
			t.Errorf("%s told %d times, want %d", kind, len(all), want)
		}
	}
}

// BenchmarkConnections connects and ends over loopback, without sensors and
// with them. BenchmarkPackets sends one packet each way.
func BenchmarkConnections(b *testing.B) {
	withAndWithout(b, func(b *testing.B, at string) {
		for b.Loop() {
			c, err := net.Dial("tcp", at)
			if err != nil {
				b.Fatal(err)
			}
			_ = c.(*net.TCPConn).SetLinger(0)
			c.Close()
		}
	})
}

func BenchmarkPackets(b *testing.B) {
	withAndWithout(b, func(b *testing.B, at string) {
		c, err := net.Dial("tcp", at)
		if err != nil {
			b.Fatal(err)
		}
		defer c.Close()
		buf := []byte("x")
		for b.Loop() {
			if _, err := c.Write(buf); err != nil {
				b.Fatal(err)
			}
			if _, err := c.Read(buf); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func withAndWithout(b *testing.B, do func(b *testing.B, at string)) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { echo(c); c.Close() }()
		}
	}()
	b.Run("off", func(b *testing.B) { do(b, l.Addr().String()) })
	b.Run("on", func(b *testing.B) {
		var off []string
		for _, name := range bpf.Names() {
			if name != "network" && name != "dns" {
				off = append(off, name)
			}
		}
		s, err := bpf.Open(b.Context(), bpf.Options{Off: off}, quiet())
		if err != nil {
			b.Fatal(err)
		}
		ctx, cancel := context.WithCancel(b.Context())
		done := make(chan error)
		go func() { done <- s.Run(ctx, func([]event.Event) {}) }()
		do(b, l.Addr().String())
		cancel()
		<-done
		if err := s.Close(); err != nil {
			b.Error(err)
		}
	})
}
