package decide

import (
	"context"

	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/admit/policy"
)

// Past is a request that was decided on, with what the decision rested on.
type Past struct {
	Request admission.Request
	Given   Given
	Verdict admission.Verdict
}

// Difference is a request on which another policy decides otherwise.
type Difference struct {
	Index  int                `json:"index"` // of the Past
	Before admission.Verdict  `json:"before"`
	After  admission.Verdict  `json:"after"`
	Added  []admission.Reason `json:"added,omitempty"`   // of After, that Before doesn't have
	Gone   []admission.Reason `json:"removed,omitempty"` // of Before, that After doesn't have
}

// Replay decides on old requests by a policy, as of when they were asked, and
// returns those on which it decides otherwise, or for other reasons. It stops when
// the context is over, with what it has.
func Replay(ctx context.Context, p *policy.Policy, all []Past) ([]Difference, error) {
	var out []Difference
	for i := range all {
		if err := ctx.Err(); err != nil {
			return out, err
		}
		old := &all[i]
		d := Difference{Index: i, Before: old.Verdict, After: Decide(ctx, p, &old.Request, old.Given)}
		d.Added, d.Gone = besides(d.After.Reasons, d.Before.Reasons), besides(d.Before.Reasons, d.After.Reasons)
		if d.Before.Outcome != d.After.Outcome || len(d.Added)+len(d.Gone) > 0 {
			out = append(out, d)
		}
	}
	return out, nil
}

// besides returns the reasons that others don't have: other words for the same
// make no difference.
func besides(all, others []admission.Reason) []admission.Reason {
	type same struct {
		effect                          admission.Effect
		rule, container, image, unknown string
	}
	of := func(r *admission.Reason) same { return same{r.Effect, r.Rule, r.Container, r.Image, r.Unknown} }
	have := map[same]bool{}
	for i := range others {
		have[of(&others[i])] = true
	}
	var out []admission.Reason
	for i := range all {
		if !have[of(&all[i])] {
			out = append(out, all[i])
		}
	}
	return out
}
