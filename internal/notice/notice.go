// Package notice holds the nouns for telling people and other systems what
// happened: what is told (Notice, Notification), and who is told of what
// (Target, Filter).
//
// It is not for what is wrong (see finding) and not for what Castellan says of
// itself on its own pages.
package notice

import (
	"time"

	"github.com/castellan-security/castellan/internal/finding"
)

// Version is that of the form of a Notification. Within a version, fields, kinds
// and reasons are only added.
const Version = 1

// Kind is what happened.
type Kind string

// The kinds of notice.
const (
	// ImageVulnerable: more is known to be wrong with an image that had been
	// compared with the advisories before.
	ImageVulnerable Kind = "image.vulnerable"
	// ImageScanned: an image was compared with the advisories for the first time.
	ImageScanned Kind = "image.scanned"
	// Test: somebody tries whether a target can be reached.
	Test Kind = "test"
)

// Kinds lists those that a Filter may name.
func Kinds() []Kind { return []Kind{ImageVulnerable, ImageScanned} }

// Notification is what a target is told at once: one notice, or many that came
// up within a while. It is the document that webhooks get.
type Notification struct {
	Version int `json:"version"`
	// ID is the same at every try to deliver it.
	ID       string           `json:"id"`
	Created  time.Time        `json:"created"`
	Severity finding.Severity `json:"severity"` // of the gravest notice
	Title    string           `json:"title"`    // one sentence without a full stop
	Link     string           `json:"link"`     // to the console
	Notices  []Notice         `json:"notices"`  // the gravest first
	// LeftOut notices had no room.
	LeftOut int `json:"left_out,omitempty"`
}

// Notice is one thing that happened.
type Notice struct {
	Kind     Kind             `json:"kind"`
	Time     time.Time        `json:"time"`
	Severity finding.Severity `json:"severity"` // of the gravest of its findings
	Title    string           `json:"title"`
	Remedy   string           `json:"remedy,omitempty"`
	Link     string           `json:"link"`
	Image    *Image           `json:"image,omitempty"` // what it is about
	// Findings are those that are news, what deserves attention most first.
	Findings []Finding `json:"findings,omitempty"`
	// LeftOut findings had no room.
	LeftOut int `json:"left_out,omitempty"`
}

// Image is an image that a notice is about.
type Image struct {
	ID         string   `json:"id"` // the engine's, sha256:…
	References []string `json:"references,omitempty"`
	Digest     string   `json:"digest,omitempty"` // of the registry's manifest
	Running    int      `json:"running"`          // workloads of it that run
	Groups     []string `json:"groups,omitempty"` // a few of those that they are of
	Counts     Counts   `json:"counts"`
}

// Counts says how many findings an image has that nobody has accepted.
type Counts struct {
	Critical  int `json:"critical"`
	High      int `json:"high"`
	Medium    int `json:"medium"`
	Low       int `json:"low"`
	Other     int `json:"other"` // negligible, and not rated
	Fixable   int `json:"fixable"`
	Exploited int `json:"exploited"`
}

// Reason is why a finding is news.
type Reason string

// The reasons.
const (
	New       Reason = "new"       // it was not known in this image
	Exploited Reason = "exploited" // it is now known to be exploited
	Graver    Reason = "graver"    // its severity rose
	Fix       Reason = "fix"       // a fixed version is out
	Reopened  Reason = "reopened"  // it was accepted, and is no longer
)

// Finding is a weakness of an image that is news.
type Finding struct {
	Fingerprint string           `json:"fingerprint"`
	ID          string           `json:"id"` // CVE-…
	Reason      Reason           `json:"reason"`
	Severity    finding.Severity `json:"severity"`
	Package     string           `json:"package"`
	Version     string           `json:"version"` // that the image has
	Fixed       string           `json:"fixed,omitempty"`
	Exploited   bool             `json:"exploited,omitempty"` // known to be (KEV)
	InUse       bool             `json:"in_use,omitempty"`
	Remedy      string           `json:"remedy,omitempty"`
}

// Level orders what a target was told of a finding: what is told at a level is
// told again at a higher one only.
func (f *Finding) Level() int {
	level := int(f.Severity) + 1
	if f.Exploited {
		level += int(finding.Critical) + 1
	}
	return level
}
