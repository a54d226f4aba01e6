package agent_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/agent"
	"github.com/castellan-security/castellan/internal/agent/spool"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/link"
)

// world is the doors of one agent, played by the test.
type world struct {
	sense   chan []event.Event
	engine  chan asset.Inventory
	running []event.Running
	// resources is the state of the resource sensor; empty: there is none.
	resources asset.SensorState
	made      func(asset.Workload) // tells of a container that the engine made

	mu      sync.Mutex
	answer  func(link.Report) (link.Receipt, error)
	reports []link.Report
}

func (w *world) Run(ctx context.Context, emit func([]event.Event)) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case e := <-w.sense:
			emit(e)
		}
	}
}

func (w *world) Watch(ctx context.Context, see func(asset.Inventory)) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case inv := <-w.engine:
			see(inv)
		}
	}
}

func (w *world) Announce(made func(asset.Workload)) { w.made = made }

func (w *world) Status() []asset.Sensor {
	all := []asset.Sensor{{Name: "process", State: asset.SensorRunning, Lost: 7}}
	if w.resources != "" {
		all = append(all, asset.Sensor{Name: "resource", State: w.resources})
	}
	return all
}
func (w *world) Close() error { return nil }
func (w *world) Describe(context.Context) (asset.Host, []asset.Rung) {
	return asset.Host{Kernel: "6.1.0"}, nil
}
func (w *world) Processes(context.Context) ([]event.Running, error) { return w.running, nil }
func (w *world) Usage() asset.Usage                                 { return asset.Usage{} }

func (w *world) Report(_ context.Context, r link.Report) (link.Receipt, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var receipt link.Receipt
	if w.answer != nil {
		var err error
		if receipt, err = w.answer(r); err != nil || receipt.WantSnapshot {
			return receipt, err
		}
	}
	w.reports = append(w.reports, r)
	return receipt, nil
}

func (w *world) Directives(ctx context.Context, who link.Caller, take func(link.Directive)) error {
	<-ctx.Done()
	return ctx.Err()
}

func (w *world) Verdict(context.Context, link.Verified) error { return nil }

func (w *world) Inventory(context.Context, link.Scanned) error {
	return fault.New(fault.Unsupported, "takes no inventories")
}

// taken returns every event that the server took, in order.
func (w *world) taken() (all []event.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range w.reports {
		all = append(all, r.Events...)
	}
	return all
}

// workloads returns the last word on every workload.
func (w *world) workloads() map[string]asset.Workload {
	w.mu.Lock()
	defer w.mu.Unlock()
	last := map[string]asset.Workload{}
	for _, r := range w.reports {
		for _, wl := range r.Workloads {
			last[wl.ID] = wl
		}
	}
	return last
}

func (w *world) last() link.Report {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.reports[len(w.reports)-1]
}

func (w *world) respond(f func(link.Report) (link.Receipt, error)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answer = f
}

// inWorld runs play beside a running agent in a bubble of fake time, then
// stops the agent.
func inWorld(t *testing.T, cfg agent.Config, play func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{sense: make(chan []event.Event), engine: make(chan asset.Inventory)}
		cfg.ID = "A"
		a := agent.New(cfg, agent.Parts{Engine: w, Sensors: w, Host: w, Server: w, Herald: w}, slog.New(slog.DiscardHandler))
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- a.Run(ctx) }()
		play(t, w)
		stop()
		if err := <-done; err != nil {
			t.Errorf("Run returned %v, want nil", err)
		}
	})
}

// lost returns the agent's own losses as the last report told them.
func lost(w *world) map[string]uint64 {
	m := map[string]uint64{}
	for _, l := range w.last().Agent.Losses {
		if l.Where != "kernel buffer" {
			m[l.Where] = l.Count
		}
	}
	return m
}

func exec(pid uint32, path string, args ...string) event.Event {
	return event.Event{
		Kind: event.KindExec, Time: time.Now(),
		Process: event.Process{Key: event.Key{PID: pid, Start: uint64(pid) * 1e9}, Executable: path},
		Exec:    &event.Exec{Args: args},
	}
}

func settle(d time.Duration) {
	time.Sleep(d) // fake time: the bubble moves on when everybody waits
	synctest.Wait()
}

func TestEventsArriveInOrderAndNumbered(t *testing.T) {
	inWorld(t, agent.Config{}, func(t *testing.T, w *world) {
		w.sense <- []event.Event{exec(1, "/a"), exec(2, "/b")}
		w.sense <- []event.Event{exec(3, "/c")}
		settle(2 * agent.DefaultFlush)
		got := w.taken()
		var said []string
		for _, e := range got {
			said = append(said, fmt.Sprint(e.AgentID, e.Seq, e.Process.Executable))
			if e.Boot == "" || e.Boot != got[0].Boot {
				t.Errorf("event %d has boot %q, want one and the same", e.Seq, e.Boot)
			}
		}
		if diff := cmp.Diff([]string{"A1/a", "A2/b", "A3/c"}, said); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
	})
}

func TestServerAwayThenBack(t *testing.T) {
	inWorld(t, agent.Config{}, func(t *testing.T, w *world) {
		w.respond(func(link.Report) (link.Receipt, error) {
			return link.Receipt{}, fault.New(fault.Unavailable, "connection refused")
		})
		for pid := range uint32(50) {
			w.sense <- []event.Event{exec(pid+1, "/a")}
			settle(time.Second)
		}
		w.respond(nil)
		settle(time.Minute)
		got := w.taken()
		if len(got) != 50 {
			t.Fatalf("%d events arrived, want 50", len(got))
		}
		for i, e := range got {
			if e.Seq != uint64(i+1) {
				t.Fatalf("event %d has seq %d", i, e.Seq)
			}
		}
		if lost := lost(w); len(lost) > 0 {
			t.Errorf("%v counted lost, want nothing", lost)
		}
	})
}

func TestQueueOverflowIsCounted(t *testing.T) {
	inWorld(t, agent.Config{QueueSize: 20_000}, func(t *testing.T, w *world) {
		w.respond(func(link.Report) (link.Receipt, error) {
			return link.Receipt{}, fault.New(fault.Unavailable, "connection refused")
		})
		const offered = 200
		for pid := range uint32(offered) {
			w.sense <- []event.Event{exec(pid+1, "/a")}
		}
		w.respond(nil)
		settle(time.Minute)
		stored := len(w.taken())
		lost := lost(w)
		if stored == 0 || stored == offered {
			t.Fatalf("%d of %d events arrived, want some to have been dropped", stored, offered)
		}
		if diff := cmp.Diff(map[string]uint64{spool.LostDisk: uint64(offered - stored)}, lost); diff != "" {
			t.Errorf("losses with %d of %d arrived (-want +got):\n%s", stored, offered, diff)
		}
	})
}

func TestLongArgumentsTravelInSmallReports(t *testing.T) {
	inWorld(t, agent.Config{QueueSize: 64 << 20, Heartbeat: time.Hour}, func(t *testing.T, w *world) {
		settle(time.Second)
		const each, many = 100_000, 200
		batch := make([]event.Event, many)
		for i := range batch {
			batch[i] = exec(uint32(i+1), "/a", strings.Repeat("x", each))
		}
		w.sense <- batch
		settle(time.Second)
		if got := len(w.taken()); got != many {
			t.Errorf("%d events arrived, want %d", got, many)
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, r := range w.reports {
			if n := len(r.Events) * each; n > 5<<20 {
				t.Errorf("a report carries %d bytes of arguments", n)
			}
		}
	})
}

func TestRefusedReportDoesNotStopTheRest(t *testing.T) {
	inWorld(t, agent.Config{}, func(t *testing.T, w *world) {
		w.respond(func(r link.Report) (link.Receipt, error) {
			for _, e := range r.Events {
				if e.Process.Executable == "/bad" {
					return link.Receipt{}, fault.New(fault.Invalid, "bad event")
				}
			}
			return link.Receipt{}, nil
		})
		w.sense <- []event.Event{exec(1, "/bad")}
		settle(time.Second)
		w.sense <- []event.Event{exec(2, "/good")}
		settle(time.Minute)
		got := w.taken()
		if len(got) != 1 || got[0].Process.Executable != "/good" {
			t.Fatalf("arrived: %v, want /good alone", got)
		}
		if diff := cmp.Diff(map[string]uint64{spool.LostRefused: 1}, lost(w)); diff != "" {
			t.Errorf("losses (-want +got):\n%s", diff)
		}
	})
}

func TestStopHandsOverWhatIsHeld(t *testing.T) {
	var w *world
	inWorld(t, agent.Config{Flush: time.Hour, Heartbeat: 2 * time.Hour}, func(t *testing.T, it *world) {
		w = it
		settle(time.Second)
		w.sense <- []event.Event{exec(1, "/last")}
		synctest.Wait()
	})
	if got := w.taken(); len(got) != 1 {
		t.Errorf("%d events after stop, want 1", len(got))
	}
}

func id(c string) string { return strings.Repeat(c, 64) }

func TestWorkloads(t *testing.T) {
	up := asset.Engine{Name: "docker", Connected: true}
	for _, tc := range []struct {
		name string
		play func(w *world)
		want map[string]asset.State
	}{
		{"created and ended", func(w *world) {
			w.engine <- asset.Inventory{Engine: up, Workloads: []asset.Workload{{ID: id("a"), State: asset.Running}}}
			w.engine <- asset.Inventory{Engine: up, Workloads: []asset.Workload{{ID: id("a"), State: asset.Exited}}}
		}, map[string]asset.State{id("a"): asset.Exited}},
		{"started again", func(w *world) {
			for _, s := range []asset.State{asset.Running, asset.Exited, asset.Running, asset.Exited, asset.Running} {
				w.engine <- asset.Inventory{Engine: up, Workloads: []asset.Workload{{ID: id("a"), State: s}}}
			}
			settle(time.Minute)
			// More others end than are remembered.
			for i := range 5000 {
				w.engine <- asset.Inventory{Engine: up, Workloads: []asset.Workload{{ID: fmt.Sprintf("%064x", i), State: asset.Exited}}}
			}
			settle(time.Minute)
			w.mu.Lock()
			w.reports = nil
			w.mu.Unlock()
			e := exec(1, "/a")
			e.WorkloadID = id("a")
			w.sense <- []event.Event{e} // it is known still: nothing new to say
		}, map[string]asset.State{}},
		{"ended while the engine was away", func(w *world) {
			w.engine <- asset.Inventory{Engine: up, Workloads: []asset.Workload{{ID: id("a"), State: asset.Running}, {ID: id("b"), State: asset.Running}}, Complete: true}
			w.engine <- asset.Inventory{Engine: asset.Engine{Error: "gone"}}
			settle(time.Minute)
			w.engine <- asset.Inventory{Engine: up, Workloads: []asset.Workload{{ID: id("b"), State: asset.Running}}, Complete: true}
		}, map[string]asset.State{id("a"): asset.Lost, id("b"): asset.Running}},
		{"seen by the kernel only", func(w *world) {
			e := exec(1, "/a")
			e.WorkloadID = id("c")
			w.sense <- []event.Event{e}
		}, map[string]asset.State{id("c"): asset.Running}},
		{"seen by the kernel only, and ended", func(w *world) {
			e := exec(1, "/a")
			e.WorkloadID = id("c")
			w.sense <- []event.Event{e}
			settle(5 * time.Second)
			w.sense <- []event.Event{{Kind: event.KindExit, WorkloadID: id("c"), Process: e.Process, Exit: &event.Exit{}}}
		}, map[string]asset.State{id("c"): asset.Exited}},
		{"gone before it was inspected", func(w *world) {
			w.engine <- asset.Inventory{Engine: up, Workloads: []asset.Workload{{ID: id("a"), Name: "full", State: asset.Running}}}
			w.engine <- asset.Inventory{Engine: up, Workloads: []asset.Workload{{ID: id("a"), State: asset.Exited, Partial: true}}}
		}, map[string]asset.State{id("a"): asset.Exited}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inWorld(t, agent.Config{}, func(t *testing.T, w *world) {
				tc.play(w)
				settle(10 * time.Second)
				got := map[string]asset.State{}
				for id, wl := range w.workloads() {
					got[id] = wl.State
					if wl.AgentID != "A" || wl.Group == "" {
						t.Errorf("workload %s has agent %q and group %q", asset.ShortID(id), wl.AgentID, wl.Group)
					}
					if tc.name == "gone before it was inspected" && (wl.Name != "full" || wl.Partial) {
						t.Errorf("a partial word replaced the full one: %+v", wl)
					}
				}
				if diff := cmp.Diff(tc.want, got); diff != "" {
					t.Errorf("states (-want +got):\n%s", diff)
				}
			})
		})
	}
}

func TestServerThatForgotIsToldEverything(t *testing.T) {
	inWorld(t, agent.Config{}, func(t *testing.T, w *world) {
		w.engine <- asset.Inventory{Engine: asset.Engine{Connected: true}, Workloads: []asset.Workload{{ID: id("a"), State: asset.Running}}, Complete: true}
		w.sense <- []event.Event{exec(9, "/a", "a", "b")}
		settle(10 * time.Second)
		asked := false
		w.respond(func(r link.Report) (link.Receipt, error) {
			if r.Snapshot {
				return link.Receipt{}, nil
			}
			asked = true
			return link.Receipt{WantSnapshot: true}, nil
		})
		settle(2 * agent.DefaultHeartbeat)
		w.mu.Lock()
		defer w.mu.Unlock()
		if !asked {
			t.Fatal("no report was answered with a wish for a snapshot")
		}
		for _, r := range w.reports[len(w.reports)-3:] {
			if r.Snapshot && r.Complete && len(r.Workloads) == 1 && len(r.Processes) == 1 {
				return
			}
		}
		t.Error("no report carried the snapshot, the workload and the process")
	})
}

func TestWhatRanBeforeKeepsOneKey(t *testing.T) {
	const start = uint64(5e9)
	coarse, exact := event.Key{PID: 10, Start: start}, event.Key{PID: 10, Start: start + 1_234_567}
	synctest.Test(t, func(t *testing.T) {
		w := &world{sense: make(chan []event.Event), engine: make(chan asset.Inventory),
			running: []event.Running{{Process: event.Process{Key: coarse, Executable: "/bin/shop"}, Started: time.Now()}}}
		a := agent.New(agent.Config{ID: "A"}, agent.Parts{Engine: w, Sensors: w, Host: w, Server: w, Herald: w}, slog.New(slog.DiscardHandler))
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- a.Run(ctx) }()
		child := exec(11, "/bin/ls", "ls")
		child.Process.Parent = exact
		child.Exec.Ancestors = []event.Ancestor{{Key: exact, Name: "shop"}}
		w.sense <- []event.Event{child, {Kind: event.KindExit, Process: event.Process{Key: exact}, Exit: &event.Exit{}}}
		settle(time.Second)
		stop()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		got := w.taken()
		if len(got) != 2 {
			t.Fatalf("%d events, want 2", len(got))
		}
		if p, a := got[0].Process.Parent, got[0].Exec.Ancestors[0]; p != coarse || a.Key != coarse || a.Executable != "/bin/shop" {
			t.Errorf("parent %v, ancestor %+v; want %v of /bin/shop", p, a, coarse)
		}
		if e := got[1]; e.Process.Key != coarse || e.Process.Executable != "/bin/shop" {
			t.Errorf("ended %+v, want %v of /bin/shop", e.Process, coarse)
		}
	})
}

func TestEventsAreCompletedFromTheProcessTable(t *testing.T) {
	key := func(pid uint32) event.Key { return event.Key{PID: pid, Start: uint64(pid) * 1e9} }
	inWorld(t, agent.Config{}, func(t *testing.T, w *world) {
		settle(time.Second)
		w.sense <- []event.Event{
			exec(10, "/bin/sh", "sh"),
			{Kind: event.KindFork, Process: event.Process{Key: key(11), Parent: key(10), Name: "sh"}},
		}
		w.sense <- []event.Event{
			{Kind: event.KindExec, Process: event.Process{Key: key(11), Parent: key(10), Executable: "/bin/ls"},
				Exec: &event.Exec{Args: []string{"ls"}, Ancestors: []event.Ancestor{{Key: key(10), Name: "sh"}}}},
			{Kind: event.KindExit, Process: event.Process{Key: key(11), Parent: key(10)}, Exit: &event.Exit{Code: 2}},
		}
		settle(time.Second)
		got := w.taken()
		if len(got) != 4 {
			t.Fatalf("%d events, want 4", len(got))
		}
		if p := got[1].Process.Executable; p != "/bin/sh" {
			t.Errorf("forked process runs %q, want its parent's /bin/sh", p)
		}
		if p := got[2].Exec.Ancestors[0].Executable; p != "/bin/sh" {
			t.Errorf("ancestor runs %q, want /bin/sh", p)
		}
		if p := got[3].Process.Executable; p != "/bin/ls" {
			t.Errorf("ended process ran %q, want /bin/ls", p)
		}
	})
}
