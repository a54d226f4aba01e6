package storetest

import (
	"fmt"
	"math"
	"net/netip"
	"time"

	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/store"
)

func flowCases() []testCase {
	return []testCase{
		{"every field", everyFlowField},
		{"only network events, one line each direction", flowKinds},
		{"what is sent twice counts once", func(k *kit) {
			k.ok(k.st.AppendEvents(k.ctx, []event.Event{connection(1, event.KindConnect, "10.0.0.7:443")}))
			k.ok(k.st.AppendEvents(k.ctx, []event.Event{connection(1, event.KindConnect, "10.0.0.7:443")}))
			same(k, "count", k.oneFlow(store.FlowQuery{}).Count, 1)
		}},
		{"an event that stands for many", func(k *kit) {
			e := connection(1, event.KindConnect, "10.0.0.7:443")
			e.Count, e.Last = 40, e.Time.Add(time.Minute)
			k.ok(k.st.AppendEvents(k.ctx, []event.Event{connection(0, event.KindConnect, "10.0.0.7:443"), e}))
			f := k.oneFlow(store.FlowQuery{})
			same(k, "count", f.Count, 41)
			same(k, "last", f.Last, e.Last)
		}},
		{"bytes of connections that ended", flowBytes},
		{"failures", flowFailures},
		{"the newest name and peer", newestNames},
		{"the group as soon as it is known", knownGroup},
		{"resumed connections are not counted again", resumed},
		{"hours and time", flowHours},
		{"filters", flowFilters},
		{"busiest first, and limits", busiestFlows},
		{"a port scan is folded", portScan},
		{"no report makes sums overflow", hugeFlows},
		{"flows by age, by the server's clock", flowsByAge},
	}
}

func (k *kit) flows(q store.FlowQuery) []store.Flow {
	k.Helper()
	got, err := k.st.Flows(k.ctx, q)
	k.ok(err)
	return got
}

func (k *kit) oneFlow(q store.FlowQuery) store.Flow {
	k.Helper()
	got := k.flows(q)
	if len(got) != 1 {
		k.Fatalf("%d flows, want 1: %+v", len(got), got)
	}
	return got[0]
}

func everyFlowField(k *kit) {
	e := connection(1, event.KindConnect, "10.0.0.7:443", named("db.example"), toward("w9", "prod/shop/api"))
	e.Connection.Peer.AgentID, e.Connection.Peer.Port = agentB, 5432
	e.Connection.Error = "ECONNREFUSED"
	end := connection(2, event.KindClose, "10.0.0.7:443")
	end.Connection.BytesSent, end.Connection.BytesReceived = 7, 9
	k.ok(k.st.AppendEvents(k.ctx, []event.Event{e, end}))
	same(k, "flow", k.oneFlow(store.FlowQuery{}), store.Flow{
		WorkloadID: "w1", Group: "prod/shop/web", AgentID: agentA, Kind: event.KindConnect, Protocol: "tcp",
		Address: netip.MustParseAddr("10.0.0.7"), Port: 443, Name: "db.example", Peer: e.Connection.Peer,
		Count: 1, Failed: 1, Error: "ECONNREFUSED", BytesSent: 7, BytesReceived: 9, First: e.Time, Last: end.Time,
	}, sameAddrPort())
}

func flowKinds(k *kit) {
	in := connection(2, event.KindAccept, "10.0.0.7:51000")
	in.Connection.Local = netip.MustParseAddrPort("172.17.0.2:80")
	listen := connection(3, event.KindListen, "10.0.0.7:1")
	listen.Connection.Local, listen.Connection.Remote = netip.MustParseAddrPort("0.0.0.0:80"), netip.AddrPort{}
	raw := connection(4, event.KindRaw, "10.0.0.7:1")
	raw.Connection.Local, raw.Connection.Remote, raw.Connection.Protocol = netip.AddrPort{}, netip.AddrPort{}, "icmp"
	host := connection(5, event.KindConnect, "[::ffff:10.0.0.7]:443")
	host.WorkloadID, host.Group = "", ""
	query := exec(6, func(e *event.Event) { e.Kind, e.Exec, e.DNS = event.KindQuery, nil, &event.DNS{Name: "x"} })
	again := in
	again.Seq, again.Connection = 7, &event.Connection{
		Protocol: "tcp", Local: in.Connection.Local, Remote: netip.MustParseAddrPort("10.0.0.7:51001"),
	}
	k.ok(k.st.AppendEvents(k.ctx, []event.Event{
		connection(1, event.KindConnect, "10.0.0.7:443"), in, listen, raw, host, query, again, exec(8),
	}))
	got := map[string]uint64{}
	for _, f := range k.flows(store.FlowQuery{}) {
		got[fmt.Sprint(f.WorkloadID, " ", f.Kind, " ", f.Protocol, " ", f.Address, " ", f.Port)] = f.Count
	}
	same(k, "flows", got, map[string]uint64{
		"w1 network.connect tcp 10.0.0.7 443": 1,
		"w1 network.accept tcp 10.0.0.7 80":   2,
		"w1 network.listen tcp invalid IP 80": 1,
		"w1 network.raw icmp invalid IP 0":    1,
		" network.connect tcp 10.0.0.7 443":   1,
	})
}

func flowBytes(k *kit) {
	ended := func(seq uint64, incoming bool) event.Event {
		return connection(seq, event.KindClose, "10.0.0.7:443", func(c *event.Connection) {
			c.Incoming, c.BytesSent, c.BytesReceived = incoming, 100, 1_000
		})
	}
	k.ok(k.st.AppendEvents(k.ctx, []event.Event{
		connection(1, event.KindConnect, "10.0.0.7:443"), ended(2, false), ended(3, false),
		connection(4, event.KindAccept, "10.0.0.7:443"), ended(5, true),
		connection(6, event.KindClose, "10.0.0.8:443"), // that carried nothing
	}))
	got := map[event.Kind][3]uint64{}
	for _, f := range k.flows(store.FlowQuery{}) {
		got[f.Kind] = [3]uint64{f.Count, f.BytesSent, f.BytesReceived}
	}
	same(k, "count and bytes", got, map[event.Kind][3]uint64{
		event.KindConnect: {1, 200, 2_000}, event.KindAccept: {1, 100, 1_000},
	})
}

func flowFailures(k *kit) {
	failed := func(seq uint64, why string) event.Event {
		return connection(seq, event.KindConnect, "10.0.0.7:443", func(c *event.Connection) { c.Error = why })
	}
	many := failed(2, "ECONNREFUSED")
	many.Count = 5
	k.ok(k.st.AppendEvents(k.ctx, []event.Event{failed(1, "ETIMEDOUT"), many}))
	k.ok(k.st.AppendEvents(k.ctx, []event.Event{failed(3, "")}))
	f := k.oneFlow(store.FlowQuery{})
	same(k, "counts", [2]uint64{f.Count, f.Failed}, [2]uint64{7, 6})
	same(k, "error", f.Error, "ECONNREFUSED")
}

// newestNames: within a report, over reports and over hours; and what comes
// late because its agent was cut off is not newer.
func newestNames(k *kit) {
	put := func(seq uint64, at time.Duration, name, workload string) {
		e := connection(seq, event.KindConnect, "10.0.0.7:443", named(name))
		if workload != "" {
			toward(workload, "g-"+workload)(e.Connection)
		}
		e.Time = base().Add(at)
		k.ok(k.st.AppendEvents(k.ctx, []event.Event{e}))
	}
	check := func(name, workload string) {
		k.Helper()
		f := k.oneFlow(store.FlowQuery{})
		same(k, "name and peer", []string{f.Name, f.Peer.WorkloadID}, []string{name, workload})
	}
	put(1, 10*time.Minute, "", "")
	check("", "")
	put(2, 9*time.Minute, "old.example", "w-old")
	check("old.example", "w-old")
	put(3, 11*time.Minute, "new.example", "")
	check("new.example", "w-old")
	put(4, 5*time.Minute, "late.example", "w-late")
	check("new.example", "w-old")
	put(5, 2*time.Hour, "", "w-new")
	check("new.example", "w-new")
	put(6, -2*time.Hour, "yesterday.example", "w-late")
	check("new.example", "w-new")
}

// knownGroup: a workload's group may be known later than its events.
func knownGroup(k *kit) {
	for i, group := range []string{"", "g1", ""} {
		for n := range 2 { // in one hour, and in three
			e := connection(uint64(2*i+n), event.KindConnect, "10.0.0.7:443")
			e.Group, e.WorkloadID = group, fmt.Sprint("w", n)
			e.Time = base().Add(time.Duration(i*n) * time.Hour)
			k.ok(k.st.AppendEvents(k.ctx, []event.Event{e}))
		}
	}
	for _, f := range k.flows(store.FlowQuery{}) {
		same(k, "group", f.Group, "g1")
		same(k, "count", f.Count, 3)
	}
	same(k, "asked by group", k.flows(store.FlowQuery{Group: "g1", WorkloadID: "w0"})[0].Count, 3)
}

func resumed(k *kit) {
	at := func(seq uint64, hours int, on bool) event.Event {
		e := connection(seq, event.KindConnect, "10.0.0.7:443", func(c *event.Connection) { c.Resumed = on })
		e.Time = base().Add(time.Duration(hours)*time.Hour + time.Duration(seq)*time.Second)
		return e
	}
	for _, step := range []struct {
		e    event.Event
		want uint64
	}{
		{at(1, 0, true), 1},  // nobody saw it begin
		{at(2, 0, true), 1},  // the same, or counted already
		{at(3, 1, true), 1},  // of the hour before
		{at(4, 1, false), 2}, // another
		{at(5, 4, true), 3},  // of nothing that is near
	} {
		k.ok(k.st.AppendEvents(k.ctx, []event.Event{step.e}))
		same(k, "count", k.oneFlow(store.FlowQuery{}).Count, step.want)
	}
	same(k, "last", k.oneFlow(store.FlowQuery{}).Last, at(5, 4, true).Time)
}

func flowHours(k *kit) {
	var es []event.Event
	for i := range 4 {
		e := connection(uint64(i+1), event.KindConnect, "10.0.0.7:443")
		e.Time = base().Add(time.Duration(i)*time.Hour + 30*time.Minute)
		es = append(es, e)
	}
	k.ok(k.st.AppendEvents(k.ctx, es))
	at := func(minutes int) time.Time { return base().Add(time.Duration(minutes) * time.Minute) }
	for name, c := range map[string]struct {
		since, until time.Time
		want         uint64
	}{
		"all":                        {time.Time{}, time.Time{}, 4},
		"an hour":                    {at(60), at(120), 1},
		"hours that are cut, whole":  {at(59), at(121), 3},
		"since":                      {at(179), time.Time{}, 2},
		"until":                      {time.Time{}, at(60), 1},
		"until a moment of the next": {time.Time{}, at(60).Add(1), 2},
		"before":                     {time.Time{}, at(0), 0},
	} {
		var count uint64
		for _, f := range k.flows(store.FlowQuery{Since: c.since, Until: c.until}) {
			count += f.Count
		}
		same(k, name, count, c.want)
	}
	f := k.oneFlow(store.FlowQuery{})
	same(k, "first and last", []time.Time{f.First, f.Last}, []time.Time{es[0].Time, es[3].Time})
}

func flowFilters(k *kit) {
	in := func(seq uint64, agent, workload, group string) event.Event {
		e := connection(seq, event.KindConnect, "10.0.0.7:443")
		e.AgentID, e.WorkloadID, e.Group = agent, workload, group
		return e
	}
	k.ok(k.st.AppendEvents(k.ctx, []event.Event{
		in(1, agentA, "w1", "g1"), in(2, agentA, "w2", "g1"), in(3, agentA, "w3", "g2"), in(1, agentB, "w3", "g2"),
	}))
	for name, c := range map[string]struct {
		q    store.FlowQuery
		want int
	}{
		"none":               {store.FlowQuery{}, 4},
		"workload":           {store.FlowQuery{WorkloadID: "w1"}, 1},
		"group":              {store.FlowQuery{Group: "g1"}, 2},
		"both":               {store.FlowQuery{Group: "g2", WorkloadID: "w3"}, 2},
		"both that disagree": {store.FlowQuery{Group: "g1", WorkloadID: "w3"}, 0},
		"unknown workload":   {store.FlowQuery{WorkloadID: "none"}, 0},
		"unknown group":      {store.FlowQuery{Group: "none"}, 0},
	} {
		same(k, name, len(k.flows(c.q)), c.want)
	}
}

func busiestFlows(k *kit) {
	var es []event.Event
	for i := range 30 {
		for range 1 + i%7 {
			es = append(es, connection(uint64(len(es)+1), event.KindConnect, fmt.Sprintf("10.0.0.%d:443", i)))
		}
	}
	k.ok(k.st.AppendEvents(k.ctx, es))
	all := k.flows(store.FlowQuery{})
	for i := 1; i < len(all); i++ {
		if all[i].Count > all[i-1].Count {
			k.Errorf("flow %d has %d connections, the one before %d", i, all[i].Count, all[i-1].Count)
		}
	}
	same(k, "all", len(all), 30)
	same(k, "of a limit", k.flows(store.FlowQuery{Limit: 4}), all[:4], sameAddrPort())
	same(k, "of a limit that is too large", len(k.flows(store.FlowQuery{Limit: store.MaxFlows + 1})), 30)
}

// portScan: the lines of a workload and hour are bounded, and nothing is left
// uncounted, neither of many peers nor of many made-up protocols.
func portScan(k *kit) {
	const n = 6_000
	var es []event.Event
	for i := range n {
		e := connection(uint64(i+1), event.KindConnect, fmt.Sprintf("10.0.%d.%d:%d", i/250, i%250, 1+i))
		e.Time = base().Add(time.Duration(i) * time.Millisecond)
		if i%3 == 0 {
			e.Connection.Protocol = fmt.Sprint("p", i)
		}
		es = append(es, e)
	}
	other := connection(n+1, event.KindConnect, "10.0.0.7:443")
	other.WorkloadID = "w2"
	for at := 0; at < n; at += 1_500 {
		k.ok(k.st.AppendEvents(k.ctx, es[at:at+1_500]))
	}
	k.ok(k.st.AppendEvents(k.ctx, []event.Event{other}))
	got := k.flows(store.FlowQuery{WorkloadID: "w1"})
	var sum uint64
	for _, f := range got {
		sum += f.Count
	}
	same(k, "counted", sum, n)
	if len(got) > n/2 || got[0].Address.IsValid() || got[0].Port != 0 {
		k.Errorf("%d lines, the busiest is %+v: not folded", len(got), got[0])
	}
	same(k, "another workload", k.oneFlow(store.FlowQuery{WorkloadID: "w2"}).Address, other.Connection.Remote.Addr(), sameAddrPort())
	known := connection(n+2, event.KindConnect, "10.0.0.1:2") // the second of the scan
	k.ok(k.st.AppendEvents(k.ctx, []event.Event{known}))
	for _, f := range k.flows(store.FlowQuery{WorkloadID: "w1"}) {
		if f.Address == known.Connection.Remote.Addr() && f.Port == 2 {
			same(k, "a line that was there", f.Count, 2)
			return
		}
	}
	k.Error("a line that was there is gone")
}

func hugeFlows(k *kit) {
	for seq := range uint64(20) {
		e := connection(seq, event.KindConnect, "10.0.0.7:443")
		e.Count = math.MaxUint64
		end := connection(100+seq, event.KindClose, "10.0.0.7:443")
		end.Connection.BytesSent, end.Connection.BytesReceived = math.MaxUint64, math.MaxUint64
		e.Boot, end.Boot = fmt.Sprint("a", seq), fmt.Sprint("b", seq)
		e.Time = base().Add(time.Duration(seq) * time.Hour)
		k.ok(k.st.AppendEvents(k.ctx, []event.Event{e, end}))
	}
	f := k.oneFlow(store.FlowQuery{})
	if f.Count < 1<<50 || f.BytesSent < 1<<50 || f.BytesReceived < 1<<50 {
		k.Errorf("sums went around: %+v", f)
	}
	got, err := k.st.EventRate(k.ctx, "", base(), base().Add(24*time.Hour), 24*time.Hour)
	k.ok(err)
	for _, r := range got {
		if r.Kind == event.KindConnect && r.Count < 1<<30 {
			k.Errorf("the rate went around: %+v", r)
		}
	}
}

func flowsByAge(k *kit) {
	old := connection(1, event.KindConnect, "10.0.0.7:443")
	wrong := connection(2, event.KindConnect, "10.0.0.8:443") // its agent's clock is far behind
	wrong.Time, wrong.Received = base().AddDate(-30, 0, 0), base().Add(5*time.Hour)
	k.ok(k.st.AppendEvents(k.ctx, []event.Event{old, wrong}))
	retention := store.Retention{Events: 2 * time.Hour}
	_, err := k.st.Prune(k.ctx, retention, base().Add(4*time.Hour))
	k.ok(err)
	f := k.oneFlow(store.FlowQuery{})
	same(k, "left", f.Address, wrong.Connection.Remote.Addr(), sameAddrPort())
	// What was removed begins anew.
	again := connection(3, event.KindConnect, "10.0.0.7:443")
	again.Received = base().Add(5 * time.Hour)
	k.ok(k.st.AppendEvents(k.ctx, []event.Event{again}))
	same(k, "after it came again", len(k.flows(store.FlowQuery{})), 2)
	_, err = k.st.Prune(k.ctx, retention, base().AddDate(1, 0, 0))
	k.ok(err)
	same(k, "at the end", len(k.flows(store.FlowQuery{})), 0)
	_, err = k.st.Event(k.ctx, again.ID)
	k.wantFault(err, fault.NotFound)
}
