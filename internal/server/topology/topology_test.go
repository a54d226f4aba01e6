package topology_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/server/topology"
)

const (
	hostA = "AGENTAAAAAAAA"
	hostB = "AGENTBBBBBBBB"
)

var now = time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)

func id(s string) string { return strings.Repeat(s, 64/len(s)) }

var (
	web, api, dup    = id("a1"), id("a2"), id("a3")
	pause, app, side = id("b1"), id("b2"), id("b3")
	front, probe     = id("c1"), id("c2")
	old, next        = id("d1"), id("d2")
	other            = id("e1")
)

func addrs(list ...string) []netip.Addr {
	var out []netip.Addr
	for _, s := range list {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

func one(agent, wid, service, mode string, more func(*asset.Workload)) asset.Workload {
	began := now.Add(-time.Hour)
	w := asset.Workload{
		ID: wid, AgentID: agent, State: asset.Running, Created: began, Started: &began,
		ECS: asset.ECS{Account: "1", Region: "eu", Cluster: "shop", Service: service, Container: service, TaskARN: "arn:" + service},
	}
	w.Settings.NetworkMode = mode
	if more != nil {
		more(&w)
	}
	w.Group = asset.GroupOf(w)
	return w
}

func tcp(inner, outer uint16, at string) asset.Port {
	p := asset.Port{Protocol: "tcp", Port: inner, HostPort: outer}
	if at != "" {
		p.HostAddr = netip.MustParseAddr(at)
	}
	return p
}

// town is two hosts with bridges of the same addresses, an awsvpc task of two
// containers on the second, and two workloads in the network of the first.
func town(t *testing.T) *topology.Index {
	t.Helper()
	x := topology.New()
	x.PutHost(hostA, addrs("10.0.1.10", "172.17.0.1", "2001:db8::a"))
	x.PutHost(hostB, addrs("10.0.2.20", "172.17.0.1"))
	task := func(name string) func(*asset.Workload) {
		return func(w *asset.Workload) { w.ECS.Service, w.ECS.Container, w.ECS.TaskARN = "pay", name, "arn:pay" }
	}
	x.Put([]asset.Workload{
		one(hostA, web, "web", "bridge", func(w *asset.Workload) {
			w.Settings.Addresses = addrs("172.17.0.2", "fd00:17::2")
			w.Settings.Ports = []asset.Port{tcp(8080, 80, "0.0.0.0"), tcp(8081, 81, "127.0.0.1")}
		}),
		one(hostA, api, "api", "shop_default", func(w *asset.Workload) { w.Settings.Addresses = addrs("172.17.0.3") }),
		one(hostB, dup, "dup", "bridge", func(w *asset.Workload) {
			w.Settings.Addresses = addrs("172.17.0.3")
			w.Settings.Ports = []asset.Port{tcp(9000, 32768, "")}
		}),
		one(hostB, pause, "pay", "none", func(w *asset.Workload) {
			task("~internal~ecs~pause")(w)
			w.Settings.Addresses = addrs("10.0.2.77", "2001:db8:1::77")
		}),
		one(hostB, app, "pay", "container:"+pause, func(w *asset.Workload) {
			task("app")(w)
			w.Settings.Ports = []asset.Port{{Protocol: "tcp", Port: 8443}}
		}),
		one(hostB, side, "pay", "container:"+pause, task("envoy")),
		one(hostA, front, "front", "host", nil),
		one(hostA, probe, "probe", "host", nil),
	}, now)
	for _, l := range []struct {
		agent, workload string
		port            uint16
	}{{hostA, front, 7000}, {hostB, side, 15001}} {
		x.Listens(&event.Event{
			Kind: event.KindListen, AgentID: l.agent, WorkloadID: l.workload,
			Connection: &event.Connection{Protocol: "tcp", Local: netip.AddrPortFrom(netip.IPv4Unspecified(), l.port)},
		})
	}
	return x
}

func workload(wid, agent, group string, port uint16) event.Peer {
	return event.Peer{Kind: event.PeerWorkload, WorkloadID: wid, Group: group, AgentID: agent, Port: port}
}

func TestResolve(t *testing.T) {
	x := town(t)
	self := event.Peer{Kind: event.PeerSelf}
	for _, tc := range []struct {
		name, agent, from, remote string
		incoming                  bool
		want                      event.Peer
	}{
		{"bridge, same host", hostA, web, "172.17.0.3:5432", false, workload(api, hostA, "shop/api/api", 0)},
		{"bridge, the same address on another host", hostB, pause, "172.17.0.3:5432", false, workload(dup, hostB, "shop/dup/dup", 0)},
		{"bridge address that only another host has", hostB, dup, "172.17.0.2:80", false, event.Peer{Kind: event.PeerPrivate}},
		{"bridge, IPv6", hostA, api, "[fd00:17::2]:8080", false, workload(web, hostA, "shop/web/web", 0)},
		{"IPv4 in IPv6", hostA, api, "[::ffff:172.17.0.2]:8080", false, workload(web, hostA, "shop/web/web", 0)},
		{"oneself by one's own address", hostA, web, "172.17.0.2:8080", false, self},
		{"loopback", hostA, web, "127.0.0.1:6379", false, self},
		{"unspecified is loopback", hostA, web, "0.0.0.0:6379", false, self},
		{"IPv6 loopback", hostA, web, "[::1]:6379", false, self},
		{"published port, same host, by the gateway", hostA, api, "172.17.0.1:80", false, workload(web, hostA, "shop/web/web", 8080)},
		{"published port, same host, by its address", hostA, api, "10.0.1.10:80", false, workload(web, hostA, "shop/web/web", 8080)},
		{"published port, another host", hostB, dup, "10.0.1.10:80", false, workload(web, hostA, "shop/web/web", 8080)},
		{"published port without an address, another host", hostA, web, "10.0.2.20:32768", false, workload(dup, hostB, "shop/dup/dup", 9000)},
		{"published port, hairpin to oneself", hostA, web, "10.0.1.10:80", false, event.Peer{Kind: event.PeerSelf, Port: 8080}},
		{"published on loopback, from the host", hostA, "", "127.0.0.1:81", false, workload(web, hostA, "shop/web/web", 8081)},
		{"published on loopback, from elsewhere", hostB, dup, "10.0.1.10:81", false, event.Peer{Kind: event.PeerHost, AgentID: hostA}},
		{"port that nobody published", hostB, dup, "10.0.1.10:22", false, event.Peer{Kind: event.PeerHost, AgentID: hostA}},
		{"behind NAT", hostA, web, "172.17.0.1:80", true, event.Peer{Kind: event.PeerHost, AgentID: hostA}},
		{"host mode, from another host", hostB, dup, "10.0.1.10:7000", false, workload(front, hostA, "shop/front/front", 0)},
		{"host mode, by loopback", hostA, probe, "127.0.0.1:7000", false, workload(front, hostA, "shop/front/front", 0)},
		{"host mode, to the host itself", hostA, probe, "10.0.1.10:22", false, event.Peer{Kind: event.PeerHost, AgentID: hostA}},
		{"the host to itself", hostA, "", "10.0.1.10:22", false, self},
		{"host by IPv6", hostB, dup, "[2001:db8::a]:22", false, event.Peer{Kind: event.PeerHost, AgentID: hostA}},
		{"awsvpc, from another host, by who listens", hostA, web, "10.0.2.77:15001", false, workload(side, hostB, "shop/pay/envoy", 0)},
		{"awsvpc, by who exposes the port", hostA, web, "10.0.2.77:8443", false, workload(app, hostB, "shop/pay/app", 0)},
		{"awsvpc, IPv6", hostA, web, "[2001:db8:1::77]:8443", false, workload(app, hostB, "shop/pay/app", 0)},
		{"awsvpc, nobody known to listen: the task", hostA, web, "10.0.2.77:9999", false, event.Peer{Kind: event.PeerWorkload, Group: "shop/pay", AgentID: hostB}},
		{"awsvpc, incoming: the task", hostA, web, "10.0.2.77:15001", true, event.Peer{Kind: event.PeerWorkload, Group: "shop/pay", AgentID: hostB}},
		{"awsvpc, the other container of the task by loopback", hostB, app, "127.0.0.1:15001", false, workload(side, hostB, "shop/pay/envoy", 0)},
		{"instance metadata", hostA, web, "169.254.169.254:80", false, event.Peer{Kind: event.PeerService}},
		{"task metadata", hostA, web, "169.254.170.2:80", false, event.Peer{Kind: event.PeerService}},
		{"engine's resolver", hostA, web, "127.0.0.11:53", false, event.Peer{Kind: event.PeerService}},
		{"instance metadata by IPv6", hostA, web, "[fd00:ec2::254]:80", false, event.Peer{Kind: event.PeerService}},
		{"private", hostA, web, "10.9.9.9:443", false, event.Peer{Kind: event.PeerPrivate}},
		{"carrier grade", hostA, web, "100.64.1.1:443", false, event.Peer{Kind: event.PeerPrivate}},
		{"public", hostA, web, "93.184.216.34:443", false, event.Peer{Kind: event.PeerPublic}},
		{"public, IPv6", hostA, web, "[2606:2800:220:1::1]:443", false, event.Peer{Kind: event.PeerPublic}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := x.Resolve(topology.Question{
				AgentID: tc.agent, WorkloadID: tc.from, Protocol: "tcp", Incoming: tc.incoming, At: now,
				Remote: netip.MustParseAddrPort(tc.remote),
			})
			if diff := cmp.Diff(got, tc.want); diff != "" {
				t.Errorf("peer (-got +want):\n%s", diff)
			}
		})
	}
	if got := x.Resolve(topology.Question{AgentID: hostA}); got != (event.Peer{}) {
		t.Errorf("without an address: got %+v, want nothing", got)
	}
}

// Addresses are given to one container after the other; the moment decides.
func TestResolveByTime(t *testing.T) {
	x := topology.New()
	at := func(m float64) time.Time { return now.Add(time.Duration(m * float64(time.Minute))) }
	life := func(wid string, from, until float64) asset.Workload {
		return one(hostA, wid, wid[:2], "bridge", func(w *asset.Workload) {
			began := at(from)
			w.Started, w.Settings.Addresses = &began, addrs("172.17.0.9")
			if until != 0 {
				end := at(until)
				w.State, w.Finished = asset.Exited, &end
			}
		})
	}
	x.Put([]asset.Workload{life(old, -30, 0)}, at(-30))
	gone := life(old, -30, -10)
	gone.Settings.Addresses = nil // as an engine tells of what has ended
	x.Put([]asset.Workload{gone}, at(-10))
	ask := func(m float64) string {
		return x.Resolve(topology.Question{AgentID: hostA, Protocol: "tcp", Remote: netip.MustParseAddrPort("172.17.0.9:1"), At: at(m)}).WorkloadID
	}
	for _, tc := range []struct {
		name string
		at   float64
		want string
	}{
		{"while it ran", -20, old}, {"four minutes after its end", -6, old}, {"six minutes after its end", -4, ""},
	} {
		if got := ask(tc.at); got != tc.want {
			t.Errorf("%s: got %q, want %q", tc.name, got, tc.want)
		}
	}
	x.Put([]asset.Workload{life(next, -8, 0)}, at(-8))
	for _, tc := range []struct {
		name string
		at   float64
		want string
	}{
		{"before the address was given anew", -11, old}, {"between the two", -9, old}, {"after", -7, next}, {"now", 0, next},
		{"long before either", -45, ""},
	} {
		if got := ask(tc.at); got != tc.want {
			t.Errorf("%s: got %q, want %q", tc.name, got, tc.want)
		}
	}
	x.Put(nil, at(30)) // clears away what ended
	if got := ask(-20); got != "" {
		t.Errorf("long after, the old one is still known as %q", got)
	}
}

// What agents contradict each other about is nobody's.
func TestContradictions(t *testing.T) {
	x := town(t)
	x.Put([]asset.Workload{one(hostA, other, "evil", "none", func(w *asset.Workload) {
		w.ECS.Cluster, w.Settings.Addresses = "elsewhere", addrs("10.0.2.77", "169.254.169.254", "127.0.0.1")
	})}, now)
	ask := func(agent, from, remote string) event.Peer {
		return x.Resolve(topology.Question{AgentID: agent, WorkloadID: from, Protocol: "tcp", Remote: netip.MustParseAddrPort(remote), At: now})
	}
	if got, want := ask(hostB, dup, "10.0.2.77:8443"), workload(app, hostB, "shop/pay/app", 0); got != want {
		t.Errorf("on the task's own host: got %+v, want %+v", got, want)
	}
	if got := ask("AGENTCCCCCCCC", "", "10.0.2.77:8443"); got.Kind != event.PeerPrivate {
		t.Errorf("elsewhere: got %+v, want nobody", got)
	}
	if got := ask(hostA, web, "169.254.169.254:80"); got.Kind != event.PeerService {
		t.Errorf("a service that was claimed: got %+v", got)
	}
	x.PutHost("AGENTCCCCCCCC", addrs("10.0.1.10"))
	if got := ask(hostB, dup, "10.0.1.10:80"); got.Kind != event.PeerPrivate {
		t.Errorf("an address of two hosts: got %+v, want nobody", got)
	}
	x.Forget("AGENTCCCCCCCC")
	if got := ask(hostB, dup, "10.0.1.10:80"); got.WorkloadID != web {
		t.Errorf("after one was forgotten: got %+v, want %s", got, web)
	}
	x.Listens(&event.Event{Kind: event.KindListen, AgentID: hostA, WorkloadID: app, Connection: &event.Connection{
		Protocol: "tcp", Local: netip.MustParseAddrPort("0.0.0.0:15001"),
	}})
	if got := ask(hostB, dup, "10.0.2.77:15001"); got.WorkloadID != side {
		t.Errorf("after another agent spoke for a listener: got %+v, want %s", got, side)
	}
}

func BenchmarkResolve(b *testing.B) {
	x := topology.New()
	ws := make([]asset.Workload, 0, 10_000)
	for i := range 10_000 {
		ws = append(ws, one(hostA, id("a")[:60]+string([]byte{byte('a' + i%6), byte('a' + i/6%6), byte('a' + i/36%6), byte('0' + i/216%10)}), "s", "none", func(w *asset.Workload) {
			w.Settings.Addresses = []netip.Addr{netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})}
		}))
	}
	x.Put(ws, now)
	q := topology.Question{AgentID: hostB, Protocol: "tcp", Remote: netip.MustParseAddrPort("10.0.3.7:80"), At: now}
	for b.Loop() {
		x.Resolve(q)
	}
}
