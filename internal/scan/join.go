package scan

import (
	"hash/maphash"
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
	seen := newIdentities(len(a.packages))
	joined := a.packages[:0] // in place: there may be hundreds of thousands
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
		if k, ok := seen.place(p, joined); ok {
			unite(&joined[k], p)
			continue
		}
		joined = append(joined, *p)
	}
	clear(a.packages[len(joined):])
	a.inv.Packages, a.packages = joined, nil
	for i := range a.inv.Packages {
		places := a.inv.Packages[i].Places
		slices.SortFunc(places, inventory.ComparePlaces)
		a.inv.Packages[i].Places = slices.Compact(places)
	}
}

func identityOf(p *inventory.Package) identity { return identity{p.Key(), p.OwnedBy, p.Source} }

// identities knows where packages are in a list. It holds their hashes: a map of
// what makes them one would be half as large as the list.
type identities struct {
	seed maphash.Seed
	at   map[uint64]int32
}

func newIdentities(most int) identities {
	return identities{maphash.MakeSeed(), make(map[uint64]int32, most)}
}

// place returns where in the list p is already; where it is not, it is noted as the
// one that comes next.
func (i identities) place(p *inventory.Package, list []inventory.Package) (int, bool) {
	id := identityOf(p)
	for h := maphash.Comparable(i.seed, id); ; h++ {
		k, taken := i.at[h]
		if !taken {
			i.at[h] = int32(len(list))
			return 0, false
		}
		if identityOf(&list[k]) == id {
			return int(k), true
		}
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
