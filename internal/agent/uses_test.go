package agent_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/agent"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/link"
)

// using is a world whose processes use files.
type using struct {
	*world
	mu    sync.Mutex
	files map[uint32][]string // by process
	looks []time.Duration     // since the start
	begin time.Time
}

func (u *using) Used(k event.Key, known func(string) bool) ([]string, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.looks = append(u.looks, time.Since(u.begin))
	files, ok := u.files[k.PID]
	if !ok {
		return nil, fault.New(fault.NotFound, "process %d has ended", k.PID)
	}
	return slices.DeleteFunc(slices.Clone(files), known), nil
}

func (u *using) set(pid uint32, files ...string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.files[pid] = files
}

// told returns what was told of a workload, in order.
func (u *using) told(workload string) (all []string) {
	u.world.mu.Lock()
	defer u.world.mu.Unlock()
	for _, r := range u.reports {
		for _, use := range r.Uses {
			if use.WorkloadID == workload {
				all = append(all, use.Paths...)
			}
		}
	}
	return all
}

func execIn(workload string, pid uint32) event.Event {
	e := exec(pid, "/a")
	e.WorkloadID = workload
	return e
}

func newUsing(running []event.Running) *using {
	u := &using{
		world: &world{sense: make(chan []event.Event), engine: make(chan asset.Inventory), running: running},
		files: map[uint32][]string{}, begin: time.Now(),
	}
	for _, r := range running {
		u.files[r.Process.Key.PID] = []string{fmt.Sprint("/early", r.Process.Key.PID)}
	}
	return u
}

// watch runs an agent until stop is called, which waits for its end.
func (u *using) watch(t *testing.T) (stop func()) {
	a := agent.New(agent.Config{ID: "A"}, agent.Parts{Engine: u, Sensors: u, Host: u, Server: u, UseReader: u}, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- a.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run returned %v, want nil", err)
		}
	}
}

func whileUsing(t *testing.T, running []event.Running, play func(t *testing.T, u *using)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		u := newUsing(running)
		stop := u.watch(t)
		settle(90 * time.Second) // the first round is over
		play(t, u)
		stop()
	})
}

// TestFilesInUseOfAnAgentThatWasKilled: what it had read and not delivered is read
// again by the next one, at once, from what runs.
func TestFilesInUseOfAnAgentThatWasKilled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newUsing(early("w", 1, 2))
		u.respond(func(link.Report) (link.Receipt, error) { return link.Receipt{}, fault.New(fault.Unavailable, "away") })
		stop := u.watch(t)
		settle(30 * time.Second)
		if len(u.looks) < 2 {
			t.Fatalf("%d looks, want one of each process", len(u.looks))
		}
		stop() // what waits is forgotten, as when it is killed
		u.respond(nil)
		u.begin = time.Now()
		stop = u.watch(t)
		settle(10 * time.Second)
		got := u.told("w")
		slices.Sort(got)
		if diff := cmp.Diff([]string{"/early1", "/early2"}, got); diff != "" {
			t.Errorf("told by the next one (-want +got):\n%s", diff)
		}
		stop()
	})
}

func early(workload string, pids ...uint32) (all []event.Running) {
	for _, pid := range pids {
		all = append(all, event.Running{WorkloadID: workload, Process: event.Process{Key: event.Key{PID: pid, Start: uint64(pid) * 1e9}}})
	}
	return all
}

func TestFilesInUseAreToldOnceAWorkload(t *testing.T) {
	whileUsing(t, early("w3", 9), func(t *testing.T, u *using) {
		u.set(1, "/libc.so", "/a")
		u.set(2, "/libc.so", "/b")
		u.set(3, "/libc.so")
		u.sense <- []event.Event{execIn("w1", 1), execIn("w1", 2), execIn("w2", 3), exec(4, "/host")}
		settle(12 * time.Second)
		u.set(1, "/libc.so", "/a", "/late.so")
		settle(time.Minute)
		if diff := cmp.Diff([]string{"/libc.so", "/a", "/b", "/late.so"}, u.told("w1")); diff != "" {
			t.Errorf("of the first (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]string{"/libc.so"}, u.told("w2")); diff != "" {
			t.Errorf("of the second (-want +got):\n%s", diff)
		}
		u.set(9, "/early9", "/very-late.so")
		settle(11 * time.Minute)
		if diff := cmp.Diff([]string{"/early9", "/very-late.so"}, u.told("w3")); diff != "" {
			t.Errorf("after a round (-want +got):\n%s", diff)
		}
	})
}

func TestWhenProcessesAreLookedAt(t *testing.T) {
	whileUsing(t, nil, func(t *testing.T, u *using) {
		u.set(1, "/a")
		u.looks, u.begin = nil, time.Now()
		u.sense <- []event.Event{execIn("w", 1)}
		settle(4 * time.Minute)
		if len(u.looks) != 2 || u.looks[0].Round(time.Second) < 5*time.Second || u.looks[0] > 7*time.Second ||
			u.looks[1] < time.Minute || u.looks[1] > 63*time.Second {
			t.Errorf("looked at after %v, want after 5 seconds and a minute", u.looks)
		}
	})
}

func TestWhatRanBeforeTheAgentIsLookedAtWithinItsBudget(t *testing.T) {
	var pids []uint32
	for pid := range uint32(200) {
		pids = append(pids, pid+1)
	}
	whileUsing(t, early("w", pids...), func(t *testing.T, u *using) {
		if got := len(u.told("w")); got != 200 {
			t.Errorf("%d files were told, want 200", got)
		}
		inSecond := map[time.Duration]int{}
		for _, at := range u.looks {
			inSecond[at.Truncate(time.Second)]++
		}
		for at, n := range inSecond {
			if n > 20 {
				t.Errorf("%d processes were looked at in second %s, want at most 20", n, at)
			}
		}
	})
}

func TestFilesInUseAreToldAnewToAServerThatForgot(t *testing.T) {
	whileUsing(t, early("w", 1), func(t *testing.T, u *using) {
		if diff := cmp.Diff([]string{"/early1"}, u.told("w")); diff != "" {
			t.Fatalf("before (-want +got):\n%s", diff)
		}
		asked := false
		u.respond(func(link.Report) (link.Receipt, error) {
			first := !asked
			asked = true
			return link.Receipt{WantSnapshot: first}, nil
		})
		settle(time.Minute)
		if diff := cmp.Diff([]string{"/early1", "/early1"}, u.told("w")); diff != "" {
			t.Errorf("after (-want +got):\n%s", diff)
		}
	})
}

func TestFilesInUseWaitForAServerThatIsAway(t *testing.T) {
	whileUsing(t, nil, func(t *testing.T, u *using) {
		u.respond(func(link.Report) (link.Receipt, error) { return link.Receipt{}, fault.New(fault.Unavailable, "away") })
		u.set(1, "/a")
		u.sense <- []event.Event{execIn("w", 1)}
		settle(5 * time.Minute)
		u.respond(nil)
		settle(time.Minute)
		if diff := cmp.Diff([]string{"/a"}, u.told("w")); diff != "" {
			t.Errorf("told (-want +got):\n%s", diff)
		}
	})
}

func TestManyFilesInUseTravelInReportsThatAreTaken(t *testing.T) {
	whileUsing(t, nil, func(t *testing.T, u *using) {
		const workloads, each = 5, 4000
		var events []event.Event
		for w := range uint32(workloads) {
			var files []string
			for i := range each {
				files = append(files, fmt.Sprintf("/w%d/%d", w, i))
			}
			u.set(w+1, files...)
			events = append(events, execIn(fmt.Sprint("w", w), w+1))
		}
		u.respond(func(r link.Report) (link.Receipt, error) { return link.Receipt{}, r.Check() })
		u.sense <- events
		settle(30 * time.Minute)
		for w := range workloads {
			got := u.told(fmt.Sprint("w", w))
			slices.Sort(got)
			if len(got) != each || len(slices.Compact(got)) != each {
				t.Errorf("%d files of workload %d were told, want %d, each once", len(got), w, each)
			}
		}
	})
}

func TestOneWorkloadLeavesRoomForOthers(t *testing.T) {
	whileUsing(t, early("greedy", 7), func(t *testing.T, u *using) {
		var files []string
		for i := range 30_000 {
			files = append(files, fmt.Sprint("/", i))
		}
		u.set(7, files...)
		u.set(8, "/a")
		u.respond(func(r link.Report) (link.Receipt, error) { return link.Receipt{}, r.Check() })
		settle(45 * time.Minute)
		u.sense <- []event.Event{execIn("modest", 8)}
		settle(time.Minute)
		if got := len(u.told("greedy")); got != 10_000 {
			t.Errorf("%d files of the greedy one were told, want 10000", got)
		}
		if diff := cmp.Diff([]string{"/a"}, u.told("modest")); diff != "" {
			t.Errorf("of the modest one (-want +got):\n%s", diff)
		}
	})
}
