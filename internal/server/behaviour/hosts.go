package behaviour

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/store"
)

const (
	// keepOnHost is how long after its last container a group is still one of a host:
	// what runs once a day finds its rules there when it starts.
	keepOnHost = 26 * time.Hour
	// maxSeeded bounds what is read of workloads at the start.
	maxSeeded = 50_000
)

// hosts knows which groups are on which agent's host.
type hosts struct {
	mu sync.Mutex
	of map[string]map[asset.Group]*presence
	at map[string]place // by workload
}

type place struct {
	agent string
	group asset.Group
}

// presence is a group on a host.
type presence struct {
	live map[string]bool // workloads that have not ended
	last time.Time       // when one was there
}

func (h *hosts) init() { h.of, h.at = map[string]map[asset.Group]*presence{}, map[string]place{} }

// load takes over the workloads that are kept.
func (h *hosts) load(ctx context.Context, st Workloads, now time.Time) error {
	q := store.WorkloadQuery{Limit: store.MaxPage}
	for read := 0; read < maxSeeded; read += store.MaxPage {
		page, err := st.Workloads(ctx, q)
		if err != nil {
			return err
		}
		h.hear(page, now)
		if len(page) < store.MaxPage {
			return nil
		}
		q.After = page[len(page)-1].ID
	}
	return nil
}

// hear takes over workloads as they are now.
func (h *hosts) hear(ws []asset.Workload, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range ws {
		w := &ws[i]
		if w.Group == "" || w.AgentID == "" {
			continue
		}
		p := place{w.AgentID, w.Group}
		if was, known := h.at[w.ID]; known && was != p {
			h.leave(w.ID, was)
		}
		groups := h.of[w.AgentID]
		if groups == nil {
			groups = map[asset.Group]*presence{}
			h.of[w.AgentID] = groups
		}
		one := groups[w.Group]
		if one == nil {
			one = &presence{live: map[string]bool{}}
			groups[w.Group] = one
		}
		if w.State != asset.Exited && w.State != asset.Lost {
			one.live[w.ID], one.last, h.at[w.ID] = true, now, p
			continue
		}
		h.leave(w.ID, p)
		ended := now
		if w.Finished != nil && w.Finished.Before(now) {
			ended = *w.Finished
		}
		if ended.After(one.last) {
			one.last = ended
		}
	}
}

// leave ends the presence of a workload; h.mu is held.
func (h *hosts) leave(id string, p place) {
	if one := h.of[p.agent][p.group]; one != nil {
		delete(one.live, id)
	}
	delete(h.at, id)
}

// expect notes that a container of a group is about to start on a host, as its agent
// says. A host that has as many groups as are held gets no more, unless people have
// decided of the group.
func (h *hosts) expect(agentID string, g asset.Group, decided bool, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	groups := h.of[agentID]
	if groups[g] != nil {
		groups[g].last = now
		return
	}
	if len(groups) >= link.MaxHeldGroups && !decided {
		return
	}
	if groups == nil {
		groups = map[asset.Group]*presence{}
		h.of[agentID] = groups
	}
	groups[g] = &presence{live: map[string]bool{}, last: now}
}

// held returns the groups of a host that it is to hold, sorted, and how many of those
// that are held to something there are beyond what a host holds. These go first, as
// inForce says of a group, and of them those that run something: a thousand containers
// that ran once and are only learned from keep no service from being held.
func (h *hosts) held(agentID string, inForce func(asset.Group) bool, now time.Time) (groups []asset.Group, cut int) {
	all := h.on(agentID, now)
	if len(all) <= link.MaxHeldGroups {
		return all, 0
	}
	ranks := make(map[asset.Group]int, len(all))
	h.mu.Lock()
	for _, g := range all {
		if !inForce(g) {
			ranks[g] += 2
		}
		if p := h.of[agentID][g]; p == nil || len(p.live) == 0 {
			ranks[g]++
		}
	}
	h.mu.Unlock()
	slices.SortStableFunc(all, func(a, b asset.Group) int { return ranks[a] - ranks[b] })
	for _, g := range all[link.MaxHeldGroups:] {
		if ranks[g] < 2 {
			cut++
		}
	}
	all = all[:link.MaxHeldGroups]
	slices.Sort(all)
	return all, cut
}

// on returns the groups of a host, sorted, and forgets those that are gone.
func (h *hosts) on(agentID string, now time.Time) []asset.Group {
	h.mu.Lock()
	defer h.mu.Unlock()
	var all []asset.Group
	for g, p := range h.of[agentID] {
		if len(p.live) == 0 && now.Sub(p.last) > keepOnHost {
			delete(h.of[agentID], g)
			continue
		}
		all = append(all, g)
	}
	slices.Sort(all)
	return all
}

// count is on how many hosts workloads of a group are now.
func (h *hosts) count(g asset.Group) (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, groups := range h.of {
		if p := groups[g]; p != nil && len(p.live) > 0 {
			n++
		}
	}
	return n
}

// running returns the agents on whose hosts workloads of a group are now, sorted.
func (h *hosts) running(g asset.Group) (agents []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for agent, groups := range h.of {
		if p := groups[g]; p != nil && len(p.live) > 0 {
			agents = append(agents, agent)
		}
	}
	slices.Sort(agents)
	return agents
}

// live are the workloads of a group that have not ended, on all hosts.
func (h *hosts) live(g asset.Group) (ids []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, groups := range h.of {
		if p := groups[g]; p != nil {
			for id := range p.live {
				ids = append(ids, id)
			}
		}
	}
	return ids
}
