// Package images keeps the images of the fleet scanned: each one that an agent
// reports is scanned by one of the agents that have it, and one that a registry
// holds by this server's own scanner (Claim). Its inventory is kept and compared
// with the advisories, and compared anew whenever something changes that bears on
// the outcome: the advisories, what somebody accepted, and what workloads are seen
// to use.
//
// One loop (Service.Run) does all of it, one thing after the other, so that it
// never takes more of the server than a part of one processor. What must survive
// a restart is in the store: a scan that was handed out is still good when its
// answer comes to a server that started meanwhile.
//
// It is not for reading images and not for what is wrong with packages (see
// internal/scan), nor for how a wish reaches an agent (see
// internal/server/direct).
package images

import (
	"context"
	"hash/maphash"
	"log/slog"
	"sync"
	"time"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/scan"
	"github.com/castellan-security/castellan/internal/store"
)

const (
	// lookEvery is how often the loop looks at the advisory file, at scans that
	// are due again, and at images that were not compared.
	lookEvery = time.Minute
	// afterTrouble is how long it waits when the store did not answer.
	afterTrouble = 5 * time.Second
)

// Names of the conditions that are set.
const (
	PartImages     = "images"     // the store doesn't do what the loop needs
	PartAdvisories = "advisories" // the file that should be in force is not
	PartComparing  = "comparing"  // an image can't be compared with the advisories
)

// Store is what is kept.
type Store interface {
	store.Images
	Fleet
	AppendAudit(ctx context.Context, a access.Audit) error
}

// Fleet is who reports, and what runs there.
type Fleet interface {
	Agents(ctx context.Context) ([]asset.Agent, error)
	Workload(ctx context.Context, id string) (asset.Workload, error)
	Workloads(ctx context.Context, q store.WorkloadQuery) ([]asset.Workload, error)
}

// Directions reach the agents that listen.
type Directions interface {
	// Listening returns their ids.
	Listening() []string
	// AskScan makes w what the agent is to scan. It is told at once, and again
	// whenever the agent connects anew, until another wish or EndScan.
	AskScan(agentID string, w link.ScanWish)
	// EndScan takes the wish with that job back.
	EndScan(agentID, job string)
}

// Options are what a Service needs. All but Joined and Condition are required.
type Options struct {
	Store      Store
	Directions Directions
	// Joined gets a value when an agent begins to listen.
	Joined <-chan struct{}
	// Advisories is the path of the advisory database; with no file there, what
	// came with the program is in force.
	Advisories string
	// Salt is that of the fingerprints of secrets; without it agents don't look for
	// them.
	Salt link.Salt
	// Condition shows that a part is not well, or, with nil, that it is again.
	Condition func(ctx context.Context, part string, err error)
	// Compared is told after an image was compared; nil tells nobody.
	Compared func()
	Clock    func() time.Time
	Log      *slog.Logger
}

// Service is what knows about the images of the fleet. It is safe for concurrent
// use.
type Service struct {
	st         Store
	directions Directions
	joined     <-chan struct{}
	condition  func(ctx context.Context, part string, err error)
	compared   func()
	clock      func() time.Time
	log        *slog.Logger
	started    time.Time
	salt       link.Salt

	advisories advisories
	noted      noted
	used       used
	leases     leases
	queue      queue
	accepted   accepted
	owning     owning
	listeners  listeners
	own        own

	wake chan struct{} // one token when the loop has something to do
	// decoding has one token: who holds it decodes an inventory.
	decoding chan struct{}
	// comparing makes an inventory and its findings one: a newer inventory is
	// stored before or after one is compared, never between.
	comparing sync.Mutex
}

// New returns a service that does nothing before Run but to take note.
func New(o Options) (*Service, error) {
	if o.Condition == nil {
		o.Condition = func(context.Context, string, error) {}
	}
	if o.Compared == nil {
		o.Compared = func() {}
	}
	return &Service{
		st: o.Store, compared: o.Compared, directions: o.Directions, joined: o.Joined, condition: o.Condition, clock: o.Clock, log: o.Log,
		started: o.Clock(), salt: o.Salt,
		advisories: advisories{path: o.Advisories, clock: o.Clock},
		noted:      noted{known: map[string]bool{}, waiting: map[string]store.Image{}, sweep: true},
		used:       used{seed: maphash.MakeSeed(), seen: map[uint64]struct{}{}, waiting: map[string][]string{}},
		leases:     leases{of: map[string]lease{}, none: map[string]bool{}},
		queue:      queue{in: map[string]bool{}, broken: map[string]string{}},
		accepted:   accepted{dirty: true},
		owning:     owning{dirty: true},
		wake:       make(chan struct{}, 1),
		decoding:   make(chan struct{}, 1),
	}, nil
}

// Changed returns a channel that gets a value after something of the image
// changed: its scan, what is wrong with it, what is accepted; "" stands for any
// image. At most one value waits, so that the reader sets the pace. It is closed
// when ctx ends. The error is Exhausted when too many wait already.
func (s *Service) Changed(ctx context.Context, imageID string) (<-chan struct{}, error) {
	return s.listeners.add(ctx, imageID)
}

// nudge makes the loop look at what there is to do.
func (s *Service) nudge() {
	select {
	case s.wake <- struct{}{}:
	default: // it will look anyway
	}
}

// Status says which advisories are in force and how far the scans are.
type Status struct {
	Database Database `json:"database"`
	Waiting  int      `json:"waiting"`
	Running  int      `json:"running"`
	Done     int      `json:"done"`
	Failed   int      `json:"failed"`
	// Gone images had no container any more before any agent scanned them.
	Gone int `json:"gone"`
	// Unmatched images are scanned, and not compared with these advisories yet.
	Unmatched int `json:"unmatched"`
	// Outdated images were scanned by an older analysis, and no agent that has
	// them has said to have this one.
	Outdated int `json:"outdated"`
}

// Status returns it as it is now.
func (s *Service) Status(ctx context.Context) (Status, error) {
	d := s.advisories.status()
	t, err := s.st.ScanTotals(ctx, d.Generation, analysis)
	if err != nil {
		return Status{}, err
	}
	if d.Generation == "" {
		t.Unmatched = 0 // it is not known yet what is in force
	}
	return Status{
		Database: d, Waiting: t.States[store.ScanWaiting], Running: t.States[store.ScanRunning], Done: t.States[store.ScanDone],
		Failed: t.States[store.ScanFailed], Gone: t.States[store.ScanGone], Unmatched: t.Unmatched, Outdated: t.Outdated,
	}, nil
}

// analysis is the version of the analysis that this server wants inventories of.
const analysis = scan.Analysis
