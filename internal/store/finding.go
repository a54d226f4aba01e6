package store

import (
	"context"
	"time"

	"github.com/castellan-security/castellan/internal/finding"
)

// FindingKind is a kind of thing that can be wrong with an image.
type FindingKind string

// The kinds.
const (
	KindVulnerability FindingKind = "vulnerability"
	KindSecret        FindingKind = "secret"
	KindFault         FindingKind = "fault"
	KindMalware       FindingKind = "malware"
)

// FindingKinds lists those that are kept as findings of their own; of
// vulnerabilities there are too many for that, and they have their own lists.
func FindingKinds() []FindingKind { return []FindingKind{KindSecret, KindFault, KindMalware} }

// Finding is a secret, a fault or malware in one image. The value of a secret is
// in no field.
type Finding struct {
	Kind    FindingKind `json:"kind"`
	ImageID string      `json:"image_id"`
	// Key is the same for the same thing in every image: a secret at its place, a
	// check and what it is about.
	Key string `json:"key"`
	// Rule is what found it, and what it can be accepted by: the rule of a secret,
	// the check of a fault.
	Rule     string              `json:"rule"`
	Title    string              `json:"title"`
	Severity finding.Severity    `json:"severity"`
	Remedy   string              `json:"remedy,omitempty"`
	Accepted *finding.Acceptance `json:"accepted,omitempty"`
	// Instruction is the build step that made the layer it is in.
	Instruction string    `json:"instruction,omitempty"`
	First       time.Time `json:"first"` // when it was first found in this image
	// One of these is set, by the kind.
	Secret  *finding.Secret           `json:"secret,omitempty"`
	Fault   *finding.Misconfiguration `json:"fault,omitempty"`
	Malware *finding.Malware          `json:"malware,omitempty"`
}

// FindingLine is one secret, fault or malware over all images that are asked for.
type FindingLine struct {
	// Finding is that of one of the images, of one that runs if any does; First is
	// when it was first found in any of them.
	Finding
	Images    int `json:"images"`
	Workloads int `json:"workloads"` // that run now
	// In are a few of the images, those that run first.
	In []FindingImage `json:"in"`
}

// FindingImage is an image that has a finding.
type FindingImage struct {
	ID        string `json:"id"`
	Reference string `json:"reference,omitempty"` // its newest name
	Owner     string `json:"owner,omitempty"`
	Running   int    `json:"running"`
}

// NoOwner asks, where an owner's name would stand, for images that have none. No
// owner can be called that.
const NoOwner = "-"

// FindingQuery selects findings; zero fields don't filter, all given ones must
// hold.
type FindingQuery struct {
	Kind    FindingKind // required
	ImageID string
	Key     string
	// Severity is the least that is asked for.
	Severity finding.Severity
	Owner    string // of the image, by the owner's name, or NoOwner
	Running  bool   // only in images with running workloads
	// Accepted asks for accepted findings alone; without it there are none.
	Accepted bool
	Text     string // substring of a rule, title, path, name or fingerprint
	// Offset continues a listing; the order may have changed meanwhile.
	Offset int
	Limit  int // as in EventQuery
}

// FindingReads answers questions about secrets, faults and malware.
type FindingReads interface {
	// FindingsIn returns findings, one for each image that has it, the gravest
	// first.
	FindingsIn(ctx context.Context, q FindingQuery) ([]Finding, error)
	// FindingLines adds them up over images, the gravest first, then the newest.
	FindingLines(ctx context.Context, q FindingQuery) ([]FindingLine, error)
	// Trend returns the days of a kind from since on, the oldest first, the
	// severities of a day from harmless to grave.
	Trend(ctx context.Context, kind FindingKind, since time.Time) ([]TrendDay, error)
}

// TrendDay is what one day (UTC) came to, of one severity. Only what runs counts:
// a finding is open while a running workload's image has it and it is not
// accepted.
type TrendDay struct {
	Day      time.Time        `json:"day"`
	Severity finding.Severity `json:"severity"`
	Open     int              `json:"open"` // when the day was last looked at
	// New are those of which nothing with them ran before, Resolved those of which
	// nothing runs any more.
	New      int `json:"new"`
	Resolved int `json:"resolved"`
}

// TrendFor is how long days are kept: a year can be compared with the one before
// at its end.
const TrendFor = 400 * 24 * time.Hour

// Trends keeps the days.
type Trends interface {
	// NoteTrend counts what is open now into the day of now, and what became new
	// or was resolved since it was last called.
	NoteTrend(ctx context.Context, now time.Time) error
}
