package intake

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/store"
)

// takeWorkloads stores the workloads that are the agent's own, and after a
// complete report marks those as lost that its engine no longer knows. It returns what it
// stored.
func (in *Intake) takeWorkloads(ctx context.Context, r *link.Report, now time.Time) ([]asset.Workload, error) {
	good := make([]asset.Workload, 0, len(r.Workloads))
	var malformed, foreign uint64
	for _, w := range r.Workloads {
		if !asset.IsContainerID(w.ID) {
			malformed++
			continue
		}
		bound(&w)
		w.AgentID = r.Agent.ID
		w.Group = asset.GroupOf(w)
		if _, mine, err := in.known.group(ctx, in, w.ID, r.Agent.ID, now); err != nil {
			return nil, err
		} else if !mine {
			foreign++
			continue
		}
		good = append(good, w)
	}
	if r.Complete && malformed+foreign == 0 {
		gone, err := in.gone(ctx, r.Agent.ID, good, now)
		if err != nil {
			return nil, err
		}
		good = append(good, gone...)
	}
	if len(good) > 0 {
		if err := in.st.PutWorkloads(ctx, good); err != nil {
			return nil, fmt.Errorf("store workloads: %w", err)
		}
	}
	in.peers.index.Put(good, now)
	for i := range good {
		in.known.put(good[i].ID, owner{agent: r.Agent.ID, group: string(good[i].Group)})
	}
	in.lost(r.Agent.ID, LostForm, malformed)
	in.lost(r.Agent.ID, LostOwner, foreign)
	return good, nil
}

// gone returns, as lost, the agent's live workloads that are not among those
// its engine knows.
func (in *Intake) gone(ctx context.Context, agentID string, have []asset.Workload, now time.Time) ([]asset.Workload, error) {
	q := store.WorkloadQuery{
		AgentID: agentID, Limit: store.MaxPage,
		States: []asset.State{asset.Created, asset.Running, asset.Paused},
	}
	var out []asset.Workload
	for {
		page, err := in.st.Workloads(ctx, q)
		if err != nil {
			return nil, fmt.Errorf("list the agent's workloads: %w", err)
		}
		for _, w := range page {
			if !slices.ContainsFunc(have, func(h asset.Workload) bool { return h.ID == w.ID }) {
				w.State, w.PID, w.Updated = asset.Lost, 0, now
				w.Finished = &now
				out = append(out, w)
			}
		}
		if len(page) < store.MaxPage {
			return out, nil
		}
		q.After = page[len(page)-1].ID
	}
}

// maxKnown bounds the memory of workloads: some 20 MiB. Beyond it any are
// forgotten, and read from the store again.
const maxKnown = 50_000

// owner is whose a workload is. The zero value is a workload not heard of.
type owner struct{ agent, group string }

// known remembers whose the workloads are, so that the store is not asked at
// every event.
type known struct {
	mu     sync.Mutex
	owners map[string]owner
}

func newKnown() *known { return &known{owners: map[string]owner{}} }

func (k *known) put(id string, o owner) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, there := k.owners[id]; !there && len(k.owners) >= maxKnown {
		for other := range k.owners {
			delete(k.owners, other)
			break
		}
	}
	k.owners[id] = o
}

func (k *known) get(id string) (owner, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	o, ok := k.owners[id]
	return o, ok
}

// group returns the workload's group, and whether the agent may speak for it:
// nobody else does, or who did has been silent.
func (k *known) group(ctx context.Context, in *Intake, id, agentID string, now time.Time) (group string, mine bool, err error) {
	if id == "" {
		return "", true, nil // the agent's own host
	}
	o, ok := k.get(id)
	if !ok {
		if o, err = in.lookUp(ctx, id); err != nil {
			return "", false, err
		}
		k.put(id, o)
	}
	if o.agent == "" || o.agent == agentID {
		return o.group, true, nil
	}
	silent, err := in.silent(ctx, o.agent, now)
	return o.group, silent, err
}

func (in *Intake) lookUp(ctx context.Context, id string) (owner, error) {
	w, err := in.st.Workload(ctx, id)
	if fault.Is(err, fault.NotFound) {
		return owner{}, nil
	}
	if err != nil {
		return owner{}, fmt.Errorf("read workload %s: %w", asset.ShortID(id), err)
	}
	return owner{agent: w.AgentID, group: string(w.Group)}, nil
}

// silent reports whether an agent was not heard of for silentAfter.
func (in *Intake) silent(ctx context.Context, agentID string, now time.Time) (bool, error) {
	in.mu.Lock()
	a := in.agents[agentID]
	in.mu.Unlock()
	if a != nil {
		return now.Sub(a.lastHeard()) > silentAfter, nil
	}
	stored, err := in.st.Agent(ctx, agentID)
	if fault.Is(err, fault.NotFound) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("read agent %s: %w", agentID, err)
	}
	return now.Sub(stored.Seen) > silentAfter, nil
}
