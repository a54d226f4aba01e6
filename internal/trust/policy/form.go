package policy

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/signature"
)

// Form says in a few words what is required.
func (r *Requirement) Form() string {
	var names []string
	for _, s := range r.Signers {
		names = append(names, s.Name)
	}
	who := strings.Join(names, ", ")
	team := slices.ContainsFunc(r.Signers, func(s *Signer) bool { return s.Team }) // whose members count one by one
	switch {
	case len(names) == 1 && r.Threshold == 1:
	case r.Each || r.Threshold == len(names) && len(names) > 1 && !team:
		who = "each of " + who
	default:
		who = fmt.Sprintf("%d of %s", r.Threshold, who)
	}
	var b strings.Builder
	b.WriteString(who + " must have ")
	if r.Predicate == "" {
		b.WriteString("signed it")
	} else {
		b.WriteString("attested " + r.Predicate)
	}
	for _, part := range []struct {
		on   bool
		text string
	}{
		{len(r.Kinds) == 1, " as " + kinds(r.Kinds)},
		{r.Log, ", in a transparency log"},
		{r.Time, ", at a proven time"},
		{r.SameRepository, ", for this repository"},
		{r.Revocation == Soft, ", whether or not revocation is known"},
		{r.AllowOld, ", old forms included"},
		{r.MaxAge > 0, ", at most " + Span(r.MaxAge) + " old"},
		{len(r.Conditions) == 1, ", under a condition"},
		{len(r.Conditions) > 1, fmt.Sprintf(", under %d conditions", len(r.Conditions))},
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

// Span writes a length of time in days, if it is some.
func Span(d time.Duration) string {
	const day = 24 * time.Hour
	if d >= day && d%day == 0 {
		return fmt.Sprintf("%d days", d/day)
	}
	return d.String()
}
