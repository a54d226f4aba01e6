package console

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/store"
)

// someFlows are a web service that is called from outside, calls an API behind
// a published port, and fails to reach a cache.
func someFlows(now time.Time) []store.Flow {
	flow := func(group string, k event.Kind, port uint16, addr string, p event.Peer, n, failed uint64) store.Flow {
		f := store.Flow{Group: group, AgentID: "h", Kind: k, Protocol: "tcp", Port: port, Peer: p, Count: n, Failed: failed, First: now.Add(-time.Hour), Last: now}
		if addr != "" {
			f.Address = netip.MustParseAddr(addr)
		}
		if failed > 0 {
			f.Error = "ECONNREFUSED"
		}
		return f
	}
	api := event.Peer{Kind: event.PeerWorkload, Group: "shop/api/app", WorkloadID: "a", AgentID: "h"}
	behind := api
	behind.Port = 8080
	return []store.Flow{
		flow("shop/web/nginx", event.KindListen, 443, "", event.Peer{}, 1, 0),
		flow("shop/web/nginx", event.KindAccept, 443, "203.0.113.9", event.Peer{Kind: event.PeerPublic}, 900, 0),
		flow("shop/web/nginx", event.KindConnect, 32768, "10.0.3.17", behind, 300, 0),
		flow("shop/web/side", event.KindConnect, 8080, "172.17.0.3", api, 12, 0),
		// The same connections as the API sees them, behind address translation and not.
		flow("shop/api/app", event.KindAccept, 8080, "172.17.0.1", event.Peer{Kind: event.PeerHost, AgentID: "h"}, 300, 0),
		flow("shop/api/app", event.KindAccept, 8080, "172.17.0.2", event.Peer{Kind: event.PeerWorkload, Group: "shop/web/side", WorkloadID: "w", AgentID: "h"}, 12, 0),
		flow("shop/api/app", event.KindAccept, 9100, "10.0.3.17", event.Peer{Kind: event.PeerHost, AgentID: "h"}, 4, 0),
		flow("shop/api/app", event.KindConnect, 6379, "10.9.9.9", event.Peer{Kind: event.PeerPrivate}, 6, 6),
		flow("shop/api/app", event.KindConnect, 80, "169.254.169.254", event.Peer{Kind: event.PeerService}, 2, 0),
		flow("docker/cron", event.KindConnect, 443, "203.0.113.9", event.Peer{Kind: event.PeerPublic}, 1, 0),
		flow("shop/api/app", event.KindConnect, 8080, "127.0.0.1", event.Peer{Kind: event.PeerSelf}, 1, 0),
	}
}

// drawn are the lines of a map in words.
func drawn(m netMap) []string {
	var out []string
	for _, e := range m.Edges {
		out = append(out, fmt.Sprintf("%s > %s %s %d", e.From.key, e.To.key, strings.Join(e.Ports, " "), e.Count))
	}
	slices.Sort(out)
	return out
}

func TestMapPrefersWhoConnected(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	m := newNetMap(someFlows(now), map[string]string{"h": "host-1"}, "")
	want := []string{
		"h/h > s/shop/api tcp 9100 4", // who called is known at 8080, and nobody else is at 9100
		"s/docker/cron > w/203.0.113.9 tcp 443 1",
		"s/shop/api > l/instance metadata tcp 80 2",
		"s/shop/api > v/10.9.9.9 tcp 6379 6",
		"s/shop/web > s/shop/api tcp 8080 312",
		"w/203.0.113.9 > s/shop/web tcp 443 900",
	}
	if diff := cmp.Diff(want, drawn(m)); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"docker", "shop"}, m.Clusters); diff != "" {
		t.Errorf("clusters (-want +got):\n%s", diff)
	}
	if got := drawn(newNetMap(someFlows(now), nil, "docker")); len(got) != 1 || !strings.HasPrefix(got[0], "s/docker/cron") {
		t.Errorf("one cluster: got %v", got)
	}
}

func TestMapIsBoundedStableAndWithoutOverlaps(t *testing.T) {
	var flows []store.Flow
	for i := range 4_000 {
		f := store.Flow{
			Group: fmt.Sprintf("town/service-%d/app", i%900), Kind: event.KindConnect, Protocol: "tcp", Port: uint16(1 + i%50), Count: uint64(1 + i%77),
			Address: netip.AddrFrom4([4]byte{93, 184, byte(i >> 8), byte(i)}), Peer: event.Peer{Kind: event.PeerPublic},
		}
		if i%3 == 0 {
			f.Peer = event.Peer{Kind: event.PeerWorkload, Group: fmt.Sprintf("town/service-%d/app", (i*7+1)%900)}
		}
		flows = append(flows, f)
	}
	began := time.Now()
	m := newNetMap(flows, nil, "")
	if long := time.Since(began); long > 2*time.Second {
		t.Errorf("it took %v", long)
	}
	if len(m.Nodes) > 300 || len(m.Nodes) < 200 {
		t.Errorf("got %d nodes, want 300 at most, and not few", len(m.Nodes))
	}
	sum := uint64(0)
	for _, e := range m.Edges {
		sum += e.Count
	}
	want := uint64(0)
	for _, f := range flows {
		want += f.Count
	}
	if sum != want {
		t.Errorf("the lines stand for %d connections, want all %d", sum, want)
	}
	for i, a := range m.Nodes {
		for _, b := range m.Nodes[i+1:] {
			if (box{a.X, a.Y, a.X + nodeWidth, a.Y + nodeHeight}).meets(box{b.X, b.Y, b.X + nodeWidth, b.Y + nodeHeight}) {
				t.Fatalf("%s and %s lie upon each other", a.key, b.key)
			}
		}
		if a.X < 0 || a.Y < 0 || a.X+nodeWidth > m.Width || a.Y+nodeHeight > m.Height {
			t.Errorf("%s is outside", a.key)
		}
	}
	again := newNetMap(flows, nil, "")
	for i, n := range m.Nodes {
		if o := again.Nodes[i]; o.key != n.key || o.X != n.X || o.Y != n.Y {
			t.Fatalf("%s moved from %.0f,%.0f to %.0f,%.0f", n.key, n.X, n.Y, o.X, o.Y)
		}
	}
}

func TestCirclesOfCallsAreLaidOut(t *testing.T) {
	call := func(a, b string) store.Flow {
		return store.Flow{Group: "c/" + a + "/x", Kind: event.KindConnect, Protocol: "tcp", Port: 1, Count: 1, Peer: event.Peer{Kind: event.PeerWorkload, Group: "c/" + b + "/x"}}
	}
	m := newNetMap([]store.Flow{call("a", "b"), call("b", "c"), call("c", "a"), call("c", "c")}, nil, "")
	if len(m.Nodes) != 3 || len(m.Edges) != 4 {
		t.Errorf("got %d nodes and %d lines", len(m.Nodes), len(m.Edges))
	}
	for _, e := range m.Edges {
		if (e.path == "") != (e.From == e.To) {
			t.Errorf("%s to %s: path %q", e.From.key, e.To.key, e.path)
		}
	}
}

func TestPlots(t *testing.T) {
	start := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	at := func(s int) time.Time { return start.Add(time.Duration(s) * time.Second) }
	samples := []asset.Sample{
		{Time: at(0), CPU: time.Second, Memory: 10 << 20, DiskWritten: 1000, MemoryLimit: 20 << 20},
		{Time: at(10), CPU: 6 * time.Second, Memory: 18 << 20, DiskWritten: 3000, Throttled: 4 * time.Second, MemoryLimit: 20 << 20},
		{Time: at(20), CPU: time.Second, Memory: 2 << 20, DiskWritten: 0, OOMKills: 1, MemoryLimit: 20 << 20, Missing: []string{"descriptors"}}, // started again
	}
	p := plots(samples, start, at(20))
	cpu, memory, files, disk := p[0], p[1], p[3], p[4]
	if got := cpu.Lines[0]; got.Now != 0.5 || len(got.points) != 1 || len(cpu.Marks) != 1 || !strings.Contains(cpu.Marks[0].Title, "held back for 4.0 s") {
		t.Errorf("CPU: got %+v, marks %+v; want a rate of 0.5, and none over the new start", got, cpu.Marks)
	}
	if memory.LimitY == "" || memory.Lines[0].Most != 18<<20 || len(memory.Marks) != 1 || !memory.Marks[0].Bad {
		t.Errorf("memory: got limit at %q, most %v, marks %+v", memory.LimitY, memory.Lines[0].Most, memory.Marks)
	}
	if !files.Gone || files.summary() != "This host cannot tell." {
		t.Errorf("descriptors: got %q", files.summary())
	}
	if got := disk.Lines[1].Most; got != 200 {
		t.Errorf("disk: got %v bytes a second, want 200", got)
	}
	holed := plots([]asset.Sample{{Time: at(0)}, {Time: at(1)}, {Time: at(2)}, {Time: at(3)}, {Time: at(4)}, {Time: at(5)}, {Time: at(100)}}, start, at(100))
	if got := strings.Count(holed[1].Lines[0].Path, "M"); got != 2 {
		t.Errorf("a hole: the line has %d parts, want 2: %s", got, holed[1].Lines[0].Path)
	}
	if got := plots(nil, start, at(1))[0]; !got.empty() || got.summary() != "Nothing was told yet." {
		t.Errorf("nothing: got %q", got.summary())
	}
}

func TestGrouping(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	file := func(ago int, k event.Kind, f event.File, n uint64) event.Event {
		return event.Event{Kind: k, Time: now.Add(-time.Duration(ago) * time.Second), File: &f, Count: n}
	}
	lines := byPath([]event.Event{
		file(1, event.KindFileWrite, event.File{Path: "/a"}, 5), file(2, event.KindFileChmod, event.File{Path: "/a", Mode: 0o4755}, 0),
		file(3, event.KindFileRename, event.File{Path: "/tmp", To: "/a"}, 0),
		file(4, event.KindFileRead, event.File{Path: "/etc/shadow", Sensitive: "shadow", Error: "EACCES"}, 0),
	})
	if len(lines) != 2 || lines[0].Path != "/etc/shadow" || lines[0].Refused != "EACCES" || lines[1].Times != 7 || lines[1].did() != "written, renamed, made set-id" {
		t.Errorf("files: got %+v", lines)
	}
	ask := func(k event.Kind, q event.DNS, n uint64) event.Event {
		q.Name = "x.example"
		return event.Event{Kind: k, Time: now, DNS: &q, Count: n}
	}
	names := byName([]event.Event{
		ask(event.KindAnswer, event.DNS{Type: "AAAA", Code: "NXDOMAIN"}, 3), ask(event.KindAnswer, event.DNS{Type: "A", Code: "NOERROR", Answers: []string{"1.2.3.4"}}, 0),
		ask(event.KindQuery, event.DNS{Type: "A"}, 4), ask(event.KindQuery, event.DNS{Type: "AAAA"}, 0),
	})
	if len(names) != 1 || names[0].Asked != 5 || names[0].failures() != "NXDOMAIN ×3" || !slices.Equal(names[0].Types, []string{"A", "AAAA"}) {
		t.Errorf("names: got %+v", names)
	}
}
