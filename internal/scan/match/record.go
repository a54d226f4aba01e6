package match

import (
	"strings"

	"github.com/castellan-security/castellan/internal/scan/vulndb"
)

// record is an advisory as a match needs it.
type record struct {
	vulndb.Record
	number vulndb.Number
	// units are the weaknesses that the advisory of a distribution is about, as
	// a rule CVE numbers; it may fix several at once. See spokenOf.
	units []string
	// own are the identifier and the aliases, and cves the CVE numbers of what
	// any other advisory is about: as a rule one, none if there is no number,
	// and several where a publisher puts weaknesses together.
	own, cves []string
	// rated is what the advisory alone comes to for packages of the type
	// ratedFor, once somebody asked.
	rated    *rated
	ratedFor string
}

// alone says that the advisory is about one weakness, so that its texts and scores
// are about that very weakness.
func (r *record) alone(distribution bool) bool {
	if distribution {
		return len(r.units) == 1
	}
	return len(r.cves) <= 1
}

// about returns what groups the advisory belongs to.
func (r *record) about(distribution bool) []string {
	switch {
	case distribution:
		return r.units
	case len(r.cves) > 0:
		return r.cves
	}
	return r.own[:1]
}

// tracks says that the advisory follows one weakness (CVE-2023-0286,
// DEBIAN-CVE-2023-0286), so that it says whether a package has it at all. One
// that announces an update (DSA-5343-1, ALAS2023-2024-501) only says what the
// update fixes, even if that is one weakness.
func (r *record) tracks() bool { return len(r.units) == 1 && strings.Contains(r.ID, r.units[0]) }

func (m *matcher) record(n vulndb.Number) (*record, error) {
	if r, ok := m.records[n]; ok {
		return r, nil
	}
	plain, err := m.db.Record(n)
	if err != nil {
		return nil, err
	}
	r := &record{Record: plain, number: n}
	r.own = append([]string{r.ID}, r.Aliases...)
	m.records[n] = r
	return r, nil
}

// spokenOf returns an advisory with what it is about, for a package of a
// distribution or for any other.
func (m *matcher) spokenOf(n vulndb.Number, distribution bool) (*record, error) {
	r, err := m.record(n)
	if err != nil {
		return nil, err
	}
	if distribution && r.units == nil {
		r.units = m.unitsOf(r)
	}
	if !distribution && r.cves == nil {
		r.cves = m.cvesOf(r)
	}
	return r, nil
}

// cvesOf returns the CVE numbers among an advisory's own names; if there is none,
// the one that other advisories know for them or that it names as its upstream.
func (m *matcher) cvesOf(r *record) (cves []string) {
	for _, name := range r.own {
		if isCVE(name) {
			cves = append(cves, name)
		}
	}
	if len(cves) > 0 {
		return distinct(cves)
	}
	for _, name := range append(r.own, r.Upstream...) {
		if name = m.canonical(name); isCVE(name) {
			cves = append(cves, name)
		}
	}
	if cves = distinct(cves); len(cves) != 1 {
		return []string{}
	}
	return cves
}

func isCVE(name string) bool { return strings.HasPrefix(name, "CVE-") }

// unitsOf returns the weaknesses that an advisory of a distribution is about.
// Those are upstream's: CVE numbers, and names of other databases, which count
// only where they are not just another name of one of the CVEs.
func (m *matcher) unitsOf(r *record) []string {
	if isCVE(r.ID) {
		return []string{r.ID}
	}
	names := r.Upstream
	if len(names) == 0 {
		names = r.Aliases // older feeds have them there
	}
	var cves, others []string
	for _, name := range names {
		if name = m.canonical(name); isCVE(name) {
			cves = append(cves, name)
		} else {
			others = append(others, name)
		}
	}
	if len(cves) == 0 {
		cves = others
	}
	if len(cves) == 0 {
		return []string{r.ID}
	}
	return distinct(cves)
}

// canonical returns the CVE number of a weakness where the database knows exactly
// one, else the name itself.
func (m *matcher) canonical(name string) string {
	if isCVE(name) {
		return name
	}
	if known, ok := m.names[name]; ok {
		return known
	}
	cve := ""
	for _, r := range m.db.Named(name) {
		for _, other := range append(r.Aliases, r.ID) {
			switch {
			case !isCVE(other) || other == cve:
			case cve == "":
				cve = other
			default:
				m.names[name] = name // of several, so of none in particular
				return name
			}
		}
	}
	if cve == "" {
		cve = name
	}
	m.names[name] = cve
	return cve
}
