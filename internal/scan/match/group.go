package match

import (
	"cmp"
	"slices"
	"strings"

	"github.com/castellan-security/castellan/internal/advisory"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan/vulndb"
)

// group is one weakness in one package, and the hits that speak of it.
type group struct {
	id    string
	names []string // all others of the same weakness
	hits  []*hit
}

// grouping joins names of the same weakness (union-find). The unit is the CVE
// number: two of them are never joined, whatever claims that they are the same,
// because some publishers list all that an advisory is about as its aliases. It
// is cleared for each package, because what is an alias in one database need not
// be one for another package, and keeps its memory.
type grouping struct {
	numbers map[string]int
	names   []string
	parent  []int
	cve     []bool  // whether the names that a number stands for have a CVE number
	groups  []group // by the number of the name that stands for it
}

func (g *grouping) clear() {
	if g.numbers == nil {
		g.numbers = map[string]int{}
	}
	clear(g.numbers)
	g.names, g.parent, g.cve = g.names[:0], g.parent[:0], g.cve[:0]
}

// number returns the number of a name.
func (g *grouping) number(name string) int {
	n, ok := g.numbers[name]
	if !ok {
		n = len(g.names)
		g.numbers[name] = n
		g.names, g.parent, g.cve = append(g.names, name), append(g.parent, n), append(g.cve, isCVE(name))
	}
	return n
}

// root returns the number of the name that stands for all of its weakness.
func (g *grouping) root(n int) int {
	for g.parent[n] != n {
		g.parent[n] = g.parent[g.parent[n]]
		n = g.parent[n]
	}
	return n
}

func (g *grouping) join(a, b int) {
	a, b = g.root(a), g.root(b)
	if a == b || g.cve[a] && g.cve[b] {
		return
	}
	g.parent[b] = a
	g.cve[a] = g.cve[a] || g.cve[b]
}

// sort makes the groups of the hits of one package.
func (g *grouping) sort(hits []hit, distribution bool) {
	g.clear()
	for i := range hits {
		r := hits[i].r
		for _, unit := range r.about(distribution) {
			g.number(unit)
		}
		if !distribution && len(r.cves) == 1 {
			g.joinAll(r.cves[0], r.own)
		}
	}
	for i := range hits { // what has no CVE number joins what is known now
		if r := hits[i].r; !distribution && len(r.cves) == 0 {
			g.joinAll(r.own[0], r.own)
		}
	}
	g.groups = slices.Grow(g.groups[:0], len(g.names))[:len(g.names)]
	for i := range g.groups {
		one := &g.groups[i]
		one.id, one.names, one.hits = "", nil, one.hits[:0]
	}
	for i, name := range g.names {
		g.groups[g.root(i)].name(name)
	}
	for i := range hits {
		for _, unit := range hits[i].r.about(distribution) {
			one := &g.groups[g.root(g.numbers[unit])]
			one.hits = append(one.hits, &hits[i])
		}
	}
}

func (g *grouping) joinAll(one string, all []string) {
	first := g.number(one)
	for _, name := range all {
		g.join(first, g.number(name))
	}
}

// name adds a name. The identifier is a CVE number if there is one, else one of
// GitHub's, else any; of several of a kind the first in the alphabet.
func (g *group) name(name string) {
	switch {
	case g.id == "":
		g.id = name
	case cmp.Or(cmp.Compare(rank(name), rank(g.id)), cmp.Compare(name, g.id)) < 0:
		g.names = append(g.names, g.id)
		g.id = name
	default:
		g.names = append(g.names, name)
	}
}

func rank(name string) int {
	switch {
	case isCVE(name):
		return 0
	case strings.HasPrefix(name, "GHSA-"):
		return 1
	}
	return 2
}

// group sorts the hits of a package by weakness and judges each.
func (m *matcher) group(p *inventory.Package) error {
	g := &m.groups
	g.sort(m.hits, isDistribution(p))
	spoken := spoken{m: m, p: p}
	for i := range g.groups { // in the order of the file, so that two matches are the same
		one := &g.groups[i]
		if len(one.hits) == 0 {
			continue
		}
		slices.Sort(one.names)
		if err := m.judge(p, one, &spoken); err != nil {
			return err
		}
	}
	return nil
}

// spoken is what advisories say of a package that they do not hold: that it is
// fixed or not affected. It is worked out only when asked.
type spoken struct {
	m    *matcher
	p    *inventory.Package
	done bool
	free map[string]freedom
}

// freedom says that a package does not have a weakness: by the word of what tracks
// it in its release, or in Ubuntu's extended maintenance; or because it has an
// update that was announced to fix it.
type freedom struct{ plain, pro, announced bool }

// of returns what is said of a weakness.
func (s *spoken) of(unit string) (freedom, error) {
	if s.done {
		return s.free[unit], nil
	}
	s.done, s.free = true, map[string]freedom{}
	for i := range s.m.views {
		if err := s.read(&s.m.views[i]); err != nil {
			return freedom{}, err
		}
	}
	return s.free[unit], nil
}

func (s *spoken) read(v *view) error {
	var e vulndb.Entries
	for e.Of(v.Package); e.Next(); {
		at, ok := v.position(&e.Entry)
		if !ok || !at.Ordered() || e.Holds(at) && e.Status != advisory.NotAffected {
			continue
		}
		_, ok, err := s.m.within(s.p, v, &e.Entry)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		r, err := s.m.spokenOf(e.Advisory, true)
		if err != nil {
			return err
		}
		tracks := r.tracks()
		if !r.Withdrawn.IsZero() || !tracks && !statesMayLag(s.p) { // updates fix many at once
			continue
		}
		for _, unit := range r.units {
			f := s.free[unit]
			f.pro = f.pro || tracks && v.pro
			f.plain = f.plain || tracks && !v.pro
			f.announced = f.announced || !tracks
			s.free[unit] = f
		}
	}
	return e.Err()
}
