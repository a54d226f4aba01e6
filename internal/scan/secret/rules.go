package secret

import (
	"regexp"
	"sync"
)

// prepared is what is known of a rule before a program starts: prepare.go works it
// out of gitleaks.toml, and prepared_rules.go has it, so that a program pays
// nothing for the rules that it doesn't need.
type prepared struct {
	id string
	// source is the expression, path that of the files that the rule is for; "":
	// there is none, all.
	source, path string
	// entropy is what a value's must exceed; 0: any will do.
	entropy float64
	group   int // of the value; 0: the first that has something
	allowed []allowText

	keywords []string
	probes   []probe
	// loose says that not all that the expression matches has a keyword in it: it
	// is then run on all of a piece that has one.
	loose bool
	// generic rules give way to others that found the same value.
	generic bool
}

// rule is one kind of secret and how it is told.
type rule struct {
	*prepared
	// re is the expression, files that of path; both are compiled when they are
	// first needed: most scans need a tenth of them.
	re, files func() *regexp.Regexp
	allow     []allowList
}

// newRules returns the rules of gitleaks, and what is allowed everywhere.
func newRules() (rules []*rule, global []allowList) {
	compiled := func(source string) func() *regexp.Regexp {
		return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(source) })
	}
	rules = make([]*rule, len(preparedRules))
	for i := range preparedRules {
		p := &preparedRules[i]
		r := &rule{prepared: p, re: compiled(p.source), files: compiled(p.path)}
		for k := range p.allowed {
			r.allow = append(r.allow, newAllowList(&p.allowed[k]))
		}
		rules[i] = r
	}
	return rules, []allowList{newAllowList(&preparedGlobal)}
}

// probe is one way in which a keyword of a rule must stand.
type probe struct {
	word string
	// before and after are what must stand beside the keyword, from its first
	// byte backwards and from its end on, as far as that is fixed.
	before, after []atom
	exact         []atom // the keyword's own atoms: its case may matter
	// near is a word that must follow what after has, within so many bytes; "":
	// there is none.
	near   string
	within int
	// reach is how far a match goes back from the keyword's first byte, and how
	// far on from there; negative: without bound. lines bounds the latter too.
	back, reach int
	lines       int
	// names says that the keyword is the name before an operator and a value, in
	// the way that many rules share; see assigned.
	names bool
	// sure probes are for any kind of file: nothing but a secret looks like that.
	sure bool
}

// maxGap is how far a gap is followed byte by byte; what is behind a longer one is
// for the expression to tell, so that no text makes every keyword look far.
const maxGap = 512

// meets says whether what must stand beside the keyword does so. b has the
// keyword at the place at.
func (p *probe) meets(b []byte, at int) bool {
	for k := range p.exact {
		if !p.exact[k].set.has(b[at+k]) {
			return false
		}
	}
	return p.meetsBefore(b, at) && p.meetsAfter(b, at+len(p.word))
}

func (p *probe) meetsAfter(b []byte, i int) bool {
	for k := range p.after {
		switch a := &p.after[k]; a.kind {
		case oneByte:
			if i >= len(b) || !a.set.has(b[i]) {
				return false
			}
			i++
		case gap:
			n := 0
			for i < len(b) && (a.max < 0 || n < a.max) && a.set.has(b[i]) {
				i++
				if n++; n > maxGap {
					return true
				}
			}
			if n < a.min {
				return false
			}
		case wordBoundary:
			if !boundary(b, i) {
				return false
			}
		}
	}
	return p.near == "" || containsFold(b[min(i, len(b)):min(len(b), i+p.within)], p.near)
}

func (p *probe) meetsBefore(b []byte, i int) bool {
	for k := range p.before {
		switch a := &p.before[k]; a.kind {
		case oneByte:
			if i--; i < 0 || !a.set.has(b[i]) {
				return false
			}
		case gap:
			n := 0
			for i > 0 && (a.max < 0 || n < a.max) && a.set.has(b[i-1]) {
				i--
				if n++; n > maxGap {
					return true
				}
			}
			if n < a.min {
				return false
			}
		case wordBoundary:
			if !boundary(b, i) {
				return false
			}
		}
	}
	return true
}

// containsFold says whether a word, given in lower case, is somewhere in b.
func containsFold(b []byte, word string) bool {
	for i := 0; i+len(word) <= len(b); i++ {
		if hasFold(b[i:], word) {
			return true
		}
	}
	return false
}

// boundary says whether a word begins or ends before byte i.
func boundary(b []byte, i int) bool {
	return (i > 0 && isWord(b[i-1])) != (i < len(b) && isWord(b[i]))
}

func isWord(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_'
}
