// Package registries keeps watch over registries: what they hold is listed when
// it is time and when they tell of a change, the rules of each registry choose
// among it, and what is new is scanned by this server itself and handed on as an
// agent's inventory is (see internal/server/images).
//
// A registry is looked at by one goroutine at a time, one repository after the
// other, and a few registries at once; what keeps a repository from being listed
// is kept and shown, and tried again at growing intervals. What must survive a
// restart is in the store: where every image is, and what waits.
//
// It is not for the protocols of registries (see Lister, Queue and Images, which
// doors satisfy), nor for comparing images with advisories.
package registries

import (
	"context"
	"iter"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/store"
)

// Names of the conditions that are set; that of a registry has its name behind a
// slash, and that of its scans partOfScans behind it.
const (
	PartRegistry = "registry"
	partOfScans  = "/scans"
	PartScans    = "registry scans" // the store doesn't do what scans of registries need
)

// Lister tells what a registry holds. It holds to the registry's Rate, and its
// errors have a kind and a remedy.
type Lister interface {
	// Repositories yields those that the registry lists, in any order.
	Repositories(ctx context.Context, r asset.Registry) iter.Seq2[string, error]
	// Images yields the images of a repository, each once with all its tags that
	// are wanted; one without any is left out. NotFound when there is no such
	// repository.
	Images(ctx context.Context, r asset.Registry, repository string, want func(tag string) bool) iter.Seq2[asset.RegistryImage, error]
}

// Queue receives what a registry told of itself.
type Queue interface {
	// Receive waits for changes, for some seconds at most. What it returned comes
	// again unless done is called.
	Receive(ctx context.Context, r asset.Registry) (changes []asset.RegistryChange, done func(context.Context) error, err error)
}

// Images reads the images of registries.
type Images interface {
	// Resolve returns the images that a digest of a repository means: those for the
	// platforms that are wanted, or, where there are none of them, what there is.
	// Unsupported when it is no image.
	Resolve(ctx context.Context, r asset.Registry, repository, digest string, wanted []inventory.Platform) ([]Found, error)
	// Scan returns what is inside one of them, as agents send it: see
	// link.Scanned. An error is the registry's, unless it is a *Broken.
	Scan(ctx context.Context, r asset.Registry, repository string, f Found) ([]byte, error)
}

// Found is one image of a registry.
type Found struct {
	ID       string // digest of its configuration: what engines call it
	Manifest string // digest of its own manifest
	Platform inventory.Platform
	Created  time.Time // by its own word; zero where it has none
	Layers   int
}

// Doors reach registries. Without a field, what needs it is refused as
// Unsupported.
type Doors struct {
	Listers map[asset.RegistryKind]Lister
	Queue   Queue
	Images  Images
	// Webhook reads what a registry sends to its webhook.
	Webhook func(body []byte, contentType string) ([]asset.RegistryChange, error)
}

// Store is what is kept.
type Store interface {
	store.Registries
	Beside
}

// Beside is what is read and kept beside registries.
type Beside interface {
	Image(ctx context.Context, id string) (store.Image, error)
	Agents(ctx context.Context) ([]asset.Agent, error)
	AppendAudit(ctx context.Context, a access.Audit) error
}

// Scanning takes part in the scans of images; *images.Service satisfies it.
type Scanning interface {
	Claims
	Answers
}

// Claims takes the scans of images over.
type Claims interface {
	Known(ctx context.Context, seen []store.Image) error
	Claim(ctx context.Context, imageID string) (job string, err error)
	Unclaim(ctx context.Context, imageID, job, why string) error
}

// Answers takes what scans found, and tells those who follow images.
type Answers interface {
	Inventory(ctx context.Context, a link.Scanned) error
	Rescan(ctx context.Context, who access.Identity, imageID string) error
	Touch()
}

// Options are what a Service needs. All but Condition are required; the zero
// Doors reach nothing.
type Options struct {
	Store    Store
	Doors    Doors
	Scanning Scanning
	// Scans is how many images are scanned at once; 0 is none.
	Scans int
	// Analysis is the version of the analysis that Doors.Images scans by.
	Analysis int
	// Condition shows that a part is not well, or, with nil, that it is again.
	Condition func(ctx context.Context, part string, err error)
	Clock     func() time.Time
	Log       *slog.Logger
}

// Service watches registries. It is safe for concurrent use.
type Service struct {
	st        Store
	doors     Doors
	scanning  Scanning
	scans     int
	analysis  int
	condition func(ctx context.Context, part string, err error)
	clock     func() time.Time
	log       *slog.Logger

	wake chan struct{} // one token when there may be something to look at
	work chan struct{} // as many tokens as scanners, when something may wait for them

	holds   *holds
	strays  atomic.Int64  // events of registries that are not watched
	changer chan struct{} // held by who changes which registries are watched, and how

	mu     sync.Mutex
	loaded bool
	plans  map[string]*plan // by the registry's name
	// readers end those that read queues, by the queue.
	readers map[string]context.CancelFunc
}

// New returns a service that does nothing before Run but to be configured.
func New(o Options) *Service {
	if o.Condition == nil {
		o.Condition = func(context.Context, string, error) {}
	}
	return &Service{
		st: o.Store, doors: o.Doors, scanning: o.Scanning, scans: o.Scans, analysis: o.Analysis,
		condition: o.Condition, clock: o.Clock, log: o.Log,
		wake: make(chan struct{}, 1), work: make(chan struct{}, max(o.Scans, 1)), holds: newHolds(),
		changer: make(chan struct{}, 1), plans: map[string]*plan{}, readers: map[string]context.CancelFunc{},
	}
}

// Run watches until ctx ends. Scans that run then are given back. Call it once.
func (s *Service) Run(ctx context.Context) {
	var wg sync.WaitGroup
	wg.Go(func() { s.watch(ctx) })
	wg.Go(func() { s.scanAll(ctx) })
	wg.Wait()
}

// nudge makes the loop look at what there is to do.
func (s *Service) nudge() {
	select {
	case s.wake <- struct{}{}:
	default: // it will look anyway
	}
}

// nudgeScans makes scanners look for images that wait.
func (s *Service) nudgeScans() {
	for range cap(s.work) {
		select {
		case s.work <- struct{}{}:
		default:
			return
		}
	}
}
