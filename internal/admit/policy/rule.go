package policy

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/admit/condition"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/written"
)

// draft is a rule while it is read: its texts are compiled when all of it is
// known.
type draft struct {
	Rule
	kind                  string
	deny, message, remedy source
	params                map[string]Parameter
	set                   map[string]*yaml.Node // "with"
	atMost                bool
}

// source is an expression or a text, and where it stands: nowhere if it is of a
// built-in rule.
type source struct {
	text string
	node *yaml.Node
}

// rules reads all rules.
func (r *policyReader) rules(n *yaml.Node) {
	var err error
	if r.compiler, err = condition.NewCompiler(r.p.Schema); err != nil {
		r.Wrong(n, "", "%v", err)
		return
	}
	if r.builtins, err = builtins(); err != nil {
		r.Wrong(n, "", "%v", err)
		return
	}
	r.ids = map[string]int{}
	r.Some(n, "rules", MaxRules, func(n *yaml.Node) {
		d := &draft{Rule: Rule{At: at(n), Unknown: UnknownDenies, Mode: Enforce, Actions: []admission.Action{admission.Run, admission.Register}}}
		if !r.base(d, n) || !r.Fields(n, "a rule", r.ruleFields(d, n)) {
			return
		}
		line := r.ids[d.ID]
		switch {
		case !written.IsName(d.ID):
			r.WrongAt(d.At, "id: no-debug-images, for a rule of your own; use: ID, for one that there is", "the rule has no id of letters, digits and . _ -")
			return
		case line > 0:
			r.WrongAt(d.At, "give one of both another id: id: ", "line %d has a rule %s already", line, d.ID)
			return
		}
		r.ids[d.ID] = d.At.Line
		if r.finish(d) {
			r.p.Rules = append(r.p.Rules, &d.Rule)
		}
	})
}

// base begins with the built-in rule that is used, if one is.
func (r *policyReader) base(d *draft, n *yaml.Node) bool {
	use := child(n, "use")
	if use == nil {
		return true
	}
	b := r.builtins[use.Value]
	if b == nil {
		names := slices.Sorted(maps.Keys(r.builtins))
		r.Wrong(use, "castellan admit rules lists them", "there is no built-in rule %q%s", use.Value, condition.Nearest(use.Value, names))
		return false
	}
	from := d.At
	*d = b.draft
	d.At, d.Use, d.set = from, use.Value, nil
	return true
}

// child returns the value of a field of a map.
func child(n *yaml.Node, name string) *yaml.Node {
	if n.Kind == yaml.MappingNode {
		for i := 0; i+1 < len(n.Content); i += 2 {
			if n.Content[i].Value == name {
				return n.Content[i+1]
			}
		}
	}
	return nil
}

func (r *policyReader) ruleFields(d *draft, n *yaml.Node) map[string]func(*yaml.Node) {
	text := func(name string, to *string) func(*yaml.Node) {
		return func(n *yaml.Node) { *to, _ = r.short(n, name) }
	}
	code := func(name string, to *source) func(*yaml.Node) {
		return func(n *yaml.Node) {
			if s, ok := r.Text(n, name); ok {
				*to = source{s, n}
			}
		}
	}
	known := map[string]func(*yaml.Node){
		"id": text("id", &d.ID), "title": text("title", &d.Title), "why": text("why", &d.Why),
		"severity": func(n *yaml.Node) { d.Severity = r.severity(n) },
		"mode":     func(n *yaml.Node) { d.Mode, _ = written.Word(&r.Reader, n, "mode", Audit, Enforce, Off) },
		"actions":  func(n *yaml.Node) { d.Actions = words(&r.reader, n, "an action", admission.Actions()) },
		"doors":    func(n *yaml.Node) { d.Doors = words(&r.reader, n, "a door", admission.Doors()) },
		"message":  code("message", &d.message), "remedy": code("remedy", &d.remedy),
		"unknown": func(n *yaml.Node) {
			d.Unknown, _ = written.Word(&r.Reader, n, "unknown", UnknownDenies, UnknownWaits, UnknownWarns)
		},
		"atMost": func(n *yaml.Node) {
			d.AtMost, d.atMost = int(min(r.whole(n, "atMost"), 1_000_000)), true
		},
		"with": func(n *yaml.Node) {
			d.set = map[string]*yaml.Node{}
			r.Named(n, "with", MaxParams, func(name string, _, v *yaml.Node) { d.set[name] = v })
		},
	}
	if child(n, "use") != nil {
		known["use"] = func(*yaml.Node) {}
		return known
	}
	known["for"] = func(n *yaml.Node) {
		var names []string
		for _, k := range r.p.Schema.Kinds {
			names = append(names, k.Name)
		}
		d.kind, _ = written.Word(&r.Reader, n, "for", names...)
	}
	known["deny"] = code("deny", &d.deny)
	return known
}

func words[T ~string](r *reader, n *yaml.Node, what string, all []T) []T {
	var out []T
	r.Some(n, what+"s", len(all), func(n *yaml.Node) {
		if w, ok := written.Word(&r.Reader, n, what, all...); ok && !slices.Contains(out, w) {
			out = append(out, w)
		}
	})
	return out
}

func (r *reader) severity(n *yaml.Node) finding.Severity {
	s, err := finding.ParseSeverity(n.Value)
	if n.Kind != yaml.ScalarNode || err != nil || s == finding.Unknown {
		r.Wrong(n, "write negligible, low, medium, high or critical", "%q is no severity", n.Value)
	}
	return s
}

// finish compiles a rule.
func (r *policyReader) finish(d *draft) bool {
	switch {
	case d.kind == "":
		r.WrongAt(d.At, "for: container asks for each container, for: image for each image, for: request once; castellan admit schema lists all", "the rule %s doesn't say what it is for", d.ID)
		return false
	case d.deny.text == "":
		r.WrongAt(d.At, "deny: a condition that is true for what shall be refused", "the rule %s has no deny", d.ID)
		return false
	case d.message.text == "":
		r.WrongAt(d.At, "message: one sentence that says what is wrong; {container.name} and the like stand for values", "the rule %s has no message", d.ID)
		return false
	case d.Title == "":
		d.Title = d.ID
	}
	if d.Severity == finding.Unknown {
		d.Severity = finding.Medium
	}
	d.For = r.p.Schema.Kind(d.kind)
	before := len(r.Problems)
	r.parameters(d)
	if len(r.Problems) > before {
		return false
	}
	var err error
	if d.Deny, err = r.compiler.Condition(d.For, d.Params, d.deny.text); err != nil {
		r.complain(d, d.deny, "deny", err)
	}
	if d.Message, err = r.compiler.Template(d.For, d.Params, d.message.text); err != nil {
		r.complain(d, d.message, "message", err)
	}
	if d.remedy.text != "" {
		if d.Remedy, err = r.compiler.Template(d.For, d.Params, d.remedy.text); err != nil {
			r.complain(d, d.remedy, "remedy", err)
		}
	}
	return len(r.Problems) == before
}

// complain says where in the document a text is wrong.
func (r *policyReader) complain(d *draft, s source, what string, err error) {
	p, remedy := d.At, ""
	if c := (*condition.Complaint)(nil); errors.As(err, &c) {
		remedy = c.Remedy
		if s.node != nil {
			p = r.Within(s.node, c.Line, c.Column)
		}
	}
	r.WrongAt(p, remedy, "%s of %s: %v", what, d.ID, err)
}

// parameters gives a rule's parameters their values.
func (r *policyReader) parameters(d *draft) {
	d.Params = nil
	names := slices.Sorted(maps.Keys(d.params))
	for _, name := range slices.Sorted(maps.Keys(d.set)) {
		n := d.set[name]
		switch p, ok := d.params[name]; {
		case ok:
			d.Params = append(d.Params, condition.Param{Name: name, Type: p.Type, Value: r.value(n, name, p.Type)})
		case d.Use != "":
			remedy := "it has none"
			if len(names) > 0 {
				remedy = "it has " + strings.Join(names, ", ") + "; castellan admit rules " + d.Use + " says what each is"
			}
			r.Wrong(n, remedy, "the built-in rule %s has no parameter %q%s", d.Use, name, condition.Nearest(name, names))
		case !written.IsName(name) || strings.ContainsAny(name, ".-"):
			r.Wrong(n, "letters, digits and _ only", "%q can't be the name of a parameter", name)
		default:
			typ := typeOf(n)
			d.Params = append(d.Params, condition.Param{Name: name, Type: typ, Value: r.value(n, name, typ)})
		}
	}
	for _, name := range names {
		if d.set[name] == nil {
			p := d.params[name]
			if p.Required {
				r.WrongAt(d.At, fmt.Sprintf("with: {%s: %s}", name, p.Example), "the built-in rule %s needs the parameter %s: %s", d.Use, name, p.Doc)
			}
			d.Params = append(d.Params, condition.Param{Name: name, Type: p.Type, Value: p.Default})
		}
	}
}

// typeOf is the type of a parameter of the policy's own.
func typeOf(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.SequenceNode:
		return "list(string)"
	case n.Tag == "!!bool":
		return "bool"
	case n.Tag == "!!int":
		return "int"
	case n.Tag == "!!float":
		return "double"
	}
	return "string"
}

// value reads a parameter's value.
func (r *reader) value(n *yaml.Node, name, typ string) any {
	switch typ {
	case "bool":
		return r.Bool(n, name)
	case "int":
		return r.whole(n, name)
	case "double":
		return r.fraction(n, name)
	case "duration":
		return r.Span(n, name, 0)
	case "severity":
		return r.severity(n)
	case "list(string)":
		out := []string{}
		if n.Kind == yaml.SequenceNode && len(n.Content) == 0 {
			return out
		}
		r.Some(n, name, MaxItems, func(n *yaml.Node) {
			if s, ok := r.short(n, name); ok {
				out = append(out, s)
			}
		})
		return out
	}
	s, _ := r.short(n, name)
	return s
}

// Show writes a parameter's value as a policy would have it.
func Show(v any) string {
	switch v := v.(type) {
	case []string:
		return "[" + strings.Join(v, ", ") + "]"
	case time.Duration:
		const day = 24 * time.Hour
		if v >= day && v%day == 0 {
			return fmt.Sprintf("%dd", v/day)
		}
		return v.String()
	case string:
		return fmt.Sprintf("%q", v)
	}
	return fmt.Sprint(v)
}
