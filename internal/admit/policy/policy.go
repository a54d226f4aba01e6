// Package policy reads admission policies: which rules hold where, what they
// refuse, and what is excepted. It compiles everything when it reads, so that a
// policy that loads can be decided by, and one that can't be meant is refused
// with its line.
//
// It decides nothing: that is package decide's.
package policy

import (
	"time"

	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/admit/condition"
	"github.com/castellan-security/castellan/internal/finding"
)

// Version is the one version of the form that there is.
const Version = "1"

// Limits of a policy. People write policies: what is beyond is a mistake or an
// attack, and each bounds what reading or deciding may cost.
const (
	MaxBytes      = 1 << 20
	MaxRules      = 500
	MaxScopes     = 500
	MaxPatterns   = 200 // of one field of a scope
	MaxExceptions = 5000
	MaxParams     = 50
	MaxItems      = 1000 // of one parameter that is a list
	MaxText       = 1000 // bytes of one name, pattern or value
	MaxProblems   = 50   // told at once
	MaxTimeLimit  = time.Minute
	MaxAskAgain   = 15 * time.Minute
)

// What holds if a policy doesn't say otherwise.
const (
	DefaultTimeLimit = 2 * time.Second
	DefaultAskAgain  = 30 * time.Second
)

// Mode is what becomes of what a rule refuses.
type Mode string

// The modes, the mildest first.
const (
	Off     Mode = "off"     // the rule isn't asked
	Audit   Mode = "audit"   // it is told, and lets pass
	Enforce Mode = "enforce" // it is refused
)

// rank orders modes by strictness.
func (m Mode) rank() int {
	switch m {
	case Enforce:
		return 2
	case Audit:
		return 1
	}
	return 0
}

// Stricter returns the stricter of both.
func (m Mode) Stricter(o Mode) Mode {
	if o.rank() > m.rank() {
		return o
	}
	return m
}

// Milder returns the milder of both.
func (m Mode) Milder(o Mode) Mode {
	if o.rank() < m.rank() {
		return o
	}
	return m
}

// OnUnknown is what a rule does if what it needs is not known.
type OnUnknown string

// What rules do with what is not known. None of it is a pass in silence.
const (
	UnknownDenies OnUnknown = "deny"
	UnknownWaits  OnUnknown = "wait" // while somebody finds out, and denies if nobody does
	UnknownWarns  OnUnknown = "warn"
)

// Policy is a policy that was read and compiled. It never changes, so that many
// may decide by it at once.
type Policy struct {
	File       string // as it was named; for people
	Digest     string // "sha256:HEX" of its text and of the built-in rules that it uses
	Mode       Mode   // where no scope fits
	Allow      map[admission.Door]bool
	TimeLimit  time.Duration
	AskAgain   time.Duration
	Scopes     []*Scope
	Rules      []*Rule
	Exceptions []admission.Exception
	Schema     *condition.Schema
}

// Rule is one rule.
type Rule struct {
	ID       string
	Use      string // id of the built-in rule that it is; empty: the policy's own
	At       Position
	Title    string
	Why      string
	Severity finding.Severity
	For      *condition.Kind
	Actions  []admission.Action
	Doors    []admission.Door // none: all
	Deny     *condition.Expression
	Message  *condition.Template
	Remedy   *condition.Template
	Unknown  OnUnknown
	Mode     Mode // at most this; Enforce unless the policy says otherwise
	// AtMost is how many may be refused before the rule denies: of each image, or of
	// each container or the request.
	AtMost int
	Params []condition.Param
}

// Scope is where a mode holds.
type Scope struct {
	Name  string
	At    Position
	Where []Where
	Mode  Mode
	Rules map[string]Mode // by rule, where it differs
}

// Enforced returns the policy with enforce in place of audit, everywhere.
func (p *Policy) Enforced() *Policy {
	strict := func(m Mode) Mode {
		if m == Audit {
			return Enforce
		}
		return m
	}
	out := *p
	out.Mode = strict(p.Mode)
	out.Rules, out.Scopes = make([]*Rule, len(p.Rules)), make([]*Scope, len(p.Scopes))
	for i, r := range p.Rules {
		rule := *r
		rule.Mode = strict(r.Mode)
		out.Rules[i] = &rule
	}
	for i, s := range p.Scopes {
		scope := *s
		scope.Mode, scope.Rules = strict(s.Mode), map[string]Mode{}
		for id, m := range s.Rules {
			scope.Rules[id] = strict(m)
		}
		out.Scopes[i] = &scope
	}
	return &out
}

// ModeIn is what becomes of what a rule refuses where a scope holds, or, with nil,
// where none does.
func (p *Policy) ModeIn(s *Scope, r *Rule) Mode {
	if s == nil {
		return r.Mode.Milder(p.Mode)
	}
	if m := s.Rules[r.ID]; m != "" {
		return m
	}
	return r.Mode.Milder(s.Mode)
}

// Where is a field that must fit one of some patterns.
type Where struct {
	Field    string   `json:"field"`
	Patterns []string `json:"patterns"` // one must fit
}

// Fields of a request by which scopes can be chosen.
const (
	Account    = "account"
	Region     = "region"
	Cluster    = "cluster"
	Service    = "service"
	Host       = "host"
	Family     = "family"
	Repository = "repository"
	Door       = "door"
)
