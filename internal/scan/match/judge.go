package match

import (
	"cmp"
	"slices"
	"strings"

	"github.com/castellan-security/castellan/internal/advisory"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan/vulndb"
)

// maxFindings bounds what a database can make of an inventory; a finding takes a
// kilobyte. A large image of an old release has some ten thousand.
const maxFindings = 1 << 20

// judge decides what all hits of one weakness come to for a package, and adds a
// finding unless that is nothing.
func (m *matcher) judge(p *inventory.Package, g *group, s *spoken) error {
	hits, err := m.weigh(p, g, s)
	if err != nil || len(hits) == 0 {
		return err
	}
	if len(m.found) >= maxFindings {
		return fault.New(fault.Exhausted, "more than %d findings", maxFindings).With("scan less at once, or look at what the advisory database is made of")
	}
	f := m.next()
	*f = found{p: p, index: m.index, id: g.id, aliases: g.names, advisories: make([]finding.Statement, 0, len(hits))}
	fix, err := m.fix(hits)
	if err != nil {
		return err
	}
	f.state, f.note = state(hits, fix.version != "")
	if f.state == finding.Fixable {
		f.fixed = inOwnTerms(p, fix.version)
		if fix.source {
			f.source = sourceOf(p).Name
		}
	}
	for i, h := range hits {
		if h.r.Modified.After(f.modified) {
			f.modified = h.r.Modified
		}
		if !saidBefore(hits, i) {
			f.advisories = append(f.advisories, finding.Statement{ID: h.r.ID, Source: h.r.Source, Fixed: h.fix})
		}
	}
	slices.SortFunc(f.advisories, func(a, b finding.Statement) int { return cmp.Compare(a.ID, b.ID) })
	if f.rated, err = m.rate(p, g, hits); err != nil {
		return err
	}
	m.found = append(m.found, f)
	return nil
}

// saidBefore says whether another hit is of the same advisory and is shown instead
// of the i-th: the first one, but rather one in the package's own versions.
func saidBefore(hits []*hit, i int) bool {
	h := hits[i]
	for j, other := range hits {
		if j == i || other.r.ID != h.r.ID {
			continue
		}
		if h.source != other.source && h.source || h.source == other.source && j < i {
			return true
		}
	}
	return false
}

// weigh leaves the hits whose word counts.
//
// Of a distribution, an advisory that tracks the weakness counts more than those
// that announce updates: if it says that the package is fixed or not affected,
// then it is. That is the distribution's word about its own package; advisories
// of upstream are about other packages and are not touched by it.
func (m *matcher) weigh(p *inventory.Package, g *group, s *spoken) ([]*hit, error) {
	m.scratch.standing = append(m.scratch.standing[:0], g.hits...)
	standing := slices.DeleteFunc(m.scratch.standing, func(h *hit) bool { return !h.r.Withdrawn.IsZero() })
	if len(standing) == 0 {
		return g.hits, nil // all withdrawn
	}
	if !isDistribution(p) {
		return standing, nil
	}
	isPro := func(h *hit) bool { return m.views[h.view].pro }
	if slices.ContainsFunc(standing, isPro) {
		standing = slices.DeleteFunc(standing, func(h *hit) bool { return !isPro(h) })
	} else if slices.ContainsFunc(m.views, func(v view) bool { return v.pro }) {
		if free, err := s.of(g.id); err != nil || free.pro {
			return nil, err
		}
	}
	denied := func(h *hit) bool { return h.status == advisory.NotAffected }
	if slices.ContainsFunc(standing, func(h *hit) bool { return denied(h) && h.r.tracks() }) {
		return slices.DeleteFunc(standing, func(h *hit) bool { return !denied(h) }), nil
	}
	if !slices.ContainsFunc(standing, func(h *hit) bool { return h.r.tracks() }) {
		if free, err := s.of(g.id); err != nil || free.plain {
			return nil, err
		}
	}
	if statesMayLag(p) && !slices.ContainsFunc(standing, func(h *hit) bool { return h.fix != "" }) {
		if free, err := s.of(g.id); err != nil || free.announced {
			return nil, err
		}
	}
	return standing, nil
}

// statesMayLag says of a package's distribution that what it states of each
// weakness and the updates that it announces are fetched from different places, and
// the states of some only once a fortnight: Amazon Linux. There an update that was
// announced to fix a weakness has more weight than a state that knows of no fix.
func statesMayLag(p *inventory.Package) bool {
	return strings.HasPrefix(p.Ecosystem, "Amazon Linux:")
}

// state returns what the hits that count say of a package. Whether there is a fix
// decides; without one, the most telling state does, and the more so if it is
// about this very weakness.
func state(hits []*hit, fixed bool) (finding.State, string) {
	if !hits[0].r.Withdrawn.IsZero() {
		return finding.Withdrawn, ""
	}
	best, note := -1, ""
	for _, h := range hits {
		place := slices.Index(telling[:], h.status)
		if h.r.tracks() {
			place += len(telling)
		}
		said := ""
		if h.limits != nil {
			said = h.limits.Note
		}
		if place > best || place == best && note == "" {
			best, note = place, said
		}
	}
	status := telling[best%len(telling)]
	if fixed && status != advisory.NotAffected {
		return finding.Fixable, note
	}
	return states[status], note
}

// telling are the states, the most telling last.
var telling = [...]advisory.Status{advisory.IsAffected, advisory.UnderInvestigation, advisory.Deferred,
	advisory.EndOfLife, advisory.WontFix, advisory.NotAffected}

var states = map[advisory.Status]finding.State{
	advisory.IsAffected: finding.Unfixed, advisory.UnderInvestigation: finding.UnderInvestigation, advisory.Deferred: finding.Deferred,
	advisory.EndOfLife: finding.EndOfLife, advisory.WontFix: finding.WontFix, advisory.NotAffected: finding.NotAffected,
}

// fixed is a version that has the fix.
type fixed struct {
	version string
	source  bool // of the source package
}

// fix returns the lowest version of which no hit says that it is affected, of the
// binary package if any advisory names one.
func (m *matcher) fix(hits []*hit) (fixed, error) {
	for _, source := range []bool{false, true} {
		version, err := m.lowestFix(hits, source)
		if err != nil || version != "" {
			return fixed{version, source}, err
		}
	}
	return fixed{}, nil
}

func (m *matcher) lowestFix(hits []*hit, source bool) (string, error) {
	best, same := "", true
	for _, h := range hits {
		if h.source != source || h.fix == "" {
			continue
		}
		if best == "" || best == h.fix {
			best = h.fix
			continue
		}
		switch c, err := m.views[h.view].Order().Compare(best, h.fix); {
		case err == nil && c < 0:
			best, same = h.fix, false
		case err == nil && c > 0:
			same = false
		}
	}
	if same {
		return best, nil // as nearly always
	}
	return m.raise(hits, source, best)
}

// raise goes on to the next fix while a hit holds the one that was found: one
// advisory's fix may be within another's range.
func (m *matcher) raise(hits []*hit, source bool, fix string) (string, error) {
	const rounds = 16 // of advisories that contradict each other no more is to be had
	for range rounds {
		next, err := m.above(hits, source, fix)
		if err != nil || next == "" {
			return fix, err
		}
		fix = next
	}
	return fix, nil
}

// above returns a fix above one that a hit holds, or "" if no hit holds it, or
// none that does has a fix.
func (m *matcher) above(hits []*hit, source bool, fix string) (string, error) {
	var e vulndb.Entries
	for _, h := range hits {
		if h.source != source {
			continue
		}
		v := &m.views[h.view]
		at := v.Position(fix)
		for e.Of(v.Package); e.Next(); {
			if e.Advisory == h.r.number && m.inSourceTerms(&e.Entry) == source && e.Holds(at) {
				if next := e.Fix(at); next != "" {
					return next, nil
				}
			}
		}
		if err := e.Err(); err != nil {
			return "", err
		}
	}
	return "", nil
}

// inOwnTerms writes a fixed version as the package writes its own: modules of Go
// have a "v" that advisories leave out.
func inOwnTerms(p *inventory.Package, v string) string {
	if p.Type == "golang" && strings.HasPrefix(p.Version, "v") && !strings.HasPrefix(v, "v") {
		return "v" + v
	}
	return v
}

// inSourceTerms says that the versions of an entry are those of the source
// package, and that the package's own are others.
func (m *matcher) inSourceTerms(e *vulndb.Entry) bool {
	return e.Of == advisory.OfSource && !m.sameVersions
}

// sameVersions says whether a package has the versions of its source: the same,
// or with the mark of a rebuild behind (1.2-3+b1 of Debian).
func sameVersions(p *inventory.Package) bool {
	s := sourceOf(p)
	rest, ok := strings.CutPrefix(p.Version, s.Version)
	return ok && (rest == "" || strings.HasPrefix(rest, "+b"))
}
