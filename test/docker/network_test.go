package docker_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
)

// talk is one conversation, and what each side must be told of the other.
type talk struct {
	name, from, says string
	want             []hears
}

const (
	connect  = event.KindConnect
	accept   = event.KindAccept
	byDocker = "127.0.0.11:53" // the engine's resolver
)

// direct are conversations without translation of addresses.
var direct = []talk{
	{"by name", "web", "to tcp4 db:9001", []hears{{"web", connect, 9001, "workload db", "db"}, {"db", accept, 9001, "workload web", ""}}},
	{"by name, IPv6", "web", "to tcp6 db:9002", []hears{{"web", connect, 9002, "workload db", "db"}, {"db", accept, 9002, "workload web", ""}}},
	{"UDP by name", "web", "to udp4 db:9001", []hears{{"web", connect, 9001, "workload db", "db"}}},
	{"UDP by name, IPv6", "web", "to udp6 db:9002", []hears{{"web", connect, 9002, "workload db", "db"}}},
	{"UDP by name, unconnected", "web", "send udp4 db:9003", []hears{{"web", connect, 9003, "workload db", "db"}}},

	{"to who shares another's network", "web", "to tcp4 db:9501", []hears{{"web", connect, 9501, "workload mate", "db"}, {"mate", accept, 9501, "workload web", ""}}},
	{"UDP to who shares another's network", "web", "to udp4 db:9501", []hears{{"web", connect, 9501, "workload mate", "db"}}},
	{"from who shares another's network", "mate", "to tcp4 stall:8104", []hears{{"mate", connect, 8104, "workload stall", "stall"}, {"stall", accept, 8104, "workload mate", ""}}},
	{"from whose network is shared", "db", "to tcp4 stall:8105", []hears{{"db", connect, 8105, "workload stall", "stall"}, {"stall", accept, 8105, "workload db", ""}}},
	{"inside of a shared network", "mate", "to tcp4 127.0.0.1:9005", []hears{{"mate", connect, 9005, "workload db", ""}, {"db", accept, 9005, "workload mate", ""}}},
	{"inside of a shared network, by its address", "db", "to tcp4 db:9502", []hears{{"db", connect, 9502, "workload mate", "db"}, {"mate", accept, 9502, "workload db", "db"}}},
	{"with oneself", "db", "to tcp4 127.0.0.1:9006", []hears{{"db", connect, 9006, "self", ""}, {"db", accept, 9006, "self", ""}}},

	{"host mode to a bridge", "hosty", "to tcp4 DB:9007", []hears{{"hosty", connect, 9007, "workload db", ""}, {"db", accept, 9007, "workload hosty", ""}}},
	{"host mode to a bridge, IPv6", "hosty", "to tcp6 [DB6]:9008", []hears{{"hosty", connect, 9008, "workload db", ""}, {"db", accept, 9008, "workload hosty", ""}}},
	{"a bridge to host mode, by the host's address", "web", "to tcp4 " + hostAddr + ":7001", []hears{{"web", connect, 7001, "workload hosty", ""}, {"hosty", accept, 7001, "workload web", ""}}},
	{"a bridge to host mode, by the gateway", "web", "to tcp4 " + gateway + ":7002", []hears{{"web", connect, 7002, "workload hosty", ""}, {"hosty", accept, 7002, "workload web", ""}}},
	{"a bridge to host mode, IPv6", "web", "to tcp6 [" + hostSix + "]:7003", []hears{{"web", connect, 7003, "workload hosty", ""}, {"hosty", accept, 7003, "workload web", ""}}},
	{"UDP to host mode", "web", "send udp4 " + hostAddr + ":7001", []hears{{"web", connect, 7001, "workload hosty", ""}}},
	{"the host to a bridge", host, "to tcp4 DB:9009", []hears{{host, connect, 9009, "workload db", ""}, {"db", accept, 9009, "host", ""}}},
	{"the host to host mode", host, "to tcp4 127.0.0.1:7004", []hears{{host, connect, 7004, "workload hosty", ""}, {"hosty", accept, 7004, "host", ""}}},
	{"host mode with itself", "hosty", "to tcp4 127.0.0.1:7005", []hears{{"hosty", connect, 7005, "self", ""}, {"hosty", accept, 7005, "self", ""}}},
}

// published are conversations through published ports, with the engine's proxy
// or by translation in the kernel alone. The container is told of a proxy, or
// of a gateway, that the peer is the host.
func published(proxy bool) []talk {
	own := "workload web" // between two containers of one network the kernel alone translates only the target
	if proxy {
		own = "host"
	}
	talks := []talk{
		{"from the same network", "web", "to tcp4 " + hostAddr + ":18101", []hears{{"web", connect, 18101, "workload stall:8101", ""}, {"stall", accept, 8101, own, ""}}},
		{"UDP from the same network", "web", "send udp4 " + hostAddr + ":18101", []hears{{"web", connect, 18101, "workload stall:8101", ""}}},
		{"to oneself", "stall", "to tcp4 " + hostAddr + ":18102", []hears{{"stall", connect, 18102, "self:8102", ""}, {"stall", accept, 8102, "host", ""}}},
		{"from the host", host, "to tcp4 " + hostAddr + ":18003", []hears{{host, connect, 18003, "workload shop:8003", ""}, {"shop", accept, 8003, "host", ""}}},
		{"UDP from the host", host, "send udp4 " + hostAddr + ":18003", []hears{{host, connect, 8003, "workload shop", ""}}},
		{"from the host by loopback", host, "to tcp4 127.0.0.1:18008", []hears{{host, connect, 18008, "workload shop:8008", ""}, {"shop", accept, 8008, "host", ""}}},
		{"from beyond", beyond, "to tcp4 " + hostAddr + ":18004", []hears{{"shop", accept, 8004, "private", ""}}},
		{"from host mode", "hosty", "to tcp4 " + hostAddr + ":18005", []hears{{"hosty", connect, 18005, "workload shop:8005", ""}, {"shop", accept, 8005, "host", ""}}},
	}
	if !proxy {
		// The engine lets nothing through from one of its networks to another.
		return append(talks, talk{"from another network", "web", "to tcp4 !" + hostAddr + ":18001", []hears{{"web", connect, 18001, "workload shop:8001", ""}}})
	}
	return append(talks,
		talk{"from another network", "web", "to tcp4 " + hostAddr + ":18001", []hears{{"web", connect, 18001, "workload shop:8001", ""}, {"shop", accept, 8001, "host", ""}}},
		talk{"from another network, by the gateway", "web", "to tcp4 " + gateway + ":18002", []hears{{"web", connect, 18002, "workload shop:8002", ""}, {"shop", accept, 8002, "host", ""}}},
		talk{"from another network, IPv6", "web", "to tcp6 [" + hostSix + "]:18006", []hears{{"web", connect, 18006, "workload shop:8006", ""}, {"shop", accept, 8006, "host", ""}}},
		talk{"UDP from another network", "web", "send udp4 " + gateway + ":18001", []hears{{"web", connect, 18001, "workload shop:8001", ""}}},
	)
}

// Whoever talks with whomever, in every mode of networking: each side is told
// who the other one is.
func TestPeers(t *testing.T) {
	for _, proxy := range []bool{true, false} {
		t.Run(map[bool]string{true: "with proxy", false: "without proxy"}[proxy], func(t *testing.T) {
			n := found(t, map[string]any{"userland-proxy": proxy}, asset.AgentSettings{})
			n.settle(t, "web", []string{"tcp:80"}, inNetwork("town"))
			n.settle(t, "db", []string{"tcp:9001-9010", "udp:9001-9003"}, inNetwork("town"))
			n.settle(t, "mate", []string{"tcp:9501-9502", "udp:9501"}, inNetwork("container:db"))
			n.settle(t, "hosty", []string{"tcp:7001-7006", "udp:7001"}, inNetwork("host"))
			n.settle(t, "stall", []string{"tcp:8101-8105", "udp:8101"}, inNetwork("town"),
				publish("18101:8101/tcp", "18102:8102/tcp", "18101:8101/udp"))
			n.settle(t, "shop", []string{"tcp:8001-8008", "udp:8001-8003"}, publish(
				"18001:8001/tcp", "18002:8002/tcp", "18003:8003/tcp", "18004:8004/tcp", "18005:8005/tcp", "18006:8006/tcp",
				"127.0.0.1:18008:8008/tcp", "18001:8001/udp", "18003:8003/udp"))
			n.hold(t, direct)
			t.Run("published", func(t *testing.T) { n.hold(t, published(proxy)) })
			n.datagrams(t, proxy)
		})
	}
}

// hold has each conversation, and checks what is told of it.
func (n *town) hold(t *testing.T, talks []talk) {
	four, six := n.address(t, "db"), n.workload(t, n.ids["db"], in(asset.Running)).Settings.Addresses[1].String()
	addresses := strings.NewReplacer("DB6", six, "DB", four)
	for _, tt := range talks {
		t.Run(tt.name, func(t *testing.T) { n.converse(t, tt, addresses.Replace(tt.says)) })
	}
}

func (n *town) converse(t *testing.T, tt talk, says string) {
	after := n.mark()
	n.says(t, tt.from, strings.Fields(says)...)
	for _, h := range tt.want {
		n.told(t, after, h)
	}
}

// datagrams checks what was told of datagrams to who got them, which is when
// none comes any more, or the agent ends.
func (n *town) datagrams(t *testing.T, proxy bool) {
	n.leave()
	own := "workload web"
	if proxy {
		own = "host"
	}
	for _, h := range []hears{
		{"db", event.KindClose, 9001, "workload web", ""}, {"db", event.KindClose, 9002, "workload web", ""},
		{"mate", event.KindClose, 9501, "workload web", ""}, {"hosty", event.KindClose, 7001, "workload web", ""},
		{"stall", event.KindClose, 8101, own, ""}, {"shop", event.KindClose, 8003, "host", ""},
	} {
		t.Run(fmt.Sprintf("datagrams to %s at %d", h.who, h.port), func(t *testing.T) { n.told(t, 0, h) })
	}
}

// What a container asks the engine's resolver, and what it is told, is told as
// that container's, however it asks; and later connections carry the name.
func TestNames(t *testing.T) {
	n := found(t, map[string]any{"dns": []string{beyondAddr}}, asset.AgentSettings{})
	n.runs(t, beyond, "resolve", beyondAddr+":53")
	n.settle(t, "db", []string{"tcp:9001-9010"}, inNetwork("town"))
	n.settle(t, "web", []string{"tcp:80"}, inNetwork("town"))
	n.settle(t, "mate", []string{"tcp:81"}, inNetwork("container:web"))
	db := n.address(t, "db")
	for _, tt := range []struct {
		name, from, says string
		port             uint16
		dns              event.DNS
	}{
		{"over UDP", "web", "to tcp4 db:9001 udp", 9001, event.DNS{Protocol: "udp", Name: "db", Type: "A", Code: "NOERROR", Answers: []string{db}}},
		{"over TCP", "web", "to tcp4 db:9002 tcp", 9002, event.DNS{Protocol: "tcp", Name: "db", Type: "A", Code: "NOERROR", Answers: []string{db}}},
		{"from an unconnected socket", "web", "to tcp4 db:9003 loose", 9003, event.DNS{Protocol: "udp", Name: "db", Type: "A", Code: "NOERROR", Answers: []string{db}}},
		{"from a shared network", "mate", "to tcp4 db:9004", 9004, event.DNS{Protocol: "udp", Name: "db", Type: "A", Code: "NOERROR", Answers: []string{db}}},
		{"by its network's name", "web", "to tcp4 db.town:9005", 9005, event.DNS{Protocol: "udp", Name: "db.town", Type: "A", Code: "NOERROR", Answers: []string{db}}},
		{"of somebody elsewhere", "web", "to tcp4 !www.example.org:9006", 9006, event.DNS{Protocol: "udp", Name: "www.example.org", Type: "A", Code: "NOERROR", Answers: []string{"192.0.2.7"}}},
		{"of nobody", "web", "to tcp4 !nobody.example.org:9007", 0, event.DNS{Protocol: "udp", Name: "nobody.example.org", Type: "A", Code: "NXDOMAIN"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			after := n.mark()
			n.says(t, tt.from, strings.Fields(tt.says)...)
			n.asked(t, after, tt.from, tt.dns)
			if tt.port != 0 {
				peer := "workload db"
				if tt.dns.Name == "www.example.org" {
					peer = "public"
				}
				n.told(t, after, hears{tt.from, connect, tt.port, peer, tt.dns.Name})
			}
		})
	}
	t.Run("that moves", n.nameMoves)
}

// nameMoves gives a name to another container at another address, while a
// program asks for it all the time: its connections to the new address carry the
// name at once, though most of its questions are only counted.
func (n *town) nameMoves(t *testing.T) {
	n.settle(t, "back", []string{"tcp:9101"}, inNetwork("town"))
	n.start(t, "caller", []string{"again", "tcp4", "back:9101"}, inNetwork("town"))
	n.told(t, 0, hears{"caller", connect, 9101, "workload back", "back"})
	first := n.address(t, "back")
	n.remove(t, "back")
	n.settle(t, "squatter", []string{"tcp:9102"}, inNetwork("town"))
	n.settle(t, "back", []string{"tcp:9101"}, inNetwork("town"))
	second := n.address(t, "back")
	if second == first {
		t.Fatalf("both have the address %s, want another for the second", first)
	}
	var got event.Connection
	n.wait(t, "a connection of the caller to "+second, func() bool {
		i := slices.IndexFunc(n.events, func(e event.Event) bool {
			c := e.Connection
			return e.Kind == connect && e.WorkloadID == n.ids["caller"] && c.Remote.Addr().String() == second && c.Error == ""
		})
		if i >= 0 {
			got = *n.events[i].Connection
		}
		return i >= 0
	})
	if peer := n.said(got.Peer); peer != "workload back" || got.Name != "back" {
		t.Errorf("the connection's peer is %q, its name %q, want workload back, and back", peer, got.Name)
	}
}

// asked waits for a question of a container to the engine's resolver, and for
// the answer to it, and checks what they say.
func (n *town) asked(t *testing.T, after int, who string, want event.DNS) {
	t.Helper()
	want.Server = netip.MustParseAddrPort(byDocker)
	var got [2]event.DNS
	n.wait(t, "question and answer of "+who+" about "+want.Name, func() bool {
		var there [2]bool
		for _, e := range n.events[after:] {
			d := e.DNS
			if d == nil || e.WorkloadID != n.ids[who] || d.Name != want.Name || d.Type != want.Type {
				continue
			}
			if e.Kind == event.KindQuery {
				got[0], there[0] = *d, true
			} else {
				got[1], there[1] = *d, true
			}
		}
		return there[0] && there[1]
	})
	ignored := cmpopts.IgnoreFields(event.DNS{}, "Client", "ID", "Size")
	same := cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })
	if diff := cmp.Diff(got[1], want, ignored, same); diff != "" {
		t.Errorf("answer (-got +want):\n%s", diff)
	}
	want.Code, want.Answers = "", nil
	if diff := cmp.Diff(got[0], want, ignored, same); diff != "" {
		t.Errorf("question (-got +want):\n%s", diff)
	}
	if got[0].ID != got[1].ID {
		t.Errorf("the question's number is %d, the answer's %d", got[0].ID, got[1].ID)
	}
}
