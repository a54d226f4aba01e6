package match

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/advisory"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan/cvss"
)

// facts are what is known of a weakness whatever the package.
type facts struct {
	kev        *advisory.Exploited
	epss       *advisory.Probability
	scores     []finding.Score // of advisories about this weakness alone
	weaknesses []string
	published  time.Time
	texts      []*record
}

// factsOf collects what the file knows of a weakness by its name: from every
// advisory that has it for its identifier or an alias.
func (m *matcher) factsOf(name string) (*facts, error) {
	if f, ok := m.facts[name]; ok {
		return f, nil
	}
	f := &facts{kev: m.db.Exploited(name), epss: m.db.Probability(name)}
	for n := range m.db.Named(name) {
		r, err := m.record(n)
		if err != nil {
			return nil, err
		}
		if !r.Withdrawn.IsZero() || isCVE(name) && manyCVEs(r.own) {
			continue
		}
		f.scores = m.appendScores(f.scores, r.Scores, r.Source)
		f.weaknesses = append(f.weaknesses, r.Weaknesses...)
		f.published = earlier(f.published, r.Published)
		f.texts = append(f.texts, r)
	}
	m.facts[name] = f
	return f, nil
}

func manyCVEs(names []string) bool {
	n := 0
	for _, name := range names {
		if isCVE(name) {
			n++
		}
	}
	return n > 1
}

func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// appendScores works out the scores of vectors. One that is no vector is left
// out: it says nothing.
func (m *matcher) appendScores(list []finding.Score, scores []advisory.Score, source string) []finding.Score {
	for _, s := range scores {
		known, ok := m.scores[s.Vector]
		if !ok {
			known, _ = cvss.Parse(s.Vector)
			m.scores[s.Vector] = known
		}
		if known.Version != "" {
			list = append(list, finding.Score{Version: known.Version, Vector: s.Vector, Base: known.Base, By: cmp.Or(s.By, source)})
		}
	}
	return list
}

// rated is how grave a weakness is in a package, and what is known of it. It is
// shared by findings, and not changed.
type rated struct {
	severity   finding.Severity
	by         string
	scores     []finding.Score
	weaknesses []string
	published  time.Time
	kev        *advisory.Exploited
	epss       *advisory.Probability
	texts      []*record
}

// rate works out how grave the weakness is. What a single advisory comes to is
// kept with it: other packages will meet it.
func (m *matcher) rate(p *inventory.Package, g *group, hits []*hit) (*rated, error) {
	distribution := isDistribution(p)
	alone := len(hits) == 1 && hits[0].limits == nil && hits[0].rating == advisory.Unrated && hits[0].r.alone(distribution)
	if alone && hits[0].r.rated != nil && hits[0].r.ratedFor == p.Type {
		return hits[0].r.rated, nil
	}
	x := &rated{}
	scores, words := m.scratch.scores[:0], m.scratch.words[:0]
	texts := m.scratch.texts[:0]
	for _, h := range hits {
		if h.limits != nil && len(h.limits.Scores) > 0 {
			scores = m.appendScores(scores, h.limits.Scores, h.r.Source)
		} else if h.r.alone(distribution) {
			scores = m.appendScores(scores, h.r.Scores, h.r.Source)
		}
		if h.r.alone(distribution) {
			words = append(words, h.r.Weaknesses...)
			texts = append(texts, h.r)
		}
		x.published = earlier(x.published, h.r.Published)
	}
	own := len(scores)
	for i := -1; i < len(g.names); i++ {
		name := g.id
		if i >= 0 {
			name = g.names[i]
		}
		if isCVE(g.id) && !isCVE(name) {
			continue // who knows the weakness knows its CVE number
		}
		about, err := m.factsOf(name)
		if err != nil {
			return nil, err
		}
		if x.kev == nil {
			x.kev = about.kev
		}
		if x.epss == nil || about.epss != nil && about.epss.EPSS > x.epss.EPSS {
			x.epss = about.epss
		}
		x.published = earlier(x.published, about.published)
		scores, words, texts = append(scores, about.scores...), append(words, about.weaknesses...), append(texts, about.texts...)
	}
	others := len(scores)
	for _, h := range hits {
		if !h.r.alone(distribution) {
			scores, texts = m.appendScores(scores, h.r.Scores, h.r.Source), append(texts, h.r)
		}
	}
	x.severity, x.by = rating(p, hits, scores[:own], scores[own:others], scores[others:])
	if others == 0 {
		others = len(scores) // of several weaknesses together, for want of better
	}
	x.scores = slices.Clone(uniqueScores(scores[:others]))
	x.weaknesses = slices.Clone(distinct(words))
	x.texts = described(texts)
	m.scratch.scores, m.scratch.words, m.scratch.texts = scores, words, texts
	if alone {
		hits[0].r.rated, hits[0].r.ratedFor = x, p.Type
	}
	return x, nil
}

// maxTexts are read for one finding. Of a famous weakness dozens of advisories
// speak, and say the same.
const maxTexts = 5

// described leaves those that have texts, each once. They come by how well they
// describe the weakness: first those about it alone that speak of the package.
func described(texts []*record) (kept []*record) {
	for _, r := range texts {
		if len(kept) < maxTexts && r.Described() && !slices.Contains(kept, r) {
			kept = append(kept, r)
		}
	}
	return kept
}

func distinct(list []string) []string {
	slices.Sort(list)
	return slices.Compact(list)
}

// rating says how grave a weakness is, and whose word that is: for a package of a
// distribution the distribution's, if it has one; else the highest score of the
// advisories that speak of the package; else of any about the weakness; else of
// those that speak of several together; else what the publisher calls it. Version 2 of CVSS counts only where there is no other.
func rating(p *inventory.Package, hits []*hit, own, others, together []finding.Score) (finding.Severity, string) {
	rated, by := ratedBy(hits)
	if by != "" && isDistribution(p) {
		base, _, _ := strings.Cut(p.Ecosystem, ":")
		return rated, base
	}
	for _, old := range []bool{false, true} {
		for _, scores := range [][]finding.Score{own, others, together} {
			if s, ok := highest(scores, old); ok {
				return cvss.Score{Version: s.Version, Base: s.Base}.Severity(), "CVSS " + s.Version + " by " + s.By
			}
		}
	}
	return rated, by
}

// ratedBy returns the gravest rating of the hits, of those that track the weakness
// if any of them rates it, and who gave it.
func ratedBy(hits []*hit) (best finding.Severity, by string) {
	for _, tracking := range []bool{true, false} {
		for _, h := range hits {
			r := h.rating
			if r == advisory.Unrated {
				r = h.r.Rating
			}
			if s := severityOf(r); h.r.tracks() == tracking && s > best {
				best, by = s, h.r.Source
			}
		}
		if by != "" {
			break
		}
	}
	return best, by
}

// severityOf is what a publisher's rating is among ours.
func severityOf(r advisory.Rating) finding.Severity {
	switch r {
	case advisory.Negligible:
		return finding.Negligible
	case advisory.Low:
		return finding.Low
	case advisory.Medium:
		return finding.Medium
	case advisory.High:
		return finding.High
	case advisory.Critical:
		return finding.Critical
	}
	return finding.Unknown
}

func highest(scores []finding.Score, old bool) (best finding.Score, ok bool) {
	for _, s := range scores {
		if (s.Version == "2.0") == old && (!ok || s.Base > best.Base) {
			best, ok = s, true
		}
	}
	return best, ok
}

// uniqueScores leaves one of each vector, the newest version first.
func uniqueScores(list []finding.Score) []finding.Score {
	slices.SortFunc(list, func(a, b finding.Score) int {
		return cmp.Or(cmp.Compare(b.Version, a.Version), cmp.Compare(b.Base, a.Base), cmp.Compare(a.Vector, b.Vector), cmp.Compare(a.By, b.By))
	})
	return slices.CompactFunc(list, func(a, b finding.Score) bool { return a.Vector == b.Vector })
}
