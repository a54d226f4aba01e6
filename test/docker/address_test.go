package docker_test

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
)

// Addresses pass from one container to the next within a second. Who had one at
// the time is who the peer is.
func TestAddressesAreGivenAnew(t *testing.T) {
	n := found(t, nil, asset.AgentSettings{Window: 2 * time.Second})
	n.settle(t, "web", []string{"tcp:80"}, inNetwork("town"))
	n.settle(t, "db", []string{"tcp:9001-9010"}, inNetwork("town"))
	t.Run("to the next server", n.nextServer)
	t.Run("to the next client", n.nextClient)
	t.Run("under a caller", n.underACaller)
	t.Run("to a task", n.toATask)
}

// nextServer talks with a container, and at once with the one that got its
// address.
func (n *town) nextServer(t *testing.T) {
	n.settle(t, "old", []string{"tcp:9001-9002"}, inNetwork("town"))
	at := n.address(t, "old")
	n.says(t, "web", "to", "tcp4", at+":9001")
	n.told(t, 0, hears{"web", connect, 9001, "workload old", ""})
	n.remove(t, "old")
	after := n.mark()
	n.start(t, "new", []string{"serve", "tcp:9001", "tcp:9002"}, inNetwork("town"))
	n.says(t, "web", "to", "tcp4", at+":9001") // fails where the new one has another address
	n.told(t, after, hears{"web", connect, 9001, "workload new", ""})
	n.told(t, after, hears{"new", accept, 9001, "workload web", ""})
}

// nextClient lets containers that only say one thing talk with one server: they
// have ended before the engine can be asked for their address.
func (n *town) nextClient(t *testing.T) {
	addresses := map[netip.Addr]int{}
	for i := range 6 {
		name, port := fmt.Sprintf("client-%d", i), uint16(9001+i)
		after := n.mark()
		n.start(t, name, []string{"to", "tcp4", fmt.Sprintf("db:%d", port)}, inNetwork("town"), func(_ *container.Config, h *container.HostConfig) {
			h.AutoRemove = true
		})
		n.told(t, after, hears{name, connect, port, "workload db", "db"})
		n.told(t, after, hears{"db", accept, port, "workload " + name, ""})
		n.workload(t, n.ids[name], in(asset.Exited))
		n.mu.Lock()
		for _, e := range n.events[after:] {
			if e.Kind == accept && e.WorkloadID == n.ids["db"] {
				addresses[e.Connection.Remote.Addr()]++
			}
		}
		n.mu.Unlock()
	}
	if len(addresses) > 1 {
		t.Logf("clients had the addresses %v", addresses)
	}
}

// underACaller gives an address to another container while a program connects
// to it all the time, which is mostly counted: no connection is said to be with
// one of them that may have been with the other.
func (n *town) underACaller(t *testing.T) {
	n.settle(t, "before", []string{"tcp:9201"}, inNetwork("town"))
	at := n.address(t, "before")
	n.start(t, "caller", []string{"again", "tcp4", at + ":9201"}, inNetwork("town"))
	counted := func(id string) func() bool {
		return func() bool {
			return slices.ContainsFunc(n.events, func(e event.Event) bool {
				return e.Kind == connect && e.WorkloadID == n.ids["caller"] && e.Times() > 1 && e.Connection.Peer.WorkloadID == id
			})
		}
	}
	n.wait(t, "connections with the first to be counted", counted(n.ids["before"]))
	n.remove(t, "before")
	n.settle(t, "behind", []string{"tcp:9201"}, inNetwork("town"))
	if got := n.address(t, "behind"); got != at {
		t.Fatalf("the second has the address %s, want %s", got, at)
	}
	n.wait(t, "connections with the second to be counted", counted(n.ids["behind"]))
	ended := *n.workload(t, n.ids["before"], in(asset.Exited)).Finished
	began := n.workload(t, n.ids["behind"], in(asset.Running)).Created
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, e := range n.events {
		if e.Connection == nil || e.WorkloadID != n.ids["caller"] || e.Connection.Error != "" {
			continue
		}
		last := e.Time
		if e.Times() > 1 {
			last = e.Last
		}
		first := e.Time.Add(-e.Connection.Duration)
		switch e.Connection.Peer.WorkloadID {
		case n.ids["before"]:
			if e.Kind == connect && last.After(ended.Add(time.Second)) {
				t.Errorf("%s ×%d from %s to %s is said to be with the first, which had ended at %s", e.Kind, e.Times(), e.Time, last, ended)
			}
		case n.ids["behind"]:
			if first.Before(began) {
				t.Errorf("%s ×%d from %s to %s is said to be with the second, which was made at %s", e.Kind, e.Times(), first, last, began)
			}
		}
	}
}

// toATask moves an interface into a task that runs already, as ECS does for
// awsvpc: the engine knows nothing of it.
func (n *town) toATask(t *testing.T) {
	const eni = "10.99.1.77"
	task := func(container string) change {
		l := labels(container)
		l["com.amazonaws.ecs.task-definition-family"] = "pay"
		return labelled(l)
	}
	n.settle(t, "hosty", []string{"tcp:7001"}, inNetwork("host"))
	n.settle(t, "pause", []string{"tcp:1"}, inNetwork("none"), task("~internal~ecs~pause"))
	n.settle(t, "app", []string{"tcp:9301-9309"}, inNetwork("container:pause"), task("app"))
	n.settle(t, "envoy", []string{"tcp:9401-9409"}, inNetwork("container:pause"), task("envoy"))
	pid := fmt.Sprint(n.workload(t, n.ids["pause"], in(asset.Running)).PID)
	n.must(t, host, "ip", "link", "add", "eni0", "type", "veth", "peer", "name", "eth0", "netns", pid)
	n.must(t, host, "ip", "addr", "add", "10.99.1.1/24", "dev", "eni0")
	n.must(t, host, "ip", "link", "set", "eni0", "up")
	inTask := []string{"nsenter", "--net=/proc/" + pid + "/ns/net", "ip"}
	n.must(t, host, append(inTask, "addr", "add", eni+"/24", "dev", "eth0")...)
	n.must(t, host, append(inTask, "link", "set", "eth0", "up")...)
	n.must(t, host, append(inTask, "route", "add", "default", "via", "10.99.1.1")...)
	n.workload(t, n.ids["app"], func(w asset.Workload) bool {
		return slices.Contains(w.Settings.Addresses, netip.MustParseAddr(eni))
	})
	for _, tt := range []talk{
		{"from a bridge", "web", "to tcp4 " + eni + ":9301", []hears{{"web", connect, 9301, "workload app", ""}, {"app", accept, 9301, "host", ""}}},
		{"to the other of the task", "web", "to tcp4 " + eni + ":9401", []hears{{"web", connect, 9401, "workload envoy", ""}}},
		{"from the host", host, "to tcp4 " + eni + ":9302", []hears{{host, connect, 9302, "workload app", ""}, {"app", accept, 9302, "host", ""}}},
		{"from host mode", "hosty", "to tcp4 " + eni + ":9303", []hears{{"hosty", connect, 9303, "workload app", ""}, {"app", accept, 9303, "workload hosty", ""}}},
		{"to host mode", "app", "to tcp4 10.99.1.1:7001", []hears{{"app", connect, 7001, "workload hosty", ""}, {"hosty", accept, 7001, "workload app", ""}}},
		{"within the task", "app", "to tcp4 127.0.0.1:9402", []hears{{"app", connect, 9402, "workload envoy", ""}, {"envoy", accept, 9402, "workload app", ""}}},
	} {
		t.Run(tt.name, func(t *testing.T) { n.converse(t, tt, tt.says) })
	}
}
