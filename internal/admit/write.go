package admit

import (
	"encoding/xml"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/admit/condition"
	"github.com/castellan-security/castellan/internal/admit/policy"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/untrusted"
)

// Judged is a verdict with what it is on, for people.
type Judged struct {
	Name    string            `json:"name"`
	Verdict admission.Verdict `json:"verdict"`
}

var effectWords = map[admission.Effect]string{
	admission.Denies: "DENIED", admission.Waits: "WAITING", admission.Audited: "would be denied", admission.Excepted: "excepted", admission.Warns: "warning",
}

// outcomeWords say what a verdict means, whatever mode it was reached in.
func outcomeWords(v *admission.Verdict) string {
	switch {
	case v.Outcome == admission.Deny:
		return "denied"
	case v.Outcome == admission.Wait:
		return "not yet: something is being found out"
	}
	audited := 0
	for i := range v.Reasons {
		if v.Reasons[i].Effect == admission.Audited {
			audited++
		}
	}
	if audited == 1 {
		return "allowed, but 1 thing would be denied if the policy enforced it"
	}
	if audited > 0 {
		return fmt.Sprintf("allowed, but %d things would be denied if the policy enforced them", audited)
	}
	return "allowed"
}

// WriteText writes verdicts for people at a terminal: what denies first, each with
// what to do about it.
func WriteText(w io.Writer, all []Judged) error {
	var b strings.Builder
	for i := range all {
		j := &all[i]
		if i > 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "%s: %s\n", untrusted.Text(j.Name), outcomeWords(&j.Verdict))
		for k := range j.Verdict.Reasons {
			writeReason(&b, &j.Verdict.Reasons[k])
		}
		if n := j.Verdict.Omitted; n > 0 {
			fmt.Fprintf(&b, "\n  and %d more\n", n)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func writeReason(b *strings.Builder, r *admission.Reason) {
	fmt.Fprintf(b, "\n  %s", effectWords[r.Effect])
	if r.Severity != finding.Unknown {
		fmt.Fprintf(b, " (%s)", r.Severity)
	}
	fmt.Fprintf(b, ": %s\n", untrusted.Text(r.Message))
	if e := r.Exception; e != nil {
		fmt.Fprintf(b, "    excepted by %s until %s: %s\n", untrusted.Text(e.Owner), e.Expires.Format(time.DateOnly), untrusted.Text(e.Reason))
	} else if r.Remedy != "" {
		fmt.Fprintf(b, "    what to do: %s\n", untrusted.Text(r.Remedy))
	}
	if r.Rule != "" {
		fmt.Fprintf(b, "    rule: %s, line %d of the policy\n", r.Rule, r.Line)
	}
}

type junitSuites struct {
	XMLName xml.Name     `xml:"testsuites"`
	Suites  []junitSuite `xml:"testsuite"`
}

type junitSuite struct {
	Name     string      `xml:"name,attr"`
	Tests    int         `xml:"tests,attr"`
	Failures int         `xml:"failures,attr"`
	Skipped  int         `xml:"skipped,attr"`
	Cases    []junitCase `xml:"testcase"`
}

type junitCase struct {
	Name    string        `xml:"name,attr"`
	Class   string        `xml:"classname,attr"`
	Failure *junitMessage `xml:"failure,omitempty"`
	Skipped *junitMessage `xml:"skipped,omitempty"`
	Out     string        `xml:"system-out,omitempty"`
}

type junitMessage struct {
	Message string `xml:"message,attr"`
	Text    string `xml:",chardata"`
}

// WriteJUnit writes verdicts as CI servers read them: a suite for each, a case for
// each rule of the policy. What denies or waits is a failure; what would deny is
// skipped, with the reason.
func WriteJUnit(w io.Writer, p *Policy, all []Judged) error {
	var out junitSuites
	for i := range all {
		out.Suites = append(out.Suites, suiteOf(p, &all[i]))
	}
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	e := xml.NewEncoder(w)
	e.Indent("", "  ")
	if err := e.Encode(out); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\n")
	return err
}

func suiteOf(p *Policy, j *Judged) junitSuite {
	s := junitSuite{Name: clean(j.Name)}
	rules := map[string]bool{}
	add := func(id, title string) {
		rules[id] = true
		c := junitCase{Name: clean(id + ": " + title), Class: s.Name}
		for i := range j.Verdict.Reasons {
			r := &j.Verdict.Reasons[i]
			if r.Rule != id {
				continue
			}
			text := clean(r.Message) + "\n" + clean(r.Remedy) + "\n"
			switch r.Effect {
			case admission.Denies, admission.Waits:
				if c.Failure == nil {
					c.Failure = &junitMessage{Message: clean(r.Message)}
				}
				c.Failure.Text += text
			default:
				c.Out += effectWords[r.Effect] + ": " + text
				if r.Effect == admission.Audited && c.Skipped == nil {
					c.Skipped = &junitMessage{Message: "would be denied: " + clean(r.Message)}
				}
			}
		}
		if c.Failure != nil {
			c.Skipped = nil
			s.Failures++
		} else if c.Skipped != nil {
			s.Skipped++
		}
		s.Tests++
		s.Cases = append(s.Cases, c)
	}
	for _, r := range p.Rules() {
		add(r.ID, r.Title)
	}
	for i := range j.Verdict.Reasons {
		if id := j.Verdict.Reasons[i].Rule; !rules[id] {
			add(id, "it could not be decided") // by no rule at all
		}
	}
	return s
}

// clean leaves out what XML can't have.
func clean(s string) string { return untrusted.Text(s) }

// SchemaType is a type of what conditions see, for people.
type SchemaType struct {
	Name   string        `json:"name"`
	Doc    string        `json:"doc"`
	Fields []SchemaField `json:"fields"`
}

// SchemaField is one field, variable or function, with its type.
type SchemaField struct {
	Name string `json:"name"`
	Type string `json:"type,omitempty"`
	Doc  string `json:"doc,omitempty"`
}

// SchemaKind is a kind of rules with the variables that it has.
type SchemaKind struct {
	For       string        `json:"for"`
	Doc       string        `json:"doc"`
	Variables []SchemaField `json:"variables,omitempty"`
}

// Schema is all that conditions can name.
type Schema struct {
	Kinds     []SchemaKind  `json:"kinds"`
	Common    []SchemaField `json:"common"` // variables that all have
	Types     []SchemaType  `json:"types"`
	Functions []SchemaField `json:"functions"`
}

// Describe returns the schema, for people and for editors.
func Describe() Schema {
	s := condition.NewSchema()
	var out Schema
	fields := func(all []condition.Variable) []SchemaField {
		var out []SchemaField
		for _, v := range all {
			out = append(out, SchemaField{v.Name, v.Type, v.Doc})
		}
		return out
	}
	for _, k := range s.Kinds {
		out.Kinds = append(out.Kinds, SchemaKind{k.Name, k.Doc, fields(k.Variables)})
	}
	out.Common = fields(condition.Common())
	for _, t := range s.Structs {
		one := SchemaType{Name: t.Name, Doc: t.Doc}
		for _, f := range t.Fields {
			one.Fields = append(one.Fields, SchemaField{f.Name, f.Type, f.Doc})
		}
		out.Types = append(out.Types, one)
	}
	for _, f := range condition.Functions() {
		out.Functions = append(out.Functions, SchemaField{Name: f.Usage, Doc: f.Doc})
	}
	return out
}

// WriteSchema writes the schema as a page.
func WriteSchema(w io.Writer) error {
	var b strings.Builder
	s := Describe()
	b.WriteString("## What a rule is for\n\nA rule is asked once for each of what it is `for`, and its condition has these variables:\n\n| for | asked for | variables |\n|---|---|---|\n")
	for _, k := range s.Kinds {
		var vars []string
		for _, v := range k.Variables {
			vars = append(vars, "`"+v.Name+"` ("+v.Type+")")
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", k.For, k.Doc, strings.Join(vars, ", "))
	}
	b.WriteString("\nEvery condition has these, too:\n\n| variable | type | what it is |\n|---|---|---|\n")
	for _, v := range s.Common {
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", v.Name, v.Type, v.Doc)
	}
	for _, t := range s.Types {
		fmt.Fprintf(&b, "\n### %s\n\n%s\n\n| field | type | what it is |\n|---|---|---|\n", t.Name, t.Doc)
		for _, f := range t.Fields {
			fmt.Fprintf(&b, "| `%s` | %s | %s |\n", f.Name, f.Type, f.Doc)
		}
	}
	b.WriteString("\n### Functions\n\nBesides those of CEL (`startsWith`, `endsWith`, `contains`, `matches`, `size`, `exists`, `all`, `filter`, `map`, `in`, `lowerAscii`, `split` …) there are:\n\n| function | what it gives |\n|---|---|\n")
	for _, f := range s.Functions {
		fmt.Fprintf(&b, "| `%s` | %s |\n", strings.ReplaceAll(f.Name, "|", "\\|"), f.Doc)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// WriteRules writes the built-in rules as a page.
func WriteRules(w io.Writer) error {
	all, err := Builtins()
	if err != nil {
		return err
	}
	var b strings.Builder
	topic := ""
	for _, r := range all {
		if r.Topic != topic {
			topic = r.Topic
			fmt.Fprintf(&b, "\n## %s\n", strings.ToUpper(topic[:1])+topic[1:])
		}
		fmt.Fprintf(&b, "\n### %s\n\n%s (%s). %s\n\nFor: %s. Actions: %s. If something is not known: %s.\n\n```\n%s\n```\n", r.ID, r.Title, r.Severity, r.Why, r.For, join(r.Actions), r.Unknown, r.Deny)
		if len(r.Parameters) > 0 {
			b.WriteString("\n| parameter | type | if it isn't set | what it is |\n|---|---|---|---|\n")
		}
		for _, p := range r.Parameters {
			preset := "must be set"
			if !p.Required {
				preset = "`" + policy.Show(p.Default) + "`"
			}
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", p.Name, p.Type, preset, p.Doc)
		}
	}
	_, err = io.WriteString(w, b.String())
	return err
}

func join[T ~string](all []T) string {
	out := make([]string, len(all))
	for i, a := range all {
		out[i] = string(a)
	}
	return strings.Join(out, ", ")
}
