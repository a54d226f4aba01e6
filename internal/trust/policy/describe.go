package policy

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/signature"
	"github.com/castellan-security/castellan/internal/untrusted"
)

// What a description has at most of what a policy can have thousands of.
const (
	maxNarrower  = 5
	maxDescribed = 100 // exceptions
)

// Passage is a part of a policy in words, with what belongs to it.
type Passage struct {
	Line  int       `json:"line,omitempty"` // of the policy; 0: of no line
	Text  string    `json:"text"`
	Parts []Passage `json:"parts,omitempty"`
}

// Describe says in words what a policy means: rule by rule what images need, who the
// signers are, and what is excepted. What the policy's author wrote is made harmless
// when it is shown, not here.
func (p *Policy) Describe() []Passage {
	var out []Passage
	for _, r := range p.Rules {
		out = append(out, p.describeRule(r))
	}
	out = append(out, Passage{Text: "What no rule is for is denied."})
	for _, s := range p.Signers {
		out = append(out, p.describeSigner(s))
	}
	for i := range p.Exceptions[:min(len(p.Exceptions), maxDescribed)] {
		e := &p.Exceptions[i]
		where := ""
		if e.Match != nil {
			where = " of " + e.Match.Text
		}
		out = append(out, Passage{Line: e.At.Line, Text: fmt.Sprintf("Exception: %s%s may run unsigned until %s: %s", e.Digest, where, day(e.Expires), e.Reason)})
	}
	if more := len(p.Exceptions) - maxDescribed; more > 0 {
		out = append(out, Passage{Text: fmt.Sprintf("And %d exceptions more.", more)})
	}
	return out
}

func (p *Policy) describeRule(r *Rule) Passage {
	var names []string
	for _, k := range r.Patterns {
		names = append(names, k.Text)
	}
	out := Passage{Line: r.At.Line, Text: "Images of " + strings.Join(names, ", ")}
	if r.Name != "" {
		out.Text = fmt.Sprintf("Rule %q: images of %s", r.Name, strings.Join(names, ", "))
	}
	for _, k := range r.Patterns {
		if m := k.meaning(); m != "" {
			out.Parts = append(out.Parts, Passage{Line: k.At.Line, Text: k.Text + " is " + m})
		}
	}
	for _, k := range r.Patterns {
		for _, n := range p.narrower[k] {
			out.Parts = append(out.Parts, Passage{
				Line: n.rule.At.Line, Text: fmt.Sprintf("but those of %s fall under the rule in line %d alone: it is narrower", n.pattern.Text, n.rule.At.Line),
			})
		}
		if len(p.narrower[k]) == maxNarrower {
			out.Parts = append(out.Parts, Passage{Text: "and there may be further narrower rules"})
		}
	}
	if r.Deny != "" {
		out.Parts = append(out.Parts, Passage{Line: r.At.Line, Text: "are never allowed: " + r.Deny})
		return out
	}
	must := Passage{Line: r.At.Line, Text: "may run only if this holds:"}
	if len(r.Require) > 1 {
		must.Text = "may run only if all of this holds:"
	}
	for i := range r.Require {
		must.Parts = append(must.Parts, r.Require[i].describe())
	}
	out.Parts = append(out.Parts, must)
	return out
}

// describe is Form, with what it leaves out.
func (r *Requirement) describe() Passage {
	out := Passage{Line: r.At.Line, Text: r.Form()}
	if !r.Each && len(r.Signers) > 1 {
		out.Parts = append(out.Parts, Passage{Text: "each of them counts once, whatever it signs with"})
	}
	for _, s := range r.Signers {
		if s.Team && !r.Each {
			out.Parts = append(out.Parts, Passage{Text: s.Name + " counts once for each of its members"})
		}
	}
	if r.Predicate != "" && !slices.Equal(r.Types, []string{r.Predicate}) {
		out.Parts = append(out.Parts, Passage{Text: r.Predicate + " is " + strings.Join(r.Types, ", or ")})
	}
	for _, c := range r.Conditions {
		lines := strings.Split(strings.TrimRight(c.Text, "\n"), "\n")
		said := Passage{Line: c.At.Line, Text: "what it says must fulfil: " + lines[0]}
		for _, l := range lines[1:] {
			said.Parts = append(said.Parts, Passage{Text: strings.TrimSpace(l)})
		}
		out.Parts = append(out.Parts, said)
	}
	return out
}

// meaning says what a pattern with signs matches; "" for one without.
func (p *Pattern) meaning() string {
	base, below := strings.CutSuffix(p.Full, "/**")
	switch {
	case p.Full == "**":
		return "every image, those of no registry too"
	case below && !strings.Contains(base, "*"):
		return "every repository below " + base
	case strings.Contains(p.Full, "**"):
		return "every repository like that, where * is any letters within one part of the name, and ** one or more parts"
	case strings.Contains(p.Full, "*"):
		return "every repository like that, where * is any letters within one part of the name"
	case p.Full != p.Text:
		return p.Full + " in full"
	}
	return ""
}

func (p *Policy) describeSigner(s *Signer) Passage {
	out := Passage{Line: s.At.Line, Text: "Signer " + s.Name + " is whoever signs with"}
	switch {
	case s.Team:
		out.Text = "The members of the team " + s.Name + " sign with"
	case len(s.Identities) > 1:
		out.Text = "Signer " + s.Name + " is whoever signs with any of"
	}
	if !p.uses(s) {
		out.Text = "No rule asks for " + s.Name + ", who signs with"
	}
	for i := range s.Identities {
		id := &s.Identities[i]
		part := Passage{Line: id.At.Line, Text: id.Form()}
		switch k := p.keys[id.Key]; {
		case k != nil:
			part.Text = fmt.Sprintf("the key %s (%s)", k.Name, id.Key)
			part.Parts = describeKey(k)
		case id.Issuer.Form != "":
			part.Text = "a short-lived certificate (keyless) for " + id.Form()
		case id.Profile == "":
			part.Text = "a certificate with " + id.Form()
		}
		out.Parts = append(out.Parts, part)
	}
	return out
}

func (p *Policy) uses(s *Signer) bool {
	return slices.ContainsFunc(p.Rules, func(r *Rule) bool {
		return slices.ContainsFunc(r.Require, func(q Requirement) bool { return slices.Contains(q.Signers, s) })
	})
}

func describeKey(k *signature.Key) (out []Passage) {
	if !k.NotBefore.IsZero() {
		out = append(out, Passage{Text: "of which signatures count from " + day(k.NotBefore) + " on"})
	}
	if !k.NotAfter.IsZero() {
		out = append(out, Passage{Text: "of which signatures after " + day(k.NotAfter) + " do not count"})
	}
	if !k.Lost.IsZero() {
		out = append(out, Passage{Text: "which was lost: only what is proven to be signed before " + day(k.Lost) + " counts"})
	}
	return out
}

// day writes a moment, its hour only if it has one.
func day(t time.Time) string {
	if t = t.UTC(); t.Equal(t.Truncate(24 * time.Hour)) {
		return t.Format(time.DateOnly)
	}
	return t.Format("2006-01-02 15:04 UTC")
}

// WriteDescription writes what a policy means for people at a terminal.
func WriteDescription(w io.Writer, p *Policy) error {
	b := bufio.NewWriter(w)
	writePassages(b, p.Describe(), 0)
	return b.Flush()
}

func writePassages(b *bufio.Writer, all []Passage, depth int) {
	for _, x := range all {
		b.WriteString(strings.Repeat("    ", depth) + untrusted.Text(x.Text))
		if x.Line > 0 && depth == 0 {
			fmt.Fprintf(b, " (line %d)", x.Line)
		}
		b.WriteByte('\n')
		writePassages(b, x.Parts, depth+1)
	}
}
