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
	o := Outcome{Form: form(q), Line: q.At.Line, Met: x.met[i] != nil}
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

// form says in words what is required.
func form(q *policy.Requirement) string {
	var names []string
	for _, s := range q.Signers {
		names = append(names, s.Name)
	}
	who := strings.Join(names, ", ")
	switch {
	case len(names) == 1 && q.Threshold == 1:
	case q.Each || q.Threshold == len(names) && len(names) > 1:
		who = "each of " + who
	default:
		who = fmt.Sprintf("%d of %s", q.Threshold, who)
	}
	var b strings.Builder
	b.WriteString(who + " must have ")
	if q.Predicate == "" {
		b.WriteString("signed it")
	} else {
		b.WriteString("attested " + q.Predicate)
	}
	for _, part := range []struct {
		on   bool
		text string
	}{
		{len(q.Kinds) == 1, " as " + kinds(q.Kinds)},
		{q.Log, ", in a transparency log"},
		{q.Time, ", at a proven time"},
		{q.SameRepository, ", for this repository"},
		{q.Revocation == policy.Soft, ", whether or not revocation is known"},
		{q.AllowOld, ", old forms included"},
		{q.MaxAge > 0, ", at most " + span(q.MaxAge) + " old"},
		{len(q.Conditions) == 1, ", under a condition"},
		{len(q.Conditions) > 1, fmt.Sprintf(", under %d conditions", len(q.Conditions))},
	} {
		if part.on {
			b.WriteString(part.text)
		}
	}
	return b.String()
}

func kinds(k []signature.Kind) string {
	if len(k) == 1 && k[0] == signature.Notary {
		return "the Notary Project does"
	}
	return "Sigstore does"
}

// span writes a length of time in days, if it is some.
func span(d time.Duration) string {
	const day = 24 * time.Hour
	if d >= day && d%day == 0 {
		return fmt.Sprintf("%d days", d/day)
	}
	return d.String()
}
