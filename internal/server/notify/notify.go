// Package notify tells people and other systems what happens: to which targets,
// of what, and when.
//
// A comparison of an image leaves news in the store, in the same transaction as
// its findings. Of incidents, violations and responses those tell who know of them
// (Service.Tell, tell.go). One loop (Service.Run) holds news against the filters of the
// targets and puts what passes into their queues (collect.go), makes what waits
// there into one notification for a target and interval (fold.go), and delivers
// it, trying again for days (deliver.go). All of it is in the store: what was
// to be told is told after a restart, and nothing is told twice.
//
// It is not for protocols (see internal/adapter/notify), and not for what is
// wrong with the server itself (see live.Conditions).
package notify

import (
	"context"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/notice"
	"github.com/castellan-security/castellan/internal/pace"
	"github.com/castellan-security/castellan/internal/store"
)

// Part is the name of the condition that is set when the store doesn't do what
// the loop needs; PartTarget, followed by a target's name, of one that does not
// take what it is sent.
const (
	Part       = "notifications"
	PartTarget = "notifications to "
)

// Store is what is kept.
type Store interface {
	store.Notify
	Subjects
	AppendAudit(ctx context.Context, a access.Audit) error
}

// Subjects is what notices are about.
type Subjects interface {
	Image(ctx context.Context, id string) (store.Image, error)
	Workload(ctx context.Context, id string) (asset.Workload, error)
	Workloads(ctx context.Context, q store.WorkloadQuery) ([]asset.Workload, error)
	// Owners returns the rules by which it is told who is responsible.
	Owners(ctx context.Context) (asset.Owners, error)
}

// Sender carries notifications to targets.
type Sender interface {
	// Check returns what is wrong with a destination, as Invalid, and otherwise
	// where it is without the parts that may be secrets.
	Check(d notice.Destination) (shown string, err error)
	// Send delivers a notification, whose form as JSON is body. Its errors never
	// hold a secret, and may be a *notice.Busy.
	Send(ctx context.Context, d notice.Destination, n notice.Notification, body []byte) error
}

// Options are what a Service needs. All but Sender and Condition are required.
type Options struct {
	Store Store
	// Sender nil: no target can be added, and nobody is told anything.
	Sender Sender
	// KeyFile is where the key lies that secrets of targets are encrypted with; it
	// is made when there is none.
	KeyFile string
	// Console returns the address of the console as people reach it, without a
	// slash at its end.
	Console func() string
	// Condition shows that a part is not well, or, with nil, that it is again.
	Condition func(ctx context.Context, part string, err error)
	Pace      Pace
	Clock     func() time.Time
	Log       *slog.Logger
}

// Pace is how long the service waits; zero fields are what is usual.
type Pace struct {
	// Settle is how long nothing more must come before what waits is told.
	Settle time.Duration
	// Again follows the first try that failed; each further pause is twice as long.
	Again time.Duration
}

// Service tells. It is safe for concurrent use.
type Service struct {
	st        Store
	sender    Sender
	box       *box
	console   func() string
	condition func(ctx context.Context, part string, err error)
	pace      Pace
	clock     func() time.Time
	log       *slog.Logger

	wake chan struct{} // one token when there may be something to do

	testMu sync.Mutex
	tested []time.Time // when targets were tested, within a minute

	removedMu sync.Mutex
	// removed are targets that were removed while the loop knows them still: what
	// becomes of their deliveries is nobody's condition any more.
	removed map[int64]bool

	sending underway

	unnotedMu sync.Mutex
	// unnoted are tries of which the store could not be told how they ended, by
	// delivery: what got through is not sent again for that.
	unnoted map[string]store.NotifyTry

	outsideMu sync.Mutex
	// outside is when each violation was told last: the same is told once a day.
	outside map[outsideKey]time.Time
}

// New returns a service that tells nothing before Run. The error says that the
// key can't be read or made.
func New(o Options) (*Service, error) {
	if o.Condition == nil {
		o.Condition = func(context.Context, string, error) {}
	}
	if o.Pace.Settle == 0 {
		o.Pace.Settle = settle
	}
	if o.Pace.Again == 0 {
		o.Pace.Again = firstPause
	}
	b, err := openBox(o.KeyFile)
	if err != nil {
		return nil, err
	}
	return &Service{
		st: o.Store, sender: o.Sender, box: b, console: o.Console, condition: o.Condition, pace: o.Pace, clock: o.Clock, log: o.Log,
		wake: make(chan struct{}, 1), removed: map[int64]bool{}, sending: underway{targets: map[int64]bool{}}, unnoted: map[string]store.NotifyTry{}, outside: map[outsideKey]time.Time{},
	}, nil
}

// Nudge says that there may be news. It is quick and never waits.
func (s *Service) Nudge() {
	select {
	case s.wake <- struct{}{}:
	default: // it will look anyway
	}
}

const (
	// lookEvery is how often the loop looks whether there is something to do that
	// nobody told it of.
	lookEvery = 30 * time.Second
	// afterTrouble is how long it waits when the store did not answer.
	afterTrouble = 5 * time.Second
)

// Run tells until ctx ends. Call it once.
func (s *Service) Run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	defer s.sending.all.Wait()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
		case <-timer.C:
		}
		next, err := s.turn(ctx)
		if ctx.Err() != nil {
			return
		}
		// What is underway may say yet that the store doesn't answer.
		if err != nil || len(s.sending.now()) == 0 {
			s.condition(ctx, Part, err)
		}
		if err != nil && !pace.Wait(ctx, afterTrouble) {
			return
		}
		timer.Reset(next)
	}
}

// turn does what there is to do, and returns how long there is nothing more
// unless something happens.
func (s *Service) turn(ctx context.Context) (time.Duration, error) {
	s.forgetRemoved()
	if err := s.sending.takeFailed(); err != nil {
		return 0, err
	}
	targets, err := s.st.NotifyTargets(ctx)
	if err != nil {
		return 0, err
	}
	if err := s.collect(ctx, targets); err != nil {
		return 0, err
	}
	folding, err := s.fold(ctx, targets)
	if err != nil {
		return 0, err
	}
	sending, err := s.deliver(ctx, targets)
	if err != nil {
		return 0, err
	}
	return max(min(lookEvery, folding, sending), 0), nil
}

// forgetRemoved forgets the targets that nothing is sent to any more: what follows
// knows them no more.
func (s *Service) forgetRemoved() {
	busy := s.sending.now()
	s.removedMu.Lock()
	defer s.removedMu.Unlock()
	maps.DeleteFunc(s.removed, func(id int64, _ bool) bool { return !busy[id] })
}
