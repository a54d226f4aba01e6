package decide

import (
	"fmt"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/signature"
	"github.com/castellan-security/castellan/internal/trust/policy"
)

// conclude fills in the verdict from what was found.
func (x *decision) conclude() {
	if x.Facts {
		x.out.Facts = &Facts{Form: factsForm, Opened: []*Fact{}}
	}
	for _, c := range x.cases {
		told := *c
		told.signed, told.fact, told.err = signature.Signed{}, nil, nil // predicates can be large, and verdicts are kept
		x.out.Signatures = append(x.out.Signatures, told)
		if x.Facts {
			x.out.Facts.add(c.fact)
		}
	}
	var ends []time.Time
	allowed := true
	for i := range x.rule.Require {
		o := x.outcome(i)
		x.out.Requirements = append(x.out.Requirements, o)
		for _, v := range x.met[i] {
			ends = append(ends, v.until)
		}
		if !o.Met && allowed {
			allowed = false
			x.deny(o.Missing, o.Remedy)
		}
	}
	if x.out.Allowed = allowed; allowed {
		x.out.Reason = "all that rule " + x.out.Rule.String() + " requires is there"
		x.keep(ends...)
	}
}

// outcome says of one requirement whether it is met, by what, and what is
// missing.
func (x *decision) outcome(i int) Outcome {
	q := &x.rule.Require[i]
	o := Outcome{Form: q.Form(), Line: q.At.Line, Met: x.met[i] != nil}
	chosen := x.met[i]
	if !o.Met {
		chosen = elect(q, x.votes[i])
	}
	for _, v := range chosen {
		o.By = append(o.By, Vote{q.Signers[v.signer].Name, v.c.Envelope})
	}
	o.Misses = x.misses[i]
	if o.Met {
		return o
	}
	var missing []string
	for s, who := range q.Signers {
		counted := false
		for _, v := range chosen {
			counted = counted || v.signer == s
		}
		if !counted {
			missing = append(missing, who.Name)
		}
	}
	what := "no signature that counts"
	if q.Predicate != "" {
		what = "no attestation " + q.Predicate + " that counts"
	}
	if len(missing) > 0 {
		what += " by " + strings.Join(missing, ", ")
	}
	if o.Missing = "there is " + what; len(chosen) > 0 || q.Threshold > 1 {
		o.Missing += fmt.Sprintf(": %d of %d count", len(chosen), q.Threshold)
	}
	o.Remedy = x.remedy(q, o)
	return o
}

// remedy is what to do about a requirement that is not met: what a near miss
// lacks, or to sign.
func (x *decision) remedy(q *policy.Requirement, o Outcome) string {
	for _, l := range x.out.Looked {
		if l.Beyond {
			return fmt.Sprintf("remove signatures that nobody needs: of those found, at most %d are opened", MaxOpened)
		}
	}
	for _, m := range o.Misses {
		if m.Remedy != "" {
			return m.Remedy
		}
	}
	verb := "sign"
	if q.Predicate != "" {
		verb = "attest --type " + q.Predicate
	}
	return fmt.Sprintf("let the signer run castellan trust %s %s", verb, x.name())
}
