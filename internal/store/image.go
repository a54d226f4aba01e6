package store

import (
	"context"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/inventory"
)

// Images keeps the images that workloads were started from, what is inside
// them, what is wrong with that, and who decided to live with it.
type Images interface {
	ImageReads
	FindingReads
	ScanJobs
	Findings
	Trends
	Uses
	Acceptances
	Owners
}

// ImageReads answers questions about images.
type ImageReads interface {
	// Image returns one by its ID; NotFound for one that nobody told of.
	Image(ctx context.Context, id string) (Image, error)
	// Images answers a query with one page: those with running workloads first,
	// then those that need attention most, then the newest.
	Images(ctx context.Context, q ImageQuery) ([]Image, error)
	// Inventory returns what the newest scan found inside; NotFound before it.
	Inventory(ctx context.Context, imageID string) (inventory.Inventory, error)
	// Vulnerabilities returns findings, one a line for each image that has it,
	// in the order in which they deserve attention.
	Vulnerabilities(ctx context.Context, q VulnerabilityQuery) ([]ImageVulnerability, error)
	// Weaknesses adds findings up over the fleet, one a line for each weakness,
	// in the order in which they deserve attention.
	Weaknesses(ctx context.Context, q VulnerabilityQuery) ([]Weakness, error)
}

// Image is one image that workloads were started from.
type Image struct {
	ID string `json:"id"` // the engine's image id, sha256:…
	// References are the names it was asked for by, newest first, at most
	// MaxReferences.
	References []string            `json:"references"`
	Digest     string              `json:"digest,omitempty"` // of the registry's manifest, when an engine knew it
	Platform   inventory.Platform  `json:"platform,omitzero"`
	OS         inventory.OS        `json:"os,omitzero"`
	Layers     int                 `json:"layers"`
	Packages   int                 `json:"packages"`
	Problems   []inventory.Problem `json:"problems,omitempty"` // what could not be read
	Seen       time.Time           `json:"seen"`               // when an agent first told of it, by the server's clock
	Scan       Scan                `json:"scan"`
	Counts     Counts              `json:"counts"`
	// Workloads were started from it, Running run now.
	Workloads int `json:"workloads"`
	Running   int `json:"running"`
	// Owner is the name of who is responsible for it; see asset.Owners.
	Owner string `json:"owner,omitempty"`
}

// MaxReferences bounds the names that are kept of an image.
const MaxReferences = 16

// ScanState is where the scan of an image is.
type ScanState string

// The states of a scan.
const (
	ScanWaiting ScanState = "waiting" // no agent is at it; Scan.Next says when one may be asked
	ScanRunning ScanState = "running" // Scan.Agent was asked, and has until Scan.Next
	ScanDone    ScanState = "done"
	ScanFailed  ScanState = "failed" // given up until somebody asks anew
	// ScanGone: every container of it ended before any agent had scanned it. It
	// waits again when one is there.
	ScanGone ScanState = "gone"
)

// Scan is the scan of one image: a job as long as it is not done.
type Scan struct {
	State ScanState `json:"state"`
	Job   string    `json:"job,omitempty"`   // of the try that is running
	Agent string    `json:"agent,omitempty"` // who was asked last
	Tries int       `json:"tries,omitempty"`
	Next  time.Time `json:"next,omitzero"`
	Error string    `json:"error,omitempty"` // of the last try, with its remedy
	// Done is when the inventory came, Analysis the version that made it.
	Done     time.Time `json:"done,omitzero"`
	Analysis int       `json:"analysis,omitempty"`
	// Matched is when it was last compared, Database with which generation of
	// the advisories, Gaps how many packages could not be compared.
	Matched  time.Time `json:"matched,omitzero"`
	Database string    `json:"database,omitempty"`
	Gaps     int       `json:"gaps,omitempty"`
}

// Counts says how many findings an image has. Accepted ones are in no other
// count.
type Counts struct {
	Critical   int `json:"critical"`
	High       int `json:"high"`
	Medium     int `json:"medium"`
	Low        int `json:"low"`
	Negligible int `json:"negligible"`
	Unknown    int `json:"unknown"`
	Fixable    int `json:"fixable"`
	Exploited  int `json:"exploited"` // known to be (KEV)
	InUse      int `json:"in_use"`
	Accepted   int `json:"accepted"`
	// Secrets, Faults and Malware are in no count above, and without those that
	// are accepted.
	Secrets int `json:"secrets"`
	Faults  int `json:"faults"`
	Malware int `json:"malware"`
}

// ImageQuery selects images; zero fields don't filter.
type ImageQuery struct {
	Text    string    // substring of a reference, id or digest
	State   ScanState // of the scan
	Owner   string    // by name, or NoOwner
	Running bool      // only those with running workloads
	After   string    // continues behind this image's ID
	Limit   int       // as in EventQuery
}

// VulnerabilityQuery selects findings; zero fields don't filter, all given ones
// must hold.
type VulnerabilityQuery struct {
	ImageID string
	ID      string // of the weakness, or one of its aliases
	Package string // exact name
	// Severity is the least that is asked for.
	Severity  finding.Severity
	Fixable   bool
	Exploited bool
	InUse     bool
	Running   bool   // only in images with running workloads
	Owner     string // of the image, by name, or NoOwner
	// Accepted asks for accepted findings alone; without it there are none.
	Accepted bool
	Text     string // substring of an id, another name of the weakness, or a package's name
	// Offset continues a listing; the order may have changed meanwhile.
	Offset int
	Limit  int // as in EventQuery
}

// ImageVulnerability is one finding in one image.
type ImageVulnerability struct {
	finding.Vulnerability
	ImageID string    `json:"image_id"`
	First   time.Time `json:"first"` // when it was first found in this image
}

// Weakness is one weakness over all images.
type Weakness struct {
	ID        string           `json:"id"`
	Severity  finding.Severity `json:"severity"` // the gravest of its findings
	Summary   string           `json:"summary,omitempty"`
	Exploited bool             `json:"exploited,omitempty"`
	InUse     bool             `json:"in_use,omitempty"`
	Fixable   bool             `json:"fixable,omitempty"` // in at least one image
	EPSS      float64          `json:"epss,omitempty"`    // probability, 0 to 1
	Packages  []string         `json:"packages"`          // a few names
	Fixed     []string         `json:"fixed,omitempty"`   // a few "package version"
	Images    int              `json:"images"`
	Workloads int              `json:"workloads"` // that run now
	First     time.Time        `json:"first"`
}

// ScanJobs hands the images out that wait for a scan. A job belongs to one
// agent for a time; what is not answered by then is handed out anew, to another
// one where there is another.
type ScanJobs interface {
	// NoteImages makes images known, with the names they were asked for by. A new
	// one waits for its scan. It returns the ids of those that were new.
	NoteImages(ctx context.Context, seen []Image, now time.Time) ([]string, error)
	// LeaseScan gives an agent one of the images that it has (it reported a
	// workload of it that is kept) and that waits for a scan, those with running
	// workloads first; after them one that was scanned by an older analysis than
	// this agent's, once for each analysis. NotFound when there is none. One whose
	// last try was this agent's own is left to others for ScanPatience.
	LeaseScan(ctx context.Context, l Lease) (Image, error)
	// LeaseImage gives whoever asks the one image: it waits and is due, was given up
	// or gone, or was scanned by an older analysis than this one. Conflict when it
	// is none of these; NotFound when nobody told of it.
	LeaseImage(ctx context.Context, imageID string, l Lease) (Image, error)
	// MoveScanEnd gives a job another end; Conflict when the job is not the image's
	// own any more. What is over may be given to another agent; until it is, the
	// job stays the image's own.
	MoveScanEnd(ctx context.Context, imageID, job string, until time.Time) error
	// ScanFailed ends a try. The image waits until next, or, with a zero next,
	// is given up; one that is scanned already is then done as before. A job that is no longer the image's own changes nothing, and
	// is a Conflict.
	ScanFailed(ctx context.Context, imageID, job, why string, next time.Time) error
	// ReleaseScan gives a try back, as if it had not been made: the image waits until
	// next. Conflict as of ScanFailed.
	ReleaseScan(ctx context.Context, imageID, job, why string, next time.Time) error
	// ScanGone ends a try of an image that no engine has any more: it is gone, or,
	// when it is scanned already, done as before. A workload of it that starts
	// later has it wait again (SweepGone). Conflict as of ScanFailed.
	ScanGone(ctx context.Context, imageID, job string, now time.Time) error
	// SweepVain ends the wait of images that were scanned by an older analysis, and
	// wait for a newer one that none of the agents that have them has any more;
	// able are those that scan, with their analysis. They are done as before, and
	// their ids are returned. What a registry has is not among them: the server
	// scans that itself.
	SweepVain(ctx context.Context, able map[string]int) ([]string, error)
	// ScanAgain makes an image wait for a scan, with no tries behind it, wherever
	// registries hold it, too.
	ScanAgain(ctx context.Context, imageID string, now time.Time) error
	// SweepGone gives up images that wait, that no agent can have any more and that
	// no registry has, and has those wait again that an agent has again. Their ids
	// are returned.
	SweepGone(ctx context.Context, g Gone) (gone, back []string, err error)
	// ScanTotals adds up the scans of all images.
	ScanTotals(ctx context.Context, database string, analysis int) (ScanTotals, error)
}

// ScanTotals says how many images are in which state.
type ScanTotals struct {
	States map[ScanState]int
	// Unmatched of the scanned ones were not compared with that generation of the
	// advisories; Outdated were scanned by an older analysis than that one, and
	// nobody was asked for it.
	Unmatched, Outdated int
}

// Gone says what counts as gone.
type Gone struct {
	// Before is the time before which all workloads of an image must have ended,
	// and before which somebody must have been allowed to scan it.
	Before time.Time
	// Silent agents were not heard of for as long: their workloads don't count.
	Silent []string
	// OnlyBack gives none up.
	OnlyBack bool
	Now      time.Time
}

// ScanPatience is how long an image waits, beyond its next try, for another
// agent than the one that failed.
const ScanPatience = time.Minute

// Lease is the wish for a job.
type Lease struct {
	AgentID string
	Job     string    // a new, random id
	Now     time.Time // jobs that are due by now, or whose time is over
	Until   time.Time
	// Analysis is that by which the agent scans; 0: it is not known, and what is
	// scanned already is not asked of it.
	Analysis int
}

// Findings keeps inventories and what was found in them.
type Findings interface {
	// PutInventory stores what a scan found, and ends its job; Conflict when the
	// job is not the image's own any more.
	PutInventory(ctx context.Context, imageID, job string, inv inventory.Inventory, now time.Time) error
	// PutFindings replaces what is known to be wrong with an image, all at once;
	// what is not affected or was taken back is not kept. Secrets, faults and
	// malware are known again by their kind and key, one each.
	// Findings keep the time at which they were first found by their
	// fingerprint. What nobody knew of the image, or worse than before, becomes
	// news (NewsQueue).
	PutFindings(ctx context.Context, f ImageFindings) error
	// Unmatched returns the ids of scanned images that were not compared with
	// this generation of the advisories, those with running workloads first.
	Unmatched(ctx context.Context, database string, limit int) ([]string, error)
}

// ImageFindings is the result of comparing one inventory.
type ImageFindings struct {
	ImageID         string
	Database        string // generation
	Matched         time.Time
	Gaps            int
	Vulnerabilities []finding.Vulnerability // in the order in which they deserve attention
	Findings        []Finding               // secrets, faults and malware
}

// Uses keeps which files of their images workloads executed or mapped.
type Uses interface {
	// NoteUses adds paths to those of an image, up to MaxUses, and reports whether
	// one was new.
	NoteUses(ctx context.Context, imageID string, paths []string) (bool, error)
	// Uses returns them, sorted.
	Uses(ctx context.Context, imageID string) ([]string, error)
}

// MaxUses bounds the files in use that are kept of an image; the largest Java
// and Python services map under a thousand.
const MaxUses = 20_000

// Acceptances keeps decisions to live with findings.
type Acceptances interface {
	// PutAcceptance creates one (ID 0), or replaces by ID.
	PutAcceptance(ctx context.Context, a Acceptance) (Acceptance, error)
	Acceptance(ctx context.Context, id int64) (Acceptance, error)
	// Acceptances returns all, newest first; ended and expired ones too.
	Acceptances(ctx context.Context) ([]Acceptance, error)
}

// MaxAcceptances bounds them: each is held against each finding.
const MaxAcceptances = 10_000

// Acceptance is a decision to live with a finding for a time.
type Acceptance struct {
	ID int64 `json:"id"`
	// Kind is what kind of finding it is about; empty: a vulnerability.
	Kind          FindingKind `json:"kind,omitempty"`
	Vulnerability string      `json:"vulnerability"` // its id or an alias; empty for other kinds
	// Rule is what is accepted of the other kinds: a secret's rule or fingerprint,
	// the check of a fault, the rule of malware. Path narrows it to files, with the
	// patterns of path.Match; one that ends in "/**" means everything below.
	Rule string `json:"rule,omitempty"`
	Path string `json:"path,omitempty"`
	// Package narrows it to one package's name, or a package URL with or without
	// a version; Image to one image: its id, or a reference without tag and
	// digest ("registry/shop/web"), which means every image of that repository.
	Package string    `json:"package,omitempty"`
	Image   string    `json:"image,omitempty"`
	Reason  string    `json:"reason"`
	By      string    `json:"by"`
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires"`
	// Ended is when somebody took it back.
	Ended   time.Time `json:"ended,omitzero"`
	EndedBy string    `json:"ended_by,omitempty"`
}

// Holds reports whether the acceptance counts at a time.
func (a Acceptance) Holds(now time.Time) bool { return a.Ended.IsZero() && now.Before(a.Expires) }

// Name is what it accepts: a vulnerability, or the rule of another finding.
func (a Acceptance) Name() string {
	if a.Kind == "" {
		return a.Vulnerability
	}
	return a.Rule
}

// Owners keeps who is responsible for which images.
type Owners interface {
	// PutOwners replaces all rules, at most MaxOwners.
	PutOwners(ctx context.Context, rules asset.Owners) error
	// Owners returns them in their order.
	Owners(ctx context.Context) (asset.Owners, error)
	// PutImageOwners sets the owners of images, by name; unknown images are left
	// out.
	PutImageOwners(ctx context.Context, owners map[string]string) error
	// OwnedImages returns what tells whose images are, those behind an id, in the
	// order of their ids, MaxPage at most: an image that moves in lists meanwhile
	// is in one page, and one only.
	OwnedImages(ctx context.Context, after string) ([]OwnedImage, error)
}

// OwnedImage is what tells whose an image is.
type OwnedImage struct {
	ID         string
	References []string
	Groups     []asset.Group // of the workloads that run it, each once, in order
	Owner      string        // as stored
}

// MaxOwners bounds the rules: each is held against each image.
const MaxOwners = 1_000
