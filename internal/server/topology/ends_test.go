package topology_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/server/topology"
)

// socket is one end of a connection, as an event tells it.
func socket(kind event.Kind, agent, workload string, netns uint32, local, remote string) *event.Event {
	return &event.Event{Kind: kind, AgentID: agent, WorkloadID: workload, Time: now, Connection: &event.Connection{
		Protocol: "tcp", NetNS: netns, Local: netip.MustParseAddrPort(local), Remote: netip.MustParseAddrPort(remote),
	}}
}

// about is the question about the peer of an end.
func about(e *event.Event) topology.Question {
	c := e.Connection
	return topology.Question{
		AgentID: e.AgentID, WorkloadID: e.WorkloadID, Protocol: c.Protocol, Local: c.Local, Remote: c.Remote, NetNS: c.NetNS,
		Incoming: e.Kind == event.KindAccept, Begins: true, At: e.Time,
	}
}

// Who has the other end of the very connection is the peer, whoever else has the
// address; behind a translation there is no such end.
func TestOtherEnd(t *testing.T) {
	const stranger = "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"
	self, aHost := event.Peer{Kind: event.PeerSelf}, event.Peer{Kind: event.PeerHost, AgentID: hostA}
	for _, tc := range []struct {
		name         string
		heard, asked *event.Event
		want         event.Peer
	}{
		{"from a task of two", socket(event.KindConnect, hostB, side, 7, "10.0.2.77:40000", "172.17.0.3:80"),
			socket(event.KindAccept, hostB, dup, 8, "172.17.0.3:80", "10.0.2.77:40000"), workload(side, hostB, "shop/pay/envoy", 0)},
		{"from another port of it", socket(event.KindConnect, hostB, side, 7, "10.0.2.77:40000", "172.17.0.3:80"),
			socket(event.KindAccept, hostB, dup, 8, "172.17.0.3:80", "10.0.2.77:40001"), event.Peer{Kind: event.PeerWorkload, Group: "shop/pay", AgentID: hostB}},
		{"seen on another host", socket(event.KindConnect, hostB, side, 7, "10.0.2.77:40000", "172.17.0.3:80"),
			socket(event.KindAccept, hostA, api, 8, "172.17.0.3:80", "10.0.2.77:40000"), event.Peer{Kind: event.PeerWorkload, Group: "shop/pay", AgentID: hostB}},
		{"from host mode, by the gateway's address", socket(event.KindConnect, hostA, probe, 1, "172.17.0.1:40000", "172.17.0.3:80"),
			socket(event.KindAccept, hostA, api, 8, "172.17.0.3:80", "172.17.0.1:40000"), workload(probe, hostA, "shop/probe/probe", 0)},
		{"from the host, by the gateway's address", socket(event.KindConnect, hostA, "", 1, "172.17.0.1:40000", "172.17.0.3:80"),
			socket(event.KindAccept, hostA, api, 8, "172.17.0.3:80", "172.17.0.1:40000"), aHost},
		{"by loopback within a task", socket(event.KindConnect, hostB, app, 7, "127.0.0.1:40000", "127.0.0.1:15001"),
			socket(event.KindAccept, hostB, side, 7, "127.0.0.1:15001", "127.0.0.1:40000"), workload(app, hostB, "shop/pay/app", 0)},
		{"by loopback in another namespace", socket(event.KindConnect, hostB, app, 7, "127.0.0.1:40000", "127.0.0.1:80"),
			socket(event.KindAccept, hostB, dup, 8, "127.0.0.1:80", "127.0.0.1:40000"), self},
		{"by loopback within a task, from whom nobody told", socket(event.KindConnect, hostB, app, 7, "127.0.0.1:40001", "127.0.0.1:15001"),
			socket(event.KindAccept, hostB, side, 7, "127.0.0.1:15001", "127.0.0.1:40000"), event.Peer{Kind: event.PeerWorkload, Group: "shop/pay", AgentID: hostB}},
		{"by loopback on the host, from whom nobody told", socket(event.KindConnect, hostA, probe, 1, "127.0.0.1:40001", "127.0.0.1:7000"),
			socket(event.KindAccept, hostA, front, 1, "127.0.0.1:7000", "127.0.0.1:40000"), aHost},
		{"to a container that is not known yet", socket(event.KindAccept, hostA, stranger, 9, "172.17.0.9:80", "172.17.0.2:40000"),
			socket(event.KindConnect, hostA, web, 8, "172.17.0.2:40000", "172.17.0.9:80"), event.Peer{Kind: event.PeerWorkload, WorkloadID: stranger, AgentID: hostA}},
		{"to the engine's proxy", socket(event.KindAccept, hostA, "", 1, "10.0.1.10:80", "172.17.0.3:40000"),
			socket(event.KindConnect, hostA, api, 8, "172.17.0.3:40000", "10.0.1.10:80"), workload(web, hostA, "shop/web/web", 8080)},
		{"IPv4 in IPv6", socket(event.KindConnect, hostB, side, 7, "[::ffff:10.0.2.77]:40000", "[::ffff:172.17.0.3]:80"),
			socket(event.KindAccept, hostB, dup, 8, "172.17.0.3:80", "10.0.2.77:40000"), workload(side, hostB, "shop/pay/envoy", 0)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			x := town(t)
			x.Connects(tc.heard)
			if got := x.Resolve(about(tc.asked)); got != tc.want {
				t.Errorf("got %+v, want %+v", got, tc.want)
			}
		})
	}
}

// Not all events tell who has an end, and none tells it for long.
func TestOtherEndIsForgotten(t *testing.T) {
	asked := about(socket(event.KindAccept, hostB, dup, 8, "172.17.0.3:80", "10.0.2.77:40000"))
	exact := workload(side, hostB, "shop/pay/envoy", 0)
	heard := func() *event.Event {
		return socket(event.KindConnect, hostB, side, 7, "10.0.2.77:40000", "172.17.0.3:80")
	}
	for _, tc := range []struct {
		name string
		do   func(x *topology.Index, q *topology.Question)
		want bool
	}{
		{"told", func(x *topology.Index, _ *topology.Question) { x.Connects(heard()) }, true},
		{"failed", func(x *topology.Index, _ *topology.Question) {
			e := heard()
			e.Connection.Error = "ETIMEDOUT"
			x.Connects(e)
		}, false},
		{"many were told at once", func(x *topology.Index, _ *topology.Question) {
			e := heard()
			e.Count = 2
			x.Connects(e)
		}, false},
		{"many are asked about at once", func(x *topology.Index, q *topology.Question) {
			x.Connects(heard())
			q.Until = now.Add(time.Second)
		}, false},
		{"two minutes later", func(x *topology.Index, _ *topology.Question) {
			x.Put(nil, now.Add(3*time.Minute))
			x.Connects(heard())
			x.Put(nil, now.Add(5*time.Minute))
		}, true},
		{"five minutes later", func(x *topology.Index, _ *topology.Question) {
			x.Put(nil, now.Add(3*time.Minute))
			x.Connects(heard())
			x.Put(nil, now.Add(5*time.Minute))
			x.Put(nil, now.Add(8*time.Minute))
		}, false},
		{"it had ended", func(x *topology.Index, q *topology.Question) {
			x.Connects(heard())
			end := now.Add(-time.Second)
			x.Put([]asset.Workload{one(hostB, side, "pay", "container:"+pause, func(w *asset.Workload) {
				w.State, w.Finished = asset.Exited, &end
			})}, now)
		}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			x, q := town(t), asked
			tc.do(x, &q)
			if got := x.Resolve(q); (got == exact) != tc.want {
				t.Errorf("got %+v, want the very workload: %v", got, tc.want)
			}
		})
	}
}

// A port is whose who opened it last, at the address that is asked for.
func TestListeners(t *testing.T) {
	const hostNet, other = 1, 2
	listen := func(workload string, netns uint32, local string) *event.Event {
		e := socket(event.KindListen, hostA, workload, netns, local, "0.0.0.0:0")
		e.Connection.Remote = netip.AddrPort{}
		return e
	}
	one, two := workload(front, hostA, "shop/front/front", 0), workload(probe, hostA, "shop/probe/probe", 0)
	aHost := event.Peer{Kind: event.PeerHost, AgentID: hostA}
	for _, tc := range []struct {
		name   string
		heard  []*event.Event
		remote string
		want   event.Peer
	}{
		{"at every address", []*event.Event{listen(front, hostNet, "[::]:7100")}, "10.0.1.10:7100", one},
		{"at one address", []*event.Event{listen(front, hostNet, "10.0.1.10:7100")}, "10.0.1.10:7100", one},
		{"at another address", []*event.Event{listen(front, hostNet, "127.0.0.1:7100")}, "10.0.1.10:7100", aHost},
		{"two at different addresses", []*event.Event{listen(front, hostNet, "10.0.1.10:7100"), listen(probe, hostNet, "172.17.0.1:7100")}, "10.0.1.10:7100", one},
		{"the other of them", []*event.Event{listen(front, hostNet, "10.0.1.10:7100"), listen(probe, hostNet, "172.17.0.1:7100")}, "172.17.0.1:7100", two},
		{"the latest", []*event.Event{listen(front, hostNet, "10.0.1.10:7100"), listen(probe, hostNet, "0.0.0.0:7100")}, "10.0.1.10:7100", two},
		{"the host is the latest", []*event.Event{listen(front, hostNet, "0.0.0.0:7100"), listen("", hostNet, "0.0.0.0:7100")}, "10.0.1.10:7100", aHost},
		{"the host is the latest, at one address", []*event.Event{listen(front, hostNet, "0.0.0.0:7100"), listen("", hostNet, "10.0.1.10:7100")}, "10.0.1.10:7100", aHost},
		{"the host in the namespace of a container", []*event.Event{listen(front, hostNet, "0.0.0.0:7100"), listen("", other, "127.0.0.11:7100")}, "10.0.1.10:7100", one},
		{"the engine's proxy took the port over", []*event.Event{listen(front, hostNet, "0.0.0.0:80"), listen("", hostNet, "0.0.0.0:80")}, "10.0.1.10:80", workload(web, hostA, "shop/web/web", 8080)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			x := town(t)
			for _, e := range tc.heard {
				x.Listens(e)
			}
			if got := x.Resolve(about(socket(event.KindConnect, hostA, api, 8, "172.17.0.3:40000", tc.remote))); got != tc.want {
				t.Errorf("got %+v, want %+v", got, tc.want)
			}
		})
	}
}

// A port is told before the engine is heard, or before it says in whose network
// the workload is.
func TestListensBeforeItIsKnown(t *testing.T) {
	const fresh, port = "abababababababababababababababababababababababababababababababab", "10.0.2.77:9443"
	listen := socket(event.KindListen, hostB, fresh, 7, "[::]:9443", "0.0.0.0:0")
	whole := one(hostB, fresh, "pay", "container:"+pause, func(w *asset.Workload) { w.ECS.Container, w.ECS.TaskARN = "late", "arn:pay" })
	partial := asset.Workload{ID: fresh, AgentID: hostB, State: asset.Running, Created: now, Partial: true}
	want := workload(fresh, hostB, "shop/pay/late", 0)
	for _, tc := range []struct {
		name string
		do   func(x *topology.Index)
		want bool
	}{
		{"known first", func(x *topology.Index) {
			x.Put([]asset.Workload{whole}, now)
			x.Listens(listen)
		}, true},
		{"told first", func(x *topology.Index) {
			x.Listens(listen)
			x.Put([]asset.Workload{whole}, now)
		}, true},
		{"known in part first", func(x *topology.Index) {
			x.Put([]asset.Workload{partial}, now)
			x.Listens(listen)
			x.Put([]asset.Workload{whole}, now)
		}, true},
		{"told and known in part first", func(x *topology.Index) {
			x.Listens(listen)
			x.Put([]asset.Workload{partial}, now)
			x.Put([]asset.Workload{whole}, now)
		}, true},
		{"told by another agent", func(x *topology.Index) {
			e := *listen
			e.AgentID = hostA
			x.Listens(&e)
			x.Put([]asset.Workload{whole}, now)
		}, false},
		{"told long before", func(x *topology.Index) {
			x.Listens(listen)
			x.Put(nil, now.Add(2*time.Minute))
			x.Put(nil, now.Add(4*time.Minute))
			x.Put([]asset.Workload{whole}, now)
		}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			x := town(t)
			tc.do(x)
			if got := x.Resolve(about(socket(event.KindConnect, hostA, web, 8, "172.17.0.2:40000", port))); (got == want) != tc.want {
				t.Errorf("got %+v, want the workload itself: %v", got, tc.want)
			}
		})
	}
}

// On one host there is one clock: what begins after an end is not with whom it
// was before.
func TestAddressOfTwo(t *testing.T) {
	const first, second = "172.17.0.9:80", "shop/d2/d2"
	at := func(s float64) time.Time { return now.Add(time.Duration(s * float64(time.Second))) }
	x := topology.New()
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
	x.Put([]asset.Workload{life(old, -100, -50)}, now)
	ask := func(agent string, begins bool, from, until float64) event.Peer {
		q := topology.Question{AgentID: agent, WorkloadID: web, Protocol: "tcp", Remote: netip.MustParseAddrPort(first), Begins: begins, At: at(from)}
		if until != 0 {
			q.Until = at(until)
		}
		return x.Resolve(q)
	}
	nobody, former, next2 := event.Peer{Kind: event.PeerPrivate}, workload(old, hostA, "shop/d1/d1", 0), workload(next, hostA, second, 0)
	check := func(name string, got, want event.Peer) {
		t.Helper()
		if got != want {
			t.Errorf("%s: got %+v, want %+v", name, got, want)
		}
	}
	check("begun before the end", ask(hostA, true, -51, 0), former)
	check("begun at the end, by a clock that is a little late", ask(hostA, true, -49.95, 0), former)
	check("begun after the end, with nobody there yet", ask(hostA, true, -49, 0), nobody)
	check("failed after the end", ask(hostA, false, -49, 0), former)
	check("many, the last after the end, with nobody there yet", ask(hostA, true, -60, -45), event.Peer{Kind: event.PeerWorkload})
	x.Put([]asset.Workload{life(next, -40, 0)}, now)
	check("begun before the engine said that the next had started", ask(hostA, true, -42, 0), next2)
	check("begun long before that", ask(hostA, true, -49.5, 0), next2)
	check("failed before that", ask(hostA, false, -49, 0), former)
	check("begun with the next", ask(hostA, true, -10, 0), next2)
	check("many, all with the first", ask(hostA, true, -80, -60), former)
	check("many, some with each", ask(hostA, true, -80, -10), event.Peer{Kind: event.PeerWorkload, AgentID: hostA})
	check("many, from when there was nobody", ask(hostA, true, -150, -10), next2)
}

// The containers of an ECS task on a bridge share the network of pause
// containers, too, whose addresses are the same on every host.
func TestPauseOnABridge(t *testing.T) {
	x := topology.New()
	task := func(name string) func(*asset.Workload) {
		return func(w *asset.Workload) {
			w.ECS.Service, w.ECS.Container, w.ECS.TaskARN = "pay", name, "arn:pay"
			w.Settings.Addresses = addrs("172.17.0.5")
		}
	}
	ask := func(agent string) event.Peer {
		return x.Resolve(topology.Question{AgentID: agent, Protocol: "tcp", Remote: netip.MustParseAddrPort("172.17.0.5:80"), At: now})
	}
	x.Put([]asset.Workload{one(hostA, app, "pay", "container:"+pause, task("app"))}, now)
	x.Put([]asset.Workload{one(hostA, pause, "pay", "bridge", task("~internal~ecs~pause-app"))}, now)
	if got, want := ask(hostA), workload(app, hostA, "shop/pay/app", 0); got != want {
		t.Errorf("on its host: got %+v, want %+v", got, want)
	}
	if got := ask(hostB); got.Kind != event.PeerPrivate {
		t.Errorf("on another host: got %+v, want nobody", got)
	}
}
