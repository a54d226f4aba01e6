// Package gate decides for the doors of deployment that ask the server, by the
// admission policy of the fleet: what is asked for is held against the policy with
// all that the server knows of its images, and what came of it is kept, whoever
// decided.
//
// What is known of an image is gathered once, and again when something of it may
// have changed: its scan, what is accepted of it, the advisories, the verdict of
// the trust policy. What is not known yet is asked for where that is possible: of an
// image of a registry that is watched its scan and its verification are begun, within
// bounds.
// Agents decide by themselves, for their engine does not wait: they fetch policy,
// exceptions and facts (Brief), and report what they decided (Report).
//
// It is not for what a policy means (see internal/admit), nor for the protocols of
// doors.
package gate

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/admit"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/server/live"
	"github.com/castellan-security/castellan/internal/store"
)

// The names of the conditions that are set: verdicts are not stored, and something is
// refused because there is no policy.
const (
	PartAdmission = "admission"
	PartPolicy    = "admission policy"
)

// Store is what is kept.
type Store interface {
	store.Admission
	Known
	AppendAudit(ctx context.Context, a access.Audit) error
}

// Known is what the server has found out about images.
type Known interface {
	Scanned
	Vouched
}

// Scanned is what scans found.
type Scanned interface {
	Image(ctx context.Context, id string) (store.Image, error)
	Inventory(ctx context.Context, imageID string) (inventory.Inventory, error)
	Found
}

// Found is what is wrong with images.
type Found interface {
	Vulnerabilities(ctx context.Context, q store.VulnerabilityQuery) ([]store.ImageVulnerability, error)
	FindingsIn(ctx context.Context, q store.FindingQuery) ([]store.Finding, error)
}

// Vouched is what came of the trust policy.
type Vouched interface {
	TrustPolicies(ctx context.Context, before int64, limit int) ([]store.TrustPolicy, error)
	TrustImage(ctx context.Context, repository, digest string) (store.TrustImage, error)
}

// Seeker has what a registry holds looked at.
type Seeker interface {
	// Seek has a repository listed and what is new in it scanned, if its registry is
	// watched, and reports whether it is.
	Seek(host, repository string) bool
}

// Directions reach the agents that listen.
type Directions interface {
	// TellAdmission tells all agents by what they are to decide from now on.
	TellAdmission(w link.AdmissionWish)
}

// Options are what a Service needs. All but Changed, Advisories, Seeker, Want,
// Directions and Condition are required.
type Options struct {
	Store Store
	// Changed returns a channel that gets a value when something of any image has
	// changed, until ctx ends.
	Changed func(ctx context.Context) (<-chan struct{}, error)
	// Advisories tells the generation in force, and how far it reaches.
	Advisories func() (generation string, newest time.Time)
	Seeker     Seeker
	// Want has an image that a registry holds verified by the trust policy soon, and
	// reports whether it will be: false if too many wait. nil: what runs nowhere is
	// not verified.
	Want       func(registry, repository string, n store.TrustName) bool
	Directions Directions
	// Condition shows that a part is not well, or, with nil, that it is again.
	Condition func(ctx context.Context, part string, err error)
	Clock     func() time.Time
	Log       *slog.Logger
}

// Service is what decides. It is safe for concurrent use.
type Service struct {
	Options
	facts    facts
	memo     memo
	records  *records
	seeks    seeks
	wants    wants
	meters   meters
	news     *live.Feed    // wakes those who follow
	replays  chan struct{} // one token: who holds it replays
	exchange sync.Mutex    // makes a change of policy or exceptions and its audit one step

	loading sync.Mutex
	// now is by what is decided; nil until it is read.
	now atomic.Pointer[standing]
}

// standing is by what is decided now.
type standing struct {
	policy     store.AdmissionPolicy
	compiled   *admit.Policy // nil: there is none, or it can't be read
	trouble    error         // why it can't be read
	exceptions []store.AdmissionException
	stamp      string // another one when anything of it is
}

// New returns a service that keeps nothing before Run.
func New(o Options) *Service {
	if o.Condition == nil {
		o.Condition = func(context.Context, string, error) {}
	}
	if o.Advisories == nil {
		o.Advisories = func() (string, time.Time) { return "", time.Time{} }
	}
	s := &Service{Options: o, records: newRecords(), replays: make(chan struct{}, 1), news: live.NewFeed()}
	s.facts.init()
	s.seeks.first, s.seeks.last = map[image]time.Time{}, map[string]time.Time{}
	s.wants.last, s.wants.spent = map[image]time.Time{}, map[string]spent{}
	s.meters.of = map[string]meter{}
	return s
}

// Run keeps verdicts and follows changes of images until ctx ends; then it stores
// what waits. Call it once.
func (s *Service) Run(ctx context.Context) {
	var wg sync.WaitGroup
	wg.Go(func() { s.follow(ctx) })
	wg.Go(func() { s.keepAll(ctx) })
	s.exchange.Lock() // what is told last is what holds
	err := s.tell(ctx)
	s.exchange.Unlock()
	if err != nil && ctx.Err() == nil {
		s.Condition(ctx, PartAdmission, err)
	}
	wg.Wait()
}

// followAgain is how long after an error is waited before images are followed
// anew; until then facts are looked at by their age alone.
const followAgain = 10 * time.Second

// follow notes when something of an image has changed.
func (s *Service) follow(ctx context.Context) {
	if s.Changed == nil {
		return
	}
	for ctx.Err() == nil {
		changed, err := s.Changed(ctx)
		if err == nil {
			for range changed {
				s.Touch()
			}
			return // ctx has ended
		}
		s.Log.Warn("changes of images are not followed", "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(followAgain):
		}
	}
}

// Touch says that something of some image may have changed.
func (s *Service) Touch() { s.facts.generation.Add(1) }

// noPolicy shows that something was refused for want of a policy.
func (s *Service) noPolicy(ctx context.Context, where string) {
	s.Condition(ctx, PartPolicy, fault.New(fault.NotFound, "%s asks what may be deployed, and is refused everything: there is no admission policy", where).
		With("castellan admit init writes a first one, which only tells; castellan admit policy set FILE puts it in force"))
}

// standing returns by what is decided now.
func (s *Service) standing(ctx context.Context) (*standing, error) {
	if x := s.now.Load(); x != nil {
		return x, nil
	}
	return s.load(ctx)
}
