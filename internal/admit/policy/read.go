package policy

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/admit/condition"
	"github.com/castellan-security/castellan/internal/written"
)

// Read reads a policy. What is wrong with it is told as Problems.
func Read(b []byte, name string) (*Policy, error) {
	r := &policyReader{reader: newReader(name), p: &Policy{
		File: name, Mode: Enforce, Allow: map[admission.Door]bool{}, TimeLimit: DefaultTimeLimit, AskAgain: DefaultAskAgain, Schema: condition.NewSchema(),
	}}
	if len(b) > MaxBytes {
		r.WrongAt(Position{}, "", "%d bytes, and at most %d are read", len(b), MaxBytes)
	} else if n := r.document(b); n != nil {
		r.policy(n)
	}
	if err := r.Err("admission policy"); err != nil {
		return nil, err
	}
	r.p.Digest = r.digest(b)
	return r.p, nil
}

type policyReader struct {
	reader
	p        *Policy
	compiler *condition.Compiler
	builtins map[string]*builtin
	ids      map[string]int // of rules, with their lines
}

// digest is of all that decides: the text, and the built-in rules that it uses,
// which may be others in another version of the program.
func (r *policyReader) digest(b []byte) string {
	h := sha256.New()
	h.Write(b)
	for _, rule := range r.p.Rules {
		if built := r.builtins[rule.Use]; built != nil {
			h.Write([]byte(built.text))
		}
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil))
}

// policy reads the parts in the order in which they need each other, whatever
// their order in the document.
func (r *policyReader) policy(n *yaml.Node) {
	parts := map[string]*yaml.Node{}
	known := map[string]func(*yaml.Node){}
	for _, name := range []string{"version", "mode", "onError", "timeLimit", "askAgain", "rules", "scopes", "exceptions"} {
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
	if parts["mode"] == nil {
		r.Wrong(n, "mode: audit tells what would be refused and refuses nothing; mode: enforce refuses", "the policy has no mode")
	}
	if parts["rules"] == nil {
		r.Wrong(n, "castellan admit init writes a first policy, castellan admit rules lists the rules that there are", "the policy has no rules")
	}
	each("mode", func(n *yaml.Node) { r.p.Mode, _ = written.Word(&r.Reader, n, "mode", Audit, Enforce, Off) })
	each("onError", r.onError)
	each("timeLimit", func(n *yaml.Node) { r.p.TimeLimit = r.limited(n, "timeLimit", time.Millisecond, MaxTimeLimit) })
	each("askAgain", func(n *yaml.Node) { r.p.AskAgain = r.limited(n, "askAgain", time.Second, MaxAskAgain) })
	each("rules", r.rules)
	each("scopes", r.scopes)
	each("exceptions", r.exceptions)
}

func (r *policyReader) limited(n *yaml.Node, what string, least, most time.Duration) time.Duration {
	d := r.Span(n, what, 0)
	if d != 0 && (d < least || d > most) {
		r.Wrong(n, "", "%s is %s: want %s to %s", what, d, least, most)
	}
	return d
}

func (r *policyReader) onError(n *yaml.Node) {
	r.Named(n, "onError", len(admission.Doors()), func(name string, key, v *yaml.Node) {
		door, ok := written.Word(&r.Reader, key, "a door", admission.Doors()...)
		answer, fine := written.Word(&r.Reader, v, "onError of "+name, "deny", "allow")
		if ok && fine {
			r.p.Allow[door] = answer == "allow"
		}
	})
}

func (r *policyReader) scopes(n *yaml.Node) {
	seen := map[string]int{}
	r.Some(n, "scopes", MaxScopes, func(n *yaml.Node) {
		s := &Scope{At: at(n), Rules: map[string]Mode{}}
		before := len(r.Problems)
		ok := r.Fields(n, "a scope", map[string]func(*yaml.Node){
			"name":  func(n *yaml.Node) { s.Name, _ = r.short(n, "name") },
			"where": func(n *yaml.Node) { r.where(s, n) },
			"mode":  func(n *yaml.Node) { s.Mode, _ = written.Word(&r.Reader, n, "mode", Audit, Enforce, Off) },
			"rules": func(n *yaml.Node) { r.modes(s, n) },
		})
		line := seen[s.Name]
		switch {
		case !ok:
			return
		case len(r.Problems) > before: // what is missing is what is misspelt
		case s.Name == "":
			r.WrongAt(s.At, "name: production", "the scope has no name")
		case line > 0:
			r.WrongAt(s.At, "give one of both another name", "line %d has a scope %s already", line, s.Name)
		case len(s.Where) == 0:
			r.WrongAt(s.At, "where: {cluster: prod-*}; what holds everywhere stands at the policy's top", "the scope %s has no where", s.Name)
		case s.Mode == "":
			r.WrongAt(s.At, "mode: audit, enforce or off", "the scope %s has no mode", s.Name)
		}
		seen[s.Name] = s.At.Line
		r.p.Scopes = append(r.p.Scopes, s)
	})
}

func (r *policyReader) where(s *Scope, n *yaml.Node) {
	known := map[string]func(*yaml.Node){}
	for _, name := range []string{Account, Region, Cluster, Service, Host, Family, Repository, Door} {
		known[name] = func(n *yaml.Node) {
			w := Where{Field: name}
			r.Some(n, name, MaxPatterns, func(n *yaml.Node) {
				if name == Door {
					if d, ok := written.Word(&r.Reader, n, "a door", admission.Doors()...); ok {
						w.Patterns = append(w.Patterns, string(d))
					}
					return
				}
				if n.Kind == yaml.ScalarNode && n.Tag == "!!int" && name == Account {
					r.Wrong(n, "put the number between quotes: an account may begin with 0", "account is no text")
					return
				}
				if p, ok := r.pattern(n, name); ok {
					w.Patterns = append(w.Patterns, p)
				}
			})
			s.Where = append(s.Where, w)
		}
	}
	r.Fields(n, "where", known)
}

// modes reads the modes of single rules in a scope.
func (r *policyReader) modes(s *Scope, n *yaml.Node) {
	r.Named(n, "rules", MaxRules, func(name string, key, v *yaml.Node) {
		if r.ids[name] == 0 {
			ids := slices.Sorted(maps.Keys(r.ids))
			r.Wrong(key, "the policy has "+strings.Join(ids, ", "), "the policy has no rule %q%s", name, condition.Nearest(name, ids))
			return
		}
		if m, ok := written.Word(&r.Reader, v, "the mode of "+name, Audit, Enforce, Off); ok {
			s.Rules[name] = m
		}
	})
}
