package agent_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
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

func away(link.Report) (link.Receipt, error) {
	return link.Receipt{}, fault.New(fault.Unavailable, "connection refused")
}

func TestWhatAFormerStartSensedComesFirst(t *testing.T) {
	dir := t.TempDir()
	inWorld(t, agent.Config{DataDir: dir}, func(t *testing.T, w *world) {
		w.respond(away)
		w.sense <- []event.Event{exec(1, "/a"), exec(2, "/b"), {Kind: event.KindExit, Process: event.Process{Key: event.Key{PID: 2, Start: 2e9}}, Exit: &event.Exit{}}}
		settle(time.Second)
	})
	inWorld(t, agent.Config{DataDir: dir}, func(t *testing.T, w *world) {
		w.respond(away)
		w.sense <- []event.Event{exec(3, "/c")}
		settle(time.Second)
		w.respond(nil)
		settle(time.Minute)
		w.mu.Lock()
		defer w.mu.Unlock()
		var got []string
		own := ""
		for _, r := range w.reports {
			for _, e := range r.Events {
				former := r.Boot != "" && r.Boot != r.Agent.Boot
				if e.AgentID != "A" || former != (e.Boot != r.Agent.Boot) || former && e.Boot != r.Boot {
					t.Errorf("event of agent %q, boot %q in a report of boot %q for %q", e.AgentID, e.Boot, r.Agent.Boot, r.Boot)
				}
				own = r.Agent.Boot
				got = append(got, fmt.Sprint(former, e.Seq, e.Process.Executable))
			}
		}
		want := []string{"true 1/a", "true 2/b", "true 3/b", "false 1/c"}
		if diff := cmp.Diff(want, got); diff != "" || own == "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
	})
}

// One bad event among many costs itself, and whatever else is in its report
// arrives; so it is with something else that the server does not take.
func TestOnlyTheBadEventIsLost(t *testing.T) {
	inWorld(t, agent.Config{DataDir: t.TempDir()}, func(t *testing.T, w *world) {
		refused := 0
		w.respond(func(r link.Report) (link.Receipt, error) {
			for _, e := range r.Events {
				if strings.HasPrefix(e.Process.Executable, "/bad") {
					refused++
					return link.Receipt{}, fault.New(fault.Invalid, "bad event")
				}
			}
			return link.Receipt{}, nil
		})
		batch := make([]event.Event, 3000)
		for i := range batch {
			batch[i] = exec(uint32(i+1), "/good")
		}
		batch[700].Process.Executable, batch[1900].Process.Executable = "/bad/1", "/bad/2"
		w.engine <- asset.Inventory{Engine: asset.Engine{Connected: true}, Workloads: []asset.Workload{{ID: id("a"), State: asset.Running}}, Complete: true}
		w.sense <- batch
		settle(time.Minute)
		got := w.taken()
		if len(got) != 2998 {
			t.Fatalf("%d events arrived, want 2998", len(got))
		}
		for i := 1; i < len(got); i++ {
			if got[i].Seq <= got[i-1].Seq {
				t.Fatalf("event %d after %d", got[i].Seq, got[i-1].Seq)
			}
		}
		if diff := cmp.Diff(map[string]uint64{spool.LostRefused: 2}, lost(w)); diff != "" {
			t.Errorf("losses (-want +got):\n%s", diff)
		}
		if len(w.workloads()) != 1 {
			t.Error("the workload of the refused report is missing")
		}
		if refused > 60 {
			t.Errorf("%d refusals to find two events", refused)
		}
	})
}

func TestBadWorkloadDoesNotCostEvents(t *testing.T) {
	inWorld(t, agent.Config{}, func(t *testing.T, w *world) {
		w.respond(func(r link.Report) (link.Receipt, error) {
			if len(r.Workloads) > 0 {
				return link.Receipt{}, fault.New(fault.Invalid, "bad workload")
			}
			return link.Receipt{}, nil
		})
		w.engine <- asset.Inventory{Engine: asset.Engine{Connected: true}, Workloads: []asset.Workload{{ID: id("a"), State: asset.Running}}}
		w.sense <- []event.Event{exec(1, "/a"), exec(2, "/b")}
		settle(time.Minute)
		if got := len(w.taken()); got != 2 || len(lost(w)) > 0 {
			t.Errorf("%d events arrived, lost %v; want 2 and nothing", got, lost(w))
		}
	})
}

func TestServerThatAsksForWhatItRefusesIsNotFlooded(t *testing.T) {
	inWorld(t, agent.Config{}, func(t *testing.T, w *world) {
		tries := 0
		w.respond(func(r link.Report) (link.Receipt, error) {
			tries++
			if len(r.Workloads) > 0 {
				return link.Receipt{}, fault.New(fault.Invalid, "bad workload")
			}
			return link.Receipt{WantSnapshot: true}, nil
		})
		w.engine <- asset.Inventory{Engine: asset.Engine{Connected: true}, Workloads: []asset.Workload{{ID: id("a"), State: asset.Running}}}
		settle(time.Minute)
		w.mu.Lock()
		defer w.mu.Unlock()
		if tries > 200 {
			t.Errorf("%d reports in a minute", tries)
		}
	})
}

func TestServerThatRefusesEverythingGetsNothingThrownAway(t *testing.T) {
	inWorld(t, agent.Config{DataDir: t.TempDir()}, func(t *testing.T, w *world) {
		tries := 0
		w.respond(func(link.Report) (link.Receipt, error) {
			tries++
			return link.Receipt{}, fault.New(fault.Invalid, "unknown version")
		})
		w.sense <- []event.Event{exec(1, "/a"), exec(2, "/b")}
		settle(10 * time.Minute)
		w.mu.Lock()
		n := tries
		w.mu.Unlock()
		if n > 400 {
			t.Errorf("%d tries in 10 minutes", n)
		}
		w.respond(nil)
		settle(time.Minute)
		if got := len(w.taken()); got != 2 || len(lost(w)) > 0 {
			t.Errorf("%d events arrived, lost %v; want 2 and nothing", got, lost(w))
		}
	})
}

func TestRevokedAgentGoesOnSpooling(t *testing.T) {
	inWorld(t, agent.Config{DataDir: t.TempDir()}, func(t *testing.T, w *world) {
		var tries []time.Time
		w.respond(func(link.Report) (link.Receipt, error) {
			tries = append(tries, time.Now())
			return link.Receipt{}, fault.New(fault.Denied, "revoked")
		})
		for pid := range uint32(100) {
			w.sense <- []event.Event{exec(pid+1, "/a")}
			settle(time.Second)
		}
		w.mu.Lock()
		for i := 1; i < len(tries); i++ {
			if pause := tries[i].Sub(tries[i-1]); pause < 5*time.Second {
				t.Errorf("asked again after %s", pause)
			}
		}
		w.mu.Unlock()
		w.respond(nil)
		settle(time.Minute)
		if got := len(w.taken()); got != 100 || len(lost(w)) > 0 {
			t.Errorf("%d events arrived, lost %v; want 100 and nothing", got, lost(w))
		}
	})
}

func TestReportsTellOfTheSpool(t *testing.T) {
	inWorld(t, agent.Config{DataDir: t.TempDir(), SpoolSize: 8 << 20}, func(t *testing.T, w *world) {
		w.respond(away)
		w.sense <- []event.Event{exec(1, "/a"), exec(2, "/b")}
		settle(time.Second)
		w.respond(nil)
		settle(time.Minute)
		w.mu.Lock()
		defer w.mu.Unlock()
		first, last := w.reports[0], w.reports[len(w.reports)-1]
		if s := first.Agent.Spool; s.Events != 2 || s.Bytes == 0 || s.Limit != 8<<20 || s.Oldest.IsZero() || s.Error != "" {
			t.Errorf("with two events waiting: %+v", s)
		}
		if s := last.Agent.Spool; s.Events != 0 {
			t.Errorf("with nothing waiting: %+v", s)
		}
		if last.Sent.IsZero() || !last.Sent.After(first.Sent) {
			t.Errorf("sent at %v, before that at %v", last.Sent, first.Sent)
		}
	})
}

// meter is a Sampler that measures one number.
type meter struct {
	mu    sync.Mutex
	count uint64
}

func (m *meter) Samples(_ context.Context, ws []asset.Workload) (list []asset.Sample, _ []event.Event) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.count++
	for _, wl := range ws {
		list = append(list, asset.Sample{WorkloadID: wl.ID, Time: time.Now(), Pids: m.count})
	}
	return list, []event.Event{{Kind: event.KindOOM, WorkloadID: ws[0].ID, Process: event.Process{Key: event.Key{PID: 9, Start: 9}}, Resource: &event.Resource{What: "memory"}}}
}

func TestSamples(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{sense: make(chan []event.Event), engine: make(chan asset.Inventory)}
		a := agent.New(agent.Config{ID: "A"}, agent.Parts{Engine: w, Sensors: w, Host: w, Sampler: &meter{}, Server: w}, slog.New(slog.DiscardHandler))
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- a.Run(ctx) }()
		running := make([]asset.Workload, 500)
		for i := range running {
			running[i] = asset.Workload{ID: fmt.Sprintf("%064x", i), State: asset.Running}
		}
		ended := asset.Workload{ID: id("e"), State: asset.Exited}
		w.engine <- asset.Inventory{Engine: asset.Engine{Connected: true}, Workloads: append(running, ended)}
		settle(35 * time.Second)
		w.respond(away)
		settle(30 * time.Minute) // 180 times 500 samples: the newest are kept
		w.respond(nil)
		settle(time.Minute)
		stop()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		var last uint64
		most, all := 0, 0
		for _, r := range w.reports {
			most, all = max(most, len(r.Samples)), all+len(r.Samples)
			for _, s := range r.Samples {
				if s.Pids < last || s.WorkloadID == ended.ID {
					t.Fatalf("sample %d of %s after %d", s.Pids, s.WorkloadID, last)
				}
				last = s.Pids
			}
		}
		if most != link.MaxSamples || last < 180 || all > 30_000 {
			t.Errorf("%d samples at most in a report, %d in all, up to the %d-th; want %d and the newest", most, all, last, link.MaxSamples)
		}
		oom := 0
		for _, r := range w.reports {
			for _, e := range r.Events {
				if e.Kind == event.KindOOM && e.Seq > 0 {
					oom++
				}
			}
		}
		if oom != int(last) {
			t.Errorf("%d events of the sampler arrived, want %d", oom, last)
		}
	})
}

// Where a sensor tells of kills for want of memory, those that were only counted are
// not told once more.
func TestSampledKillsAreToldOnce(t *testing.T) {
	for _, tt := range []struct {
		name  string
		state asset.SensorState
		want  bool
	}{
		{"no sensor", "", true},
		{"a sensor that is unavailable", asset.SensorFailed, true},
		{"a sensor that runs", asset.SensorRunning, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := &world{sense: make(chan []event.Event), engine: make(chan asset.Inventory), resources: tt.state}
				a := agent.New(agent.Config{ID: "A"}, agent.Parts{Engine: w, Sensors: w, Host: w, Sampler: &meter{}, Server: w}, slog.New(slog.DiscardHandler))
				ctx, stop := context.WithCancel(t.Context())
				done := make(chan error)
				go func() { done <- a.Run(ctx) }()
				w.engine <- asset.Inventory{Engine: asset.Engine{Connected: true}, Workloads: []asset.Workload{{ID: id("a"), State: asset.Running}}}
				settle(time.Minute)
				stop()
				if err := <-done; err != nil {
					t.Fatal(err)
				}
				w.mu.Lock()
				defer w.mu.Unlock()
				told, sampled := false, false
				for _, r := range w.reports {
					sampled = sampled || len(r.Samples) > 0
					told = told || slices.ContainsFunc(r.Events, func(e event.Event) bool { return e.Kind == event.KindOOM })
				}
				if !sampled || told != tt.want {
					t.Errorf("sampled %t, told %t; want true, %t", sampled, told, tt.want)
				}
			})
		})
	}
}

func TestAgentsStartedAtOnceDoNotStayInStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		at := map[string][]time.Duration{}
		ctx, stop := context.WithCancel(t.Context())
		began := time.Now()
		var wg sync.WaitGroup
		for _, name := range []string{"A", "B"} {
			w := &world{sense: make(chan []event.Event), engine: make(chan asset.Inventory)}
			w.answer = func(link.Report) (link.Receipt, error) {
				mu.Lock()
				defer mu.Unlock()
				at[name] = append(at[name], time.Since(began))
				return link.Receipt{}, nil
			}
			a := agent.New(agent.Config{ID: name}, agent.Parts{Engine: w, Sensors: w, Host: w, Server: w}, slog.New(slog.DiscardHandler))
			wg.Go(func() {
				if err := a.Run(ctx); err != nil {
					t.Error(err)
				}
			})
		}
		settle(10 * time.Minute)
		stop()
		wg.Wait()
		same := 0
		for i := range min(len(at["A"]), len(at["B"])) {
			if at["A"][i] == at["B"][i] {
				same++
			}
		}
		if len(at["A"]) < 120 || same > 5 {
			t.Errorf("%d and %d reports, %d of them at the same time", len(at["A"]), len(at["B"]), same)
		}
		for i := 1; i < len(at["A"]); i++ {
			if gap := at["A"][i] - at["A"][i-1]; gap > agent.DefaultHeartbeat {
				t.Errorf("silent for %s", gap)
			}
		}
	})
}
