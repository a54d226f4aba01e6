package store

import (
	"context"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/inventory"
)

// Registries keeps which registries are watched, what they were last seen to
// hold, and how far the scans of that are.
type Registries interface {
	RegistrySettings
	RegistryListings
	RegistryReads
	RegistryScans
}

// RegistrySettings keeps which registries are watched.
type RegistrySettings interface {
	// CreateRegistry returns Conflict when the name is taken, and Exhausted when
	// there are MaxRegistries.
	CreateRegistry(ctx context.Context, r WatchedRegistry) error
	// UpdateRegistry replaces what somebody configured, and the webhook; not how
	// the last look at it went.
	UpdateRegistry(ctx context.Context, r WatchedRegistry) error
	// DeleteRegistry also forgets all that is known of what it holds.
	DeleteRegistry(ctx context.Context, name string) error
	Registry(ctx context.Context, name string) (WatchedRegistry, error)
	// Registries returns all, by name.
	Registries(ctx context.Context) ([]WatchedRegistry, error)
}

// MaxRegistries bounds the registries that one server watches.
const MaxRegistries = 200

// WatchedRegistry is a registry with how the last look at it went.
type WatchedRegistry struct {
	asset.Registry
	// Webhook is the SHA-256 of the token by which the registry may call; nil
	// when it may not.
	Webhook []byte
	Created time.Time
	Poll    RegistryPoll
}

// RegistryPoll is how the last look at a whole registry went.
type RegistryPoll struct {
	Begun time.Time `json:"begun,omitzero"`
	Ended time.Time `json:"ended,omitzero"` // of the last that came to its end, well or not
	Next  time.Time `json:"next,omitzero"`
	// Error says why its repositories could not be listed, Remedy what helps.
	Error  string `json:"error,omitempty"`
	Remedy string `json:"remedy,omitempty"`
	Tries  int    `json:"tries,omitempty"` // that failed in a row
}

// RegistryListings takes what registries were seen to hold.
type RegistryListings interface {
	// PutRegistryPoll notes how a look went; NotFound when the registry is not
	// watched any more.
	PutRegistryPoll(ctx context.Context, name string, p RegistryPoll) error
	// PutListing makes the images all that a repository holds: new ones wait for
	// a scan, those that are not among them are gone. Of a partial listing only
	// what is in it is taken over. NotFound when the registry
	// is not watched any more.
	PutListing(ctx context.Context, l Listing) (ListingChange, error)
	// FailListing notes that a repository could not be listed, or not all of it;
	// what is known of it stays.
	FailListing(ctx context.Context, r RegistryRepository) error
	// EndRepositories makes the images of all repositories gone that are not
	// among those that a registry has, forgets the repositories, and returns how
	// many images that were.
	EndRepositories(ctx context.Context, registry string, has []string, now time.Time) (int, error)
}

// Listing is what a repository holds.
type Listing struct {
	Registry   string
	Repository string
	At         time.Time
	Images     []ListedImage
	// Partial says that the repository may hold more, and images more tags: none is
	// gone for not being here, and none comes back that the rules left out.
	Partial bool
}

// ListedImage is one image of a listing.
type ListedImage struct {
	asset.RegistryImage
	// Created is when the image says that it was made, where somebody looked.
	Created time.Time
	// Left says that the rules of the registry leave it out: it is too old, or
	// there are enough newer ones.
	Left bool
}

// ListingChange says what a listing brought: images that wait for a scan now, and
// such that are gone.
type ListingChange struct{ New, Gone int }

// RegistryRepository is a repository with how its last listing went.
type RegistryRepository struct {
	Registry string    `json:"registry"`
	Name     string    `json:"name"`
	Listed   time.Time `json:"listed,omitzero"` // last listed well
	Images   int       `json:"images"`          // that it held then, without those that the rules leave out
	Left     int       `json:"left,omitempty"`
	// Error says why it could not be listed since, Remedy what helps; Next is when
	// it is tried again.
	Error  string    `json:"error,omitempty"`
	Remedy string    `json:"remedy,omitempty"`
	Tries  int       `json:"tries,omitempty"` // that failed in a row
	Next   time.Time `json:"next,omitzero"`
}

// RegistryReads answers questions about what registries hold.
type RegistryReads interface {
	// RegistryRepositories returns one page, those that could not be listed first,
	// then by name.
	RegistryRepositories(ctx context.Context, q RegistryRepositoryQuery) ([]RegistryRepository, error)
	// RegistryImages returns one page, what is there first, the newest first.
	RegistryImages(ctx context.Context, q RegistryImageQuery) ([]RegistryImage, error)
	// RegistryEntry returns one image by its ID; NotFound when it is not kept.
	RegistryEntry(ctx context.Context, id int64) (RegistryImage, error)
	// RegistryTimes returns when the images of a repository say that they were
	// made, by digest, as far as that is known.
	RegistryTimes(ctx context.Context, registry, repository string) (map[string]time.Time, error)
	// RegistryTotals adds up what a registry holds.
	RegistryTotals(ctx context.Context, registry string) (RegistryTotals, error)
	// ImageEntries returns where registries hold an image, what is there first; at
	// most MaxPage.
	ImageEntries(ctx context.Context, imageID string) ([]RegistryImage, error)
}

// RegistryRepositoryQuery selects repositories of one registry.
type RegistryRepositoryQuery struct {
	Registry string
	Text     string // substring of the name
	Offset   int
	Limit    int // as in EventQuery
}

// RegistryImageQuery selects images of registries; zero fields don't filter.
type RegistryImageQuery struct {
	Registry   string
	Repository string // exact
	State      RegistryState
	Text       string // substring of repository, tag or digest
	// Severity is the gravest weakness of the image, at least: 2 low to 5
	// critical.
	Severity int
	After    int64 // continues behind this image's ID
	Limit    int   // as in EventQuery
}

// RegistryState is where an image of a registry is.
type RegistryState string

// The states of an image of a registry.
const (
	RegistryWaiting RegistryState = "waiting" // for its scan
	RegistryRunning RegistryState = "running" // it is scanned now
	RegistryDone    RegistryState = "done"    // all platforms that are wanted are scanned
	RegistryFailed  RegistryState = "failed"  // given up until somebody asks anew
	RegistrySkipped RegistryState = "skipped" // it is no image: a signature, a chart
	RegistryLeft    RegistryState = "left"    // the registry's rules leave it out
	RegistryGone    RegistryState = "gone"    // the registry has it no more
)

// RegistryStates lists them.
func RegistryStates() []RegistryState {
	return []RegistryState{RegistryWaiting, RegistryRunning, RegistryDone, RegistryFailed, RegistrySkipped, RegistryLeft, RegistryGone}
}

// RegistryImage is one image, or an index of several, that a repository holds or
// held.
type RegistryImage struct {
	ID       int64  `json:"id"`
	Registry string `json:"registry"`
	asset.RegistryImage
	Created time.Time     `json:"created,omitzero"` // by its own word, once it was looked at
	First   time.Time     `json:"first"`            // when it was first listed
	Gone    time.Time     `json:"gone,omitzero"`    // when it was first missing
	State   RegistryState `json:"state"`
	Tries   int           `json:"tries,omitempty"`
	Next    time.Time     `json:"next,omitzero"`   // when it is tried again
	Error   string        `json:"error,omitempty"` // of the last try, with its remedy
	// Analysis is the version of the analysis that scanned it.
	Analysis int `json:"analysis,omitempty"`
	// Platforms are the images that it is of, as far as they are wanted.
	Platforms []RegistryPlatform `json:"platforms,omitempty"`
}

// RegistryPlatform is one image of a registry's image.
type RegistryPlatform struct {
	ImageID  string             `json:"image_id"` // of the images that are known
	Platform inventory.Platform `json:"platform,omitzero"`
	// Scan, Matched and Counts are the image's own.
	Scan    ScanState `json:"scan,omitempty"`
	Matched time.Time `json:"matched,omitzero"`
	Counts  Counts    `json:"counts"`
}

// MaxPlatforms bounds the images that are kept of one index; those of the widest
// that we know are half as many.
const MaxPlatforms = 32

// RegistryTotals says how many images a registry holds.
type RegistryTotals struct {
	States map[RegistryState]int `json:"states"`
	// Critical to Low say of how many images that are there the gravest weakness is
	// that grave, Unrated of how many all are negligible or rated by nobody. An
	// image with none counts nowhere.
	Critical int `json:"critical"`
	High     int `json:"high"`
	Medium   int `json:"medium"`
	Low      int `json:"low"`
	Unrated  int `json:"unrated"`
	// Repositories it has, Failing of them could not be listed.
	Repositories int `json:"repositories"`
	Failing      int `json:"failing"`
}

// Images returns how many images are there.
func (t RegistryTotals) Images() int {
	n := 0
	for state, of := range t.States {
		if state != RegistryGone && state != RegistryLeft {
			n += of
		}
	}
	return n
}

// RegistryScans hands out the images of registries that wait for a scan.
type RegistryScans interface {
	// TakeRegistryScan marks the newest image that waits and is due as running, and
	// counts the try; NotFound when there is none. What is held is passed over.
	TakeRegistryScan(ctx context.Context, now time.Time, held []Held) (RegistryImage, error)
	// NextRegistryScan returns when the first of those that wait is due; zero when
	// none waits but what is held.
	NextRegistryScan(ctx context.Context, held []Held) (time.Time, error)
	// EndRegistryScan ends a try. One that is gone meanwhile stays so; NotFound
	// when it is not kept any more.
	EndRegistryScan(ctx context.Context, id int64, e RegistryScanEnd) error
	// ResumeRegistryScans has those wait that were running when the server
	// stopped, and those that an older analysis has scanned.
	ResumeRegistryScans(ctx context.Context, analysis int, now time.Time) error
	// RegistryScanAgain has an image wait for a scan, with no tries behind it;
	// Conflict for one that is gone or left out.
	RegistryScanAgain(ctx context.Context, id int64, now time.Time) error
}

// Held is a repository of a registry, or with an empty one all of the registry,
// of which nothing is scanned now.
type Held struct{ Registry, Repository string }

// RegistryScanEnd is what became of a try.
type RegistryScanEnd struct {
	State RegistryState // waiting, done, failed or skipped
	Next  time.Time     // of waiting
	Error string
	// Uncounted says of waiting that this was no try of the image.
	Uncounted bool
	Analysis  int       // of done
	Created   time.Time // zero: it is not known
	// Platforms replace those that were known, unless they are nil.
	Platforms []RegistryPlatform
}
