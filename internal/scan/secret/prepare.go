package secret

import (
	_ "embed" // the rules
	"fmt"
	"regexp/syntax"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
)

// What is in this file and in shape.go makes prepared_rules.go of gitleaks.toml, when
// somebody says so: no scan does, because it takes longer than an image of which
// everything is known.
//
//go:generate env CASTELLAN_GOLDEN=write go test -run ^TestPreparedRules$ .

// gitleaksTOML are the rules of gitleaks as its release has them; see NOTICE.
//
//go:embed gitleaks.toml
var gitleaksTOML string

type tomlRules struct {
	Allowlist allowText
	Rules     []struct {
		ID, Regex, Path string
		Entropy         float64
		SecretGroup     int
		Keywords        []string
		Allowlists      []allowText
		SkipReport      bool
		Required        []any
	}
}

// prepareRules reads the rules, and what is allowed everywhere.
func prepareRules() ([]prepared, allowText, error) {
	var t tomlRules
	if _, err := toml.Decode(gitleaksTOML, &t); err != nil {
		return nil, allowText{}, fmt.Errorf("read rules: %w", err)
	}
	var rules []prepared
	for _, x := range t.Rules {
		if x.SkipReport || len(x.Required) > 0 {
			return nil, allowText{}, fmt.Errorf("rule %s: rules of several parts are not understood", x.ID)
		}
		r := prepared{id: x.ID, source: x.Regex, path: x.Path, entropy: x.Entropy, group: x.SecretGroup, allowed: x.Allowlists,
			keywords: x.Keywords, generic: strings.Contains(x.ID, "generic")}
		if err := r.prepare(); err != nil {
			return nil, allowText{}, err
		}
		rules = append(rules, r)
	}
	return rules, t.Allowlist, nil
}

// assignments are how rules of gitleaks write "name, operator, value": the first
// ends the name as it began, the second closes a group with it.
var assignments = [...]struct{ text, close string }{
	{`(?:[ \t\w.-]{0,20})[\s'"]{0,3}(?:=|>|:{1,3}=|\|\||:|=>|\?=|,)[\x60'"\s=]{0,5}(`, ""},
	{`(?:[ \t\w.-]{0,20})[\s'"]{0,3})(?:=|>|:{1,3}=|\|\||:|=>|\?=|,)[\x60'"\s=]{0,5}(`, ")"},
}

// names are the ways through what stands before the operator, nil for a rule
// that has none.
func (r *prepared) names() ([]sequence, error) {
	for _, a := range assignments {
		if i := strings.Index(r.source, a.text); i >= 0 {
			re, err := syntax.Parse(r.source[:i]+a.close, syntax.Perl)
			if err != nil {
				return nil, fmt.Errorf("rule %s: %w", r.id, err)
			}
			return sequences(re, false), nil
		}
	}
	return nil, nil
}

// prepare reads from the expression where its keywords must stand.
func (r *prepared) prepare() error {
	if r.source == "" {
		return nil // for paths alone
	}
	re, err := syntax.Parse(r.source, syntax.Perl)
	if err != nil {
		return fmt.Errorf("rule %s: %w", r.id, err)
	}
	for i, k := range r.keywords {
		r.keywords[i] = strings.ToLower(k)
	}
	names, err := r.names()
	if err != nil {
		return err
	}
	if !r.anchored(sequences(re, false), names, r.keywords) && !r.anchored(sequences(re, true), names, r.keywords) &&
		!r.anchored(sequences(re, false), names, nil) {
		r.loose, r.probes = true, nil
		return nil
	}
	for i := range r.probes {
		p := &r.probes[i]
		p.sure = names == nil && r.path == "" && p.isSure()
	}
	return nil
}

// isSure says that what a probe has fixed is enough to be looked for in programs:
// four bytes that can be nothing else.
func (p *probe) isSure() bool {
	if len(p.word) <= gram {
		return false // the filter for programs takes longer words
	}
	const enough = 4
	n := len(p.word)
	for _, atoms := range [...][]atom{p.before, p.after} {
		for _, a := range atoms {
			if a.kind == oneByte {
				if _, ok := a.set.single(); ok {
					n++
				}
			}
		}
	}
	return n >= enough
}

// anchored makes the probes of a rule, if each way through it has one of the
// words; nil are the longest words that the ways have themselves.
func (r *prepared) anchored(all, names []sequence, words []string) bool {
	r.probes = nil
	for _, s := range all {
		of := words
		if words == nil {
			of = s.ownWord()
		}
		p, ok := s.probe(of)
		if !ok {
			return false
		}
		p.names = slices.ContainsFunc(names, func(n sequence) bool { return n.anchor(p.word) >= 0 })
		r.addProbe(p)
	}
	return true
}

// ownWord is the longest word that a sequence must have, if that is long enough to
// be seldom.
func (s sequence) ownWord() []string {
	const enough = 4
	best := ""
	for _, run := range s.literals() {
		if len(run) > len(best) {
			best = run
		}
	}
	if len(best) < enough {
		return nil
	}
	return []string{best[:min(len(best), longestWord)]}
}

// probe finds a keyword that a sequence must have, and what is beside it. The
// longest is taken, which is seen least.
func (s sequence) probe(words []string) (probe, bool) {
	words = slices.Clone(words)
	slices.SortStableFunc(words, func(a, b string) int { return len(b) - len(a) })
	for _, w := range words {
		at := s.anchor(w)
		if at < 0 {
			continue
		}
		p := probe{word: w, exact: s[at : at+len(w)]}
		head, tail := s[:at].extent(), s[at:].extent()
		p.back, p.reach, p.lines = head.max, tail.max, tail.lines
		var rest sequence
		p.after, rest = certain(s[at+len(w):])
		p.near, p.within = rest.nearWord()
		back := slices.Clone(s[:at])
		slices.Reverse(back)
		p.before, _ = certain(back)
		return p, true
	}
	return probe{}, false
}

// certain are the atoms at the beginning of a sequence of which can be told byte by
// byte whether they stand there: a gap is among them where what follows cannot be
// of it, and gaps in a row are one. The second result is the rest.
func certain(s sequence) (head []atom, rest sequence) {
	for i := 0; i < len(s); {
		if s[i].kind != gap {
			head = append(head, s[i])
			i++
			continue
		}
		g := atom{kind: gap, set: &byteSet{}}
		k := i
		for ; k < len(s) && s[k].kind == gap; k++ {
			if s[k].set == nil {
				return head, s[i:]
			}
			g.set.join(s[k].set)
			g.min, g.max = g.min+s[k].min, plus(g.max, s[k].max)
		}
		if k == len(s) || s[k].kind != oneByte || s[k].set.meets(g.set) {
			return head, s[i:]
		}
		head = append(head, g)
		i = k
	}
	return head, nil
}

// nearWord is the first word that must follow, and within how many bytes at most;
// "" if there is none, or it may be anywhere.
func (s sequence) nearWord() (string, int) {
	const enough = 4
	var run []byte
	var e extent
	for i := range s {
		if c, ok := byte(0), false; s[i].kind == oneByte {
			if c, ok = s[i].set.single(); ok {
				run = append(run, c)
				e.max = plus(e.max, 1)
				continue
			}
		}
		if len(run) >= enough {
			break
		}
		run = run[:0]
		e.max = plus(e.max, sequence(s[i:i+1]).extent().max)
		if e.max < 0 {
			return "", 0
		}
	}
	if len(run) < enough {
		return "", 0
	}
	return string(run), e.max
}

// addProbe joins a probe to those that ask the same.
func (r *prepared) addProbe(p probe) {
	for i := range r.probes {
		q := &r.probes[i]
		if q.word == p.word && q.near == p.near && q.within == p.within && sameAtoms(q.before, p.before) && sameAtoms(q.after, p.after) && sameAtoms(q.exact, p.exact) {
			q.back, q.reach, q.lines = most(q.back, p.back), most(q.reach, p.reach), most(q.lines, p.lines)
			return
		}
	}
	r.probes = append(r.probes, p)
}

func sameAtoms(a, b []atom) bool {
	return slices.EqualFunc(a, b, func(x, y atom) bool {
		return x.kind == y.kind && x.extent == y.extent && (x.set == y.set || x.set != nil && y.set != nil && *x.set == *y.set)
	})
}

// most is the larger of two numbers of which a negative one is without bound.
func most(a, b int) int {
	if a < 0 || b < 0 {
		return -1
	}
	return max(a, b)
}
