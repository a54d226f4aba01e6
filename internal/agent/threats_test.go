package agent_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/agent"
	"github.com/castellan-security/castellan/internal/agent/hunt"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/link"
)

// hunted is a world whose server takes threats.
type hunted struct {
	*world
	hunter *hunt.Hunter
}

// inHunt runs play beside an agent that holds events against rules.
func inHunt(t *testing.T, dir string, running []event.Running, answer func(link.Report) (link.Receipt, error), play func(t *testing.T, w hunted)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		h, err := hunt.Open(hunt.Options{Dir: dir, AgentID: "A", Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		w := &world{sense: make(chan []event.Event), engine: make(chan asset.Inventory), running: running}
		w.respond(answer)
		a := agent.New(agent.Config{ID: "A", DataDir: dir}, agent.Parts{Engine: w, Sensors: w, Host: w, Server: w, Hunter: h}, slog.New(slog.DiscardHandler))
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- a.Run(ctx) }()
		settle(time.Millisecond)
		play(t, hunted{w, h})
		stop()
		if err := <-done; err != nil {
			t.Errorf("Run returned %v, want nil", err)
		}
	})
}

// takesThreats is a server's answer to any report.
func takesThreats(r link.Report) (link.Receipt, error) {
	if n := len(r.Threats); n > 0 {
		return link.Receipt{ThreatsTaken: r.Threats[n-1].Number}, nil
	}
	return link.Receipt{}, nil
}

func (w hunted) threats() (all []link.NumberedThreat) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range w.reports {
		all = append(all, r.Threats...)
	}
	return all
}

// knob is somebody who writes to a file by which one gets out of a container.
func knob(pid uint32, workload, target string) event.Event {
	return event.Event{
		Kind: event.KindKernelKnob, Time: time.Now(), WorkloadID: workload,
		Process:   event.Process{Key: event.Key{PID: pid, Start: uint64(pid) * 1e9}, Parent: event.Key{PID: 7, Start: 7e9}, Name: "bash", Executable: "/bin/bash"},
		Privilege: &event.Privilege{Call: "openat", Target: target},
	}
}

const corePattern = "/proc/sys/kernel/core_pattern"

func engineTells(id string) asset.Inventory {
	return asset.Inventory{
		Engine: asset.Engine{Connected: true}, Complete: true,
		Workloads: []asset.Workload{{ID: id, Name: "web", State: asset.Running, ECS: asset.ECS{Cluster: "shop", Service: "store", Container: "web"}}},
	}
}

func TestAThreatIsReportedWithWhereItBelongs(t *testing.T) {
	shop := strings.Repeat("a1", 32)
	running := []event.Running{{WorkloadID: shop, Process: event.Process{Key: event.Key{PID: 7, Start: 7e9}, Name: "nginx", Executable: "/usr/sbin/nginx"}, Args: []string{"nginx", "-g", "x"}, Started: time.Now()}}
	inHunt(t, t.TempDir(), running, takesThreats, func(t *testing.T, w hunted) {
		began := time.Now()
		w.sense <- []event.Event{exec(1, "/a"), knob(9, shop, corePattern)}
		// The engine tells of the container a moment after the kernel did.
		time.Sleep(100 * time.Millisecond)
		w.engine <- engineTells(shop)
		settle(900 * time.Millisecond)
		got := w.threats()
		if len(got) != 1 {
			t.Fatalf("%d threats were reported within %v, want 1", len(got), time.Since(began))
		}
		x := got[0]
		if x.Rule != "escape-core-pattern" || x.Group != "shop/store/web" || x.AgentID != "A" || x.WorkloadID != shop || x.Number != 1 {
			t.Errorf("got threat %d of rule %s, group %q, agent %q", x.Number, x.Rule, x.Group, x.AgentID)
		}
		// What ran before the agent did is its parent.
		if len(x.Ancestors) != 1 || x.Ancestors[0].Executable != "/usr/sbin/nginx" || !cmp.Equal(x.Ancestors[0].Args, []string{"nginx", "-g", "x"}) {
			t.Errorf("ancestors are %+v, want nginx alone", x.Ancestors)
		}
		all := w.taken()
		if e := x.Evidence; len(e) != 1 || e[0].Seq != 2 || e[0].Boot != all[1].Boot {
			t.Errorf("it rests on %+v, want the second event of %s", e, all[1].Boot)
		}
		// The report that brings a threat may still count it among those that wait.
		settle(time.Minute)
		if d := w.last().Agent.Detection; d == nil || d.Rules == 0 || d.Missed != 0 || d.Waiting != 0 {
			t.Errorf("the agent says of detection: %+v", d)
		}
	})
}

func TestThreatsWaitForTheServerOverARestart(t *testing.T) {
	shop, dir := strings.Repeat("a1", 32), t.TempDir()
	away := func(link.Report) (link.Receipt, error) {
		return link.Receipt{}, fault.New(fault.Unavailable, "connection refused")
	}
	inHunt(t, dir, nil, away, func(t *testing.T, w hunted) {
		w.engine <- engineTells(shop)
		for pid := range uint32(3) {
			w.sense <- []event.Event{knob(pid+10, shop, corePattern)}
			settle(time.Hour)
		}
	})
	inHunt(t, dir, nil, away, func(t *testing.T, w hunted) {
		w.engine <- engineTells(shop)
		w.sense <- []event.Event{knob(20, shop, corePattern)}
		settle(time.Minute)
		if d := w.hunter.Status(); d.Waiting != 4 {
			t.Errorf("%d threats wait, want those of the former start, too: 4", d.Waiting)
		}
		w.respond(takesThreats)
		settle(time.Minute)
		var said []string
		for _, x := range w.threats() {
			said = append(said, fmt.Sprint(x.Number, " ", x.Process.Key.PID))
		}
		if diff := cmp.Diff([]string{"1 10", "2 11", "3 12", "4 20"}, said); diff != "" {
			t.Errorf("threats (-want +got):\n%s", diff)
		}
	})
	inHunt(t, dir, nil, takesThreats, func(t *testing.T, w hunted) {
		settle(time.Minute)
		if got := w.threats(); len(got) != 0 {
			t.Errorf("%d threats came again after another restart", len(got))
		}
	})
}

func TestAnOlderServerIsNotGivenThreatsToLose(t *testing.T) {
	shop := strings.Repeat("a1", 32)
	inHunt(t, "", nil, takesThreats, func(t *testing.T, w hunted) {
		w.respond(nil) // its receipts don't speak of threats
		w.engine <- engineTells(shop)
		w.sense <- []event.Event{knob(10, shop, corePattern)}
		settle(10 * time.Minute)
		offered := len(w.threats())
		if offered < 2 || offered > 12 {
			t.Errorf("it was offered %d times in ten minutes, want a few times", offered)
		}
		w.respond(takesThreats)
		settle(6 * time.Minute)
		if d := w.hunter.Status(); d.Waiting != 0 || d.Dropped != 0 {
			t.Errorf("%d threats wait and %d were dropped, want none", d.Waiting, d.Dropped)
		}
	})
}

func TestThreatsThatTheServerRefusesStopNothing(t *testing.T) {
	shop := strings.Repeat("a1", 32)
	inHunt(t, "", nil, takesThreats, func(t *testing.T, w hunted) {
		w.respond(func(r link.Report) (link.Receipt, error) {
			if len(r.Threats) > 0 {
				return link.Receipt{}, fault.New(fault.Invalid, "not these")
			}
			return link.Receipt{}, nil
		})
		w.engine <- engineTells(shop)
		w.sense <- []event.Event{knob(10, shop, corePattern)}
		settle(time.Minute)
		if got := w.taken(); len(got) != 1 {
			t.Errorf("%d events were taken, want the one there is", len(got))
		}
		w.respond(takesThreats)
		w.sense <- []event.Event{knob(11, shop, corePattern)}
		settle(time.Minute)
		got := w.threats()
		if len(got) != 1 || got[0].Process.Key.PID != 11 {
			t.Errorf("threats taken: %+v, want the second alone", got)
		}
		if d := w.hunter.Status(); d.Dropped != 1 {
			t.Errorf("%d threats were dropped, want 1", d.Dropped)
		}
	})
}

func TestRepeatsAreToldInTimeAndAtTheEnd(t *testing.T) {
	shop := strings.Repeat("a1", 32)
	var end hunted
	inHunt(t, t.TempDir(), nil, takesThreats, func(t *testing.T, w hunted) {
		end = w
		w.engine <- engineTells(shop)
		for range 5 {
			w.sense <- []event.Event{knob(10, shop, corePattern)}
			settle(time.Second)
		}
		settle(time.Minute) // nothing else happens meanwhile
		got := w.threats()
		if len(got) != 2 || !got[1].Repeat || got[1].Count != 4 {
			t.Fatalf("got %d threats, want one and its four repeats as another", len(got))
		}
		w.sense <- []event.Event{knob(10, shop, corePattern)}
		settle(time.Second)
	})
	if got := end.threats(); len(got) != 3 || got[2].Count != 1 {
		t.Errorf("after the end there are %d threats, want the last repeat, too", len(got))
	}
}
