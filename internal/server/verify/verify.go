// Package verify keeps the images of the fleet verified by its trust policy: each
// image that runs is held against the policy by one of the agents that have it,
// when it is new, when the policy changes, and when the answer holds no longer.
// What registries hold that are watched, and runs nowhere, the server verifies
// itself.
//
// Agents verify because they have the way to the registry and the credentials for
// it. What was handed out is remembered in memory alone: an answer to what a
// former start of the server asked is refused, and asked for again. A verdict is
// the word of one agent about an image that it has itself; it is kept for what
// people see, and is no leave for other hosts.
//
// It is not for how signatures are verified (see internal/trust), nor for how a
// wish reaches an agent (see internal/server/direct).
package verify

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/internal/trust"
)

const (
	// noteEvery is how often is noted what runs, and lookEvery how often is looked
	// what is due.
	noteEvery = time.Minute
	lookEvery = 10 * time.Second
	// forgetAfter is how long the verdict of an image is kept that runs no more.
	forgetAfter = 30 * 24 * time.Hour
	// leaseFor is how long an agent has for one image: a registry that is asked
	// to wait is asked for half a minute at most.
	leaseFor = 3 * time.Minute
	// dueForOne is how many images are looked at for each agent that has time: of a
	// few that all have, each gets one.
	dueForOne = 32
)

// PartTrust is the name of the condition that is set.
const PartTrust = "trust"

// Store is what is kept.
type Store interface {
	store.Trust
	Agents(ctx context.Context) ([]asset.Agent, error)
	Workloads(ctx context.Context, q store.WorkloadQuery) ([]asset.Workload, error)
	AppendAudit(ctx context.Context, a access.Audit) error
	Watched
}

// Watched tells what registries are watched, and what they hold; see
// store.Registries.
type Watched interface {
	Registries(ctx context.Context) ([]store.WatchedRegistry, error)
	RegistryImages(ctx context.Context, q store.RegistryImageQuery) ([]store.RegistryImage, error)
}

// Directions reach the agents that listen.
type Directions interface {
	// Listening returns their ids.
	Listening() []string
	// AskVerify makes w what the agent is to verify, EndVerify takes it back.
	AskVerify(agentID string, w link.VerifyWish)
	EndVerify(agentID, job string)
}

// Options are what a Service needs. All but Check, Condition, Every, Own and Held
// are required.
type Options struct {
	Store      Store
	Directions Directions
	// Check says whether signatures can be held against the roots of a policy.
	Check func(*trust.Policy) error
	// Condition shows that a part is not well, or, with nil, that it is again.
	Condition func(ctx context.Context, part string, err error)
	Every     time.Duration // between two looks; lookEvery
	// Own verifies what registries hold; nil: only what agents run is verified. Held
	// returns which of a registry's repositories are not to be read now.
	Own   Own
	Held  func(r asset.Registry) func(repository string) bool
	Clock func() time.Time
	Log   *slog.Logger
}

// Service is what keeps images verified. It is safe for concurrent use.
type Service struct {
	Options
	wake   chan struct{} // one token when there is something to do
	own    chan struct{} // the same, for what registries hold
	trying chan struct{} // one token while a policy is tried

	// changes makes a change of the policy and its audit one step.
	changes sync.Mutex

	mu     sync.Mutex
	leases map[string]lease // by agent
	held   []watched        // what registries hold
	wanted map[store.TrustName]wanted
	unseen bool // some of what is wanted was not noted yet
	behind bool // some of it is of a registry that was not listed yet
}

// lease is an image that an agent is at.
type lease struct {
	job, repository, digest, policy string
	tries                           int // that ended with no verdict
	until                           time.Time
	ending                          bool // its answer is being kept
}

// New returns a service that does nothing before Run.
func New(o Options) *Service {
	if o.Check == nil {
		o.Check = func(*trust.Policy) error { return nil }
	}
	if o.Condition == nil {
		o.Condition = func(context.Context, string, error) {}
	}
	if o.Held == nil {
		o.Held = func(asset.Registry) func(string) bool { return func(string) bool { return false } }
	}
	if o.Every <= 0 {
		o.Every = lookEvery
	}
	return &Service{Options: o, wake: make(chan struct{}, 1), own: make(chan struct{}, 1), wanted: map[store.TrustName]wanted{}, trying: make(chan struct{}, 1), leases: map[string]lease{}}
}

func (s *Service) nudge() { nudge(s.wake) }

func nudge(wake chan<- struct{}) {
	select {
	case wake <- struct{}{}:
	default: // it will look anyway
	}
}

// round is what the loop remembers from one turn to the next.
type round struct {
	noted time.Time                    // when it was last noted what runs
	has   map[name]map[string]struct{} // agents that have an image
}

// name is how an image is known.
type name struct{ repository, digest string }

// Run keeps images verified until ctx ends. Call it once.
func (s *Service) Run(ctx context.Context) {
	var wg sync.WaitGroup
	if s.Own != nil {
		wg.Go(func() { s.verifyWatched(ctx) })
	}
	s.loop(ctx)
	wg.Wait()
}

func (s *Service) loop(ctx context.Context) {
	tick := time.NewTicker(s.Every)
	defer tick.Stop()
	var r round
	for {
		err := s.turn(ctx, &r)
		if ctx.Err() != nil {
			return
		}
		s.Condition(ctx, PartTrust, err)
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
		case <-tick.C:
		}
	}
}

// turn does one round of what there is to do.
func (s *Service) turn(ctx context.Context, r *round) error {
	now := s.Clock()
	wanted := s.takeUnseen()
	if wanted || now.Sub(r.noted) >= min(noteEvery, s.Every*6) {
		if err := s.note(ctx, r, now); err != nil {
			return err
		}
		r.noted = now
	}
	if wanted {
		nudge(s.own)
	}
	if err := s.endOverdue(ctx, now); err != nil {
		return err
	}
	return s.handOut(ctx, r, now)
}

// note finds out what runs, and where.
func (s *Service) note(ctx context.Context, r *round, now time.Time) error {
	r.has = map[name]map[string]struct{}{}
	seen := map[name]*store.TrustSeen{}
	q := store.WorkloadQuery{States: []asset.State{asset.Running, asset.Paused}, Limit: store.MaxPage}
	for {
		page, err := s.Store.Workloads(ctx, q)
		if err != nil {
			return fmt.Errorf("list what runs: %w", err)
		}
		for i := range page {
			r.add(seen, &page[i])
		}
		if len(page) < store.MaxPage {
			break
		}
		q.After = page[len(page)-1].ID
	}
	s.addWatched(seen)
	all := make([]store.TrustSeen, 0, len(seen))
	for _, v := range seen {
		slices.Sort(v.Images)
		slices.Sort(v.Groups)
		all = append(all, *v)
	}
	return s.Store.NoteTrustImages(ctx, all, now, now.Add(-forgetAfter))
}

// add takes up one workload.
func (r *round) add(seen map[name]*store.TrustSeen, w *asset.Workload) {
	n, local := nameOf(w.Image)
	if n.digest == "" {
		return // the engine was not asked yet
	}
	v := seen[n]
	if v == nil {
		v = &store.TrustSeen{Repository: n.repository, Digest: n.digest, Local: local}
		seen[n] = v
		r.has[n] = map[string]struct{}{}
	}
	v.Running++
	r.has[n][w.AgentID] = struct{}{}
	if w.Image.ID != "" && !slices.Contains(v.Images, w.Image.ID) && len(v.Images) < store.MaxTrustGroups {
		v.Images = append(v.Images, w.Image.ID)
	}
	if w.Group != "" && !slices.Contains(v.Groups, w.Group) && len(v.Groups) < store.MaxTrustGroups {
		v.Groups = append(v.Groups, w.Group)
	}
}

// nameOf is how an image is known: by its registry's name and digest, or, if it
// has none, by the engine's.
func nameOf(i asset.Image) (n name, local bool) {
	repository, err := trust.Repository(asset.Repository(i.Reference))
	if err != nil || repository == "" || i.Digest == "" {
		return name{asset.Repository(i.Reference), i.ID}, true
	}
	return name{repository, i.Digest}, false
}

// handOut gives agents that can verify and have nothing to do what is due.
func (s *Service) handOut(ctx context.Context, r *round, now time.Time) error {
	free, err := s.free(ctx)
	if err != nil || len(free) == 0 {
		return err
	}
	can, at := []store.TrustName{}, s.underWay()
	for n, agents := range r.has {
		if at[n] {
			continue
		}
		for id := range agents {
			if slices.Contains(free, id) {
				can = append(can, store.TrustName{Repository: n.repository, Digest: n.digest})
				break
			}
		}
	}
	due, err := s.Store.DueTrustImages(ctx, now, can, len(free)*dueForOne)
	if err != nil || len(due) == 0 {
		return err
	}
	// After them: what a change of the policy made due is not asked for by the
	// former one.
	p, err := s.Store.TrustPolicy(ctx, 0)
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the trust policy: %w", err)
	}
	for i := range due {
		k := slices.IndexFunc(free, func(id string) bool {
			_, has := r.has[name{due[i].Repository, due[i].Digest}][id]
			return has
		})
		if k >= 0 {
			s.ask(free[k], &due[i], p, now)
			free = slices.Delete(free, k, k+1)
		}
	}
	return nil
}

// free returns the agents that listen, can verify, and are at nothing, in no
// order.
func (s *Service) free(ctx context.Context) ([]string, error) {
	listening := s.Directions.Listening()
	if len(listening) == 0 {
		return nil, nil
	}
	agents, err := s.Store.Agents(ctx)
	if err != nil {
		return nil, fmt.Errorf("list agents: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var free []string
	for i := range agents {
		_, busy := s.leases[agents[i].ID]
		if !busy && slices.Contains(agents[i].Abilities, link.AbilityVerify) && slices.Contains(listening, agents[i].ID) {
			free = append(free, agents[i].ID)
		}
	}
	rand.Shuffle(len(free), func(i, j int) { free[i], free[j] = free[j], free[i] })
	return free, nil
}
