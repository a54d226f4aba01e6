package policy

import (
	"fmt"
	"maps"
	"net/url"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/castellan-security/castellan/internal/signature"
	"github.com/castellan-security/castellan/internal/written"
)

// Version is the one version of the form that there is.
const Version = "1"

// Load reads a policy from a file, and the files that it names, relative to its
// own folder.
func Load(name string) (*Policy, error) {
	b, err := Folder("").Read(name, MaxBytes)
	if err != nil {
		return nil, fmt.Errorf("read trust policy: %w", err)
	}
	return Read(b, name, Folder(filepath.Dir(name)))
}

// Read reads a policy. With files nil it may name none: for policies that come
// from elsewhere than this machine's disk. What is wrong with it is told as
// Problems.
func Read(b []byte, name string, files Files) (*Policy, error) {
	r := &reader{Reader: written.Reader{File: name, Most: MaxProblems}}
	p := &Policy{File: name, Digest: sum(b)}
	switch {
	case len(b) > MaxBytes:
		r.WrongAt(Position{}, "", "%d bytes, and at most %d are read", len(b), MaxBytes)
	default:
		if n := r.document(b); n != nil {
			r.policy(p, n, files)
		}
	}
	if err := r.Err("trust policy"); err != nil {
		return nil, err
	}
	return p, nil
}

// policy reads the parts in the order in which they need each other, whatever
// their order in the document.
func (r *reader) policy(p *Policy, n *yaml.Node, files Files) {
	parts := map[string]*yaml.Node{}
	known := map[string]func(*yaml.Node){}
	for _, name := range []string{"version", "roots", "signers", "predicates", "images", "exceptions"} {
		known[name] = func(n *yaml.Node) { parts[name] = n }
	}
	if !r.Fields(n, "the policy", known) {
		return
	}
	each := func(name string, do func(*yaml.Node)) {
		if n := parts[name]; n != nil {
			do(n)
		}
	}
	if v := parts["version"]; v == nil || v.Value != Version {
		r.Wrong(n, "version: "+Version, "the policy's version is not %s, the only one that there is", Version)
	}
	who := &signers{roots: newRoots(r, files), byName: map[string]*Signer{}, owner: map[string]string{}}
	what := &rules{signers: who, types: predicates(), names: map[string]int{}}
	each("roots", who.roots.section)
	each("predicates", what.predicates)
	each("signers", who.section)
	each("images", what.section)
	each("exceptions", func(n *yaml.Node) { r.exceptions(p, n) })

	p.roots, p.RootsDigest = who.roots.out, who.digest()
	p.keys = map[string]*signature.Key{}
	for i := range p.roots.Keys {
		k := &p.roots.Keys[i]
		p.keys[who.keys[k.Name]] = k
	}
	p.Signers, p.Rules = who.all, what.out
	if len(r.Problems) == 0 {
		p.ranked, p.narrower = r.rank(p.Rules)
	}
}

// predicates reads short names of the user's own.
func (r *rules) predicates(n *yaml.Node) {
	builtin := maps.Clone(r.types)
	r.named(n, "predicates", MaxPredicates, func(name string, key, v *yaml.Node) {
		if builtin[name] != nil {
			r.Wrong(key, "choose another name", "%s has a meaning already: %s", name, strings.Join(builtin[name], ", "))
			return
		}
		r.Some(v, name, MaxPredicates, func(n *yaml.Node) {
			s, ok := r.short(n, name)
			if u, err := url.Parse(s); ok && (err != nil || u.Scheme == "" || u.Host == "") {
				r.Wrong(n, "it looks like https://example.com/review/v1", "%q is no URI", s)
			} else if ok {
				r.types[name] = append(r.types[name], s)
			}
		})
	})
}

// exceptions reads the images that need no signatures for a while.
func (r *reader) exceptions(p *Policy, n *yaml.Node) {
	seen := map[string]int{}
	r.Some(n, "exceptions", MaxExceptions, func(n *yaml.Node) {
		e := Exception{At: at(n)}
		ok := r.Fields(n, "an exception", map[string]func(*yaml.Node){
			"digest": func(n *yaml.Node) { e.Digest, _ = r.short(n, "digest") },
			"match": func(n *yaml.Node) {
				s, ok := r.short(n, "match")
				if !ok {
					return
				}
				var err error
				if e.Match, err = ParsePattern(s); err != nil {
					r.Wrong(n, "", "%v", err)
				}
			},
			"reason":  func(n *yaml.Node) { e.Reason, _ = r.short(n, "reason") },
			"expires": func(n *yaml.Node) { e.Expires = r.Moment(n, "expires") },
		})
		switch line := seen[e.Digest]; {
		case !ok:
			return
		case !digestLike(e.Digest):
			r.WrongAt(e.At, "sha256: and 64 digits in lower case; a tag can move", "the exception has no digest")
		case e.Reason == "":
			r.WrongAt(e.At, "reason: why, and who said so", "the exception has no reason")
		case e.Expires.IsZero():
			r.WrongAt(e.At, "expires: 2026-12-31", "the exception never ends")
		case line > 0:
			r.WrongAt(e.At, "keep one of both", "%s is excepted in line %d already", e.Digest, line)
		}
		seen[e.Digest] = e.At.Line
		p.Exceptions = append(p.Exceptions, e)
	})
}

// rank orders the patterns of all rules so that of those that match an image the
// most specific comes first: the one whose images are all matched by the others
// too. Patterns of two rules that match an image both, without one being the
// more specific, are a problem: nobody could tell which rule is meant.
func (r *reader) rank(all []*Rule) (out []ranked, narrower map[*Pattern][]ranked) {
	narrower = map[*Pattern][]ranked{}
	for _, rule := range all {
		for _, p := range rule.Patterns {
			out = append(out, ranked{p, rule})
		}
	}
	within := map[*Pattern]int{} // how many others are part of it
	part := func(a, b ranked) {  // a is part of b
		within[b.pattern]++
		if a.rule != b.rule && len(narrower[b.pattern]) < maxNarrower {
			narrower[b.pattern] = append(narrower[b.pattern], a)
		}
	}
	work := effort{maxEffort}
	for i, a := range out {
		for _, b := range out[i+1:] {
			rel, ok := work.compare(a.pattern, b.pattern)
			switch {
			case !ok:
				r.WrongAt(b.pattern.At, "use fewer *", "comparing the patterns takes too long")
				return nil, nil
			case rel.both == "":
			case !rel.onlyA && !rel.onlyB:
				r.WrongAt(b.pattern.At, "keep one of both", "%s is the same as %s in line %d", b.pattern.Text, a.pattern.Text, a.pattern.At.Line)
			case !rel.onlyA:
				part(a, b)
			case !rel.onlyB:
				part(b, a)
			case a.rule != b.rule:
				r.WrongAt(b.pattern.At, "add a rule for what both match, or make one of them narrower",
					"%s and %s (line %d) both match %s, and neither is the more specific one", b.pattern.Text, a.pattern.Text, a.pattern.At.Line, rel.both)
			}
		}
	}
	slices.SortStableFunc(out, func(a, b ranked) int { return within[a.pattern] - within[b.pattern] })
	return out, narrower
}
