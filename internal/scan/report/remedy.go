package report

import (
	"cmp"
	"slices"
	"strings"

	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/inventory"
)

// remedy is one thing to do, and what is gone then.
type remedy struct {
	// names are the packages that move together: the binary packages of one
	// source package, or one package.
	names     []string
	ecosystem string
	kind      string // package URL type
	from, to  string // to is empty where there is no fix
	state     finding.State
	places    []inventory.Place
	gone      []*finding.Vulnerability // gravest first
	ids       []string                 // of gone, each once
}

// finish brings what was collected into order.
func (r *remedy) finish() {
	slices.Sort(r.names)
	slices.SortStableFunc(r.gone, func(a, b *finding.Vulnerability) int { return cmp.Compare(b.Severity, a.Severity) })
	seen := map[string]bool{}
	for _, v := range r.gone {
		if !seen[v.ID] {
			seen[v.ID] = true
			r.ids = append(r.ids, v.ID)
		}
	}
}

// worst returns the gravest severity of what is gone.
func (r *remedy) worst() finding.Severity {
	var worst finding.Severity
	for _, v := range r.gone {
		worst = max(worst, v.Severity)
	}
	return worst
}

func (r *remedy) exploited() bool {
	return slices.ContainsFunc(r.gone, func(v *finding.Vulnerability) bool { return v.KEV != nil })
}

func (r *remedy) inUse() bool {
	return slices.ContainsFunc(r.gone, func(v *finding.Vulnerability) bool { return v.InUse })
}

func (r *remedy) epss() float32 {
	var most float32
	for _, v := range r.gone {
		if v.EPSS != nil {
			most = max(most, v.EPSS.EPSS)
		}
	}
	return most
}

// name lists what moves, the first ones of many.
func (r *remedy) name() string {
	const shown = 3
	if len(r.names) <= shown {
		return strings.Join(r.names, ", ")
	}
	return strings.Join(r.names[:shown], ", ") + ", …"
}

// remedyKey is what makes two vulnerabilities go by one step: the same source
// package in the same version, or the same package at the same place. What has no
// fix is kept apart from what has.
type remedyKey struct {
	kind, name, version string
	place               string
	fixed               bool
}

// remedies groups vulnerabilities by what makes them go, best first; accepted
// ones are left out. A group's target is the version that fixes all of it.
func remedies(vs []finding.Vulnerability, compare func(ecosystem, a, b string) int) []remedy {
	at := map[remedyKey]int{}
	var all []remedy
	for i := range vs {
		v := &vs[i]
		if v.Accepted != nil {
			continue
		}
		k := keyOf(v)
		n, ok := at[k]
		if !ok {
			n = len(all)
			at[k] = n
			all = append(all, remedy{ecosystem: v.Package.Ecosystem, kind: v.Package.Type, from: v.Package.Version, state: v.State})
		}
		r := &all[n]
		if name := v.Package.FullName(); !slices.Contains(r.names, name) {
			r.names = append(r.names, name)
		}
		for _, p := range v.Package.Places {
			if !slices.Contains(r.places, p) {
				r.places = append(r.places, p)
			}
		}
		if v.Fixed != "" && (r.to == "" || compare != nil && compare(r.ecosystem, r.to, v.Fixed) < 0) {
			r.to = v.Fixed
		}
		r.gone = append(r.gone, v)
	}
	for i := range all {
		all[i].finish()
	}
	slices.SortStableFunc(all, compareRemedies)
	return all
}

func keyOf(v *finding.Vulnerability) remedyKey {
	p := &v.Package
	k := remedyKey{kind: p.Type, name: p.FullName(), version: p.Version, fixed: v.Fixed != ""}
	if p.Source.Name != "" {
		k.name, k.version = p.Source.Name, p.Source.Version
		return k
	}
	// Without a package manager that moves all of them, each place is a step of
	// its own.
	if len(p.Places) > 0 {
		k.place = p.Places[0].Path
	}
	return k
}

// compareRemedies puts first what can be done, is in use or exploited, and is
// grave.
func compareRemedies(a, b remedy) int {
	first := func(a, b bool) int {
		switch {
		case a == b:
			return 0
		case a:
			return -1
		}
		return 1
	}
	return cmp.Or(
		first(a.to != "", b.to != ""),
		first(a.inUse(), b.inUse()),
		first(a.exploited(), b.exploited()),
		cmp.Compare(b.worst(), a.worst()),
		cmp.Compare(b.epss(), a.epss()),
		cmp.Compare(len(b.ids), len(a.ids)),
		slices.Compare(a.names, b.names),
	)
}
