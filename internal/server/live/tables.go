package live

import (
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/link"
)

// Limits of what is kept.
const (
	// keepEnded is how long a process that ended stays in its tree: long enough
	// to be seen by somebody who looks after hearing of it.
	keepEnded = 5 * time.Minute
	// maxEnded bounds the ended processes of one workload; in a storm of short
	// processes the newest are enough to see what goes on.
	maxEnded = 100
	// maxRunning bounds what one agent can make the server hold. An agent's
	// snapshot is bounded by the same number.
	maxRunning = link.MaxProcesses
	// maxWorkloads bounds the trees of one agent; those that ended longest ago
	// go first, as keepEnded empties them.
	maxWorkloads = 10_000
)

// Tables are the process tables of all agents, and what their workloads use.
// They are safe for concurrent use.
type Tables struct {
	clock func() time.Time

	mu     sync.Mutex
	agents map[string]*table
	owner  map[string]string        // workload id → agent id
	usage  map[string]WorkloadUsage // by workload id
	// skipped is the sum over all tables, those that were forgotten included: it
	// is asked for at every report.
	skipped uint64
}

// NewTables returns empty tables; clock nil means time.Now.
func NewTables(clock func() time.Time) *Tables {
	if clock == nil {
		clock = time.Now
	}
	return &Tables{clock: clock, agents: map[string]*table{}, owner: map[string]string{}, usage: map[string]WorkloadUsage{}}
}

// Apply takes over what a report says about processes and returns the
// workloads whose tree changed ("" for the host's own).
func (t *Tables) Apply(agentID string, r link.Report) (changed []string) {
	now := t.clock()
	t.mu.Lock()
	defer t.mu.Unlock()
	tb := t.agents[agentID]
	if tb == nil || tb.boot != r.Agent.Boot {
		// A new start of the agent: what the old one knew may have changed
		// unseen, so it stands only until the snapshot comes.
		tb = t.restart(agentID, r.Agent.Boot, tb)
	}
	t.use(r.Samples, now)
	touched, skipped := map[string]struct{}{}, tb.skipped
	if r.Snapshot {
		tb.replace(r.Processes, now, touched)
	}
	for i := range r.Events {
		tb.apply(&r.Events[i], now, touched)
	}
	tb.sweep(now, touched)
	t.skipped += tb.skipped - skipped
	for id := range touched {
		if _, ok := tb.trees[id]; ok && id != "" {
			t.owner[id] = agentID
		}
	}
	for id := range tb.gone {
		delete(t.owner, id)
	}
	clear(tb.gone)
	return slices.Collect(maps.Keys(touched))
}

func (t *Tables) restart(agentID, boot string, old *table) *table {
	tb := old
	if tb == nil {
		tb = newTable()
		t.agents[agentID] = tb
	}
	tb.boot, tb.known = boot, false
	return tb
}

// Known reports whether the agent's whole process table was received since
// that start of the agent.
func (t *Tables) Known(agentID, boot string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	tb := t.agents[agentID]
	return tb != nil && tb.known && tb.boot == boot
}

// Tree returns the processes of one workload, oldest first: those that run and
// those that ended within the last minutes. known is false while the workload's
// agent has not sent its process table, and for a workload none of whose
// processes was heard of lately: nothing may be concluded from an empty tree.
func (t *Tables) Tree(workloadID string) (procs []event.Running, known bool) {
	now := t.clock()
	t.mu.Lock()
	defer t.mu.Unlock()
	tb := t.agents[t.owner[workloadID]]
	if tb == nil || workloadID == "" {
		return nil, false
	}
	return tb.list(workloadID, now), tb.known
}

// Host returns the processes of an agent's host that belong to no workload.
func (t *Tables) Host(agentID string) (procs []event.Running, known bool) {
	now := t.clock()
	t.mu.Lock()
	defer t.mu.Unlock()
	tb := t.agents[agentID]
	if tb == nil {
		return nil, false
	}
	return tb.list("", now), tb.known
}

// Skipped returns how many processes found no room in the agents' tables since
// the start. They are stored as events; only the trees lack them.
func (t *Tables) Skipped() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.skipped
}

// Forget drops all that an agent said.
func (t *Tables) Forget(agentID string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.agents, agentID)
	maps.DeleteFunc(t.owner, func(_, id string) bool { return id == agentID })
}
