package storetest

import (
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/store"
)

const (
	agentA = "agent-a"
	agentB = "agent-b"
	bootA  = "boot-a"
)

// exec makes the seq-th event of agentA, an exec one second after the one before.
func exec(seq uint64, change ...func(*event.Event)) event.Event {
	at := base().Add(time.Duration(seq) * time.Second)
	e := event.Event{
		Version: event.Version, AgentID: agentA, Boot: bootA, Seq: seq,
		Time: at, Received: at.Add(time.Second), Kind: event.KindExec,
		WorkloadID: "w1", Group: "prod/shop/web",
		Process: event.Process{
			Key: event.Key{PID: uint32(1_000 + seq), Start: 5_000 + seq}, ContainerPID: 7,
			Parent: event.Key{PID: 1, Start: 1}, Name: "sh", Executable: "/bin/sh", UID: 1, EUID: 2, GID: 3,
		},
		Exec: &event.Exec{Args: []string{"sh"}, Origin: event.OriginImage},
	}
	for _, c := range change {
		c(&e)
	}
	return e
}

// execs makes n events from seq 1 on.
func execs(n int, change ...func(*event.Event)) []event.Event {
	es := make([]event.Event, n)
	for i := range es {
		es[i] = exec(uint64(i+1), change...)
	}
	return es
}

// fullEvent has every field of every payload set, none to the same value.
func fullEvent() event.Event {
	e := exec(1)
	e.Exec = &event.Exec{
		Requested: "/entry.sh", Args: []string{"/bin/sh", "", "-c", "echo \"ä\" %_\\ 'x'"}, ArgsTruncated: true,
		Cwd: "/srv", PathTruncated: true, Origin: event.OriginWritten, Deleted: true,
		Inode: 1 << 60, Device: 1<<32 - 1, SetUID: true, SetGID: true, Capabilities: 1<<40 | 3, Entered: true,
		Ancestors: []event.Ancestor{
			{Key: event.Key{PID: 9, Start: 1 << 63}, Name: "runc", Executable: "/usr/bin/runc"},
			{Key: event.Key{PID: 1, Start: 2}, Name: "init"},
		},
		Environment: []string{"LD_PRELOAD=/tmp/ä.so", "HISTFILE=/dev/null"}, EnvironmentTruncated: true,
		Stdio: []event.Stream{{Kind: event.StreamTCP, Remote: netip.MustParseAddrPort("[2001:db8::1]:4444"), Inode: 1 << 40},
			{Kind: event.StreamPipe, Inode: 7}, {Kind: event.StreamNull}},
	}
	return e
}

func eventCases() []testCase {
	return []testCase{
		{"every field comes back", everyField},
		{"order and ids", func(k *kit) {
			es := execs(5)
			k.ok(k.st.AppendEvents(k.ctx, es))
			for i := 1; i < len(es); i++ {
				if es[i-1].ID <= 0 || es[i].ID <= es[i-1].ID {
					k.Errorf("ids are not positive and increasing: %d, %d", es[i-1].ID, es[i].ID)
				}
			}
		}},
		{"nothing is nothing", func(k *kit) { k.ok(k.st.AppendEvents(k.ctx, nil)) }},
		{"stored once", storedOnce},
		{"the rest of a report that was stored in part", func(k *kit) {
			k.ok(k.st.AppendEvents(k.ctx, execs(3)))
			again := execs(5)
			k.ok(k.st.AppendEvents(k.ctx, again))
			for i, e := range again {
				if got, want := e.ID == 0, i < 3; got != want {
					k.Errorf("event %d: skipped is %v, want %v", i, got, want)
				}
			}
			same(k, "stored", len(k.all().Events), 5)
		}},
		{"a gap is a loss, not an error", func(k *kit) {
			k.ok(k.st.AppendEvents(k.ctx, []event.Event{exec(1), exec(9)}))
			same(k, "stored", len(k.all().Events), 2)
		}},
		{"the first sequence number may be 0", func(k *kit) {
			k.ok(k.st.AppendEvents(k.ctx, []event.Event{exec(0), exec(1)}))
			same(k, "stored", len(k.all().Events), 2)
		}},
		{"another boot counts by itself", func(k *kit) {
			k.ok(k.st.AppendEvents(k.ctx, execs(2)))
			k.ok(k.st.AppendEvents(k.ctx, execs(2, func(e *event.Event) { e.Boot = "boot-b" })))
			k.ok(k.st.AppendEvents(k.ctx, execs(2, func(e *event.Event) { e.AgentID = agentB })))
			same(k, "stored", len(k.all().Events), 6)
		}},
		{"all or nothing", func(k *kit) {
			es := execs(3)
			es[2].AgentID = ""
			k.wantFault(k.st.AppendEvents(k.ctx, es), fault.Invalid)
			same(k, "stored", len(k.all().Events), 0)
			k.ok(k.st.AppendEvents(k.ctx, execs(3)))
			same(k, "stored after the repair", len(k.all().Events), 3)
		}},
		{"no such event", func(k *kit) {
			_, err := k.st.Event(k.ctx, 12345)
			k.wantFault(err, fault.NotFound)
		}},
		{"many writers", manyWriters},
		{"hostile text", hostileText},
	}
}

func (k *kit) all() store.EventPage {
	k.Helper()
	page, err := k.st.Events(k.ctx, store.EventQuery{Limit: store.MaxPage})
	k.ok(err)
	return page
}

func everyField(k *kit) {
	exit := exec(2, func(e *event.Event) {
		e.Kind, e.Exec = event.KindExit, nil
		e.Exit = &event.Exit{Code: 137, Signal: 9, CoreDumped: true, Lifetime: 3 * time.Second}
	})
	fork := exec(3, func(e *event.Event) {
		e.Kind, e.Exec, e.WorkloadID, e.Group = event.KindFork, nil, "", ""
		e.Process.Executable = ""
	})
	want := []event.Event{fullEvent(), exit, fork}
	stored := []event.Event{fullEvent(), exit, fork}
	k.ok(k.st.AppendEvents(k.ctx, stored))
	for i := range want {
		want[i].ID = stored[i].ID
		got, err := k.st.Event(k.ctx, want[i].ID)
		k.ok(err)
		same(k, fmt.Sprintf("event %d", i), got, want[i], sameAddrPort())
	}
	page := k.all()
	same(k, "page", page.Events, []event.Event{want[2], want[1], want[0]}, sameAddrPort())
}

func storedOnce(k *kit) {
	k.ok(k.st.AppendEvents(k.ctx, execs(4)))
	again := execs(4)
	k.ok(k.st.AppendEvents(k.ctx, again))
	for i, e := range again {
		if e.ID != 0 {
			k.Errorf("event %d has id %d the second time, want 0", i, e.ID)
		}
	}
	same(k, "stored", len(k.all().Events), 4)
}

// manyWriters: batches of many agents at once are all there, each in order.
func manyWriters(k *kit) {
	const agents, batches, size = 8, 5, 20
	var wg sync.WaitGroup
	errs := make([]error, agents)
	for a := range agents {
		wg.Go(func() {
			for b := range batches {
				es := make([]event.Event, size)
				for i := range es {
					es[i] = exec(uint64(b*size+i+1), func(e *event.Event) { e.AgentID = fmt.Sprintf("agent-%d", a) })
				}
				if err := k.st.AppendEvents(k.ctx, es); err != nil {
					errs[a] = err
					return
				}
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		k.ok(err)
	}
	for a := range agents {
		page, err := k.st.Events(k.ctx, store.EventQuery{AgentID: fmt.Sprintf("agent-%d", a), Limit: store.MaxPage})
		k.ok(err)
		same(k, "events of an agent", len(page.Events), batches*size)
		for i, e := range page.Events {
			same(k, "order", e.Seq, uint64(batches*size-i))
		}
	}
}

// hostileText: what a program calls itself neither breaks a statement nor
// changes what a filter means.
func hostileText(k *kit) {
	texts := []string{
		`'; DROP TABLE events; --`, `%`, `_`, `\`, `*`, "\x1f", "ÄÖ\u202e", strings.Repeat("x", 5_000), "a\tb\nc",
	}
	var es []event.Event
	for i, text := range texts {
		es = append(es, exec(uint64(i+1), func(e *event.Event) {
			e.Process.Name, e.Process.Executable, e.WorkloadID, e.Group = text, "/"+text, text, text
			e.Exec.Args = []string{text, text}
		}))
	}
	k.ok(k.st.AppendEvents(k.ctx, es))
	for i, text := range texts {
		for what, q := range map[string]store.EventQuery{
			"workload": {WorkloadID: text}, "group": {Group: text}, "executable": {Executable: "/" + text},
		} {
			if what == "executable" && text == "*" {
				continue // means any path
			}
			page, err := k.st.Events(k.ctx, q)
			k.ok(err)
			same(k, what, page.Events, []event.Event{es[i]})
		}
	}
}
