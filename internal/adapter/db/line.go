package db

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/store"
)

// digest tells whether something is as it was: two states of one thing don't meet
// by chance.
type digest [16]byte

// line is one finding on its way to its row.
type line struct {
	v     *finding.Vulnerability
	place int
	// hash is of all of the finding, shared of what is the same in every image.
	hash, shared digest
}

// lines are the findings of one image.
type lines struct {
	all    []line
	hash   []byte // of all of them
	counts store.Counts
}

// newLines takes those that need a decision, each once by its fingerprint.
func newLines(vs []finding.Vulnerability) lines {
	set := lines{all: make([]line, 0, len(vs))}
	seen := make(map[string]bool, len(vs))
	var b summer
	sum := sha256.New()
	for i := range vs {
		v := &vs[i]
		if v.State == finding.NotAffected || v.State == finding.Withdrawn || seen[v.Fingerprint] {
			continue
		}
		seen[v.Fingerprint] = true
		l := line{v: v, place: i}
		l.shared, l.hash = b.finding(v)
		sum.Write(l.hash[:])
		set.all = append(set.all, l)
		countFinding(&set.counts, v)
	}
	set.hash = sum.Sum(nil)
	return set
}

func (l *line) fixable() bool { return l.v.State == finding.Fixable }

// detail is what is the same of a weakness in every image.
type detail struct {
	Aliases    []string            `json:"aliases,omitempty"`
	SeverityBy string              `json:"severity_by,omitempty"`
	Scores     []finding.Score     `json:"scores,omitempty"`
	Summary    string              `json:"summary,omitempty"`
	Weaknesses []string            `json:"weaknesses,omitempty"`
	References []string            `json:"references,omitempty"`
	Advisories []finding.Statement `json:"advisories"`
	Published  time.Time           `json:"published,omitzero"`
	Modified   time.Time           `json:"modified,omitzero"`
}

// detail returns that part as it is kept.
func (l *line) detail() (string, error) {
	v := l.v
	b, err := json.Marshal(detail{
		Aliases: v.Aliases, SeverityBy: v.SeverityBy, Scores: v.Scores, Summary: v.Summary, Weaknesses: v.Weaknesses,
		References: v.References, Advisories: v.Advisories, Published: v.Published, Modified: v.Modified,
	})
	if err != nil {
		return "", fmt.Errorf("encode weakness %s: %w", v.ID, err)
	}
	return string(b), nil
}

// body returns the other part as it is kept. What it owns of files is left out:
// the inventory has it.
func (l *line) body() (string, error) {
	own := *l.v
	own.Package.Files = nil
	own.Aliases, own.SeverityBy, own.Scores, own.Summary, own.Weaknesses = nil, "", nil, "", nil
	own.References, own.Advisories, own.Published, own.Modified = nil, nil, time.Time{}, time.Time{}
	b, err := json.Marshal(own)
	if err != nil {
		return "", fmt.Errorf("encode finding %s: %w", own.Fingerprint, err)
	}
	return string(b), nil
}

// rankOf orders findings over all images as a match orders those of one: in use
// first, then known to be exploited, then by severity and probability.
func rankOf(v *finding.Vulnerability) int64 {
	rank := int64(v.Severity)<<epssBits | millionths(v)
	if v.KEV != nil {
		rank |= 1 << (epssBits + severityBits)
	}
	if v.InUse {
		rank |= 1 << (epssBits + severityBits + 1)
	}
	return rank
}

// parseRank returns what rankOf was made of.
func parseRank(rank int64) (severity finding.Severity, epss int64, exploited, inUse bool) {
	return finding.Severity(rank >> epssBits & (1<<severityBits - 1)), rank & (1<<epssBits - 1),
		rank>>(epssBits+severityBits)&1 != 0, rank>>(epssBits+severityBits+1)&1 != 0
}

const (
	epssBits     = 20 // for 0 to 1,000,000
	severityBits = 8
)

// millionths is the probability of exploitation, as it is kept.
func millionths(v *finding.Vulnerability) int64 {
	if v.EPSS == nil {
		return 0
	}
	const million = 1_000_000
	return min(max(int64(v.EPSS.EPSS*million), 0), million)
}

func countFinding(c *store.Counts, v *finding.Vulnerability) {
	if v.Accepted != nil {
		c.Accepted++
		return
	}
	for _, n := range [...]struct {
		is bool
		of *int
	}{
		{v.Severity == finding.Critical, &c.Critical}, {v.Severity == finding.High, &c.High},
		{v.Severity == finding.Medium, &c.Medium}, {v.Severity == finding.Low, &c.Low},
		{v.Severity == finding.Negligible, &c.Negligible}, {v.Severity == finding.Unknown, &c.Unknown},
		{v.State == finding.Fixable, &c.Fixable}, {v.KEV != nil, &c.Exploited}, {v.InUse, &c.InUse},
	} {
		if n.is {
			*n.of++
		}
	}
}

// attention orders images: by what is known to be exploited, then by how much
// of each severity there is.
func attention(c store.Counts) int64 {
	const digits = 10_000 // more of one kind than anybody tells apart
	var n int64
	for _, of := range [...]int{c.Exploited, c.Critical, c.High, c.Medium} {
		n = n*digits + int64(min(of, digits-1))
	}
	return n
}

// findingText is what VulnerabilityQuery.Text looks at.
func findingText(v *finding.Vulnerability) string {
	return strings.Join(append([]string{v.ID, v.Package.Name}, v.Aliases...), "\n")
}

// summer works out digests. They take a tenth of the time of encoding, which is
// why they are not made of what is kept.
type summer struct{ b []byte }

func (s *summer) sum() digest {
	full := sha256.Sum256(s.b)
	s.b = s.b[:0]
	return digest(full[:len(digest{})])
}

func (s *summer) number(n int64) { s.b = binary.AppendVarint(s.b, n) }

func (s *summer) text(t string) {
	s.number(int64(len(t)))
	s.b = append(s.b, t...)
}

func (s *summer) list(all []string) {
	s.number(int64(len(all)))
	for _, t := range all {
		s.text(t)
	}
}

func (s *summer) truth(is bool) {
	if is {
		s.number(1)
		return
	}
	s.number(0)
}

func (s *summer) decimal(f float64) { s.b = binary.BigEndian.AppendUint64(s.b, math.Float64bits(f)) }

func (s *summer) time(t time.Time) {
	s.number(t.Unix())
	s.number(int64(t.Nanosecond()))
}

// finding returns the digests of what is the same of a finding in every image,
// and of all of it.
func (s *summer) finding(v *finding.Vulnerability) (shared, all digest) {
	s.text(v.ID)
	s.list(v.Aliases)
	s.text(v.SeverityBy)
	s.number(int64(len(v.Scores)))
	for i := range v.Scores {
		x := &v.Scores[i]
		s.text(x.Version)
		s.text(x.Vector)
		s.decimal(x.Base)
		s.text(x.By)
	}
	s.text(v.Summary)
	s.list(v.Weaknesses)
	s.list(v.References)
	s.number(int64(len(v.Advisories)))
	for _, x := range v.Advisories {
		s.text(x.ID)
		s.text(x.Source)
		s.text(x.Fixed)
	}
	s.time(v.Published)
	s.time(v.Modified)
	shared = s.sum()
	s.b = append(s.b, shared[:]...)
	s.own(v)
	return shared, s.sum()
}

// own adds what may be another in every image.
func (s *summer) own(v *finding.Vulnerability) {
	s.pkg(v)
	s.number(int64(v.Severity))
	for _, t := range [...]string{string(v.State), v.Note, v.Fixed, v.Remedy, v.Fingerprint} {
		s.text(t)
	}
	s.truth(v.InUse)
	s.truth(v.EPSS != nil)
	if e := v.EPSS; e != nil {
		s.text(e.CVE)
		s.decimal(float64(e.EPSS))
		s.decimal(float64(e.Percentile))
		s.time(e.Date)
	}
	s.truth(v.KEV != nil)
	if k := v.KEV; k != nil {
		s.text(k.CVE)
		s.text(k.Name)
		s.time(k.Added)
		s.time(k.Due)
		s.truth(k.Ransomware)
		s.text(k.Action)
	}
	s.truth(v.Accepted != nil)
	if a := v.Accepted; a != nil {
		s.text(a.Reason)
		s.text(a.By)
		s.time(a.Expires)
	}
}

func (s *summer) pkg(v *finding.Vulnerability) {
	p := &v.Package
	for _, t := range [...]string{
		p.Type, p.Namespace, p.Name, p.Version, p.Arch, p.Ecosystem, p.Source.Name, p.Source.Version, p.Repository, p.OwnedBy, string(p.Found),
	} {
		s.text(t)
	}
	s.list(p.Licenses)
	s.list(p.Digests)
	s.number(int64(len(p.Places)))
	for _, at := range p.Places {
		s.text(at.Path)
		s.number(int64(at.Layer))
		s.truth(at.Written)
	}
	s.truth(p.Dev)
	s.truth(p.Indirect)
	s.truth(p.Published != nil)
	if p.Published != nil {
		s.time(*p.Published)
	}
}
