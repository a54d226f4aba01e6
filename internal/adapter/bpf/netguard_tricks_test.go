package bpf_test

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"

	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/profile"
)

// perlSocket is what a container's process does with sockets: to is an address outside
// the profile, and near one within.
func perlSocket(do string, port int) string {
	at := func(address string) string {
		return fmt.Sprintf("pack_sockaddr_in(%d,inet_aton(\"%s\"))", port, address)
	}
	do = strings.NewReplacer("NOPORT", `pack_sockaddr_in(0,inet_aton("127.0.1.2"))`, "NEAR", at("127.0.0.2"), "TO", at("127.0.1.2")).Replace(do)
	return "perl -MSocket=:all -e '(" + do + ")||exit 1'"
}

// Sockets of which the kernel does not ask whom they send to, or asks in another way.
func TestNetGuardHoldsOddSockets(t *testing.T) {
	letPing(t)
	g := openNetGuard(t, pins(t))
	port := freePorts(t)
	check(t, g.Set(netRules(profile.Deny, profile.NetworkRules{
		Destinations: []profile.Destination{
			{PortRule: portRule("udp", port, port), Network: netip.MustParsePrefix("127.0.0.2/32")},
			{PortRule: portRule("udp", port, port), Network: netip.MustParsePrefix("::1/128")},
		},
	})))
	here := fmt.Sprintf("connect(S,pack_sockaddr_in6(%d,inet_pton(AF_INET6,\"::1\")))&&defined(send(S,\"x\",0))", port)
	route := "setsockopt(S,41,57,pack(\"C8a16\",0,2,4,0,0,0,0,0,inet_pton(AF_INET6,\"::1\")))&&"
	for _, tc := range []struct {
		name, script string
		kind         event.Kind // what it is told as; empty for what is not
		want         bool
	}{
		{"UDP", "socket(S,AF_INET,SOCK_DGRAM,0)&&connect(S,NEAR)&&send(S,\"x\",0)", "", true},
		{"UDP-Lite", "socket(S,AF_INET,SOCK_DGRAM,136)&&connect(S,TO)&&send(S,\"x\",0)", event.KindRaw, false},
		{"UDP-Lite of IPv6", "socket(S,AF_INET6,SOCK_DGRAM,136)", event.KindRaw, false},
		{"UDP-Lite without connecting", "socket(S,AF_INET,SOCK_DGRAM,136)&&defined(send(S,\"x\",0,NEAR))", event.KindRaw, false},
		{"a ping", "socket(S,AF_INET,SOCK_DGRAM,1)", event.KindRaw, false},
		{"a ping of IPv6", "socket(S,AF_INET6,SOCK_DGRAM,58)", event.KindRaw, false},
		{"UDP without a port", "socket(S,AF_INET,SOCK_DGRAM,0)&&connect(S,NOPORT)&&send(S,\"x\",0)", "", false},
		{"UDP without a port, permitted", "socket(S,AF_INET,SOCK_DGRAM,0)&&connect(S,pack_sockaddr_in(0,inet_aton(\"127.0.0.2\")))", "", true},
		{"no family", "socket(S,AF_INET,SOCK_DGRAM,0)&&defined(send(S,\"x\",0,pack(\"Sa*\",0,substr(TO,2))))", event.KindConnect, false},
		{"IPv4 by a socket of IPv6", "socket(S,AF_INET6,SOCK_DGRAM,0)&&defined(send(S,\"x\",0,TO))", event.KindConnect, false},
		{"IPv4 as IPv6", fmt.Sprintf("socket(S,AF_INET6,SOCK_DGRAM,0)&&defined(send(S,\"x\",0,pack_sockaddr_in6(%d,inet_pton(AF_INET6,\"::ffff:127.0.1.2\"))))", port), event.KindConnect, false},
		{"connected once more", "socket(S,AF_INET,SOCK_DGRAM,0)&&connect(S,NEAR)&&connect(S,pack(\"Sx14\",0))&&connect(S,TO)", event.KindConnect, false},
		{"connected, and to another", "socket(S,AF_INET,SOCK_DGRAM,0)&&connect(S,NEAR)&&defined(send(S,\"x\",0,TO))", event.KindConnect, false},
		{"by a loose route", "socket(S,AF_INET,SOCK_DGRAM,0)&&setsockopt(S,0,4,pack(\"C3a4C\",131,7,4,inet_aton(\"127.0.1.2\"),0))&&connect(S,NEAR)&&defined(send(S,\"x\",0))", event.KindConnect, false},
		{"by a strict route behind nothing", "socket(S,AF_INET,SOCK_DGRAM,0)&&setsockopt(S,0,4,pack(\"C4a4\",1,137,7,4,inet_aton(\"127.0.1.2\")))&&connect(S,NEAR)&&defined(send(S,\"x\",0))", event.KindConnect, false},
		{"with its route recorded", "socket(S,AF_INET,SOCK_DGRAM,0)&&setsockopt(S,0,4,pack(\"C8\",7,7,4,0,0,0,0,0))&&connect(S,NEAR)&&defined(send(S,\"x\",0))", "", true},
		{"IPv6", "socket(S,AF_INET6,SOCK_DGRAM,0)&&" + here, "", true},
		{"IPv6 by a route", "socket(S,AF_INET6,SOCK_DGRAM,0)&&" + route + here, event.KindConnect, false},
		{"IPv6 by a route behind options", "socket(S,AF_INET6,SOCK_DGRAM,0)&&setsockopt(S,41,54,pack(\"C8\",0,0,1,4,0,0,0,0))&&" + route + here, event.KindConnect, false},
		{"IPv6 with options", "socket(S,AF_INET6,SOCK_DGRAM,0)&&setsockopt(S,41,54,pack(\"C8\",0,0,1,4,0,0,0,0))&&" + here, "", true},
		{"a port that is shared", fmt.Sprintf("socket(S,AF_INET,SOCK_DGRAM,0)&&setsockopt(S,SOL_SOCKET,15,1)&&bind(S,pack_sockaddr_in(%d,INADDR_ANY))", port), event.KindListen, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			id, dir := netContainer(t)
			if !contained(t, dir, perlSocket(tc.script, port)) {
				t.Skip("this kernel, or this user, has none")
			}
			check(t, g.Hold(id, netGroup))
			if got := contained(t, dir, perlSocket(tc.script, port)); got != tc.want {
				t.Errorf("done %v, want %v", got, tc.want)
			}
			if tc.kind != "" {
				if e := g.await(tc.name, func(e event.Event) bool { return e.WorkloadID == id }); e.Kind != tc.kind || e.Reaction != event.ReactionDenied {
					t.Errorf("told as %s: %+v", e.Words(), e.Connection)
				}
			}
		})
	}
}

// sendFrom sends by UDP, given as FROM/TO:PORT/WORDS/HOW: from an address that it is bound
// to ("bind"), or that it asks for with what it sends ("ask"), also being connected
// ("connected"). It ends with the code of failures if it may not.
func sendFrom(value string) error {
	err := sentFrom(value)
	if errors.Is(err, unix.EPERM) {
		os.Exit(failed)
	}
	return err
}

func sentFrom(value string) error {
	part := strings.SplitN(value, "/", 4)
	if len(part) != 4 {
		return fmt.Errorf("%q does not say from where, to whom, what and how", value)
	}
	from, err := netip.ParseAddr(part[0])
	if err != nil {
		return err
	}
	to, err := netip.ParseAddrPort(part[1])
	if err != nil {
		return err
	}
	words, err := strconv.Unquote(part[2])
	if err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	at := &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}
	switch part[3] {
	case "ask":
		return unix.Sendmsg(fd, []byte(words), unix.PktInfo4(&unix.Inet4Pktinfo{Spec_dst: from.As4()}), at, 0)
	case "connected":
		if err := unix.Connect(fd, at); err != nil {
			return err
		}
		return unix.Sendmsg(fd, []byte(words), unix.PktInfo4(&unix.Inet4Pktinfo{Spec_dst: from.As4()}), nil, 0)
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: from.As4()}); err != nil {
		return err
	}
	return unix.Sendto(fd, []byte(words), 0, at)
}

// letPing lets every group of users ping without a raw socket, until the test ends.
func letPing(t *testing.T) {
	t.Helper()
	const ranges = "/proc/sys/net/ipv4/ping_group_range"
	before, err := os.ReadFile(ranges)
	check(t, err)
	check(t, os.WriteFile(ranges, []byte("0 2147483647"), 0))
	t.Cleanup(func() { check(t, os.WriteFile(ranges, before, 0)) })
}

// Who may ping somebody may make the sockets for it.
func TestNetGuardLetsPing(t *testing.T) {
	letPing(t)
	g := openNetGuard(t, pins(t))
	check(t, g.Set(netRules(profile.Deny, profile.NetworkRules{
		Destinations: []profile.Destination{{PortRule: profile.PortRule{Protocol: "icmp"}, Network: netip.MustParsePrefix("127.0.0.2/32")}},
	})))
	id, dir := netContainer(t)
	check(t, g.Hold(id, netGroup))
	if !contained(t, dir, perlSocket("socket(S,AF_INET,SOCK_DGRAM,1)&&connect(S,NEAR)", 0)) {
		t.Error("a ping of the profile is refused")
	}
	if contained(t, dir, perlSocket("socket(S,AF_INET,SOCK_DGRAM,1)&&connect(S,NOPORT)", 0)) {
		t.Error("a ping to another is let through")
	}
}

// What the C library asks of the kernel to put addresses in their order sends nothing, and
// is nothing outside, wherever they lead.
func TestNetGuardLetsLookUp(t *testing.T) {
	g := openNetGuard(t, pins(t))
	id, dir := netContainer(t)
	port := listener(t, "127.0.0.1:0")
	check(t, g.Set(netRules(profile.Deny, profile.NetworkRules{
		Destinations: []profile.Destination{{PortRule: portRule("tcp", port, port), Network: netip.MustParsePrefix("127.0.0.1/32")}},
	})))
	check(t, g.Hold(id, netGroup))
	lookUp := "perl -MSocket=:all -e 'for(\"127.0.0.1\",\"127.0.1.2\",\"0.0.0.0\"){my($e,@a)=getaddrinfo($_,\"\",{socktype=>SOCK_STREAM});exit 1 if $e||!@a}'"
	if !contained(t, dir, lookUp+" && "+tcpTo("localhost", port)) {
		t.Error("what is permitted is not reached by its name")
	}
	if contained(t, dir, tcpTo("127.0.1.2", port)) {
		t.Error("what is not permitted is reached")
	}
	g.await("the connection", func(e event.Event) bool { return e.WorkloadID == id })
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, e := range g.told {
		if e.Connection == nil || e.Connection.Remote.Port() == 0 {
			t.Errorf("told as outside: %s", e.Words())
		}
	}
}

// A container can't answer in the place of Docker's resolver, which has an address of the
// container itself.
func TestNetGuardTakesNoAnswersOfItsOwn(t *testing.T) {
	g := openNetGuard(t, pins(t))
	resolver, err := net.ListenPacket("udp4", "127.0.0.11:0")
	check(t, err)
	defer resolver.Close()
	udp := resolver.LocalAddr().(*net.UDPAddr).Port
	port := listener(t, "127.9.2.1:0")
	check(t, g.Set(netRules(profile.Deny, profile.NetworkRules{
		Resolvers:    []netip.Addr{netip.MustParseAddr("127.0.0.11")},
		Destinations: []profile.Destination{{PortRule: portRule("udp", udp, udp), Network: netip.MustParsePrefix("127.0.0.11/32")}},
		Names:        []profile.NameRule{{PortRule: portRule("tcp", port, port), Name: "api.example.com"}},
	})))
	name := dnsmessage.MustNewName("api.example.com.")
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{Response: true},
		Questions: []dnsmessage.Question{{Name: name, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}},
		Answers: []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: name, Class: dnsmessage.ClassINET}, Body: &dnsmessage.AResource{A: [4]byte{127, 9, 2, 1}},
		}},
	}
	answer, err := m.Pack()
	check(t, err)
	send := func(dir, from, words, how string) bool {
		h := start(t, nil, fmt.Sprintf("calls=from:%s/127.0.0.11:%d/%s/%s", from, udp, strconv.QuoteToASCII(words), how))
		put(t, dir, h.pid())
		h.finish()
		return h.cmd.ProcessState.Success()
	}
	for _, how := range []string{"bind", "ask", "connected"} {
		t.Run(how, func(t *testing.T) {
			id, dir := netContainer(t)
			check(t, g.Hold(id, netGroup))
			if !send(dir, "127.0.0.1", "question", how) {
				t.Error("the resolver can't be asked")
			}
			if send(dir, "127.0.0.11", string(answer), how) {
				t.Error("what is sent in the resolver's name passes")
			}
			g.await("it", func(e event.Event) bool { return e.WorkloadID == id && e.Reaction == event.ReactionDenied })
			if contained(t, dir, tcpTo("127.9.2.1", port)) {
				t.Error("an answer that the container gave itself counts")
			}
		})
	}
}
