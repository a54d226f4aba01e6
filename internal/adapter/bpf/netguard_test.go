package bpf_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"

	"github.com/castellan-security/castellan/internal/adapter/bpf"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/need"
	"github.com/castellan-security/castellan/internal/profile"
)

const netGroup asset.Group = "shop/store/web"

// pins is a folder on a BPF file system of the test's own.
func pins(t testing.TB) string {
	t.Helper()
	need.Root(t)
	need.BPF(t, "cgroup")
	root := t.TempDir()
	if err := unix.Mount("bpf", root, "bpf", 0, ""); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(root, "castellan", "agent") // two folders deep, as an agent has it
	t.Cleanup(func() {
		if _, err := bpf.Release(dir); err != nil {
			t.Error(err)
		}
		if err := unix.Unmount(root, 0); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// netGuard is one that runs until the test ends.
type netGuard struct {
	*bpf.Guard
	t    testing.TB
	stop func()
	mu   sync.Mutex
	told []event.Event
}

func openNetGuard(t *testing.T, dir string) *netGuard {
	t.Helper()
	return guardOf(t, dir, bpf.OpenNetGuard)
}

// await waits until something was told.
func (n *netGuard) await(what string, is func(event.Event) bool) event.Event {
	n.t.Helper()
	for until := time.Now().Add(patience); time.Now().Before(until); time.Sleep(10 * time.Millisecond) {
		n.mu.Lock()
		i := slices.IndexFunc(n.told, is)
		n.mu.Unlock()
		if i >= 0 {
			return n.told[i]
		}
	}
	n.t.Fatalf("%s was not told", what)
	return event.Event{}
}

func netRules(a profile.Answer, n profile.NetworkRules) profile.Rules {
	r := profile.Rules{Group: netGroup, Revision: 1, Network: n, Answers: map[profile.Control]profile.Answer{}}
	for _, c := range profile.Controls() {
		r.Answers[c] = profile.Off
	}
	r.Answers[profile.ControlNetwork] = a
	return r
}

func portRule(protocol string, first, last int) profile.PortRule {
	return profile.PortRule{Protocol: protocol, Ports: profile.Ports{First: uint16(first), Last: uint16(last)}}
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// contained runs a shell script in a container's cgroup and returns whether it
// succeeded.
func contained(t *testing.T, dir, script string) bool {
	t.Helper()
	h := start(t, nil, "exec=/bin/bash", "bash", "-c", "exec 2>/dev/null; "+script)
	put(t, dir, h.pid())
	h.finish()
	return h.cmd.ProcessState.Success()
}

// listener listens at an address of this host's loopback, and answers nothing.
func listener(t *testing.T, at string) (port int) {
	t.Helper()
	l, err := net.Listen("tcp", at)
	check(t, err)
	t.Cleanup(func() { check(t, l.Close()) })
	return l.Addr().(*net.TCPAddr).Port
}

func tcpTo(address string, port int) string {
	return fmt.Sprintf("exec 3<>/dev/tcp/%s/%d", address, port)
}

// netContainer is a cgroup that is a container's.
func netContainer(t *testing.T) (id, dir string) {
	t.Helper()
	v2, _ := hierarchies()
	id = newID(t)
	return id, cgroup(t, v2, "castellan-test-net-"+id[:8]+"/docker/"+id)
}

func TestNetGuardHoldsToDestinations(t *testing.T) {
	g := openNetGuard(t, pins(t))
	id, dir := netContainer(t)
	near, far := listener(t, "127.0.0.2:0"), listener(t, "127.0.1.2:0")
	inRange := listener(t, "127.0.2.2:0")
	check(t, g.Set(netRules(profile.Deny, profile.NetworkRules{
		Destinations: []profile.Destination{
			{PortRule: portRule("tcp", near, near), Network: netip.MustParsePrefix("127.0.0.0/24")},
			{PortRule: portRule("tcp", inRange-1, inRange+1), Network: netip.MustParsePrefix("127.0.2.2/32")},
			{PortRule: portRule("udp", 4000, 4000), Network: netip.MustParsePrefix("127.0.0.2/32")},
		},
		Listens: []profile.PortRule{portRule("tcp", 40321, 40321)},
	})))
	if !contained(t, dir, tcpTo("127.0.1.2", far)) {
		t.Error("who is not held can't connect")
	}
	check(t, g.Hold(id, netGroup))
	for _, tc := range []struct {
		name, script string
		want         bool
	}{
		{"permitted", tcpTo("127.0.0.2", near), true},
		{"other port", tcpTo("127.0.0.2", far), false},
		{"other network", tcpTo("127.0.1.2", far), false},
		{"range", tcpTo("127.0.2.2", inRange), true},
		{"as IPv6", tcpTo("::ffff:127.0.1.2", far), false},
		{"IPv6", tcpTo("::1", far), false},
		{"UDP", "echo x >/dev/udp/127.0.0.2/4000", true},
		{"UDP, other port", "echo x >/dev/udp/127.0.0.2/4001", false},
		{"listens", "perl -MSocket -e 'socket(S,AF_INET,SOCK_STREAM,0)&&bind(S,pack_sockaddr_in(40321,INADDR_LOOPBACK))||exit 1'", true},
		{"bind shell", "perl -MSocket -e 'socket(S,AF_INET,SOCK_STREAM,0)&&bind(S,pack_sockaddr_in(40322,INADDR_LOOPBACK))||exit 1'", false},
		{"UDP without connecting", "perl -MSocket -e 'socket(S,AF_INET,SOCK_DGRAM,0);send(S,\"x\",0,pack_sockaddr_in(4001,inet_aton(\"127.0.0.2\")))||exit 1'", false},
		{"raw socket", "perl -MSocket -e 'socket(S,AF_INET,SOCK_RAW,1)||exit 1'", false},
	} {
		if got := contained(t, dir, tc.script); got != tc.want {
			t.Errorf("%s: done %v, want %v", tc.name, got, tc.want)
		}
	}
	e := g.await("other network", func(e event.Event) bool {
		return e.Kind == event.KindConnect && e.Connection.Remote == netip.AddrPortFrom(netip.MustParseAddr("127.0.1.2"), uint16(far))
	})
	if e.Reaction != event.ReactionDenied || e.WorkloadID != id || e.Process.Name != "bash" || e.Connection.Protocol != "tcp" || e.Connection.Error != "EPERM" || e.Time.IsZero() {
		t.Errorf("told: %+v %+v", e, e.Connection)
	}
	g.await("bind shell", func(e event.Event) bool {
		return e.Kind == event.KindListen && e.Connection.Local.Port() == 40322
	})
	g.await("raw socket", func(e event.Event) bool { return e.Kind == event.KindRaw })

	// Looked at only, and let go.
	check(t, g.Set(netRules(profile.Audit, profile.NetworkRules{})))
	if !contained(t, dir, tcpTo("127.0.0.2", near)) {
		t.Error("an audited connection is refused")
	}
	g.await("audited", func(e event.Event) bool {
		return e.Reaction == event.ReactionAudited && e.Connection.Remote.Port() == uint16(near)
	})
	check(t, g.Set(netRules(profile.Deny, profile.NetworkRules{})))
	if contained(t, dir, tcpTo("127.0.0.2", near)) {
		t.Error("a rule that was taken away still holds")
	}
	check(t, g.Forget(id))
	if !contained(t, dir, tcpTo("127.0.1.2", far)) {
		t.Error("who is held no more can't connect")
	}
}

// freePorts returns the first of two UDP ports that nobody has, below those of clients.
func freePorts(t *testing.T) int {
	t.Helper()
	for port := 20053; port < 20253; port += 2 {
		one, err := net.ListenPacket("udp4", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue
		}
		two, err := net.ListenPacket("udp4", fmt.Sprintf("127.0.0.1:%d", port+1))
		check(t, one.Close())
		if err == nil {
			check(t, two.Close())
			return port
		}
	}
	t.Fatal("all ports are taken")
	return 0
}

// A UDP server answers those who asked it, whoever they are, and nobody else.
func TestNetGuardLetsServersAnswer(t *testing.T) {
	g := openNetGuard(t, pins(t))
	id, dir := netContainer(t)
	port := freePorts(t)
	check(t, g.Set(netRules(profile.Deny, profile.NetworkRules{Listens: []profile.PortRule{portRule("udp", port, port), portRule("udp", port+1, port+1)}})))
	check(t, g.Hold(id, netGroup))
	client, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	check(t, err)
	defer client.Close()
	stranger, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	check(t, err)
	defer stranger.Close()
	// The server answers, then sends what nobody asked for: to another client, and from
	// another of its ports. Its words say what it was let do.
	server := fmt.Sprintf(`use Socket; socket(S,AF_INET,SOCK_DGRAM,0); bind(S,pack_sockaddr_in(%d,INADDR_LOOPBACK)) or exit 2;
socket(T,AF_INET,SOCK_DGRAM,0); bind(T,pack_sockaddr_in(%d,INADDR_LOOPBACK)) or exit 3;
socket(U,AF_INET,SOCK_DGRAM,0);
my $from = recv(S,my $b,99,0);
my $to = pack_sockaddr_in(%d,INADDR_LOOPBACK);
my @did = map { defined $_ ? 1 : 0 } (send(S,"answer",0,$from), send(S,"x",0,$to), send(T,"x",0,$from), send(U,"x",0,$from));
exit 10 + oct "0b@{[join '', @did]}";`, port, port+1, stranger.LocalAddr().(*net.UDPAddr).Port)
	h := start(t, nil, "exec=/usr/bin/perl", "perl", "-e", server)
	put(t, dir, h.pid())
	asked, done := make(chan struct{}), make(chan struct{})
	go func() { // asks until it is answered: nobody says when the server listens
		defer close(asked)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				_, _ = client.WriteTo([]byte("question"), &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port}) // refused until then
			}
		}
	}()
	h.finish()
	close(done)
	<-asked
	if got, want := h.cmd.ProcessState.ExitCode(), 10+0b1000; got != want {
		t.Errorf("the server ended with %d, want %d: the answer alone is let through", got, want)
	}
}

// answerAll is a resolver that answers every question for an address with this one.
func answerAll(t *testing.T, at string, address netip.Addr) {
	t.Helper()
	conn, err := net.ListenPacket("udp", at)
	check(t, err)
	var wg sync.WaitGroup
	wg.Go(func() {
		b := make([]byte, 512)
		for {
			n, from, err := conn.ReadFrom(b)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(b[:n]) != nil || len(m.Questions) != 1 {
				continue
			}
			m.Response, m.Additionals = true, nil
			q := m.Questions[0]
			m.Answers = []dnsmessage.Resource{
				{Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 60}, Body: &dnsmessage.CNAMEResource{CNAME: dnsmessage.MustNewName("elsewhere.invalid.")}},
				{Header: dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName("elsewhere.invalid."), Class: q.Class, TTL: 60}, Body: &dnsmessage.AResource{A: address.As4()}},
			}
			out, err := m.Pack()
			if err == nil {
				_, err = conn.WriteTo(out, from)
			}
			if err != nil {
				t.Errorf("answer: %v", err)
			}
		}
	})
	t.Cleanup(func() { check(t, conn.Close()); wg.Wait() })
}

// resolve asks a resolver for a name.
func resolve(t *testing.T, at, name string) {
	t.Helper()
	r := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "udp", at)
	}}
	if _, err := r.LookupNetIP(t.Context(), "ip4", name+"."); err != nil {
		t.Fatalf("look up %s: %v", name, err)
	}
}

func TestNetGuardHoldsToNames(t *testing.T) {
	g := openNetGuard(t, pins(t))
	id, dir := netContainer(t)
	const resolver, stranger = "127.53.0.1:53", "127.53.0.2:53"
	addresses := map[string]string{}
	for i, at := range []string{resolver, stranger} {
		answerAll(t, at, netip.MustParseAddr(fmt.Sprintf("127.9.%d.1", i)))
		addresses[at] = fmt.Sprintf("127.9.%d.1", i)
	}
	port := listener(t, "127.9.0.1:0")
	l, err := net.Listen("tcp", fmt.Sprintf("127.9.1.1:%d", port))
	check(t, err)
	defer l.Close()
	rules := func(names ...string) profile.Rules {
		n := profile.NetworkRules{Resolvers: []netip.Addr{netip.MustParseAddr("127.53.0.1")}}
		for _, name := range names {
			n.Names = append(n.Names, profile.NameRule{PortRule: portRule("tcp", port, port), Name: name})
		}
		return netRules(profile.Deny, n)
	}
	check(t, g.Set(rules()))
	check(t, g.Hold(id, netGroup))
	allowed := func() bool { return contained(t, dir, tcpTo("127.9.0.1", port)) }
	if allowed() {
		t.Error("an address that nobody named can be reached")
	}
	// What was resolved before a name became permitted counts, too.
	resolve(t, resolver, "Api.Example.Com")
	if allowed() {
		t.Error("a name that is not permitted can be reached")
	}
	for _, tc := range []struct {
		name string
		want bool
	}{
		{"api.example.com", true}, {"API.example.com.", true}, {"example.com", false}, {"*.example.com", true}, {"*.com", true},
		{"*.api.example.com", false}, {"pi.example.com", false}, {"*.ample.com", false}, {"api.example.co", false}, {"*.example", false},
	} {
		check(t, g.Set(rules(tc.name)))
		if got := allowed(); got != tc.want {
			t.Errorf("%s: reached %v, want %v", tc.name, got, tc.want)
		}
	}
	// Four names of an address are known at once, long ones too.
	long := strings.Repeat("a23456789.", 20) + "s3.eu-central-1.amazonaws.com"
	for _, name := range []string{"one.invalid", "two.invalid", long} {
		resolve(t, resolver, name)
	}
	for _, name := range []string{"api.example.com", "two.invalid", long, "*.s3.eu-central-1.amazonaws.com"} {
		check(t, g.Set(rules(name)))
		if !allowed() {
			t.Errorf("%s: not reached", name)
		}
	}
	// Another's answer does not count.
	resolve(t, stranger, "api.example.com")
	check(t, g.Set(rules("api.example.com")))
	if contained(t, dir, tcpTo("127.9.1.1", port)) {
		t.Error("what an unknown resolver answered counts")
	}
	if err := g.Set(rules("*.a.b.c.d.e.f.g")); !fault.Is(err, fault.Unsupported) {
		t.Errorf("a star before seven parts: %v", err)
	}
	if err := g.Set(rules("a*.example.com")); !fault.Is(err, fault.Invalid) {
		t.Errorf("a star within a name: %v", err)
	}
	if !allowed() {
		t.Error("rules that were refused took the former ones away")
	}
}

// Between the end of one program and the start of the next nothing passes, and the
// next one knows what is held. So it is with another version of the program.
func TestNetGuardSurvives(t *testing.T) {
	dir := pins(t)
	g, err := bpf.OpenNetGuard(dir, quiet())
	check(t, err)
	id, cg := netContainer(t)
	port := listener(t, "127.0.0.2:0")
	check(t, g.Set(netRules(profile.Deny, profile.NetworkRules{})))
	check(t, g.Hold(id, netGroup))
	denied := func(when string) {
		t.Helper()
		if contained(t, cg, tcpTo("127.0.0.2", port)) {
			t.Errorf("%s the connection is made", when)
		}
	}
	denied("at first")
	check(t, g.Close())
	denied("without a program")
	g, err = bpf.OpenNetGuard(dir, quiet())
	check(t, err)
	denied("after a restart")
	if held, err := g.Containers(); err != nil || len(held) != 1 || held[id] != netGroup {
		t.Errorf("after a restart these are held: %v, %v", held, err)
	}
	check(t, g.Close())

	next, err := bpf.OpenNetGuardAs(dir, "another", quiet())
	check(t, err)
	defer next.Close()
	denied("beside the former version")
	check(t, next.Set(netRules(profile.Deny, profile.NetworkRules{})))
	check(t, next.Settle())
	if entries, err := os.ReadDir(filepath.Join(dir, "network")); err != nil || len(entries) != 1 {
		t.Errorf("pinned: %v, %v", entries, err)
	}
	denied("by the next version alone")
	if held, err := next.Containers(); err != nil || held[id] != netGroup {
		t.Errorf("by the next version these are held: %v, %v", held, err)
	}
	if n, err := bpf.Held(dir); err != nil || n != 1 {
		t.Errorf("%d groups are held, %v", n, err)
	}
	if n, err := bpf.Release(dir); err != nil || n.Network == 0 {
		t.Errorf("released %+v, %v", n, err)
	}
	if !contained(t, cg, tcpTo("127.0.0.2", port)) {
		t.Error("a released host still holds the network, though another has the programs open")
	}
}

// More connections a second than the group may begin are refused, and told.
func TestNetGuardLimitsNewConnections(t *testing.T) {
	g := openNetGuard(t, pins(t))
	id, dir := netContainer(t)
	port := listener(t, "127.0.0.2:0")
	r := netRules(profile.Off, profile.NetworkRules{})
	r.Answers[profile.ControlResource] = profile.Deny
	r.Limits.NewConnections = 20
	check(t, g.Set(r))
	check(t, g.Hold(id, netGroup))
	many := fmt.Sprintf("n=0; for i in {1..100}; do (exec 3<>/dev/tcp/127.0.0.2/%d) 2>/dev/null && n=$((n+1)); done; test $n -lt 90", port)
	if !contained(t, dir, many) {
		t.Error("a hundred connections at once were made")
	}
	e := g.await("the limit", func(e event.Event) bool { return e.Kind == event.KindLimit })
	if e.Resource.What != "connections" || e.Reaction != event.ReactionDenied || e.WorkloadID != id {
		t.Errorf("told: %+v %+v", e, e.Resource)
	}
	if !contained(t, dir, "sleep 1.1; "+tcpTo("127.0.0.2", port)) {
		t.Error("a second later none can be made")
	}
}

// BenchmarkNetGuardSet tells what it costs to replace the rules of a group with a thousand peers.
func BenchmarkNetGuardSet(b *testing.B) {
	if os.Geteuid() != 0 {
		b.Skip("needs root")
	}
	root := b.TempDir()
	if err := unix.Mount("bpf", root, "bpf", 0, ""); err != nil {
		b.Fatal(err)
	}
	defer unix.Unmount(root, 0)
	dir := filepath.Join(root, "castellan")
	g, err := bpf.OpenNetGuard(dir, quiet())
	if err != nil {
		b.Fatal(err)
	}
	defer g.Close()
	defer bpf.Release(dir)
	var n profile.NetworkRules
	for i := range 1000 {
		n.Destinations = append(n.Destinations, profile.Destination{
			PortRule: portRule("tcp", 443, 443), Network: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 32),
		})
	}
	for b.Loop() {
		if err := g.Set(netRules(profile.Deny, n)); err != nil {
			b.Fatal(err)
		}
	}
}

// Who is connected in another way than by connect is held to the same destinations.
func TestNetGuardHoldsOtherWaysToConnect(t *testing.T) {
	perl := func(do string) func(string, int) []string {
		return func(address string, port int) []string {
			to := fmt.Sprintf("pack_sockaddr_in(%d,inet_aton(\"%s\"))", port, address)
			return []string{"exec=/usr/bin/perl", "perl", "-MSocket", "-e", "(" + strings.ReplaceAll(do, "TO", to) + ")||exit 1"}
		}
	}
	ring := func(how string) func(string, int) []string {
		return func(address string, port int) []string {
			return []string{fmt.Sprintf("calls=ring:%s%s:%d", how, address, port)}
		}
	}
	g := openNetGuard(t, pins(t))
	near, far := listener(t, "127.0.0.2:0"), listener(t, "127.0.1.2:0")
	check(t, g.Set(netRules(profile.Deny, profile.NetworkRules{
		Destinations: []profile.Destination{{PortRule: portRule("tcp", near, near), Network: netip.MustParsePrefix("127.0.0.0/24")}},
	})))
	for name, way := range map[string]func(string, int) []string{
		"with the first data":            perl(`socket(S,AF_INET,SOCK_STREAM,0)&&send(S,"x",0x20000000,TO)`), // MSG_FASTOPEN
		"by several paths":               perl(`socket(S,AF_INET,SOCK_STREAM,262)&&connect(S,TO)`),           // IPPROTO_MPTCP
		"by a ring":                      ring(""),
		"by a thread of a ring's kernel": ring("async/"),
	} {
		t.Run(name, func(t *testing.T) {
			id, dir := netContainer(t)
			done := func(address string, port int) bool {
				h := start(t, nil, way(address, port)...)
				put(t, dir, h.pid())
				h.finish()
				return h.cmd.ProcessState.Success()
			}
			if !done("127.0.1.2", far) {
				t.Skip("this kernel has none")
			}
			check(t, g.Hold(id, netGroup))
			if !done("127.0.0.2", near) {
				t.Error("a connection of the profile is refused")
			}
			if done("127.0.1.2", far) {
				t.Error("a connection outside the profile is made")
			}
			e := g.await(name, func(e event.Event) bool { return e.WorkloadID == id })
			if e.Kind != event.KindConnect || e.Reaction != event.ReactionDenied || e.Connection.Remote.Port() != uint16(far) || e.Connection.Protocol != "tcp" {
				t.Errorf("told: %+v %+v", e, e.Connection)
			}
		})
	}
}

// BenchmarkNetGuardDecides tells what a connection by UDP costs, which sends
// nothing: of a process of the host, of a container that is held and may, and of one
// that may not.
func BenchmarkNetGuardDecides(b *testing.B) {
	if os.Geteuid() != 0 {
		b.Skip("needs root")
	}
	root := b.TempDir()
	if err := unix.Mount("bpf", root, "bpf", 0, ""); err != nil {
		b.Fatal(err)
	}
	defer unix.Unmount(root, 0)
	connect := func(b *testing.B) {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
		if err != nil {
			b.Fatal(err)
		}
		defer unix.Close(fd)
		for b.Loop() {
			err = unix.Connect(fd, &unix.SockaddrInet4{Port: 4000, Addr: [4]byte{127, 0, 0, 2}})
		}
		_ = err // refused where it may not
	}
	b.Run("without", connect)
	dir := filepath.Join(root, "castellan")
	g, err := bpf.OpenNetGuard(dir, quiet())
	if err != nil {
		b.Fatal(err)
	}
	defer g.Close()
	defer bpf.Release(dir)
	b.Run("host", connect)
	id := strings.Repeat("5e", 32)
	v2, _ := hierarchies()
	cg := filepath.Join(v2, "castellan-bench/docker", id)
	if err := os.MkdirAll(cg, 0o755); err != nil {
		b.Fatal(err)
	}
	defer func() {
		_ = os.Remove(cg)
		_ = os.Remove(filepath.Dir(cg))
		_ = os.Remove(filepath.Dir(filepath.Dir(cg)))
	}()
	if err := os.WriteFile(filepath.Join(cg, "cgroup.procs"), []byte("0"), 0); err != nil {
		b.Fatal(err)
	}
	defer os.WriteFile(filepath.Join(v2, "cgroup.procs"), []byte("0"), 0)
	for name, ports := range map[string]profile.PortRule{"may": portRule("udp", 4000, 4000), "may not": portRule("udp", 4001, 4001)} {
		n := profile.NetworkRules{Destinations: []profile.Destination{{PortRule: ports, Network: netip.MustParsePrefix("127.0.0.0/8")}}}
		for _, err := range []error{g.Set(netRules(profile.Deny, n)), g.Hold(id, netGroup)} {
			if err != nil {
				b.Fatal(err)
			}
		}
		b.Run(name, connect)
	}
}
