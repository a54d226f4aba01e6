package gate

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/admit"
)

// judge holds a request against a policy, with what is known.
func judge(ctx context.Context, p *admit.Policy, r *admission.Request, known []gathered, exceptions []admission.Exception, now time.Time) admission.Verdict {
	facts := make(map[string]*admission.Facts, len(known))
	for i := range known {
		f := known[i].facts
		if was := facts[f.Digest]; was != nil {
			// One digest in two repositories: whether it is signed is asked of each, and
			// the policy asks by the digest.
			if trustRank(was) <= trustRank(f) {
				continue
			}
		}
		facts[f.Digest] = f
	}
	return p.Decide(ctx, r, admit.Given{Facts: facts, Exceptions: exceptions, Now: now, Lasting: true})
}

// trustRank orders what is known of signatures, the worst first.
func trustRank(f *admission.Facts) int {
	if f.Trust.State == admission.Known && !f.Trust.Allowed {
		return -1
	}
	return slices.Index([]admission.State{admission.Failed, admission.Unknown, admission.Waiting, admission.Known}, f.Trust.State)
}

// outcome is how a verdict ended: one that says nothing was no leave.
func outcome(v *admission.Verdict) admission.Outcome { return cmp.Or(v.Outcome, admission.Deny) }
