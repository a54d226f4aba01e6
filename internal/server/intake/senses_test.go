package intake_test

import (
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/server/intake"
)

// sense returns an event of any kind; the caller adds its payload.
func (f *fixture) sense(agent, workload string, k event.Kind) event.Event {
	e := f.exec(agent, workload, 7)
	e.Kind, e.Exec = k, nil
	return e
}

func (f *fixture) talk(agent, workload string, k event.Kind, local, remote string) event.Event {
	e := f.sense(agent, workload, k)
	e.Connection = &event.Connection{Protocol: "tcp"}
	if local != "" {
		e.Connection.Local = netip.MustParseAddrPort(local)
	}
	if remote != "" {
		e.Connection.Remote = netip.MustParseAddrPort(remote)
	}
	return e
}

// Every kind is taken with its payload, and with no other.
func TestEveryKindIsTaken(t *testing.T) {
	f := newFixture(t)
	var events []event.Event
	for _, k := range event.Kinds() {
		e := f.sense(agentA, "", k)
		e.Exec, e.Exit = &event.Exec{Args: []string{"x"}}, &event.Exit{}
		e.File, e.Connection, e.DNS = &event.File{Path: "/a"}, &event.Connection{Protocol: "tcp"}, &event.DNS{Name: "a", Type: "A"}
		e.Privilege, e.Memory, e.Resource = &event.Privilege{Call: "x"}, &event.Memory{Call: "x"}, &event.Resource{What: "cpu"}
		e.Calls = &event.Calls{Names: []string{"x"}}
		events = append(events, e)
	}
	f.report(t, link.Report{Agent: describe(agentA), Events: events})
	got := f.stored(t)
	if len(got) != len(event.Kinds()) {
		t.Fatalf("got %d events, want one of each of %d kinds", len(got), len(event.Kinds()))
	}
	for _, e := range got {
		has := map[string]bool{
			"process": e.Exec != nil || e.Exit != nil || e.Calls != nil, "file": e.File != nil, "network": e.Connection != nil, "dns": e.DNS != nil,
			"privilege": e.Privilege != nil, "memory": e.Memory != nil, "resource": e.Resource != nil,
		}
		for sensor, there := range has {
			if want := sensor == e.Kind.Sensor() && e.Kind != event.KindFork; there != want {
				t.Errorf("%s: payload of %s is there: %v, want %v", e.Kind, sensor, there, want)
			}
		}
	}
	for _, k := range event.Kinds() { // without its payload it is none
		if k == event.KindFork {
			continue
		}
		f.report(t, link.Report{Agent: describe(agentA), Events: []event.Event{f.sense(agentA, "", k)}})
	}
	if n := len(f.stored(t)); n != len(got) {
		t.Errorf("%d events without payload were stored", n-len(got))
	}
}

func TestPayloadsAreBounded(t *testing.T) {
	f := newFixture(t)
	long := strings.Repeat("é", 10_000)
	many := make([]string, 1_000)
	for i := range many {
		many[i] = long
	}
	file := f.sense(agentA, "", event.KindFileRead)
	file.File = &event.File{Path: long, To: "\x00\xff", Origin: "mars", Type: "planet", Mode: 1 << 31, Flags: many, Sensitive: long, Error: "<script>"}
	file.Count, file.Last = 1<<63, file.Time.Add(-time.Hour)
	conn := f.talk(agentA, "", event.KindClose, "[::ffff:10.0.0.1]:80", "[fe80::1%eth0]:1")
	conn.Connection.Protocol, conn.Connection.Name, conn.Connection.BytesSent = "carrier pigeon", long, 1<<63
	conn.Connection.Duration = -1
	conn.Connection.Stream = "of milk"
	conn.Connection.Path, conn.Connection.Asked, conn.Connection.ListenerName, conn.Connection.ListenerWorkloadID = long, long, long, "../x"
	conn.Connection.Peer = event.Peer{Kind: event.PeerWorkload, WorkloadID: shop}
	dns := f.sense(agentA, "", event.KindAnswer)
	dns.DNS = &event.DNS{Protocol: "quic", Name: long, Type: long, Answers: many, Size: -5}
	priv := f.sense(agentA, "", event.KindMount)
	priv.Privilege = &event.Privilege{Call: long, Source: long, Target: long, Flags: many, WorkloadID: "../x"}
	res := f.sense(agentA, "", event.KindLimit)
	res.Resource = &event.Resource{What: "patience", Used: 1 << 63, Resident: 1 << 63, Scope: "moon"}
	f.report(t, link.Report{Agent: describe(agentA), Events: []event.Event{file, conn, dns, priv, res}})
	got := f.stored(t)
	if len(got) != 5 {
		t.Fatalf("got %d events, want 5", len(got))
	}
	x := got[0].File
	if len(x.Path) > 4096 || x.To != "\ufffd\ufffd" || x.Origin != "" || x.Type != "" || x.Mode > 0o7777 || len(x.Flags) > 64 || len(x.Flags[0]) > 64 || x.Error != "" {
		t.Errorf("file: got %d bytes of path, to %q, %q %q %o, %d flags, error %q", len(x.Path), x.To, x.Origin, x.Type, x.Mode, len(x.Flags), x.Error)
	}
	if got[0].Count > 1<<40 || !got[0].Last.Equal(got[0].Time) {
		t.Errorf("got count %d and last %s, want them bounded", got[0].Count, got[0].Last)
	}
	c := got[1].Connection
	if c.Protocol != "" || c.Local.String() != "10.0.0.1:80" || c.Remote.String() != "[fe80::1]:1" || len(c.Name) > 1024 || c.BytesSent > 1<<53 || c.Duration < 0 || c.Peer.Kind != event.PeerPrivate {
		t.Errorf("connection: got %+v", c)
	}
	if len(c.Path) > 4096 || len(c.Asked) > 4096 || len(c.ListenerName) > 64 || c.ListenerWorkloadID != "" || c.Stream != "" {
		t.Errorf("unix socket: got %d bytes of path, %d of what was asked, %d of the listener's name, of %q; stream %q",
			len(c.Path), len(c.Asked), len(c.ListenerName), c.ListenerWorkloadID, c.Stream)
	}
	q := got[2].DNS
	if q.Protocol != "" || len(q.Name) > 1024 || len(q.Type) > 64 || len(q.Answers) != event.MaxAnswers || !q.Truncated || q.Size != 0 {
		t.Errorf("dns: got %d bytes of name, %d answers, size %d", len(q.Name), len(q.Answers), q.Size)
	}
	if p := got[3].Privilege; len(p.Call) > 64 || len(p.Target) > 4096 || len(p.Flags) > 64 || p.WorkloadID != "" {
		t.Errorf("privilege: got %d bytes of call, %d flags, workload %q", len(p.Call), len(p.Flags), p.WorkloadID)
	}
	if r := got[4].Resource; r.What != "" || r.Used > 1<<53 || r.Resident > 1<<53 || r.Scope != "" {
		t.Errorf("resource: got %+v", r)
	}
	if conn.Connection.Peer.WorkloadID != shop || len(dns.DNS.Answers) != 1_000 {
		t.Error("what the agent holds was changed")
	}
}

// A layer is only where there can be one: of a file of the image, and among as
// many as it says there are.
func TestLayersMakeSense(t *testing.T) {
	good := event.Layer{Number: 3, Of: 8}
	for _, tt := range []struct {
		name   string
		origin event.Origin
		layer  event.Layer
		want   event.Layer
	}{
		{"of the image", event.OriginImage, good, good},
		{"of a file that was written", event.OriginWritten, good, event.Layer{}},
		{"of a file of unknown origin", "mars", good, event.Layer{}},
		{"none among some", event.OriginImage, event.Layer{Of: 8}, event.Layer{}},
		{"more than there are", event.OriginImage, event.Layer{Number: 9, Of: 8}, event.Layer{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFixture(t)
			ran := f.sense(agentA, "", event.KindExec)
			ran.Exec = &event.Exec{Origin: tt.origin, Layer: tt.layer}
			read := f.sense(agentA, "", event.KindFileRead)
			read.File = &event.File{Path: "/etc/shadow", Origin: tt.origin, Layer: tt.layer}
			mapped := f.sense(agentA, "", event.KindExecProtect)
			mapped.Memory = &event.Memory{Call: "mmap", Origin: tt.origin, Layer: tt.layer}
			f.report(t, link.Report{Agent: describe(agentA), Events: []event.Event{ran, read, mapped}})
			got := f.stored(t)
			if len(got) != 3 {
				t.Fatalf("got %d events, want 3", len(got))
			}
			for _, e := range got {
				if l := e.Layer(); l != tt.want {
					t.Errorf("%s: got %+v, want %+v", e.Kind, l, tt.want)
				}
			}
		})
	}
}

func TestPeersAreNamedOnArrival(t *testing.T) {
	f := newFixture(t)
	web := workload(shop)
	web.Settings.NetworkMode, web.Settings.Addresses = "bridge", []netip.Addr{netip.MustParseAddr("172.17.0.2")}
	f.report(t, link.Report{Agent: describe(agentA), Workloads: []asset.Workload{web, workload(other)}})
	ask := func(in *intake.Intake) event.Peer {
		e := f.talk(agentA, other, event.KindConnect, "172.17.0.3:40000", "172.17.0.2:80")
		if _, err := in.Report(t.Context(), link.Report{Agent: describe(agentA), Events: []event.Event{e}}); err != nil {
			t.Fatal(err)
		}
		all := f.stored(t)
		return all[len(all)-1].Connection.Peer
	}
	want := event.Peer{Kind: event.PeerWorkload, WorkloadID: shop, Group: "shop/web/web", AgentID: agentA}
	if diff := cmp.Diff(want, ask(f.Intake)); diff != "" {
		t.Errorf("peer (-want +got):\n%s", diff)
	}
	again := intake.New(f.st, f.tables, f.feed, f.conditions, func() time.Time { return f.now }, slog.New(slog.DiscardHandler))
	if diff := cmp.Diff(want, ask(again)); diff != "" {
		t.Errorf("peer after a restart of the server (-want +got):\n%s", diff)
	}
}

// An agent that starts anew tells of all connections that are open.
func TestResumedConnectionsAreStoredOnce(t *testing.T) {
	f := newFixture(t)
	resumed := func(local string) event.Event {
		e := f.talk(agentA, "", event.KindConnect, local, "10.1.1.1:443")
		e.Connection.Resumed = true
		return e
	}
	send := func(in *intake.Intake, events ...event.Event) {
		t.Helper()
		if _, err := in.Report(t.Context(), link.Report{Agent: describe(agentA), Events: events}); err != nil {
			t.Fatal(err)
		}
	}
	count := func(local string) (n int) {
		for _, e := range f.stored(t) {
			if e.Connection.Local.String() == local && e.Kind == event.KindConnect {
				n++
			}
		}
		return n
	}
	send(f.Intake,
		f.talk(agentA, "", event.KindConnect, "10.0.0.1:1001", "10.1.1.1:443"),
		f.talk(agentA, "", event.KindConnect, "10.0.0.1:1002", "10.1.1.1:443"),
		f.talk(agentA, "", event.KindClose, "10.0.0.1:1002", "10.1.1.1:443"))
	restarted := func() *intake.Intake {
		return intake.New(f.st, f.tables, f.feed, f.conditions, func() time.Time { return f.now }, slog.New(slog.DiscardHandler))
	}
	for name, in := range map[string]*intake.Intake{"the same server": f.Intake, "after a restart of the server": restarted()} {
		send(in, resumed("10.0.0.1:1001"))
		if n := count("10.0.0.1:1001"); n != 1 {
			t.Errorf("%s: an open connection is stored %d times, want once", name, n)
		}
	}
	send(restarted(), resumed("10.0.0.1:1002"))
	if n := count("10.0.0.1:1002"); n != 2 {
		t.Errorf("a port that was closed and used again is stored %d times, want twice", n)
	}
	send(f.Intake, resumed("10.0.0.1:1003"))
	if n := count("10.0.0.1:1003"); n != 1 {
		t.Errorf("a connection from before the first agent is stored %d times, want once", n)
	}
}

func TestSamplesOfOnesOwnWorkloads(t *testing.T) {
	f := newFixture(t)
	f.report(t, link.Report{Agent: describe(agentA), Workloads: []asset.Workload{workload(shop)}})
	f.report(t, link.Report{Agent: describe(agentB), Workloads: []asset.Workload{workload(other)}})
	one := func(id string, at time.Time) asset.Sample {
		return asset.Sample{WorkloadID: id, Time: at, Memory: 1 << 63, CPU: -5, Missing: make([]string, 1000)}
	}
	f.report(t, link.Report{Agent: describe(agentA), Samples: []asset.Sample{
		one(shop, start), one(other, start), one("no id", start), one(shop, time.Time{}),
	}})
	got, err := f.st.Samples(t.Context(), shop, start.Add(-time.Hour), start.Add(time.Hour), 0)
	if err != nil || len(got) != 1 || got[0].Memory > 1<<53 || got[0].CPU != 0 || len(got[0].Missing) > 16 {
		t.Errorf("own: got %d samples %+v, %v", len(got), got, err)
	}
	got, err = f.st.Samples(t.Context(), other, start.Add(-time.Hour), start.Add(time.Hour), 0)
	if err != nil || len(got) != 0 {
		t.Errorf("another agent's: got %d samples, %v, want none", len(got), err)
	}
}

func TestClockOfTheAgent(t *testing.T) {
	f := newFixture(t)
	for i, tc := range []struct {
		sent time.Time
		want time.Duration
	}{{start.Add(3 * time.Second), 3 * time.Second}, {start.Add(-time.Minute), -time.Minute}, {time.Time{}, 0}} {
		id := fmt.Sprintf("AGENTCLOCK%d", i)
		f.report(t, link.Report{Agent: describe(id), Sent: tc.sent})
		if a, err := f.st.Agent(t.Context(), id); err != nil || a.Clock != tc.want {
			t.Errorf("got %s, %v, want %s", a.Clock, err, tc.want)
		}
	}
}

// Events of a former start are stored under it, and change no tree.
func TestEventsOfAFormerStart(t *testing.T) {
	f := newFixture(t)
	f.report(t, link.Report{Agent: describe(agentA), Workloads: []asset.Workload{workload(shop)}, Snapshot: true})
	f.report(t, link.Report{Agent: describe(agentA), Boot: "FORMERBOOT", Events: []event.Event{f.exec(agentA, shop, 7, "sh")}})
	if got := f.stored(t); len(got) != 1 || got[0].Boot != "FORMERBOOT" {
		t.Errorf("got %v, want it stored under its own start", got)
	}
	if procs, _ := f.tables.Tree(shop); len(procs) != 0 {
		t.Errorf("the tree shows %v, which ran before", procs)
	}
}

// Of one report, what is told later says who had the other end of what is told
// before; a connection that ended was with who was there when it began, and of
// many at once only what holds for all is said.
func TestPeersByWhatElseIsTold(t *testing.T) {
	const third = "cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc"
	f := newFixture(t)
	at := func(minutes int) time.Time { return f.now.Add(time.Duration(minutes) * time.Minute) }
	life := func(id, name string, from, until int) asset.Workload {
		w := workload(id)
		began := at(from)
		w.ECS.Service, w.ECS.Container, w.Started = name, name, &began
		w.Settings.NetworkMode, w.Settings.Addresses = "bridge", []netip.Addr{netip.MustParseAddr("172.17.0.9")}
		if until != 0 {
			end := at(until)
			w.State, w.Finished = asset.Exited, &end
		}
		return w
	}
	f.report(t, link.Report{Agent: describe(agentA), Workloads: []asset.Workload{
		life(shop, "old", -60, -30), life(other, "new", -20, 0), workload(third),
	}})
	accept := f.talk(agentA, other, event.KindAccept, "172.17.0.8:80", "172.17.0.1:40000")
	host := f.talk(agentA, third, event.KindConnect, "172.17.0.1:40000", "172.17.0.8:80")
	closed := f.talk(agentA, third, event.KindClose, "172.17.0.3:40001", "172.17.0.9:80")
	closed.Connection.Duration = 45 * time.Minute
	many := f.talk(agentA, third, event.KindConnect, "172.17.0.3:40002", "172.17.0.9:80")
	many.Count, many.Time, many.Last = 9, at(-40), at(-1)
	gone := f.talk(agentA, third, event.KindConnect, "172.17.0.3:40003", "172.17.0.9:80")
	gone.Time = at(-25)
	failed := gone.Clone()
	f.seq[agentA]++
	failed.Seq, failed.Time, failed.Connection.Error = f.seq[agentA], at(-28), "EHOSTUNREACH"
	f.report(t, link.Report{Agent: describe(agentA), Events: []event.Event{accept, host, closed, many, gone, failed}})
	var got []event.Peer
	for _, e := range f.stored(t) {
		got = append(got, e.Connection.Peer)
	}
	old := event.Peer{Kind: event.PeerWorkload, WorkloadID: shop, Group: "shop/old/old", AgentID: agentA}
	want := []event.Peer{
		{Kind: event.PeerWorkload, WorkloadID: third, Group: "shop/web/web", AgentID: agentA},
		{Kind: event.PeerWorkload, WorkloadID: other, Group: "shop/new/new", AgentID: agentA},
		old, {Kind: event.PeerWorkload, AgentID: agentA}, {Kind: event.PeerPrivate}, old,
	}
	if diff := cmp.Diff(got, want); diff != "" {
		t.Errorf("peers (-got +want):\n%s", diff)
	}
}

// First system calls are a workload's: no process made them alone.
func TestFirstCallsNeedNoProcess(t *testing.T) {
	f := newFixture(t)
	calls := func(workload string) event.Event {
		e := f.sense(agentA, workload, event.KindCalls)
		e.Process, e.Calls = event.Process{}, &event.Calls{Names: []string{"openat"}, Capabilities: 1 << 21, CapabilitiesSeen: true}
		return e
	}
	id := strings.Repeat("ab", 32)
	f.report(t, link.Report{Agent: describe(agentA), Workloads: []asset.Workload{{ID: id, State: asset.Running}}, Events: []event.Event{calls(id), calls("")}})
	got := f.stored(t)
	if len(got) != 1 || got[0].WorkloadID != id || got[0].Calls == nil {
		t.Fatalf("stored: %+v", got)
	}
	if c := got[0].Calls; len(c.Names) != 1 || c.Capabilities != 1<<21 || !c.CapabilitiesSeen {
		t.Errorf("of the calls is stored: %+v", c)
	}
}
