package storetest

import (
	"net/netip"
	"reflect"
	"strings"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/store"
)

func sameAddrPort() cmp.Option { return cmpopts.EquateComparable(netip.AddrPort{}, netip.Addr{}) }

// objectCases are about events of the other kinds than processes.
func objectCases() []testCase {
	cases := []testCase{
		{"every field of every payload comes back", everyPayload},
		{"empty payloads come back", emptyPayloads},
		{"addresses of every form come back", everyAddress},
		{"what follows live agrees", matchesAgree},
		{"hostile paths and peers", hostileObjects},
	}
	for _, c := range objectQuestions() {
		cases = append(cases, testCase{c.name, func(k *kit) {
			k.ok(k.st.AppendEvents(k.ctx, objectScene()))
			page, err := k.st.Events(k.ctx, c.q)
			k.ok(err)
			same(k, "events", seqs(page.Events), c.want)
			same(k, "partial", page.Partial, false)
		}})
	}
	return cases
}

// payloads are the fields of an event that its kind decides.
func payloads(e *event.Event) map[string]reflect.Value {
	found := map[string]reflect.Value{}
	v := reflect.ValueOf(e).Elem()
	for i := range v.NumField() {
		// One without a form in JSON is not of hosts, and not kept.
		if f := v.Field(i); f.Kind() == reflect.Pointer && v.Type().Field(i).Tag.Get("json") != "-" {
			found[v.Type().Field(i).Name] = f
		}
	}
	return found
}

// everyPayload stores an event with everything, and one with each payload
// alone.
func everyPayload(k *kit) {
	es := []event.Event{filled[event.Event](k)}
	for name := range payloads(&es[0]) {
		e := filled[event.Event](k)
		for other, f := range payloads(&e) {
			if other != name {
				f.SetZero()
			}
		}
		if name != "Memory" { // some with and some without a count
			e.Count = 0
		}
		es = append(es, e)
	}
	k.comeBack(es)
}

func emptyPayloads(k *kit) {
	var es []event.Event
	for name := range payloads(&event.Event{}) {
		e := exec(1, func(e *event.Event) { e.Exec = nil })
		f := payloads(&e)[name]
		f.Set(reflect.New(f.Type().Elem()))
		es = append(es, e)
	}
	k.comeBack(es)
}

func everyAddress(k *kit) {
	var es []event.Event
	for _, a := range []string{"", "10.1.2.3", "2001:db8::1", "::ffff:10.1.2.3", "fe80::1%eth0", "::", "0.0.0.0"} {
		e := connection(1, event.KindConnect, "1.2.3.4:5")
		e.Connection.Local, e.Connection.Remote = netip.AddrPort{}, netip.AddrPort{}
		if a != "" {
			address := netip.MustParseAddr(a)
			e.Connection.Local, e.Connection.Remote = netip.AddrPortFrom(address, 0), netip.AddrPortFrom(address, 65_535)
		}
		es = append(es, e)
	}
	k.comeBack(es)
}

// comeBack stores events under sequence numbers of their own and reads them.
func (k *kit) comeBack(es []event.Event) {
	k.Helper()
	for i := range es {
		es[i].Seq = uint64(i + 1)
	}
	k.ok(k.st.AppendEvents(k.ctx, es))
	for i := range es {
		got, err := k.st.Event(k.ctx, es[i].ID)
		k.ok(err)
		same(k, "event", got, es[i], sameAddrPort())
	}
}

// file, connection and so on make the seq-th event of agentA.
func file(seq uint64, kind event.Kind, path, to string) event.Event {
	return exec(seq, func(e *event.Event) {
		e.Kind, e.Exec, e.File = kind, nil, &event.File{Path: path, To: to, Flags: []string{"write"}}
	})
}

func connection(seq uint64, kind event.Kind, remote string, change ...func(*event.Connection)) event.Event {
	return exec(seq, func(e *event.Event) {
		e.Kind, e.Exec = kind, nil
		e.Connection = &event.Connection{
			Protocol: "tcp", Local: netip.MustParseAddrPort("172.17.0.2:40000"), Remote: netip.MustParseAddrPort(remote),
		}
		for _, c := range change {
			c(e.Connection)
		}
	})
}

func named(name string) func(*event.Connection) {
	return func(c *event.Connection) { c.Name = name }
}

func toward(workload, group string) func(*event.Connection) {
	return func(c *event.Connection) {
		c.Peer = event.Peer{Kind: event.PeerWorkload, WorkloadID: workload, Group: group}
	}
}

// objectScene is one event a line, as scene.
func objectScene() []event.Event {
	of := func(seq uint64, kind event.Kind, change func(*event.Event)) event.Event {
		return exec(seq, func(e *event.Event) { e.Kind, e.Exec = kind, nil }, change)
	}
	return []event.Event{
		file(1, event.KindFileWrite, "/etc/shadow", ""),
		file(2, event.KindFileRename, "/tmp/.x/Stage1", "/usr/local/bin/updated"),
		file(3, event.KindFileCreate, "/etc/shadow.lock", ""),
		connection(4, event.KindConnect, "203.0.113.9:443", named("pool.evil.example")),
		connection(5, event.KindConnect, "203.0.113.9:80"),
		connection(6, event.KindAccept, "10.0.0.7:51000", toward("w9", "prod/shop/api")),
		connection(7, event.KindConnect, "[2001:db8::7]:443"),
		of(8, event.KindQuery, func(e *event.Event) { e.DNS = &event.DNS{Name: "pool.evil.example", Type: "A"} }),
		of(9, event.KindMount, func(e *event.Event) {
			e.Privilege = &event.Privilege{Call: "mount", Source: "/dev/sda1", Target: "/mnt/host"}
		}),
		of(10, event.KindModule, func(e *event.Event) { e.Privilege = &event.Privilege{Call: "init_module", Target: "nf_evil"} }),
		of(11, event.KindExecMap, func(e *event.Event) { e.Memory = &event.Memory{Call: "mmap", Path: "/tmp/.x/lib.so"} }),
		of(12, event.KindOOM, func(e *event.Event) { e.Resource = &event.Resource{What: "memory", Used: 7} }),
		exec(13, func(e *event.Event) { e.Exec.Args = []string{"cat", "/etc/shadow", "203.0.113.9"} }),
		connection(14, event.KindConnect, "[::ffff:203.0.113.9]:443"),
		file(15, event.KindFileRead, "/data/a*", ""),
	}
}

func objectQuestions() []question {
	return []question{
		{"path", store.EventQuery{Path: "/etc/shadow"}, []uint64{1}},
		{"beginning of a path", store.EventQuery{Path: "/etc/shadow*"}, []uint64{3, 1}},
		{"beginning inside a folder", store.EventQuery{Path: "/tmp/.x/*"}, []uint64{11, 2}},
		{"beginning of all paths", store.EventQuery{Path: "/*"}, []uint64{15, 11, 9, 3, 2, 1}},
		{"any path is no filter", store.EventQuery{Path: "*", Limit: 2}, []uint64{15, 14}},
		{"beginning of a deep path", store.EventQuery{Path: "/usr/local/bin/up*"}, []uint64{2}},
		{"a folder", store.EventQuery{Path: "/etc/*"}, []uint64{3, 1}},
		{"new name", store.EventQuery{Path: "/usr/local/bin/updated"}, []uint64{2}},
		{"the case of a path matters", store.EventQuery{Path: "/tmp/.x/stage1"}, nil},
		{"the case of its beginning too", store.EventQuery{Path: "/TMP/*"}, nil},
		{"target of a mount", store.EventQuery{Path: "/mnt/host"}, []uint64{9}},
		{"a module is no path", store.EventQuery{Path: "nf_evil"}, nil},
		{"mapped file", store.EventQuery{Path: "/tmp/.x/lib.so"}, []uint64{11}},
		{"a star elsewhere in a path is a star", store.EventQuery{Path: "/*/shadow"}, nil},
		{"a path that is longer", store.EventQuery{Path: "/etc/shado"}, nil},
		{"unknown path", store.EventQuery{Path: "/none"}, nil},
		{"path and kind", store.EventQuery{Path: "/etc/*", Kinds: []event.Kind{event.KindFileCreate}}, []uint64{3}},
		{"path and text", store.EventQuery{Path: "/etc/*", Text: "lock"}, []uint64{3}},
		{"path and workload", store.EventQuery{Path: "/etc/shadow", WorkloadID: "w2"}, nil},
		{"address", store.EventQuery{Peer: "203.0.113.9"}, []uint64{14, 5, 4}},
		{"address and port", store.EventQuery{Peer: "203.0.113.9:443"}, []uint64{14, 4}},
		{"address in IPv6 form", store.EventQuery{Peer: "::ffff:203.0.113.9"}, []uint64{14, 5, 4}},
		{"address and other port", store.EventQuery{Peer: "203.0.113.9:22"}, nil},
		{"address written otherwise", store.EventQuery{Peer: "2001:0db8:0::0007"}, []uint64{7}},
		{"IPv6 address and port", store.EventQuery{Peer: "[2001:db8::7]:443"}, []uint64{7}},
		{"beginning of an address", store.EventQuery{Peer: "203.0.113"}, nil},
		{"name", store.EventQuery{Peer: "pool.evil.example"}, []uint64{8, 4}},
		{"end of a name", store.EventQuery{Peer: "evil.example"}, nil},
		{"peer's workload", store.EventQuery{Peer: "w9"}, []uint64{6}},
		{"peer's group", store.EventQuery{Peer: "prod/shop/api"}, []uint64{6}},
		{"the own workload is no peer", store.EventQuery{Peer: "w1"}, nil},
		{"peer and path", store.EventQuery{Peer: "203.0.113.9", Path: "/etc/shadow"}, nil},
		{"peer and time", store.EventQuery{Peer: "203.0.113.9", Until: exec(5).Time}, []uint64{4}},
		{"text of a path", store.EventQuery{Text: "shadow"}, []uint64{13, 3, 1}},
		{"text of a new name", store.EventQuery{Text: "bin/updated"}, []uint64{2}},
		{"text of a name", store.EventQuery{Text: "evil.example"}, []uint64{8, 4}},
		{"text of an address", store.EventQuery{Text: "203.0.113.9"}, []uint64{14, 13, 5, 4}},
		{"text of an address and port", store.EventQuery{Text: "203.0.113.9:443"}, []uint64{14, 4}},
		{"text of a peer", store.EventQuery{Text: "w9"}, []uint64{6}},
		{"text of a target", store.EventQuery{Text: "nf_ev"}, []uint64{10}},
		{"text of a mapped file", store.EventQuery{Text: "LIB.so"}, []uint64{11}},
		{"text over several", store.EventQuery{Text: "stage1 updated"}, []uint64{2}},
	}
}

// matchesAgree: what follows live decides with the functions of store.
func matchesAgree(k *kit) {
	es := objectScene()
	for _, c := range objectQuestions() {
		if c.q.Limit != 0 {
			continue
		}
		var got []uint64
		for i := len(es) - 1; i >= 0; i-- {
			e := &es[i]
			if store.MatchesPath(e, c.q.Path) && store.MatchesPeer(e, c.q.Peer) && store.Matches(e, strings.Fields(c.q.Text)) &&
				(c.q.WorkloadID == "" || c.q.WorkloadID == e.WorkloadID) && (c.q.Kinds == nil || c.q.Kinds[0] == e.Kind) &&
				(c.q.Until.IsZero() || e.Time.Before(c.q.Until)) {
				got = append(got, e.Seq)
			}
		}
		same(k, c.name, got, c.want)
	}
}

func hostileObjects(k *kit) {
	texts := []string{
		`'; DROP TABLE events; --`, `%`, `_`, `\`, "*x", "\x1f", "a\x1fb", "ÄÖ\u202e", strings.Repeat("x", 4_000), "a\tb\nc", "1.2.3.4x",
	}
	var es []event.Event
	for i, text := range texts {
		es = append(es, file(uint64(2*i+1), event.KindFileRename, text, "/to"+text),
			connection(uint64(2*i+2), event.KindConnect, "192.0.2.1:1", named(text), toward(text+"w", text+"g")))
	}
	k.ok(k.st.AppendEvents(k.ctx, es))
	for i, text := range texts {
		for what, c := range map[string]struct {
			q    store.EventQuery
			want event.Event
		}{
			"path": {store.EventQuery{Path: text}, es[2*i]}, "new name": {store.EventQuery{Path: "/to" + text}, es[2*i]},
			"name": {store.EventQuery{Peer: text}, es[2*i+1]}, "workload": {store.EventQuery{Peer: text + "w"}, es[2*i+1]},
			"group": {store.EventQuery{Peer: text + "g"}, es[2*i+1]},
		} {
			page, err := k.st.Events(k.ctx, c.q)
			k.ok(err)
			same(k, what+" "+text, page.Events, []event.Event{c.want}, sameAddrPort())
		}
	}
}
