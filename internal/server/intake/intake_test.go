package intake_test

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/adapter/db"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/server/intake"
	"github.com/castellan-security/castellan/internal/server/live"
	"github.com/castellan-security/castellan/internal/store"
)

const (
	agentA = "AGENTAAAAAAAA"
	agentB = "AGENTBBBBBBBB"
)

var (
	start = time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	shop  = strings.Repeat("a1", 32)
	other = strings.Repeat("b2", 32)
)

// failing is a store whose AppendEvents fails while err is set.
type failing struct {
	store.Store
	mu  sync.Mutex
	err error
}

func (f *failing) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
}

func (f *failing) AppendEvents(ctx context.Context, events []event.Event) error {
	f.mu.Lock()
	err := f.err
	f.mu.Unlock()
	if err != nil {
		return err
	}
	return f.Store.AppendEvents(ctx, events)
}

type fixture struct {
	*intake.Intake
	st         *failing
	tables     *live.Tables
	feed       *live.Feed
	conditions *live.Conditions
	now        time.Time
	seq        map[string]uint64
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	st, err := db.Open(t.Context(), db.Options{Path: filepath.Join(t.TempDir(), "a.db"), ProcessCrashOnly: true}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	f := &fixture{st: &failing{Store: st}, feed: live.NewFeed(), now: start, seq: map[string]uint64{}}
	clock := func() time.Time { return f.now }
	f.tables, f.conditions = live.NewTables(clock), live.NewConditions(clock)
	f.Intake = intake.New(f.st, f.tables, f.feed, f.conditions, clock, slog.New(slog.DiscardHandler))
	return f
}

func describe(id string) asset.Agent {
	return asset.Agent{ID: id, Boot: "BOOTBOOT", Hostname: "host", Version: "1"}
}

func workload(id string) asset.Workload {
	return asset.Workload{
		ID: id, Name: "web", State: asset.Running, Created: start,
		ECS: asset.ECS{Cluster: "shop", Service: "web", Container: "web"},
	}
}

func (f *fixture) exec(agent, workload string, pid uint32, args ...string) event.Event {
	f.seq[agent]++
	return event.Event{
		Seq: f.seq[agent], Time: f.now.Add(-time.Second), Kind: event.KindExec, WorkloadID: workload,
		Process: event.Process{Key: event.Key{PID: pid, Start: uint64(pid)}, Name: "x", Executable: "/x"},
		Exec:    &event.Exec{Args: args},
	}
}

func (f *fixture) report(t *testing.T, r link.Report) link.Receipt {
	t.Helper()
	receipt, err := f.Report(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	return receipt
}

func (f *fixture) stored(t *testing.T) []event.Event {
	t.Helper()
	page, err := f.st.Events(t.Context(), store.EventQuery{Limit: store.MaxPage})
	if err != nil {
		t.Fatal(err)
	}
	slices.Reverse(page.Events)
	return page.Events
}

func TestReportIsCompletedStoredAndShown(t *testing.T) {
	f := newFixture(t)
	sub, err := f.feed.Subscribe(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	f.report(t, link.Report{
		Agent: describe(agentA), Workloads: []asset.Workload{workload(shop)},
		Events: []event.Event{f.exec(agentA, shop, 7, "sh", "-c", "id"), f.exec(agentA, "", 8, "cron")},
	})
	got := f.stored(t)
	if len(got) != 2 {
		t.Fatalf("got %d events, want 2", len(got))
	}
	e := got[0]
	if e.AgentID != agentA || e.Boot != "BOOTBOOT" || e.Group != "shop/web/web" || !e.Received.Equal(start) {
		t.Errorf("got %+v, want agent, boot, group and the server's time", e)
	}
	if live := <-sub.C(); len(live) != 2 || live[0].ID != e.ID {
		t.Errorf("live: got %v, want the stored events", live)
	}
	if procs, _ := f.tables.Tree(shop); len(procs) != 1 || procs[0].Args[2] != "id" {
		t.Errorf("tree: got %v", procs)
	}
	a, err := f.st.Agent(t.Context(), agentA)
	if err != nil || !a.Seen.Equal(start) {
		t.Errorf("agent: got %v, %v, want it seen now", a.Seen, err)
	}
}

func TestTheSameReportTwiceIsShownOnce(t *testing.T) {
	f := newFixture(t)
	r := link.Report{Agent: describe(agentA), Workloads: []asset.Workload{workload(shop)}, Events: []event.Event{f.exec(agentA, shop, 7, "sh")}}
	f.report(t, r)
	sub, err := f.feed.Subscribe(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	f.report(t, r)
	if n := len(f.stored(t)); n != 1 {
		t.Errorf("got %d stored, want 1", n)
	}
	if len(sub.C()) != 0 {
		t.Error("an event was shown a second time")
	}
}

func TestSnapshotIsAskedForUntilItCame(t *testing.T) {
	f := newFixture(t)
	r := link.Report{Agent: describe(agentA)}
	if !f.report(t, r).WantSnapshot {
		t.Error("new agent: want a snapshot asked for")
	}
	r.Snapshot, r.Complete = true, true
	if f.report(t, r).WantSnapshot {
		t.Error("after the snapshot: want none asked for")
	}
	r = link.Report{Agent: describe(agentA)}
	r.Agent.Losses = []asset.Loss{{Where: "kernel ring", Count: 5}}
	if f.now = f.now.Add(2 * time.Minute); !f.report(t, r).WantSnapshot {
		t.Error("after a loss: want a snapshot asked for")
	}
	if f.report(t, r).WantSnapshot {
		t.Error("the same loss: want none asked for again")
	}
	r.Agent.Losses[0].Count = 6
	if f.report(t, r).WantSnapshot {
		t.Error("more loss within a minute: want it to wait")
	}
	if f.now = f.now.Add(2 * time.Minute); !f.report(t, r).WantSnapshot {
		t.Error("more loss, a minute later: want a snapshot asked for")
	}
	r.Agent.Boot = "BOOTBOOT2"
	if !f.report(t, r).WantSnapshot {
		t.Error("agent started anew: want a snapshot asked for")
	}
}

func TestReportsThatAreRefused(t *testing.T) {
	f := newFixture(t)
	for name, r := range map[string]link.Report{
		"no agent":           {},
		"a path as id":       {Agent: asset.Agent{ID: "../../../etc", Boot: "BOOTBOOT"}},
		"a long id":          {Agent: asset.Agent{ID: strings.Repeat("A", 65), Boot: "BOOTBOOT"}},
		"no boot":            {Agent: asset.Agent{ID: agentA}},
		"too many events":    {Agent: describe(agentA), Events: make([]event.Event, link.MaxEvents+1)},
		"too many workloads": {Agent: describe(agentA), Workloads: make([]asset.Workload, link.MaxWorkloads+1)},
		"too many processes": {Agent: describe(agentA), Processes: make([]event.Running, link.MaxProcesses+1)},
	} {
		if _, err := f.Report(t.Context(), r); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: got %v, want invalid", name, err)
		}
	}
	if len(f.conditions.List()) != 0 {
		t.Errorf("got conditions %v: a bad agent is no trouble of the server", f.conditions.List())
	}
}

func TestSenselessEventsAreLeftOutAndCounted(t *testing.T) {
	f := newFixture(t)
	bad := map[string]func(*event.Event){
		"unknown kind":           func(e *event.Event) { e.Kind = "file.open" },
		"exec without payload":   func(e *event.Event) { e.Exec = nil },
		"exit without payload":   func(e *event.Event) { e.Kind = event.KindExit },
		"workload that is none":  func(e *event.Event) { e.WorkloadID = "' OR 1=1 --" },
		"upper-case workload id": func(e *event.Event) { e.WorkloadID = strings.ToUpper(shop) },
		"no process":             func(e *event.Event) { e.Process.Key = event.Key{} },
		"out of order":           func(e *event.Event) { e.Seq = 0 },
	}
	for _, change := range bad {
		e := f.exec(agentA, "", 7, "bad")
		change(&e)
		f.report(t, link.Report{Agent: describe(agentA), Events: []event.Event{e, f.exec(agentA, "", 8, "good")}})
	}
	for _, e := range f.stored(t) {
		if e.Exec == nil || e.Exec.Args[0] != "good" {
			t.Errorf("stored %+v", e)
		}
	}
	if diff := cmp.Diff([]asset.Loss{{Where: intake.LostForm, Count: uint64(len(bad))}}, f.conditions.Losses()); diff != "" {
		t.Errorf("losses (-want +got):\n%s", diff)
	}
}

func TestHostileTextIsBounded(t *testing.T) {
	f := newFixture(t)
	shared := []string{"sh", "\xff\x00\xfe", strings.Repeat("é", 100_000)}
	e := f.exec(agentA, shop, 7, shared...)
	e.Process.Name = strings.Repeat("n", 1000)
	e.Process.Executable = "/" + strings.Repeat("p/", 10_000)
	e.Exec.Origin = "mars"
	e.Exec.Ancestors = make([]event.Ancestor, 50)
	e.Time = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)
	w := workload(shop)
	w.Name = strings.Repeat("\x1b[2J\x00", 10_000)
	w.Settings.CapAdd = make([]string, 100_000)
	a := describe(agentA)
	a.Hostname = strings.Repeat("<script>", 10_000)
	a.Sensors = make([]asset.Sensor, 10_000)
	f.report(t, link.Report{Agent: a, Workloads: []asset.Workload{w}, Events: []event.Event{e}})

	got := f.stored(t)[0]
	size := 0
	for _, s := range got.Exec.Args {
		size += len(s)
	}
	if size > 64<<10 || !got.Exec.ArgsTruncated || got.Exec.Args[1] != "\ufffd\ufffd\ufffd" {
		t.Errorf("args: got %d bytes, truncated %v, second %q", size, got.Exec.ArgsTruncated, got.Exec.Args[1])
	}
	if len(got.Process.Name) > 64 || len(got.Process.Executable) > 4096 || len(got.Exec.Ancestors) > event.MaxAncestors {
		t.Errorf("got name of %d, path of %d, %d ancestors", len(got.Process.Name), len(got.Process.Executable), len(got.Exec.Ancestors))
	}
	if got.Exec.Origin != event.OriginUnknown || !got.Time.Equal(start) {
		t.Errorf("got origin %q and time %s, want unknown and the server's", got.Exec.Origin, got.Time)
	}
	if shared[1] != "\xff\x00\xfe" || len(a.Sensors) != 10_000 || e.Exec.Origin != "mars" {
		t.Error("what the agent holds was changed")
	}
	sw, err := f.st.Workload(t.Context(), shop)
	if err != nil || len(sw.Name) > 4096 || strings.ContainsRune(sw.Name, 0) || len(sw.Settings.CapAdd) > 512 {
		t.Errorf("workload: %v, name of %d bytes, %d capabilities", err, len(sw.Name), len(sw.Settings.CapAdd))
	}
	sa, err := f.st.Agent(t.Context(), agentA)
	if err != nil || len(sa.Hostname) > 4096 || len(sa.Sensors) > 512 {
		t.Errorf("agent: %v, host name of %d bytes, %d sensors", err, len(sa.Hostname), len(sa.Sensors))
	}
}

func TestNobodySpeaksForAnothersWorkloads(t *testing.T) {
	f := newFixture(t)
	f.report(t, link.Report{Agent: describe(agentA), Workloads: []asset.Workload{workload(shop)}})
	forged := workload(shop)
	forged.Name = "forged"
	attack := link.Report{
		Agent: describe(agentB), Workloads: []asset.Workload{forged}, Events: []event.Event{f.exec(agentB, shop, 7, "forged")},
		Processes: []event.Running{{WorkloadID: shop, Process: event.Process{Key: event.Key{PID: 1, Start: 1}}}}, Snapshot: true,
	}
	f.report(t, attack)
	if w, err := f.st.Workload(t.Context(), shop); err != nil || w.Name != "web" || w.AgentID != agentA {
		t.Errorf("workload: got %q of %s, %v, want the owner's", w.Name, w.AgentID, err)
	}
	if got := f.stored(t); len(got) != 0 {
		t.Errorf("stored %d forged events", len(got))
	}
	if procs, _ := f.tables.Tree(shop); len(procs) != 0 {
		t.Errorf("tree: got forged %v", procs)
	}
	if diff := cmp.Diff([]asset.Loss{{Where: intake.LostOwner, Count: 2}}, f.conditions.Losses()); diff != "" {
		t.Errorf("losses (-want +got):\n%s", diff)
	}
	// The owner came back under a new id: the old one is silent.
	f.now = f.now.Add(2 * time.Minute)
	f.report(t, attack)
	if w, err := f.st.Workload(t.Context(), shop); err != nil || w.AgentID != agentB {
		t.Errorf("after a minute of silence: got %s, %v, want the new agent's", w.AgentID, err)
	}
}

func TestOwnershipSurvivesARestartOfTheServer(t *testing.T) {
	f := newFixture(t)
	f.report(t, link.Report{Agent: describe(agentA), Workloads: []asset.Workload{workload(shop)}})
	again := intake.New(f.st, f.tables, f.feed, f.conditions, func() time.Time { return f.now }, slog.New(slog.DiscardHandler))
	if _, err := again.Report(t.Context(), link.Report{Agent: describe(agentB), Events: []event.Event{f.exec(agentB, shop, 7, "forged")}}); err != nil {
		t.Fatal(err)
	}
	if _, err := again.Report(t.Context(), link.Report{Agent: describe(agentA), Events: []event.Event{f.exec(agentA, shop, 7, "real")}}); err != nil {
		t.Fatal(err)
	}
	got := f.stored(t)
	if len(got) != 1 || got[0].Exec.Args[0] != "real" || got[0].Group != "shop/web/web" {
		t.Errorf("got %v, want the owner's event with its group", got)
	}
}

func TestCompleteReportMarksTheRestAsLost(t *testing.T) {
	f := newFixture(t)
	f.report(t, link.Report{Agent: describe(agentA), Workloads: []asset.Workload{workload(shop), workload(other)}})
	f.report(t, link.Report{Agent: describe(agentA), Workloads: []asset.Workload{workload(shop)}})
	state := func(id string) asset.State {
		w, err := f.st.Workload(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		return w.State
	}
	if got := state(other); got != asset.Running {
		t.Errorf("after a report of changes: got %s, want running", got)
	}
	f.report(t, link.Report{Agent: describe(agentA), Workloads: []asset.Workload{workload(shop)}, Complete: true})
	if a, b := state(shop), state(other); a != asset.Running || b != asset.Lost {
		t.Errorf("after a complete report: got %s and %s, want running and lost", a, b)
	}
}

func TestFullDiskIsSaidAndForgotten(t *testing.T) {
	f := newFixture(t)
	r := link.Report{Agent: describe(agentA), Events: []event.Event{f.exec(agentA, "", 7, "sh")}}
	f.st.fail(fault.New(fault.Exhausted, "disk full").With("free some"))
	if _, err := f.Report(t.Context(), r); !fault.Is(err, fault.Exhausted) {
		t.Fatalf("got %v, want exhausted, so that the agent tries again", err)
	}
	want := []live.Condition{{Name: intake.PartStore, What: "store events: disk full", Since: start, Remedy: "free some"}}
	if diff := cmp.Diff(want, f.conditions.List()); diff != "" {
		t.Errorf("conditions (-want +got):\n%s", diff)
	}
	f.st.fail(nil)
	f.report(t, r)
	if len(f.conditions.List()) != 0 || len(f.stored(t)) != 1 {
		t.Errorf("got %v and %d events, want all well and the event stored once", f.conditions.List(), len(f.stored(t)))
	}
}

func TestManyAgentsAtOnce(t *testing.T) {
	f := newFixture(t)
	var wg sync.WaitGroup
	for i := range 8 {
		id := fmt.Sprintf("AGENT-%08d", i)
		wg.Go(func() {
			for n := range 20 {
				r := link.Report{Agent: describe(id), Snapshot: n == 0, Events: []event.Event{{
					Seq: uint64(n + 1), Time: start, Kind: event.KindFork, Process: event.Process{Key: event.Key{PID: uint32(n + 1), Start: 1}},
				}}}
				if _, err := f.Report(context.Background(), r); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if n := len(f.stored(t)); n != 160 {
		t.Errorf("got %d events, want 160", n)
	}
}

func TestSilentAgentsAreForgotten(t *testing.T) {
	f := newFixture(t)
	f.report(t, link.Report{Agent: describe(agentA), Snapshot: true})
	f.Forget(start.Add(-time.Second))
	if !f.tables.Known(agentA, "BOOTBOOT") {
		t.Error("forgotten although it was heard of")
	}
	f.Forget(start.Add(time.Second))
	if f.tables.Known(agentA, "BOOTBOOT") {
		t.Error("not forgotten")
	}
}
