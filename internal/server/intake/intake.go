// Package intake takes what agents report: it judges it, completes it, stores
// it, and then shows it to those who follow live.
//
// Which agent reports has been proven before: by its certificate (see enrol), or
// by being in this process. It trusts no agent further than its own host: every text is bounded, every
// event belongs to the agent that reported it, and nobody speaks for another
// agent's workloads. It is not for how a report travels (see internal/link).
package intake

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"sync"
	"sync/atomic"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/server/live"
	"github.com/castellan-security/castellan/internal/server/topology"
	"github.com/castellan-security/castellan/internal/store"
)

// Limits of what is remembered of agents.
const (
	// MaxAgents bounds the agents of one server: their process tables are kept
	// in memory.
	MaxAgents = 2_000
	// agentEvery is how often an agent's own description is stored when nothing
	// in it matters at once: under load it reports ten times a second.
	agentEvery = 5 * time.Second
	// silentAfter an agent's workloads may be claimed by another one: its data
	// folder was lost and it came back with a new id.
	silentAfter = time.Minute
	// snapshotEvery is how often an agent with new losses is asked for its
	// whole process table, which then misses what was lost.
	snapshotEvery = time.Minute
)

// Where events get lost on the server's side; see live.Conditions.Losses.
const (
	LostForm  = "server: malformed" // events that no agent of ours sends
	LostOwner = "server: foreign"   // events and workloads of another agent
	LostTree  = "server: tree full" // processes that trees had no room for; their events are stored
)

// PartStore is the name of the condition that says why reports can't be stored.
const PartStore = "store"

// Store is what is kept.
type Store interface {
	store.Workloads
	store.Agents
	Samples
	Appender
	Finder
}

// Appender keeps events.
type Appender interface {
	AppendEvents(ctx context.Context, events []event.Event) error
}

// Finder finds events that are kept.
type Finder interface {
	Events(ctx context.Context, q store.EventQuery) (store.EventPage, error)
}

// Samples keeps what workloads use.
type Samples interface {
	PutSamples(ctx context.Context, samples []asset.Sample) error
}

// Images hears what runs from which image, and which of its files. Both are
// called within reports: they must be quick and must not wait.
type Images interface {
	// Noted is told of workloads that were stored.
	Noted(ws []asset.Workload)
	// Used is told of files of its image that a workload executed or mapped.
	Used(workloadID string, paths ...string)
}

// Intake is link.Server. It is safe for concurrent use; reports of one agent
// are taken one after the other.
type Intake struct {
	st         Store
	tables     *live.Tables
	feed       *live.Feed
	conditions *live.Conditions
	clock      func() time.Time
	log        *slog.Logger
	images     Images                                    // nil: nobody wants to hear
	threats    Threats                                   // nil: agents keep them
	running    func(agentID string, all []event.Running) // nil: nobody wants to hear
	known      *known
	open       *open
	peers      *peers
	stored     atomic.Uint64

	mu     sync.Mutex
	agents map[string]*reporter
}

// reporter is what is remembered of one agent.
type reporter struct {
	turn     chan struct{} // one token: who holds it takes a report
	stored   asset.Agent   // as PutAgent last had it
	storedAt time.Time
	lost     uint64    // losses that a snapshot was asked for
	asked    time.Time // for that snapshot
	told     told

	mu   sync.Mutex
	seen time.Time
}

// New returns an intake that stores in st and shows in the live parts.
func New(st Store, tables *live.Tables, feed *live.Feed, conditions *live.Conditions, clock func() time.Time, log *slog.Logger) *Intake {
	return &Intake{
		st: st, tables: tables, feed: feed, conditions: conditions, clock: clock, log: log,
		known: newKnown(), open: newOpen(), peers: newPeers(), agents: map[string]*reporter{},
	}
}

// Tell has images hear of what is reported from now on. Call it before the first
// report.
func (in *Intake) Tell(images Images) { in.images = images }

// TellRunning has f hear of all that runs on an agent's host, when the agent says so:
// when it starts, the server does, or events were lost. f must be quick and must not
// wait. Call it before the first report.
func (in *Intake) TellRunning(f func(agentID string, all []event.Running)) { in.running = f }

// Topology knows whose an address is, once an agent has reported or Seed was called.
func (in *Intake) Topology() *topology.Index { return in.peers.index }

// Seed has Topology know what was known when the server stopped.
func (in *Intake) Seed(ctx context.Context) error { return in.peers.seed(ctx, in.st, in.clock()) }

// idForm is what ids and boots of agents look like.
var idForm = regexp.MustCompile(`^[A-Za-z0-9_-]{8,64}$`)

// Report is link.Server. A report beyond the limits, or of an agent without an
// id, is refused as Invalid; within a good report, single events that make no
// sense are left out and counted.
func (in *Intake) Report(ctx context.Context, r link.Report) (link.Receipt, error) {
	if err := r.Check(); err != nil {
		return link.Receipt{}, err
	}
	if !idForm.MatchString(r.Agent.ID) || !idForm.MatchString(r.Agent.Boot) || r.Boot != "" && !idForm.MatchString(r.Boot) {
		return link.Receipt{}, fault.New(fault.Invalid, "report without a well-formed agent id and boot")
	}
	now := in.clock()
	a, err := in.reporter(r.Agent.ID)
	if err != nil {
		return link.Receipt{}, err
	}
	select {
	case a.turn <- struct{}{}:
		defer func() { <-a.turn }()
	case <-ctx.Done():
		return link.Receipt{}, fmt.Errorf("wait for the agent's report before: %w", ctx.Err())
	}
	a.heard(now)
	if err := in.take(ctx, a, &r, now); err != nil {
		in.trouble(ctx, err)
		return link.Receipt{}, err
	}
	in.trouble(ctx, nil)
	// Last: what is told once must not be told again because something else failed.
	taken := in.takeThreats(ctx, a, &r, now)
	return link.Receipt{WantSnapshot: in.wantSnapshot(a, &r, now), ThreatsTaken: taken}, nil
}

// take judges, stores and shows one report.
func (in *Intake) take(ctx context.Context, a *reporter, r *link.Report, now time.Time) error {
	bound(&r.Agent)
	r.Agent.Clock = 0
	if sane(r.Sent) {
		r.Agent.Clock = r.Sent.Sub(now)
	}
	if err := in.peers.seed(ctx, in.st, now); err != nil {
		return err
	}
	in.peers.index.PutHost(r.Agent.ID, r.Agent.Host.Addresses)
	stored, err := in.takeWorkloads(ctx, r, now)
	if err != nil {
		return err
	}
	if err := in.takeAgent(ctx, a, r, now); err != nil {
		return err
	}
	if err := in.takeEvents(ctx, r, now); err != nil {
		return err
	}
	if err := in.takeSamples(ctx, r, now); err != nil {
		return err
	}
	if err := in.tell(ctx, r, stored, now); err != nil {
		return err
	}
	procs, err := in.cleanProcesses(ctx, r, now)
	if err != nil {
		return err
	}
	r.Processes = procs
	if r.Snapshot && in.running != nil {
		in.running(r.Agent.ID, procs)
	}
	before := in.tables.Skipped()
	in.feed.Touch(in.tables.Apply(r.Agent.ID, ofNow(*r))...)
	in.conditions.Lose(LostTree, in.tables.Skipped()-before)
	in.feed.Publish(r.Events)
	return nil
}

// takeAgent stores who reports, at most every agentEvery unless something
// changed that a person waits for.
func (in *Intake) takeAgent(ctx context.Context, a *reporter, r *link.Report, now time.Time) error {
	r.Agent.Seen = now
	s := &a.stored
	same := s.Boot == r.Agent.Boot && s.Engine == r.Agent.Engine && s.Lost() == r.Agent.Lost()
	if since := now.Sub(a.storedAt); same && since >= 0 && since < agentEvery {
		return nil
	}
	if err := in.st.PutAgent(ctx, r.Agent); err != nil {
		return fmt.Errorf("store agent %s: %w", r.Agent.ID, err)
	}
	a.stored, a.storedAt = r.Agent, now
	return nil
}

// ofNow is r without events of a former start of the agent: they are evidence,
// but say nothing about what runs now.
func ofNow(r link.Report) link.Report {
	if r.Boot != "" && r.Boot != r.Agent.Boot {
		r.Events = nil
	}
	return r
}

// takeEvents stores the events that are good, and leaves in r what is new: a
// report that came twice is not shown twice.
func (in *Intake) takeEvents(ctx context.Context, r *link.Report, now time.Time) error {
	good, err := in.judge(ctx, r, now)
	if err != nil {
		return err
	}
	if len(good) > 0 {
		if err := in.st.AppendEvents(ctx, good); err != nil {
			return fmt.Errorf("store events: %w", err)
		}
		in.open.take(r.Agent.ID, good)
	}
	fresh := good[:0:0] // not in place: the feed keeps it
	for i := range good {
		if good[i].ID != 0 {
			fresh = append(fresh, good[i])
		}
	}
	in.stored.Add(uint64(len(fresh)))
	r.Events = fresh
	return nil
}

// judge returns the events that make sense and are the agent's to tell,
// completed, and counts the others. A resumed connection that was told before
// is neither: it is left out.
func (in *Intake) judge(ctx context.Context, r *link.Report, now time.Time) ([]event.Event, error) {
	good := r.Events[:0:0]
	boot := r.Boot
	if boot == "" {
		boot = r.Agent.Boot
	}
	var malformed, foreign, last uint64
	asks := asksAtOnce
	for _, e := range r.Events {
		if e.Seq <= last || !cleanEvent(&e, now) {
			malformed++
			continue
		}
		last = e.Seq
		group, mine, err := in.known.group(ctx, in, e.WorkloadID, r.Agent.ID, now)
		if err != nil {
			return nil, err
		}
		if !mine {
			foreign++
			continue
		}
		e.AgentID, e.Boot, e.Received, e.Group = r.Agent.ID, boot, now, group
		in.peers.hear(&e)
		known, err := in.told(ctx, r.Agent.ID, &e, &asks, now)
		if err != nil {
			return nil, err
		}
		if known {
			continue
		}
		good = append(good, e)
	}
	for i := range good {
		in.peers.name(&good[i])
	}
	in.lost(r.Agent.ID, LostForm, malformed)
	in.lost(r.Agent.ID, LostOwner, foreign)
	return good, nil
}

// Stored returns how many events were stored since the server started.
func (in *Intake) Stored() uint64 { return in.stored.Load() }

func (in *Intake) lost(agentID, where string, n uint64) {
	if n == 0 {
		return
	}
	in.conditions.Lose(where, n)
	in.log.Warn("events left out of a report", "agent_id", agentID, "why", where, "count", n)
}

// wantSnapshot says whether the agent should send everything: when this server
// has not had its process table since either of them started, and when events
// were lost, so that exits nobody saw don't stay in the trees.
func (in *Intake) wantSnapshot(a *reporter, r *link.Report, now time.Time) bool {
	if !in.tables.Known(r.Agent.ID, r.Agent.Boot) {
		return true
	}
	lost := r.Agent.Lost()
	more := lost > a.lost && now.Sub(a.asked) >= snapshotEvery
	if more || lost < a.lost { // fewer: the agent began anew
		a.lost = lost
	}
	if more {
		a.asked = now
	}
	return more
}

// trouble shows in the conditions whether the store takes reports.
func (in *Intake) trouble(ctx context.Context, err error) {
	switch {
	case err == nil:
		if in.conditions.Set(PartStore, nil) {
			in.log.Info("store takes reports again")
		}
		return
	case ctx.Err() != nil, errors.Is(err, context.Canceled), fault.Is(err, fault.Invalid):
		return // the agent gave up, or is to blame
	}
	if in.conditions.Set(PartStore, err) {
		in.log.Error("store takes no reports", "error", err, "remedy", fault.Remedy(err))
	}
}

// reporter returns what is remembered of an agent; Exhausted when there are
// too many.
func (in *Intake) reporter(id string) (*reporter, error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	a := in.agents[id]
	if a != nil {
		return a, nil
	}
	if len(in.agents) >= MaxAgents {
		return nil, fault.New(fault.Exhausted, "%d agents report here already", MaxAgents).
			With("run another server for further agents")
	}
	a = &reporter{turn: make(chan struct{}, 1)}
	in.agents[id] = a
	return a, nil
}

func (a *reporter) heard(now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.seen = now
}

func (a *reporter) lastHeard() time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.seen
}

// Forget drops what is remembered of agents that were not heard of since, with
// their process tables. The store keeps them.
func (in *Intake) Forget(since time.Time) {
	in.mu.Lock()
	defer in.mu.Unlock()
	for id, a := range in.agents {
		if a.lastHeard().Before(since) {
			delete(in.agents, id)
			in.tables.Forget(id)
			in.peers.index.Forget(id)
			in.open.forget(id)
		}
	}
}
