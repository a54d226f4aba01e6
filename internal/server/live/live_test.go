package live_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/server/live"
)

const (
	agent = "AGENTAGENT"
	shop  = "workload-shop"
)

var start = time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)

// stage is tables with a clock and the reports of one agent.
type stage struct {
	*live.Tables
	now time.Time
}

func newStage() *stage {
	s := &stage{now: start}
	s.Tables = live.NewTables(func() time.Time { return s.now })
	return s
}

func key(pid uint32) event.Key { return event.Key{PID: pid, Start: uint64(pid) * 1000} }

func proc(pid, parent uint32, name string) event.Process {
	p := event.Process{Key: key(pid), Name: name}
	if parent != 0 {
		p.Parent = key(parent)
	}
	return p
}

func (s *stage) fork(w string, pid, parent uint32) event.Event {
	return event.Event{Kind: event.KindFork, WorkloadID: w, Time: s.now, Process: proc(pid, parent, "fork")}
}

func (s *stage) exec(w string, pid uint32, args ...string) event.Event {
	return event.Event{
		Kind: event.KindExec, WorkloadID: w, Time: s.now, Process: proc(pid, 0, args[0]), Exec: &event.Exec{Args: args},
	}
}

func (s *stage) exit(w string, pid uint32, code int) event.Event {
	return event.Event{
		Kind: event.KindExit, WorkloadID: w, Time: s.now, Process: proc(pid, 0, "x"), Exit: &event.Exit{Code: code},
	}
}

func (s *stage) report(events ...event.Event) []string {
	return s.Apply(agent, link.Report{Agent: asset.Agent{ID: agent, Boot: "b1"}, Events: events})
}

func (s *stage) snapshot(procs ...event.Running) {
	s.Apply(agent, link.Report{Agent: asset.Agent{ID: agent, Boot: "b1"}, Processes: procs, Snapshot: true})
}

// lines writes a tree as "pid args [ended code]".
func (s *stage) lines(workload string) []string {
	procs, _ := s.Tree(workload)
	out := []string{}
	for _, p := range procs {
		line := fmt.Sprintf("%d %s", p.Process.Key.PID, strings.Join(p.Args, " "))
		if p.Ended != nil {
			line += " ended"
			if p.Exit != nil {
				line += fmt.Sprintf(" %d", p.Exit.Code)
			}
		}
		out = append(out, line)
	}
	return out
}

func TestTreeFollowsProcesses(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(s *stage)
		want []string
	}{
		{"fork, exec, exit", func(s *stage) {
			s.report(s.exec(shop, 10, "server"))
			s.now = s.now.Add(time.Second)
			s.report(s.fork(shop, 11, 10), s.exec(shop, 11, "sh", "-c", "id"), s.exit(shop, 11, 3))
		}, []string{"10 server", "11 sh -c id ended 3"}},
		{"a fork is its parent's copy", func(s *stage) {
			s.report(s.exec(shop, 10, "server", "--x"))
			s.now = s.now.Add(time.Second)
			s.report(s.fork(shop, 11, 10))
		}, []string{"10 server --x", "11 server --x"}},
		{"moved in from outside", func(s *stage) {
			s.report(s.fork("", 20, 1), s.exec(shop, 20, "sh"))
		}, []string{"20 sh"}},
		{"exit of an unknown process", func(s *stage) { s.report(s.exit(shop, 99, 0)) }, []string{}},
		{"repeats are nobody's beginning or end", func(s *stage) {
			again := []event.Event{s.exec(shop, 10, "sh"), s.exit(shop, 10, 0), s.exec(shop, 11, "id"), s.fork(shop, 12, 10)}
			for i := range again {
				again[i].Count = 5
			}
			s.report(s.exec(shop, 10, "sh"))
			s.report(again[1:]...)
		}, []string{"10 sh"}},
		{"exec again", func(s *stage) { s.report(s.exec(shop, 10, "sh"), s.exec(shop, 10, "nginx")) }, []string{"10 nginx"}},
		{"the same report twice", func(s *stage) {
			es := []event.Event{s.fork(shop, 10, 1), s.exec(shop, 10, "sh"), s.exit(shop, 10, 0)}
			s.report(es[:2]...)
			s.report(es[:2]...)
			s.report(es[2])
			s.report(es[2])
		}, []string{"10 sh ended 0"}},
		{"ended long ago", func(s *stage) {
			s.report(s.exec(shop, 10, "sh"), s.exec(shop, 12, "init"))
			s.report(s.exit(shop, 10, 0))
			s.now = s.now.Add(6 * time.Minute)
		}, []string{"12 init"}},
		{"a snapshot takes away what it does not hold", func(s *stage) {
			s.report(s.exec(shop, 10, "stale"))
			s.snapshot(event.Running{WorkloadID: shop, Process: proc(11, 0, "x"), Args: []string{"real"}, Started: s.now})
		}, []string{"11 real"}},
		{"a long command line is cut", func(s *stage) {
			s.report(s.exec(shop, 10, "sh", strings.Repeat("x", 5000)))
		}, []string{"10 sh …"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStage()
			c.do(s)
			if diff := cmp.Diff(c.want, s.lines(shop)); diff != "" {
				t.Errorf("tree (-want +got):\n%s", diff)
			}
		})
	}
}

func TestKnownNeedsASnapshotOfThisBoot(t *testing.T) {
	s := newStage()
	s.report(s.exec(shop, 10, "sh"))
	if _, known := s.Tree(shop); known || s.Known(agent, "b1") {
		t.Error("known without a snapshot")
	}
	s.snapshot(event.Running{WorkloadID: shop, Process: proc(10, 0, "sh"), Started: s.now})
	if _, known := s.Tree(shop); !known || !s.Known(agent, "b1") {
		t.Error("not known after a snapshot")
	}
	if s.Known(agent, "b2") {
		t.Error("known for a start of the agent that sent none")
	}
	s.Apply(agent, link.Report{Agent: asset.Agent{ID: agent, Boot: "b2"}})
	if _, known := s.Tree(shop); known {
		t.Error("known after the agent started anew")
	}
}

func TestHostProcessesAreApart(t *testing.T) {
	s := newStage()
	s.report(s.exec("", 1, "init"), s.exec(shop, 10, "sh"))
	procs, _ := s.Host(agent)
	if len(procs) != 1 || procs[0].Args[0] != "init" {
		t.Errorf("got %v, want init alone", procs)
	}
	if procs, known := s.Tree(""); procs != nil || known {
		t.Error("the empty workload has a tree")
	}
}

func TestEndedProcessesAreBounded(t *testing.T) {
	s := newStage()
	for pid := uint32(1); pid <= 5000; pid++ {
		s.report(s.exec(shop, pid, "storm"), s.exit(shop, pid, 0))
	}
	procs, _ := s.Tree(shop)
	if len(procs) != 100 {
		t.Fatalf("got %d, want the last 100", len(procs))
	}
	if last := procs[len(procs)-1].Process.Key.PID; last != 5000 {
		t.Errorf("got %d as the last, want 5000", last)
	}
}

func TestProcessesThatFindNoRoomAreCounted(t *testing.T) {
	s := newStage()
	events := make([]event.Event, 0, link.MaxProcesses+7)
	for pid := range uint32(link.MaxProcesses + 7) {
		events = append(events, s.fork(shop, pid+1, 0))
	}
	s.report(events...)
	if got := s.Skipped(); got != 7 {
		t.Errorf("got %d skipped, want 7", got)
	}
}

func TestApplyTellsWhatChanged(t *testing.T) {
	s := newStage()
	got := s.report(s.fork("", 20, 1), s.exec("", 20, "runc"), s.exec(shop, 20, "sh"))
	slices.Sort(got)
	if diff := cmp.Diff([]string{"", shop}, got); diff != "" {
		t.Errorf("changed (-want +got):\n%s", diff)
	}
}

func TestForgottenAgentHasNoTrees(t *testing.T) {
	s := newStage()
	s.snapshot(event.Running{WorkloadID: shop, Process: proc(10, 0, "sh"), Started: s.now})
	s.Forget(agent)
	if procs, known := s.Tree(shop); len(procs) != 0 || known {
		t.Errorf("got %v, %v, want nothing", procs, known)
	}
}

func numbered(n int) []event.Event {
	out := make([]event.Event, n)
	for i := range out {
		out[i] = event.Event{ID: int64(i + 1), Kind: event.KindExec, WorkloadID: shop}
	}
	return out
}

func TestFeedHandsOverWhatMatches(t *testing.T) {
	f := live.NewFeed()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s, err := f.Subscribe(ctx, func(e *event.Event) bool { return e.ID%2 == 0 })
	if err != nil {
		t.Fatal(err)
	}
	f.Publish(numbered(5))
	got := <-s.C()
	if len(got) != 2 || got[0].ID != 2 || got[1].ID != 4 {
		t.Errorf("got %v, want 2 and 4", got)
	}
	cancel()
	if _, open := <-s.C(); open {
		t.Error("channel still open after its context ended")
	}
	f.Publish(numbered(5)) // must not panic
}

func TestSlowReaderLosesAndIsTold(t *testing.T) {
	f := live.NewFeed()
	s, err := f.Subscribe(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	const batches = 1000
	for range batches {
		f.Publish(numbered(3))
	}
	got := uint64(len(s.C()) * 3)
	if got == 0 || got+s.Dropped() != 3*batches {
		t.Errorf("got %d waiting and %d dropped, want %d together", got, s.Dropped(), 3*batches)
	}
}

func TestChangedKeepsOneValueWaiting(t *testing.T) {
	f := live.NewFeed()
	ctx, cancel := context.WithCancel(t.Context())
	mine, err := f.Changed(ctx, shop)
	if err != nil {
		t.Fatal(err)
	}
	any, err := f.Changed(ctx, "")
	if err != nil {
		t.Fatal(err)
	}
	f.Touch("other")
	if len(mine) != 0 || len(any) != 1 {
		t.Errorf("other workload: got %d and %d waiting, want 0 and 1", len(mine), len(any))
	}
	for range 10 {
		f.Touch("other", shop)
	}
	if len(mine) != 1 {
		t.Errorf("got %d waiting, want 1", len(mine))
	}
	cancel()
	<-mine
	if _, open := <-mine; open {
		t.Error("channel still open after its context ended")
	}
}

func TestReadersAreBounded(t *testing.T) {
	f := live.NewFeed()
	var err error
	for i := 0; err == nil && i < 10_000; i++ {
		_, err = f.Subscribe(t.Context(), nil)
	}
	if !fault.Is(err, fault.Exhausted) {
		t.Errorf("subscribe: got %v, want exhausted", err)
	}
	for i, e := 0, error(nil); ; i++ {
		if _, e = f.Changed(t.Context(), shop); e != nil {
			break
		}
		if i > 10_000 {
			t.Fatal("watchers are not bounded")
		}
	}
}

func TestConditions(t *testing.T) {
	now := start
	c := live.NewConditions(func() time.Time { return now })
	full := fault.New(fault.Exhausted, "disk full").With("free some")
	if !c.Set("store", full) || c.Set("store", full) {
		t.Error("want a change the first time only")
	}
	now = now.Add(time.Minute)
	c.Set("other", errors.New("secret detail of a driver"))
	want := []live.Condition{
		{Name: "store", What: "disk full", Since: start, Remedy: "free some"},
		{Name: "other", What: "something unexpected went wrong", Since: now, Remedy: "read the server's log"},
	}
	if diff := cmp.Diff(want, c.List()); diff != "" {
		t.Errorf("conditions (-want +got):\n%s", diff)
	}
	if !c.Set("store", nil) || c.Set("store", nil) || len(c.List()) != 1 {
		t.Error("want the condition gone, once")
	}
	c.Lose("a", 2)
	c.Lose("a", 3)
	c.Lose("b", 0)
	if diff := cmp.Diff([]asset.Loss{{Where: "a", Count: 5}}, c.Losses()); diff != "" {
		t.Errorf("losses (-want +got):\n%s", diff)
	}
}

func TestNewsOfEvents(t *testing.T) {
	f := live.NewFeed()
	ctx, cancel := context.WithCancel(t.Context())
	news, err := f.News(ctx)
	if err != nil {
		t.Fatal(err)
	}
	f.Touch(shop) // is no news of events
	select {
	case <-news:
		t.Error("news of a change of a tree")
	default:
	}
	f.Publish([]event.Event{{ID: 1}})
	f.Publish([]event.Event{{ID: 2}})
	<-news
	select {
	case <-news:
		t.Error("two values waited")
	default:
	}
	cancel()
	for range news {
	}
}
