package decide

import (
	"context"

	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/admit/policy"
)

// Step is what became of one rule in a decision.
type Step struct {
	Rule  string `json:"rule"`
	Title string `json:"title"`
	Line  int    `json:"line"`
	// Skipped says why the rule was not asked; empty: it was.
	Skipped string `json:"skipped,omitempty"`
	Asked   int    `json:"asked"`             // about how many containers, images, …
	For     string `json:"for"`               // what they are
	Refused int    `json:"refused,omitempty"` // of those
	Unknown int    `json:"unknown,omitempty"`
	Off     int    `json:"off,omitempty"` // where the mode is off
}

// Explain decides as Decide does, and says of each rule what became of it.
func Explain(ctx context.Context, p *policy.Policy, r *admission.Request, g Given) (admission.Verdict, []Step) {
	var steps []Step
	v := decide(ctx, p, nil, r, g, &steps)
	return v, steps
}

// step is the step of the rule that is asked now; a spare one if nobody wants to
// know.
func (d *decision) step() *Step {
	if d.steps == nil || len(*d.steps) == 0 {
		return &d.spare
	}
	return &(*d.steps)[len(*d.steps)-1]
}

// begin notes that a rule is next.
func (d *decision) begin(rule *policy.Rule, skipped string) {
	if d.steps != nil {
		*d.steps = append(*d.steps, Step{Rule: rule.ID, Title: rule.Title, Line: rule.At.Line, Skipped: skipped, For: rule.For.Name})
	}
}
