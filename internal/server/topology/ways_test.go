package topology_test

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/server/topology"
)

// ways are some at own ports, and those at published ports.
func ways(own []netip.Addr, published ...topology.Way) []topology.Way {
	var out []topology.Way
	for _, a := range own {
		out = append(out, topology.Way{Address: a})
	}
	return append(out, published...)
}

func at(address string, port, own uint16) topology.Way {
	return topology.Way{Address: netip.MustParseAddr(address), Protocol: "tcp", Port: port, Own: own}
}

func TestWaysToAGroup(t *testing.T) {
	x := town(t)
	for _, c := range []struct {
		name, agent string
		from, to    asset.Group
		want        []topology.Way
	}{
		{"on one bridge, and by what is published", hostA, "shop/api/api", "shop/web/web", ways(nil,
			at("10.0.1.10", 80, 8080), at("127.0.0.1", 81, 8081), at("172.17.0.1", 80, 8080), topology.Way{Address: addrs("172.17.0.2")[0]},
			at("2001:db8::a", 80, 8080), topology.Way{Address: addrs("fd00:17::2")[0]})},
		{"from another host by what is published", hostB, "shop/dup/dup", "shop/web/web", ways(nil,
			at("10.0.1.10", 80, 8080), at("2001:db8::a", 80, 8080))},
		{"a bridge of another host does not count", hostB, "shop/dup/dup", "shop/api/api", nil},
		{"a task with its own interface", hostA, "shop/api/api", "shop/pay/app", ways(addrs("10.0.2.77", "2001:db8:1::77"))},
		{"within a task", hostB, "shop/pay/envoy", "shop/pay/app", ways(addrs("10.0.2.77", "127.0.0.1", "::1", "2001:db8:1::77"))},
		{"all that is known is the task", hostA, "shop/api/api", "shop/pay", ways(addrs("10.0.2.77", "2001:db8:1::77"))},
		{"in the host's network", hostB, "shop/dup/dup", "shop/front/front", ways(addrs("10.0.1.10", "2001:db8::a"))},
		{"beside it in the host's network", hostA, "shop/probe/probe", "shop/front/front", ways(addrs("10.0.1.10", "127.0.0.1", "172.17.0.1", "::1", "2001:db8::a"))},
		{"nobody", hostA, "shop/api/api", "shop/none/none", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, x.Ways(c.agent, c.from, c.to), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
				t.Errorf("ways (-want +got):\n%s", diff)
			}
		})
	}
}

func TestChangesOfWays(t *testing.T) {
	x := town(t)
	w := one(hostA, api, "api", "shop_default", func(w *asset.Workload) { w.Settings.Addresses = addrs("172.17.0.3") })
	for _, c := range []struct {
		name  string
		do    func()
		moves bool
	}{
		{"told again", func() { x.Put([]asset.Workload{w}, now) }, false},
		{"another address", func() { w.Settings.Addresses = addrs("172.17.0.9"); x.Put([]asset.Workload{w}, now) }, true},
		{"a port", func() { w.Settings.Ports = []asset.Port{tcp(1, 2, "")}; x.Put([]asset.Workload{w}, now) }, true},
		{"the same host", func() { x.PutHost(hostB, addrs("10.0.2.20", "172.17.0.1")) }, false},
		{"another host", func() { x.PutHost(hostB, addrs("10.0.2.21")) }, true},
		{"ended", func() { w.State = asset.Exited; x.Put([]asset.Workload{w}, now.Add(time.Minute)) }, true},
	} {
		before := x.Changes()
		c.do()
		if got := x.Changes() != before; got != c.moves {
			t.Errorf("%s: changed %v, want %v", c.name, got, c.moves)
		}
	}
	// Who looked its name up a moment ago still connects there, until somebody else has
	// the address, or it is long ago.
	reached := func(when string, want []topology.Way) {
		t.Helper()
		if got := x.Ways(hostA, "shop/web/web", "shop/api/api"); !slices.Equal(got, want) {
			t.Errorf("%s: ways to what has ended: got %v, want %v", when, got, want)
		}
	}
	last := ways(addrs("172.17.0.9"))
	reached("at once", last)
	other := one(hostA, "b"+api[1:], "other", "shop_default", func(w *asset.Workload) { w.Settings.Addresses = addrs("172.17.0.9") })
	x.Put([]asset.Workload{other}, now.Add(2*time.Minute))
	reached("another has its address", nil)
	other.State = asset.Exited
	x.Put([]asset.Workload{other}, now.Add(3*time.Minute))
	reached("nobody has it again", last)
	before := x.Changes()
	x.Put(nil, now.Add(time.Hour))
	reached("an hour later", nil)
	if x.Changes() == before {
		t.Error("its address leads nowhere any more, and nobody is told")
	}
}
