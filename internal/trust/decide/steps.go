package decide

import (
	"bufio"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/signature"
	"github.com/castellan-security/castellan/internal/untrusted"
)

// steps tells a verdict as people read it. What strangers wrote is made
// harmless when it is shown, not here.
func steps(v *Verdict) []Step {
	out := []Step{ruleStep(v)}
	if v.Exception != nil {
		return append(out, Step{Mark: Yes, Text: fmt.Sprintf("%s is excepted until %s (line %d): %s",
			v.Exception.Digest, v.Exception.Expires.Format(time.RFC3339), v.Exception.Line, v.Exception.Reason)})
	}
	if v.Lapsed != nil {
		out = append(out, Step{Mark: Note, Text: fmt.Sprintf("an exception ended at %s (line %d): %s", v.Lapsed.Expires.Format(time.RFC3339), v.Lapsed.Line, v.Lapsed.Reason)})
	}
	for _, l := range v.Looked {
		out = append(out, lookStep(v, l))
	}
	if len(v.Requirements) == 0 {
		return out
	}
	s := Step{Mark: Yes, Text: "what the rule requires"}
	for i := range v.Requirements {
		r := requirementStep(&v.Requirements[i])
		if r.Mark == No {
			s.Mark = No
		}
		s.Steps = append(s.Steps, r)
	}
	return append(out, s)
}

func ruleStep(v *Verdict) Step {
	name := v.Repository
	if name == "" {
		name = "an image of no registry"
	}
	switch {
	case v.Rule == nil && v.Exception != nil:
		return Step{Mark: Note, Text: fmt.Sprintf("no rule of %s matches %s", v.PolicyFile, name)}
	case v.Rule == nil:
		return Step{Mark: No, Text: fmt.Sprintf("no rule of %s matches %s, so it is denied", v.PolicyFile, name)}
	}
	s := Step{Mark: Yes, Text: fmt.Sprintf("rule %s of %s is for %s: of the patterns that match, %s is the most specific", v.Rule, v.PolicyFile, name, v.Rule.Pattern)}
	if len(v.Requirements) == 0 && len(v.Looked) == 0 && v.Exception == nil && !v.Allowed {
		s.Steps = append(s.Steps, Step{Mark: No, Text: v.Reason})
		s.Mark = No
	}
	return s
}

func lookStep(v *Verdict, l Looked) Step {
	what := "the image"
	if l.Index {
		what = "the index that names it"
	}
	s := Step{Mark: Note, Text: fmt.Sprintf("%s found about %s, %s", number(l.Found, "envelope"), what, l.Digest)}
	for i := range v.Signatures {
		if c := &v.Signatures[i]; c.Subject == l.Digest {
			s.Steps = append(s.Steps, caseStep(c))
		}
	}
	if l.Missing != "" {
		s.Steps = append(s.Steps, Step{Mark: Open, Text: l.Missing})
	}
	if l.Unlisted > 0 {
		s.Steps = append(s.Steps, Step{Mark: Open, Text: fmt.Sprintf("%d more were not looked at: at most %d are", l.Unlisted, MaxListed), Remedy: "remove signatures that nobody needs"})
	}
	switch {
	case l.Unopened > 0 && l.Beyond:
		s.Steps = append(s.Steps, Step{Mark: Open, Text: fmt.Sprintf("%d more were not opened: at most %d are", l.Unopened, MaxOpened), Remedy: "remove signatures that nobody needs"})
	case l.Unopened > 0:
		s.Steps = append(s.Steps, Step{Mark: Note, Text: fmt.Sprintf("%d more were not opened: what was there is enough", l.Unopened)})
	}
	return s
}

func caseStep(c *Case) Step {
	switch c.State {
	case Refused:
		return Step{Mark: No, Text: fmt.Sprintf("%s is refused (%s): %s", c.Envelope, c.Reason, c.Detail), Remedy: c.Remedy}
	case Unknown:
		return Step{Mark: Open, Text: fmt.Sprintf("%s could not be opened: %s", c.Envelope, c.Detail)}
	}
	what := "signature"
	if c.Predicate != "" {
		what = "attestation " + c.Predicate
	}
	s := Step{Mark: Yes, Text: fmt.Sprintf("%s is a good %s (%s, by %s)", c.Envelope, what, c.Kind, c.Way)}
	who := "nobody that the policy knows"
	if len(c.Signers) > 0 {
		who = strings.Join(c.Signers, ", ")
	}
	s.Steps = append(s.Steps, Step{Mark: Note, Text: fmt.Sprintf("signed by %s: %s", who, c.By)}, Step{Mark: Note, Text: when(c)})
	if c.Revocation != signature.NoRevocation {
		s.Steps = append(s.Steps, Step{Mark: Note, Text: "revocation of its certificate: " + string(c.Revocation)})
	}
	if c.Old {
		s.Steps = append(s.Steps, Step{Mark: Note, Text: "in a form that its makers have given up"})
	}
	return s
}

func when(c *Case) string {
	if c.Time == nil {
		return "nothing says when it was signed"
	}
	t := "signed at " + c.Time.UTC().Format(time.RFC3339)
	switch c.Proof {
	case signature.Authority:
		return t + ", says the signing authority"
	case signature.Timestamped:
		return t + " at the latest, says a time stamp"
	case signature.Logged:
		t += " at the latest, says a transparency log"
		if c.Log != nil {
			t += fmt.Sprintf(" (entry %d)", *c.Log)
		}
		return t
	}
	return t + ", says the signer alone"
}

func requirementStep(o *Outcome) Step {
	s := Step{Mark: Yes, Text: fmt.Sprintf("%s (line %d)", o.Form, o.Line)}
	for _, v := range o.By {
		s.Steps = append(s.Steps, Step{Mark: Yes, Text: v.Envelope + " counts for " + v.Signer})
	}
	if o.Met {
		return s
	}
	s.Mark = No
	for _, m := range o.Misses {
		s.Steps = append(s.Steps, Step{Mark: No, Text: m.Envelope + " does not count: " + m.Why, Remedy: m.Remedy})
	}
	s.Steps = append(s.Steps, Step{Mark: No, Text: o.Missing, Remedy: o.Remedy})
	return s
}

func number(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// WriteText writes a verdict step by step for people at a terminal.
func WriteText(w io.Writer, v *Verdict) error {
	b := bufio.NewWriter(w)
	name := v.Digest
	if v.Repository != "" {
		name = v.Repository + "@" + v.Digest
	}
	word := "denied"
	if v.Allowed {
		word = "allowed"
	}
	fmt.Fprintf(b, "%s\n%s: %s\n", shown(name), word, shown(v.Reason))
	if v.Remedy != "" {
		fmt.Fprintf(b, "remedy: %s\n", shown(v.Remedy))
	}
	b.WriteByte('\n')
	writeSteps(b, v.Steps, 0)
	if v.Allowed {
		fmt.Fprintf(b, "\nholds until %s\n", v.Until.UTC().Format(time.RFC3339))
	}
	return b.Flush()
}

// WriteSteps writes the steps of a verdict alone, for where its end is told
// otherwise.
func WriteSteps(w io.Writer, v *Verdict) error {
	b := bufio.NewWriter(w)
	writeSteps(b, v.Steps, 0)
	return b.Flush()
}

func writeSteps(b *bufio.Writer, all []Step, depth int) {
	marks := map[Mark]string{Yes: "yes", No: "no ", Open: "?  ", Note: "   "}
	for _, s := range all {
		fmt.Fprintf(b, "%s%s %s\n", strings.Repeat("    ", depth), marks[s.Mark], shown(s.Text))
		if s.Remedy != "" {
			fmt.Fprintf(b, "%s    remedy: %s\n", strings.Repeat("    ", depth), shown(s.Remedy))
		}
		writeSteps(b, s.Steps, depth+1)
	}
}

func shown(s string) string { return untrusted.Text(s) }
