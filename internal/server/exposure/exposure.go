// Package exposure says how far a weakness reaches into the fleet: which images
// have it, which workloads run them, and which images of the same repositories
// are without it.
//
// It reads and adds up. It is not for finding weaknesses (see internal/scan) and
// decides nothing about them.
package exposure

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/store"
)

// What one answer holds at most; it says so when there is more.
const (
	maxImages    = 100 // with all that runs from them
	maxWorkloads = 100 // of one image
	maxWithout   = 5   // images of one repository that are without it, the newest
	maxLookups   = 20  // repositories in which those are looked for
	maxPackages  = 20  // of one image
)

// Reads is what an answer is made of; store.Store satisfies it.
type Reads interface {
	Findings
	Fleet
}

// Findings reads what is wrong with images.
type Findings interface {
	Vulnerabilities(ctx context.Context, q store.VulnerabilityQuery) ([]store.ImageVulnerability, error)
	Weaknesses(ctx context.Context, q store.VulnerabilityQuery) ([]store.Weakness, error)
}

// Fleet reads images and what runs.
type Fleet interface {
	Image(ctx context.Context, id string) (store.Image, error)
	Images(ctx context.Context, q store.ImageQuery) ([]store.Image, error)
	Workloads(ctx context.Context, q store.WorkloadQuery) ([]asset.Workload, error)
}

// Exposure is how far one weakness reaches.
type Exposure struct {
	Weakness store.Weakness `json:"weakness" doc:"Added up over all images"`
	// Finding is the one that says most about it.
	Finding finding.Vulnerability `json:"finding" doc:"The finding that says most about it: description, scores, references"`
	Images  []Image               `json:"images" nullable:"false" doc:"Those that have it, what runs first"`
	More    bool                  `json:"more,omitempty" doc:"More images have it than are listed"`
	// Accepted says that every finding of it is accepted.
	Accepted bool `json:"accepted,omitempty" doc:"Every finding of it is accepted"`
}

// Image is one image that has the weakness.
type Image struct {
	ID         string           `json:"id"`
	Reference  string           `json:"reference,omitempty" doc:"The newest name that it was asked for by"`
	Owner      string           `json:"owner,omitempty" doc:"Who is responsible for it"`
	Severity   finding.Severity `json:"severity" doc:"The gravest of its findings"`
	InUse      bool             `json:"in_use,omitempty"`
	First      time.Time        `json:"first" doc:"When it was first found in this image"`
	Packages   []Package        `json:"packages" nullable:"false"`
	Running    int              `json:"running" doc:"Workloads that run from it now"`
	Workloads  []Workload       `json:"workloads" nullable:"false" doc:"The first of those"`
	Without    []Release        `json:"without,omitempty" doc:"Scanned images of the same repository that are without the weakness, newest first"`
	repository string
}

// Package is one package that brings the weakness.
type Package struct {
	Name     string                 `json:"name"`
	Version  string                 `json:"version"`
	Fixed    string                 `json:"fixed,omitempty" doc:"Version that has the fix"`
	State    finding.State          `json:"state"`
	Layer    int                    `json:"layer,omitempty" doc:"Number of the layer that brought it, the base is 1"`
	InUse    bool                   `json:"in_use,omitempty"`
	Accepted *finding.Acceptance    `json:"accepted,omitempty"`
	Whole    *finding.Vulnerability `json:"-"`
}

// Workload is one that runs now.
type Workload struct {
	ID      string      `json:"id"`
	Name    string      `json:"name"`
	Group   asset.Group `json:"group"`
	AgentID string      `json:"agent_id"`
}

// Release is another image of the same repository.
type Release struct {
	ID        string    `json:"id"`
	Reference string    `json:"reference"`
	Seen      time.Time `json:"seen"`
	Running   int       `json:"running"`
}

// Of returns how far the weakness of this id, or with this alias, reaches;
// NotFound when no image has it.
func Of(ctx context.Context, r Reads, id string) (Exposure, error) {
	e, err := weakness(ctx, r, id)
	if err != nil {
		return Exposure{}, err
	}
	lines, err := lines(ctx, r, id, &e)
	if err != nil {
		return Exposure{}, err
	}
	affected := map[string]bool{}
	for i := range lines {
		affected[lines[i].ImageID] = true
		e.add(&lines[i])
	}
	for i := range e.Images {
		if err := e.Images[i].complete(ctx, r); err != nil {
			return Exposure{}, err
		}
	}
	slices.SortStableFunc(e.Images, func(a, b Image) int {
		return cmp.Or(cmp.Compare(b.Running, a.Running), cmp.Compare(b.Severity, a.Severity), b.First.Compare(a.First))
	})
	return e, e.releases(ctx, r, affected)
}

// weakness finds it among the open ones, or else among the accepted.
func weakness(ctx context.Context, r Reads, id string) (Exposure, error) {
	for _, accepted := range []bool{false, true} {
		ws, err := r.Weaknesses(ctx, store.VulnerabilityQuery{ID: id, Accepted: accepted, Limit: 1})
		if err != nil {
			return Exposure{}, err
		}
		if len(ws) > 0 {
			return Exposure{Weakness: ws[0], Accepted: accepted}, nil
		}
	}
	return Exposure{}, fault.New(fault.NotFound, "no scanned image has a vulnerability called %.100q", id).
		With("list them: castellan vulnerabilities")
}

// lines reads the findings, open ones first.
func lines(ctx context.Context, r Reads, id string, e *Exposure) ([]store.ImageVulnerability, error) {
	var all []store.ImageVulnerability
	for _, accepted := range []bool{false, true} {
		page, err := r.Vulnerabilities(ctx, store.VulnerabilityQuery{ID: id, Accepted: accepted, Limit: store.MaxPage})
		if err != nil {
			return nil, err
		}
		e.More = e.More || len(page) == store.MaxPage
		all = append(all, page...)
	}
	return all, nil
}

// add puts one finding to its image.
func (e *Exposure) add(l *store.ImageVulnerability) {
	v := &l.Vulnerability
	if e.Finding.ID == "" || says(v) > says(&e.Finding) {
		e.Finding = *v
	}
	i := slices.IndexFunc(e.Images, func(m Image) bool { return m.ID == l.ImageID })
	if i < 0 {
		if len(e.Images) == maxImages {
			e.More = true
			return
		}
		i = len(e.Images)
		e.Images = append(e.Images, Image{ID: l.ImageID, First: l.First, Workloads: []Workload{}})
	}
	m := &e.Images[i]
	m.Severity = max(m.Severity, v.Severity)
	m.InUse = m.InUse || v.InUse
	if l.First.Before(m.First) {
		m.First = l.First
	}
	if len(m.Packages) == maxPackages {
		return
	}
	p := Package{Name: v.Package.FullName(), Version: v.Package.Version, Fixed: v.Fixed, State: v.State, InUse: v.InUse, Accepted: v.Accepted, Whole: v}
	if len(v.Package.Places) > 0 {
		p.Layer = v.Package.Places[0].Layer
	}
	m.Packages = append(m.Packages, p)
}

// says weighs how much a finding tells of its weakness.
func says(v *finding.Vulnerability) int {
	n := len(v.References) + 4*len(v.Scores) + 2*len(v.Advisories)
	if v.Summary != "" {
		n += 20
	}
	return n
}

// complete adds what the image is called and what runs from it.
func (m *Image) complete(ctx context.Context, r Fleet) error {
	one, err := r.Image(ctx, m.ID)
	if fault.Is(err, fault.NotFound) {
		return nil // it was forgotten between two reads
	}
	if err != nil {
		return err
	}
	m.Running, m.Owner = one.Running, one.Owner
	if len(one.References) > 0 {
		m.Reference = one.References[0]
		m.repository = asset.Repository(m.Reference)
	}
	if one.Running == 0 {
		return nil
	}
	ws, err := r.Workloads(ctx, store.WorkloadQuery{ImageID: m.ID, States: []asset.State{asset.Running}, Limit: maxWorkloads})
	if err != nil {
		return err
	}
	for _, w := range ws {
		m.Workloads = append(m.Workloads, Workload{ID: w.ID, Name: w.Name, Group: w.Group, AgentID: w.AgentID})
	}
	return nil
}

// releases looks for images of the same repositories that are without the
// weakness. Where not all that have it are known, none can be said to be
// without.
func (e *Exposure) releases(ctx context.Context, r Fleet, affected map[string]bool) error {
	if e.More {
		return nil
	}
	known := map[string][]Release{}
	for i := range e.Images {
		m := &e.Images[i]
		if m.repository == "" {
			continue
		}
		without, ok := known[m.repository]
		if !ok && len(known) < maxLookups {
			var err error
			if without, err = withoutIt(ctx, r, m.repository, affected); err != nil {
				return err
			}
			known[m.repository] = without
		}
		m.Without = without
	}
	return nil
}

func withoutIt(ctx context.Context, r Fleet, repository string, affected map[string]bool) ([]Release, error) {
	page, err := r.Images(ctx, store.ImageQuery{Text: repository, State: store.ScanDone, Limit: store.DefaultPage})
	if err != nil {
		return nil, err
	}
	var out []Release
	for _, m := range page {
		i := slices.IndexFunc(m.References, func(ref string) bool { return asset.Repository(ref) == repository })
		if i < 0 || affected[m.ID] || m.Scan.Matched.IsZero() {
			continue
		}
		out = append(out, Release{ID: m.ID, Reference: m.References[i], Seen: m.Seen, Running: m.Running})
	}
	slices.SortStableFunc(out, func(a, b Release) int { return b.Seen.Compare(a.Seen) })
	return out[:min(len(out), maxWithout)], nil
}
