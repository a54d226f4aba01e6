// Package admit decides what may be deployed: the admission policy with its rules,
// modes and exceptions, and the decision by it, the same for all doors.
//
// It knows no door and asks nobody: a door makes the request, whoever sequences it
// brings the facts.
//
//	p, err := admit.Load("castellan-admission.yaml")
//	v := p.Decide(ctx, &request, admit.Given{Facts: facts, Now: time.Now()})
//	if !v.Allowed() {
//		// v.Reasons say why
//	}
package admit

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/admit/decide"
	"github.com/castellan-security/castellan/internal/admit/policy"
)

// What whoever is outside this room knows.
type (
	// Problem is one thing that is wrong with a policy, and where.
	Problem = policy.Problem
	// Given is what a decision rests on besides the request.
	Given = decide.Given
	// Step is what became of one rule in a decision.
	Step = decide.Step
	// Mode is what becomes of what a rule refuses.
	Mode = policy.Mode
	// Builtin is a built-in rule, for people.
	Builtin = policy.Builtin
	// Where is a field that must fit one of some patterns.
	Where = policy.Where
)

// The modes.
const (
	Off     = policy.Off
	Audit   = policy.Audit
	Enforce = policy.Enforce
)

// File is what a policy's file is called if nothing else is said.
const File = "castellan-admission.yaml"

// MaxBytes is how large a policy may be.
const MaxBytes = policy.MaxBytes

// MaxReasons is how many reasons a verdict has at most.
const MaxReasons = decide.MaxReasons

// Policy is an admission policy that was read and compiled. What it says
// never changes, and many may decide by it at once; it remembers what its rules said
// of facts that last. A nil *Policy denies everything.
type Policy struct {
	p      *policy.Policy
	memory decide.Memory
}

// Load reads a policy from a file.
func Load(name string) (*Policy, error) {
	info, err := os.Stat(name)
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is no regular file", name)
	}
	if err != nil {
		return nil, fmt.Errorf("read admission policy: %w", err)
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("read admission policy: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, MaxBytes+1)) // Read refuses what is larger
	if err != nil {
		return nil, fmt.Errorf("read admission policy: %w", err)
	}
	return Read(b, name)
}

// Read reads a policy; name is what it is called in problems. The error's Problems
// say what is wrong with it.
func Read(b []byte, name string) (*Policy, error) {
	p, err := policy.Read(b, name)
	if err != nil {
		return nil, err
	}
	return &Policy{p: p}, nil
}

// Problems returns what is wrong with a policy by the error of Load or Read, nil
// if that is of something else.
func Problems(err error) []Problem { return policy.ProblemsOf(err) }

// Decide decides on a request. It never fails: what can't be decided within the
// policy's time limit, or at all, is answered as the policy declares for the door.
func (p *Policy) Decide(ctx context.Context, r *admission.Request, g Given) admission.Verdict {
	if p == nil {
		return decide.Decide(ctx, nil, nil, r, g)
	}
	return decide.Decide(ctx, p.p, &p.memory, r, g)
}

// Explain decides as Decide does, and says of each rule what became of it.
func (p *Policy) Explain(ctx context.Context, r *admission.Request, g Given) (admission.Verdict, []Step) {
	return decide.Explain(ctx, p.inner(), r, g)
}

// Undecided returns the verdict on a request that nobody could decide on, such as
// when what it takes can't be reached: what the policy declares for errors.
func (p *Policy) Undecided(r *admission.Request, err error, now time.Time) admission.Verdict {
	return decide.Undecided(p.inner(), r, err, now)
}

func (p *Policy) inner() *policy.Policy {
	if p == nil {
		return nil
	}
	return p.p
}

// Digest names the policy's text and the built-in rules that it uses:
// "sha256:HEX".
func (p *Policy) Digest() string {
	if p == nil {
		return ""
	}
	return p.p.Digest
}

// Name is what the policy was called when it was read.
func (p *Policy) Name() string {
	if p == nil {
		return ""
	}
	return p.p.File
}

// OnError says how a door answers if nobody can decide.
func (p *Policy) OnError(d admission.Door) admission.Outcome {
	if p != nil && p.p.Allow[d] {
		return admission.Allow
	}
	return admission.Deny
}

// TimeLimit is how long a decision may take.
func (p *Policy) TimeLimit() time.Duration {
	if p == nil {
		return policy.DefaultTimeLimit
	}
	return p.p.TimeLimit
}

// AskAgain is when to ask again for what waits.
func (p *Policy) AskAgain() time.Duration {
	if p == nil {
		return policy.DefaultAskAgain
	}
	return p.p.AskAgain
}

// Mode is what holds where no scope fits.
func (p *Policy) Mode() Mode {
	if p == nil {
		return Enforce
	}
	return p.p.Mode
}

// Enforced returns the policy as if it enforced all that it audits: for looking at
// what it will refuse.
func (p *Policy) Enforced() *Policy {
	if p == nil {
		return nil
	}
	return &Policy{p: p.p.Enforced()}
}

// ShowParameter writes a parameter's value as a policy would have it.
func ShowParameter(v any) string { return policy.Show(v) }

// Rule is a rule of a policy, for people.
type Rule struct {
	ID    string `json:"id"`
	Use   string `json:"use,omitempty"` // id of the built-in rule that it is
	Title string `json:"title"`
	Mode  Mode   `json:"mode"`
	Line  int    `json:"line"`
}

// Rules lists the policy's rules, in its order.
func (p *Policy) Rules() []Rule {
	if p == nil {
		return nil
	}
	out := make([]Rule, 0, len(p.p.Rules))
	for _, r := range p.p.Rules {
		out = append(out, Rule{r.ID, r.Use, r.Title, r.Mode, r.At.Line})
	}
	return out
}

// Scope is where a mode holds, for people.
type Scope struct {
	Name  string  `json:"name"` // empty: wherever no scope fits
	Line  int     `json:"line,omitempty"`
	Where []Where `json:"where,omitempty"` // all must fit
	// Modes is what becomes of what each rule refuses there, by the rules' ids: what
	// the rule, the scope and what it says of single rules come to.
	Modes map[string]Mode `json:"modes"`
}

// Scopes lists the policy's scopes in its order, of which the first that fits
// counts, and at the end what holds where none does.
func (p *Policy) Scopes() []Scope {
	if p == nil {
		return nil
	}
	out := make([]Scope, 0, len(p.p.Scopes)+1)
	for _, s := range append(slices.Clone(p.p.Scopes), nil) {
		x := Scope{Modes: make(map[string]Mode, len(p.p.Rules))}
		if s != nil {
			x.Name, x.Line, x.Where = s.Name, s.At.Line, slices.Clone(s.Where)
		}
		for _, r := range p.p.Rules {
			x.Modes[r.ID] = p.p.ModeIn(s, r)
		}
		out = append(out, x)
	}
	return out
}

// Exceptions lists the policy's own exceptions.
func (p *Policy) Exceptions() []admission.Exception {
	if p == nil {
		return nil
	}
	return append([]admission.Exception(nil), p.p.Exceptions...)
}

// CheckException says what is missing of an exception, nil if it is complete.
func CheckException(e *admission.Exception) []Problem { return policy.Incomplete(e) }

// Builtins lists the built-in rules.
func Builtins() ([]Builtin, error) { return policy.Builtins() }
