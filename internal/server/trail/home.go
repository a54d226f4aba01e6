package trail

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/store"
)

// Fleet is what agents told of tasks and their hosts.
type Fleet interface {
	Workloads(ctx context.Context, q store.WorkloadQuery) ([]asset.Workload, error)
	Agent(ctx context.Context, id string) (asset.Agent, error)
}

const (
	// homesFor is for how long it is believed what was read of the fleet: a task that
	// ends is known to have ended within it.
	homesFor = 20 * time.Second
	// maxHomes bounds the containers that are looked at: those that run come first.
	maxHomes = 20_000
)

// homes knows whose credentials those of tasks are. It is for one goroutine.
type homes struct {
	fleet Fleet
	clock func() time.Time
	read  time.Time
	tasks map[string]*home
}

// home is a task of the fleet.
type home struct {
	workload asset.Workload // one of its containers, by which it is known
	event.Home
}

func newHomes(f Fleet, clock func() time.Time) *homes { return &homes{fleet: f, clock: clock} }

// tell adds to a call by a task of the fleet whose it is. What can't be read now is
// left out: rules find less by it.
func (h *homes) tell(ctx context.Context, e *event.Event) {
	id := e.Call.Actor.Task()
	if id == "" {
		return
	}
	if now := h.clock(); h.tasks == nil || now.Sub(h.read) > homesFor {
		if tasks, err := h.all(ctx); err == nil {
			h.tasks = tasks
		}
		h.read = now
	}
	at := h.tasks[id]
	if at == nil || at.workload.ECS.Account != "" && e.Call.Actor.Account != "" && at.workload.ECS.Account != e.Call.Actor.Account {
		return
	}
	e.WorkloadID, e.Group, e.AgentID = at.workload.ID, string(at.workload.Group), at.workload.AgentID
	e.Call.Home = &at.Home
}

// all reads the tasks of the fleet.
func (h *homes) all(ctx context.Context) (map[string]*home, error) {
	of := map[string][]asset.Workload{}
	q := store.WorkloadQuery{Limit: store.MaxPage}
	for n := 0; n < maxHomes; n += q.Limit {
		page, err := h.fleet.Workloads(ctx, q)
		if err != nil {
			return nil, err
		}
		for _, w := range page {
			if w.ECS.TaskID != "" {
				of[w.ECS.TaskID] = append(of[w.ECS.TaskID], w)
			}
		}
		if len(page) < q.Limit {
			break
		}
		q.After = page[len(page)-1].ID
	}
	hosts := map[string][]netip.Addr{}
	out := map[string]*home{}
	for id, ws := range of {
		out[id] = homeOf(ws, func(agent string) []netip.Addr {
			addresses, ok := hosts[agent]
			if !ok {
				if a, err := h.fleet.Agent(ctx, agent); err == nil {
					addresses = a.Host.Addresses
				}
				hosts[agent] = addresses
			}
			return addresses
		})
	}
	return out, nil
}

// homeOf is a task of its containers, of which it is known by one that runs, or the
// first.
func homeOf(ws []asset.Workload, host func(agent string) []netip.Addr) *home {
	runs := func(w *asset.Workload) int {
		if w.State == asset.Running {
			return 0
		}
		return 1
	}
	slices.SortFunc(ws, func(a, b asset.Workload) int {
		return cmp.Or(cmp.Compare(runs(&a), runs(&b)), a.Created.Compare(b.Created), cmp.Compare(a.ID, b.ID))
	})
	at := &home{workload: ws[0]}
	ended := true
	for i := range ws {
		w := &ws[i]
		at.Addresses = append(at.Addresses, w.Settings.Addresses...)
		if w.State != asset.Exited || w.Finished == nil {
			ended = false
			continue
		}
		if w.Finished.After(at.Ended) {
			at.Ended = *w.Finished
		}
	}
	if !ended {
		at.Ended = time.Time{}
	}
	if of := host(ws[0].AgentID); len(of) > 0 {
		at.Addresses = append(at.Addresses, of...)
	} else {
		at.Addresses = nil // without its host's, an address of the host would be a stranger's
	}
	return at
}
