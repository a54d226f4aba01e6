// Package check holds what is wrong with a blueprint: one small function a check,
// and the words for people beside it. All lists the checks; a test fails when one
// lacks an id, a reason, a remedy or its examples.
//
// A check says nothing of what is unknown: a fault is something that stands in
// the document, or that its absence means by the platform's own rules.
//
// It is not for reading documents (see iac) and not for secrets in general (see
// the scanner of secrets): here a secret is a fault of the place where it stands.
package check

import (
	"cmp"
	"slices"

	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/scan/blueprint"
)

// Topic is what a check is about.
type Topic string

// The topics.
const (
	Task    Topic = "task"
	Service Topic = "service"
	Cluster Topic = "cluster"
	Role    Topic = "role"
	Image   Topic = "image"
)

// Check is one check.
type Check struct {
	// ID never changes its meaning.
	ID        string            `json:"id"`
	Title     string            `json:"title"`
	Severity  finding.Severity  `json:"severity"`
	Why       string            `json:"why"`
	Remedy    string            `json:"remedy"`
	Elsewhere finding.Elsewhere `json:"elsewhere,omitzero"`
	find      finder
}

// Topic is what the check is about, by its id.
func (c *Check) Topic() Topic {
	for prefix, t := range map[string]Topic{"CAST-TASK-": Task, "CAST-SERVICE-": Service, "CAST-CLUSTER-": Cluster, "CAST-ROLE-": Role, "CAST-IMAGE-": Image} {
		if len(c.ID) > len(prefix) && c.ID[:len(prefix)] == prefix {
			return t
		}
	}
	return ""
}

// Fault is what a check found, with the stretches of the file that it lies in,
// the resource's first.
type Fault struct {
	finding.Misconfiguration
	Scopes []blueprint.Span
}

// hit is what a check says of one place.
type hit struct {
	at       blueprint.Span
	subject  string // what of the resource is meant, where there may be several
	evidence string
	severity finding.Severity // 0: the check's
	layer    int
}

// report takes hits.
type report func(hit)

// finder is how a check looks at a document.
type finder func(d *blueprint.Document, in func(r blueprint.Resource, c *blueprint.Container) report)

// Run returns what all checks find in a document, in the order of its places.
func Run(d *blueprint.Document) []*Fault {
	var faults []*Fault
	for _, c := range list() {
		c.find(d, func(r blueprint.Resource, in *blueprint.Container) report {
			return func(h hit) { faults = append(faults, c.fault(r, in, h)) }
		})
	}
	slices.SortStableFunc(faults, func(a, b *Fault) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Start.Line, b.Start.Line), cmp.Compare(a.Start.Column, b.Start.Column),
			cmp.Compare(a.Resource, b.Resource), cmp.Compare(a.Check, b.Check))
	})
	return faults
}

func (c *Check) fault(r blueprint.Resource, in *blueprint.Container, h hit) *Fault {
	f := &Fault{Misconfiguration: finding.Misconfiguration{
		Check: c.ID, Title: c.Title, Severity: cmp.Or(h.severity, c.Severity), Resource: r.Name, Subject: h.subject, Evidence: h.evidence,
		Why: c.Why, Remedy: c.Remedy, Elsewhere: c.Elsewhere, File: h.at.File, Start: h.at.Start, End: h.at.End, Layer: h.layer,
	}, Scopes: []blueprint.Span{r.At}}
	if in != nil {
		f.Container = in.Name.V
		f.Scopes = append(f.Scopes, in.At)
	}
	return f
}

// tasks makes a finder of a function about one task.
func tasks(about func(*blueprint.Task, report)) finder {
	return func(d *blueprint.Document, in func(blueprint.Resource, *blueprint.Container) report) {
		for i := range d.Tasks {
			about(&d.Tasks[i], in(d.Tasks[i].Resource, nil))
		}
	}
}

// containers makes a finder of a function about one container.
func containers(about func(*blueprint.Task, *blueprint.Container, report)) finder {
	return func(d *blueprint.Document, in func(blueprint.Resource, *blueprint.Container) report) {
		for i := range d.Tasks {
			t := &d.Tasks[i]
			for k := range t.Containers {
				about(t, &t.Containers[k], in(t.Resource, &t.Containers[k]))
			}
		}
	}
}

// linux leaves out what Windows does not have.
func linux(about func(*blueprint.Task, *blueprint.Container, report)) finder {
	return containers(func(t *blueprint.Task, c *blueprint.Container, hits report) {
		if !t.Windows() {
			about(t, c, hits)
		}
	})
}

func services(about func(*blueprint.Service, report)) finder {
	return func(d *blueprint.Document, in func(blueprint.Resource, *blueprint.Container) report) {
		for i := range d.Services {
			about(&d.Services[i], in(d.Services[i].Resource, nil))
		}
	}
}

func clusters(about func(*blueprint.Cluster, report)) finder {
	return func(d *blueprint.Document, in func(blueprint.Resource, *blueprint.Container) report) {
		for i := range d.Clusters {
			about(&d.Clusters[i], in(d.Clusters[i].Resource, nil))
		}
	}
}

// taskRoles makes a finder of a function about one role that tasks use: one that
// they may assume, or that a task of the document names.
func taskRoles(about func(*blueprint.Role, report)) finder {
	return func(d *blueprint.Document, in func(blueprint.Resource, *blueprint.Container) report) {
		named := map[string]bool{}
		for i := range d.Tasks {
			named[d.Tasks[i].TaskRole.Ref], named[d.Tasks[i].ExecutionRole.Ref] = true, true
		}
		for i := range d.Roles {
			if r := &d.Roles[i]; r.ForTasks || r.Key != "" && named[r.Key] {
				about(r, in(r.Resource, nil))
			}
		}
	}
}

func builds(about func(*blueprint.Build, report)) finder {
	return func(d *blueprint.Document, in func(blueprint.Resource, *blueprint.Container) report) {
		for i := range d.Builds {
			about(&d.Builds[i], in(d.Builds[i].Resource, nil))
		}
	}
}

// steps makes a finder of a function about one instruction of a build.
func steps(about func(*blueprint.Build, *blueprint.Step, report)) finder {
	return builds(func(b *blueprint.Build, hits report) {
		for i := range b.Steps {
			about(b, &b.Steps[i], hits)
		}
	})
}

// All lists the checks, by their ids.
func All() []Check {
	all := list()
	slices.SortFunc(all, func(a, b Check) int { return cmp.Compare(order(a), order(b)) })
	return all
}

// list names every function that makes checks: adding a check is a line in one of
// them.
func list() []Check {
	return slices.Concat(rights(), isolation(), hostFolders(), openings(), containment(), bounds(), supplies(), dataChecks(), lifeChecks(),
		serviceChecks(), clusterChecks(), roleChecks(), trustChecks(), imageChecks(), stepChecks(), habits(), contentChecks())
}

// order puts topics in the order in which people think of them.
func order(c Check) string {
	at := slices.Index([]Topic{Task, Service, Cluster, Role, Image}, c.Topic())
	return string(rune('0'+at)) + c.ID
}
