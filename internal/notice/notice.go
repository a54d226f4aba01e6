// Package notice holds the nouns for telling people and other systems what
// happened: what is told (Notice, Notification), and who is told of what
// (Target, Filter).
//
// It is not for what is wrong (see finding) and not for what Castellan says of
// itself on its own pages.
package notice

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
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
	// Incident: something hostile happened, or what is known of it changed, or it
	// is over (Notice.Resolved).
	Incident Kind = "incident"
	// Violation: a workload did what its profile has not.
	Violation Kind = "violation"
	// Response: something was done about a threat, or could not be, or is undone.
	Response Kind = "response"
	// Test: somebody tries whether a target can be reached.
	Test Kind = "test"
)

// Kinds lists those that a Filter may name.
func Kinds() []Kind { return []Kind{ImageVulnerable, ImageScanned, Incident, Violation, Response} }

// Happens reports whether a kind is of something that happens, and may have to be
// told at once; others are found.
func (k Kind) Happens() bool { return k == Incident || k == Violation || k == Response }

// Notification is what a target is told at once: one notice, or many that came
// up within a while. It is the document that webhooks get.
type Notification struct {
	Version int `json:"version"`
	// ID is the same at every try to deliver it.
	ID       string           `json:"id"`
	Created  time.Time        `json:"created"`
	Severity finding.Severity `json:"severity"` // of the gravest notice
	Title    string           `json:"title"`    // one sentence without a full stop
	// Text is the body that the target's own template made; empty: each form has
	// one of its own.
	Text    string   `json:"text,omitempty"`
	Link    string   `json:"link"`    // to the console
	Notices []Notice `json:"notices"` // the gravest first
	// LeftOut notices had no room.
	LeftOut int `json:"left_out,omitempty"`
}

// Notice is one thing that happened.
type Notice struct {
	Kind Kind `json:"kind"`
	// ID is the same however often the same thing is told: that it happened, not
	// what it happened to, which is Subject. Of those about images it is empty.
	ID string `json:"id,omitempty"`
	// Subject is the same in all notices about the same thing, the same incident
	// say, and in those of no other kind: by it, others know what an alarm of
	// theirs is about. See Key.
	Subject string `json:"subject,omitempty"`
	// Resolved says that it is over.
	Resolved bool             `json:"resolved,omitempty"`
	Time     time.Time        `json:"time"`
	Severity finding.Severity `json:"severity"` // of the gravest of its findings
	Title    string           `json:"title"`
	Remedy   string           `json:"remedy,omitempty"`
	Link     string           `json:"link"`
	Image    *Image           `json:"image,omitempty"`    // what it is about
	Workload *Workload        `json:"workload,omitempty"` // what did it
	// Detail explains the title in some sentences.
	Detail string `json:"detail,omitempty"`
	// Rule is what saw it, and Techniques are those of MITRE ATT&CK that it is.
	Rule       string      `json:"rule,omitempty"`
	Techniques []Technique `json:"techniques,omitempty"`
	// Count is how often it happened until now; 0 where nobody counts.
	Count int `json:"count,omitempty"`
	// Owner is who is responsible for the image or the workload, where it is known.
	Owner string `json:"owner,omitempty"`
	// Findings are those that are news, what deserves attention most first.
	Findings []Finding `json:"findings,omitempty"`
	// Outside are violations of one group, the gravest first; of a notice of kind
	// Violation.
	Outside []Outside `json:"outside,omitempty"`
	// LeftOut findings or violations had no room.
	LeftOut int `json:"left_out,omitempty"`
}

// Key names what a notice is about, in one word of at most 128 bytes, the same
// in all notices about it.
func (n *Notice) Key() string {
	subject := n.Subject
	if subject == "" && n.Image != nil {
		subject = n.Image.ID
	}
	if subject == "" {
		subject = n.Title + n.Time.UTC().Format(time.RFC3339Nano)
	}
	sum := sha256.Sum256([]byte(subject))
	return string(n.Kind) + "-" + hex.EncodeToString(sum[:16])
}

// Groups returns those that a notice is about.
func (n *Notice) Groups() (all []string) {
	if n.Image != nil {
		all = append(all, n.Image.Groups...)
	}
	if n.Workload != nil {
		if n.Workload.Group != "" {
			all = append(all, n.Workload.Group)
		}
		all = append(all, n.Workload.Groups...)
	}
	return all
}

// References returns the names of the images that a notice is about.
func (n *Notice) References() (all []string) {
	if n.Image != nil {
		all = append(all, n.Image.References...)
	}
	if n.Workload != nil && n.Workload.Image != "" {
		all = append(all, n.Workload.Image)
	}
	return all
}

// cluster is the name of the cluster that it is in; empty where none is known.
func (w *Workload) cluster() string {
	if w.Cluster != "" {
		return w.Cluster[strings.LastIndexByte(w.Cluster, '/')+1:] // of an ARN, the name
	}
	return clusterOf(w.Group)
}

// clusterOf is the first part of a group.
func clusterOf(group string) string {
	cluster, _, _ := strings.Cut(group, "/")
	return cluster
}

// Clusters returns the names of those that a notice is about.
func (n *Notice) Clusters() (all []string) {
	if n.Image != nil {
		all = ClustersOf(n.Image.Groups)
	}
	if n.Workload != nil {
		if c := n.Workload.cluster(); c != "" {
			all = append(all, c)
		}
		all = append(all, ClustersOf(n.Workload.Groups)...)
	}
	return all
}

// ClustersOf returns the names of the clusters that groups are of.
func ClustersOf(groups []string) (all []string) {
	for _, g := range groups {
		if c := clusterOf(g); c != "" {
			all = append(all, c)
		}
	}
	return all
}

// Workload is a workload that a notice is about. What is not known is empty.
type Workload struct {
	ID    string `json:"id"`              // of the container
	Group string `json:"group,omitempty"` // cluster/service/container
	// Groups are further ones that the same happened in.
	Groups    []string `json:"groups,omitempty"`
	Account   string   `json:"account,omitempty"`
	Region    string   `json:"region,omitempty"`
	Cluster   string   `json:"cluster,omitempty"`
	Task      string   `json:"task,omitempty"` // its ARN
	Container string   `json:"container,omitempty"`
	Host      string   `json:"host,omitempty"`
	Image     string   `json:"image,omitempty"` // its reference
}

// Technique is one of MITRE ATT&CK.
type Technique struct {
	ID     string `json:"id"` // T1611
	Name   string `json:"name,omitempty"`
	Tactic string `json:"tactic,omitempty"` // privilege-escalation
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
