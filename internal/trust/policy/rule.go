package policy

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"cel.dev/cel-go/cel"
	"go.yaml.in/yaml/v3"

	"github.com/castellan-security/castellan/internal/signature"
)

// rules reads what images need.
type rules struct {
	*signers
	types    map[string][]string // predicates by short name
	patterns int
	names    map[string]int
	env      *cel.Env // made when the first condition comes: it takes longer than all the rest
	out      []*Rule
}

func (r *rules) section(n *yaml.Node) {
	if n.Kind != yaml.SequenceNode {
		r.Wrong(n, "begin each rule with a dash", "images is no list of rules")
		return
	}
	r.Some(n, "images", MaxRules, r.rule)
}

func (r *rules) rule(n *yaml.Node) {
	rule := &Rule{At: at(n)}
	denied := false
	ok := r.Fields(n, "a rule", map[string]func(*yaml.Node){
		"name": func(n *yaml.Node) { rule.Name, _ = r.short(n, "name") },
		"match": func(n *yaml.Node) {
			r.Some(n, "match", MaxPatterns, func(n *yaml.Node) { r.match(rule, n) })
		},
		"deny": func(n *yaml.Node) {
			denied = true
			if n.Kind == yaml.ScalarNode && n.Tag == "!!bool" {
				r.Wrong(n, "deny: \"because …\"", "deny needs a reason: people are shown it")
				return
			}
			rule.Deny, _ = r.short(n, "deny")
		},
		"require": func(n *yaml.Node) {
			r.Some(n, "require", MaxRequire, func(n *yaml.Node) { r.requirement(rule, n, false) })
		},
		"attestations": func(n *yaml.Node) {
			r.Some(n, "attestations", MaxRequire, func(n *yaml.Node) { r.requirement(rule, n, true) })
		},
	})
	if !ok {
		return
	}
	r.out = append(r.out, rule)
	if line := r.names[rule.Name]; line > 0 && rule.Name != "" {
		r.WrongAt(rule.At, "", "two rules have the name %q: the other one is in line %d", rule.Name, line)
	}
	r.names[rule.Name] = rule.At.Line
	switch {
	case len(rule.Patterns) == 0:
		r.WrongAt(rule.At, "match: registry/path, with * and **", "the rule matches no images")
	case denied && len(rule.Require) > 0:
		r.WrongAt(rule.At, "leave one of both out", "the rule denies, and has requirements")
	case !denied && len(rule.Require) == 0:
		r.WrongAt(rule.At, "require: signers that must have signed; or deny: a reason; or, for single images and a time, exceptions", "the rule asks for nothing, so it would allow images that anybody made: there is no any-signer mode")
	}
}

func (r *rules) match(rule *Rule, n *yaml.Node) {
	text, ok := r.short(n, "match")
	if !ok {
		return
	}
	if r.patterns++; r.patterns > MaxPatterns {
		if r.patterns == MaxPatterns+1 {
			r.Wrong(n, "", "more than %d patterns", MaxPatterns)
		}
		return
	}
	p, err := ParsePattern(text)
	if err != nil {
		r.Wrong(n, "write registry/path without tag or digest; * is any letters of a part, ** is one or more parts", "%v", err)
		return
	}
	p.At = at(n)
	rule.Patterns = append(rule.Patterns, p)
}

// requirement reads one requirement: of a signature, or of an attestation.
func (r *rules) requirement(rule *Rule, n *yaml.Node, attestation bool) {
	q := Requirement{At: at(n), Revocation: Strict}
	given := 0
	fields := map[string]func(*yaml.Node){
		"signers":        func(n *yaml.Node) { r.Some(n, "signers", MaxFrom, func(n *yaml.Node) { r.from(&q, n) }) },
		"threshold":      func(n *yaml.Node) { given = r.count(n, "threshold") },
		"kinds":          func(n *yaml.Node) { r.Some(n, "kinds", 2, func(n *yaml.Node) { r.kind(&q, n) }) },
		"log":            func(n *yaml.Node) { q.Log = r.Bool(n, "log") },
		"time":           func(n *yaml.Node) { q.Time = r.Bool(n, "time") },
		"allowOld":       func(n *yaml.Node) { q.AllowOld = r.Bool(n, "allowOld") },
		"sameRepository": func(n *yaml.Node) { q.SameRepository = r.Bool(n, "sameRepository") },
		"revocation": func(n *yaml.Node) {
			if q.Revocation = Level(n.Value); q.Revocation != Strict && q.Revocation != Soft {
				r.Wrong(n, "strict: somebody whose word still counts must say that a certificate is good; soft: nobody may say the contrary", "revocation %q is not known", n.Value)
			}
		},
	}
	what := "a requirement"
	if attestation {
		what = "an attestation"
		fields["type"] = func(n *yaml.Node) { r.predicate(&q, n) }
		fields["maxAge"] = func(n *yaml.Node) { q.MaxAge = r.Span(n, "maxAge", 1) }
		fields["condition"] = func(n *yaml.Node) {
			r.Some(n, "condition", MaxRequire, func(n *yaml.Node) { r.condition(&q, n) })
		}
	}
	if !r.Fields(n, what, fields) {
		return
	}
	if attestation && q.Predicate == "" {
		r.WrongAt(q.At, "type: one of "+r.typeNames()+", or a URI", "the attestation has no type")
		return
	}
	rule.Require = append(rule.Require, q)
	if len(q.Signers) == 0 {
		r.WrongAt(q.At, "signers: names of signers", "%s without signers would accept anybody's: there is no any-signer mode", what)
		return
	}
	r.threshold(&rule.Require[len(rule.Require)-1], given)
}

// threshold checks how many of the signers must have signed; each of them, if
// nothing is said.
func (r *rules) threshold(q *Requirement, given int) {
	team := slices.ContainsFunc(q.Signers, func(s *Signer) bool { return s.Team })
	if q.Threshold, q.Each = len(q.Signers), given == 0; given > 0 {
		q.Threshold = given
	}
	if q.Threshold > len(q.Signers) && !team {
		r.WrongAt(q.At, "a signer counts once whatever it signs with; team: true counts each member", "%d of %d signers can never be", q.Threshold, len(q.Signers))
	}
}

func (r *rules) from(q *Requirement, n *yaml.Node) {
	name, ok := r.short(n, "signers")
	if !ok {
		return
	}
	s := r.byName[name]
	switch {
	case strings.Contains(name, "*"):
		r.Wrong(n, "name the signers", "%q: there is no any-signer mode", name)
	case s == nil:
		r.Wrong(n, "define it below signers", "there is no signer %s", name)
	case slices.Contains(q.Signers, s):
		r.Wrong(n, "name it once", "signer %s twice in one requirement", name)
	default:
		q.Signers = append(q.Signers, s)
	}
}

func (r *rules) kind(q *Requirement, n *yaml.Node) {
	k := signature.Kind(n.Value)
	switch {
	case k != signature.Sigstore && k != signature.Notary:
		r.Wrong(n, "sigstore, notary, or both", "kind %q is not known", n.Value)
	case slices.Contains(q.Kinds, k):
		r.Wrong(n, "name it once", "kind %s twice", k)
	default:
		q.Kinds = append(q.Kinds, k)
	}
}

func (r *rules) predicate(q *Requirement, n *yaml.Node) {
	name, ok := r.short(n, "type")
	if !ok {
		return
	}
	q.Predicate = name
	if q.Types = r.types[name]; q.Types != nil {
		return
	}
	if u, err := url.Parse(name); err != nil || u.Scheme == "" || u.Host == "" {
		r.Wrong(n, "one of "+r.typeNames()+", one of your predicates, or a URI", "type %q is not known", name)
		return
	}
	q.Types = []string{name}
}

func (r *rules) typeNames() string {
	var out []string
	for k := range r.types {
		out = append(out, k)
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

// condition compiles an expression; what is wrong with it is told at its place in
// the document as far as that can be known.
func (r *rules) condition(q *Requirement, n *yaml.Node) {
	text, ok := r.Text(n, "condition")
	if !ok {
		return
	}
	c, err := r.compile(text)
	if err != nil {
		p := at(n)
		if at := (*complaint)(nil); errors.As(err, &at) {
			p = r.Within(n, at.line, at.column)
		}
		r.WrongAt(p, "an expression of CEL over predicate, statement, signer and now that is true or false", "condition: %v", err)
		return
	}
	c.At = at(n)
	q.Conditions = append(q.Conditions, c)
}

func (r *rules) compile(text string) (c *Condition, err error) {
	if r.env == nil {
		if r.env, err = conditions(); err != nil {
			return nil, fmt.Errorf("prepare conditions: %w", err)
		}
	}
	return compile(r.env, text)
}
