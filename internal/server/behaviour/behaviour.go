// Package behaviour looks after how the groups of the fleet behave: it learns from
// the events that are stored, holds them against the profiles of groups that are
// monitored or protected, keeps what lay outside, changes modes as people and
// settledness say, and tells each agent what the groups on its host are held to.
//
// One goroutine owns what is learned. It reads events from the store in the order
// of their IDs, so that no event is lost or counted twice over a restart: how far
// it has come is kept together with what it made of it. What people ask for is done
// by the same goroutine between two pages of events.
//
// It is not for what is normal, what a violation is, and when a group is settled:
// that is for the room internal/watch.
package behaviour

import (
	"context"
	"crypto"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/profile"
	"github.com/castellan-security/castellan/internal/server/live"
	"github.com/castellan-security/castellan/internal/server/topology"
	"github.com/castellan-security/castellan/internal/store"
)

// PartBehaviour is the name of the condition that is set.
const PartBehaviour = "behaviour"

// Store is what is kept.
type Store interface {
	store.Behaviour
	Seen
	AppendAudit(ctx context.Context, a access.Audit) error
}

// Seen is what was seen.
type Seen interface {
	Events(ctx context.Context, q store.EventQuery) (store.EventPage, error)
	Event(ctx context.Context, id int64) (event.Event, error)
	// Samples are what a workload has used, the oldest first.
	Samples(ctx context.Context, workloadID string, since, until time.Time, step time.Duration) ([]asset.Sample, error)
	Workloads
	Agents(ctx context.Context) ([]asset.Agent, error)
}

// Workloads are those of the events.
type Workloads interface {
	Workload(ctx context.Context, id string) (asset.Workload, error)
	Workloads(ctx context.Context, q store.WorkloadQuery) ([]asset.Workload, error)
}

// Map knows at which addresses groups are reached; see topology.Index.
type Map interface {
	Ways(agentID string, from, to asset.Group) []topology.Way
	Hosts() []netip.Addr
	Changes() uint64
}

// Directions reach the agents that listen.
type Directions interface {
	// TellBehaviour tells an agent that what it is to hold may be another.
	TellBehaviour(agentID, stamp string)
}

// Options are what a Service needs. All but News, Directions, Outside and Condition
// are required.
type Options struct {
	Store Store
	Map   Map
	// News returns a channel that gets a value when events were stored, until ctx
	// ends. Without it they are looked for every second.
	News       func(ctx context.Context) (<-chan struct{}, error)
	Directions Directions
	// Outside hears of violations that were stored, with how often each happened since
	// it was told of them last. Its error is logged: they are kept.
	Outside func(ctx context.Context, all []profile.Violation) error
	// Condition shows that a part is not well, or, with nil, that it is again.
	Condition func(ctx context.Context, part string, err error)
	// Keys are those of whom profiles that people write must be signed by; without any
	// nobody needs to sign. What is learned is nobody's.
	Keys  []crypto.PublicKey
	Pace  Pace
	Clock func() time.Time
	// Uptime is how much time has gone by since some moment, whoever sets the clock, at
	// a time of it. Without it that is told from the monotonic reading of the clock's
	// times, if they have one.
	Uptime func(now time.Time) time.Duration
	Log    *slog.Logger
}

// Pace is how often things are done by themselves. Zero is what is usual.
type Pace struct {
	Save    time.Duration // what was learned is stored
	Promote time.Duration // groups are looked at for whether they are settled
	Tell    time.Duration // agents are told, at most
}

// The usual pace.
const (
	// saveEvery is how much is learned again after a crash, at most.
	saveEvery    = 30 * time.Second
	promoteEvery = time.Minute
	// tellEvery follows a change of what agents hold; containers come and go.
	tellEvery = 250 * time.Millisecond
)

// Service is what looks after behaviour. It is safe for concurrent use.
type Service struct {
	Options
	asks    chan ask
	ready   chan struct{} // closed when what is kept was read
	over    chan struct{} // closed when Run has ended
	fleet   fleet
	hosts   hosts
	held    held
	rules   rules
	running running
	replay  chan struct{} // one token: who holds it rehearses
	// changes wakes those who follow groups.
	changes *live.Feed

	mu       sync.Mutex
	progress Progress
}

// Progress is how far events are known.
type Progress struct {
	// Position is the ID of the last event that was learned from or compared, Events
	// how many since the server started.
	Position int64  `json:"position"`
	Events   uint64 `json:"events"`
	// Waiting is about how many stored events are not known yet.
	Waiting int64 `json:"waiting"`
	// Left counts events of groups that found no room.
	Left uint64 `json:"left,omitempty"`
}

// New returns a service that learns nothing before Run.
func New(o Options) *Service {
	if o.Condition == nil {
		o.Condition = func(context.Context, string, error) {}
	}
	if o.Uptime == nil {
		o.Uptime = monotonic(o.Clock())
	}
	for _, d := range [...]struct {
		at    *time.Duration
		usual time.Duration
	}{{&o.Pace.Save, saveEvery}, {&o.Pace.Promote, promoteEvery}, {&o.Pace.Tell, tellEvery}} {
		if *d.at == 0 {
			*d.at = d.usual
		}
	}
	s := &Service{Options: o, asks: make(chan ask), ready: make(chan struct{}), over: make(chan struct{}), replay: make(chan struct{}, 1), changes: live.NewFeed()}
	s.fleet.init()
	s.hosts.init()
	s.held.init()
	s.rules.init()
	s.running.init()
	return s
}

// Run learns and compares until ctx ends; then it stores what it has learned. Call
// it once.
func (s *Service) Run(ctx context.Context) {
	defer close(s.over)
	var wg sync.WaitGroup
	wg.Go(func() { s.tellAll(ctx) })
	s.own(ctx)
	wg.Wait()
}

// Progress returns how far events are known.
func (s *Service) Progress() Progress {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.progress
}

// Noted hears of workloads that were stored: they decide which groups are on which
// host. It is quick and does not wait.
func (s *Service) Noted(ws []asset.Workload) {
	s.hosts.hear(ws, s.Clock())
	s.fleet.nudge()
}
