package scan

import (
	"slices"
	"time"

	"github.com/castellan-security/castellan/internal/inventory"
)

// identity is what makes two entries one package at several places.
type identity struct {
	inventory.Key
	ownedBy string
	source  inventory.Source
}

// join gives packages their ecosystem, and makes one of those that are the same
// at several places.
func (a *assembly) join() {
	seen := map[identity]int{}
	eco, namespace := Ecosystem(a.inv.OS), namespaceOf(a.inv.OS)
	for i := range a.packages {
		p := &a.packages[i]
		if p.FromDistribution() {
			if p.Ecosystem == "" {
				p.Ecosystem = eco
			}
			if p.Namespace == "" {
				p.Namespace = namespace
			}
		}
		id := identity{p.Key(), p.OwnedBy, p.Source}
		if k, ok := seen[id]; ok {
			unite(&a.inv.Packages[k], p)
			continue
		}
		seen[id] = len(a.inv.Packages)
		a.inv.Packages = append(a.inv.Packages, *p)
	}
	for i := range a.inv.Packages {
		places := a.inv.Packages[i].Places
		slices.SortFunc(places, inventory.ComparePlaces)
		a.inv.Packages[i].Places = slices.Compact(places)
	}
}

// unite adds to p what another entry of it says.
func unite(p, q *inventory.Package) {
	p.Places = append(p.Places, q.Places...)
	p.Licenses = union(p.Licenses, q.Licenses)
	p.Files = union(p.Files, q.Files)
	p.Digests = union(p.Digests, q.Digests)
	p.Dev = p.Dev && q.Dev
	p.Indirect = p.Indirect && q.Indirect
	if worth(q.Found) > worth(p.Found) {
		p.Found = q.Found
	}
	if p.Repository == "" {
		p.Repository = q.Repository
	}
	p.Published = earlier(p.Published, q.Published)
}

func union(a, b []string) []string {
	if len(b) == 0 || slices.Equal(a, b) {
		return a
	}
	all := append(slices.Clone(a), b...)
	slices.Sort(all)
	return slices.Compact(all)
}

// worth orders evidence: what is there counts more than what is said.
func worth(e inventory.Evidence) int {
	return slices.Index([]inventory.Evidence{inventory.Stated, inventory.Declared, inventory.Compiled, inventory.Installed}, e)
}

func earlier(a, b *time.Time) *time.Time {
	if a == nil || b != nil && b.Before(*a) {
		return b
	}
	return a
}
