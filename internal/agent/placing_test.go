package agent_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/agent"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
)

// in is an event of a container.
func in(container string, e event.Event) event.Event {
	e.WorkloadID = container
	return e
}

// A container's first program often runs before the engine has told of the container.
// It must be told as that container's all the same, or nobody learns that it is normal.
func TestFirstProgramsBelongToTheirContainers(t *testing.T) {
	up := asset.Engine{Name: "docker", Connected: true}
	for _, tc := range []struct {
		name string
		play func(w *world)
		want []string // the events in their order, with their group when the server takes them
		soon int      // of them that the server has within 200 ms
	}{
		{"the engine tells later", func(w *world) {
			w.engine <- asset.Inventory{Engine: up}
			w.sense <- []event.Event{in(id("a"), exec(1, "/bin/dash")), exec(2, "/host")}
			w.sense <- []event.Event{in(id("a"), exec(3, "/bin/sleep"))}
			time.Sleep(time.Second)
			w.engine <- asset.Inventory{Engine: up, Workloads: []asset.Workload{{ID: id("a"), Name: "web", State: asset.Running}}}
			w.sense <- []event.Event{in(id("a"), exec(4, "/bin/ls"))}
		}, []string{"/host", "/bin/dash docker/web", "/bin/sleep docker/web", "/bin/ls docker/web"}, 1},
		{"the agent starts", func(w *world) {
			w.sense <- []event.Event{in(id("a"), exec(1, "/bin/dash"))}
			time.Sleep(time.Second)
			w.engine <- asset.Inventory{Engine: up, Complete: true, Workloads: []asset.Workload{{ID: id("a"), Name: "web", State: asset.Running}}}
		}, []string{"/bin/dash docker/web"}, 0},
		{"the engine is busy and has only said that it was made", func(w *world) {
			w.engine <- asset.Inventory{Engine: up}
			w.made(asset.Workload{ID: id("a"), Name: "web", State: asset.Created})
			w.sense <- []event.Event{in(id("a"), exec(1, "/bin/dash"))}
		}, []string{"/bin/dash docker/web"}, 0},
		{"another engine's", func(w *world) {
			w.engine <- asset.Inventory{Engine: up}
			w.sense <- []event.Event{in(id("b"), exec(1, "/bin/dash")), in(id("a"), exec(2, "/bin/ls"))}
		}, []string{"/bin/dash docker/bbbbbbbbbbbb", "/bin/ls docker/aaaaaaaaaaaa"}, 0},
		{"the engine is away", func(w *world) {
			w.engine <- asset.Inventory{Engine: asset.Engine{Error: "no such socket"}}
			w.sense <- []event.Event{in(id("a"), exec(1, "/bin/dash"))}
		}, []string{"/bin/dash "}, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inWorld(t, agent.Config{Flush: time.Millisecond}, func(t *testing.T, w *world) {
				soon := 0
				go func() {
					time.Sleep(200 * time.Millisecond)
					soon = len(w.taken())
				}()
				tc.play(w)
				settle(time.Minute)
				var got []string
				groups := map[string]asset.Group{"": ""}
				for _, r := range w.reports {
					for _, wl := range r.Workloads {
						groups[wl.ID] = asset.GroupOf(wl)
					}
					for _, e := range r.Events {
						words := e.Process.Executable
						if e.WorkloadID != "" {
							words += " " + string(groups[e.WorkloadID])
						}
						got = append(got, words)
					}
				}
				if diff := cmp.Diff(tc.want, got); diff != "" {
					t.Errorf("events (-want +got):\n%s", diff)
				}
				if soon != tc.soon {
					t.Errorf("%d events were told within 200 ms, want %d", soon, tc.soon)
				}
			})
		})
	}
}

// What waits is bounded, and told when the agent stops.
func TestWhatWaitsForItsContainerIsBounded(t *testing.T) {
	const many = 30_000
	var w *world
	inWorld(t, agent.Config{QueueSize: 64 << 20, Flush: time.Millisecond}, func(t *testing.T, it *world) {
		w = it
		for i := range 3 {
			all := make([]event.Event, many/3)
			for j := range all {
				all[j] = in(id(fmt.Sprint(i)), exec(uint32(i*many+j+1), "/a"))
			}
			w.sense <- all
		}
		settle(time.Second)
		if got := len(w.taken()); got != many/3 {
			t.Errorf("%d events were told while two containers had room to wait, want %d", got, many/3)
		}
	})
	if got := len(w.taken()); got != many {
		t.Errorf("%d events arrived, want %d", got, many)
	}
}
