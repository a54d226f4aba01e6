package policy

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"go.yaml.in/yaml/v3"

	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/admit/condition"
	"github.com/castellan-security/castellan/internal/admit/library"
	"github.com/castellan-security/castellan/internal/finding"
)

// Parameter is a parameter of a built-in rule.
type Parameter struct {
	Name     string `json:"name"`
	Type     string `json:"type"`
	Doc      string `json:"doc"`
	Default  any    `json:"default,omitempty"`
	Required bool   `json:"required,omitempty"`
	Example  string `json:"example,omitempty"` // where it is required
}

// Builtin is a built-in rule, for people.
type Builtin struct {
	ID         string             `json:"id"`
	Topic      string             `json:"topic"`
	Title      string             `json:"title"`
	Severity   finding.Severity   `json:"severity"`
	Why        string             `json:"why"`
	For        string             `json:"for"`
	Actions    []admission.Action `json:"actions"`
	Doors      []admission.Door   `json:"doors,omitempty"`
	Deny       string             `json:"deny"`
	Message    string             `json:"message"`
	Remedy     string             `json:"remedy"`
	Unknown    OnUnknown          `json:"unknown"`
	Parameters []Parameter        `json:"parameters,omitempty"`
}

// builtin is a built-in rule as it is used.
type builtin struct {
	draft
	topic string
	text  string // all that decides
	order []string
}

// builtins returns the library. It is written in the words of policies, so that
// whoever wants a rule of their own can begin with one of its rules.
//
// It is the same for all policies and read once.
var builtins = sync.OnceValues(func() (map[string]*builtin, error) {
	all, err := readLibrary()
	if err != nil {
		return nil, err
	}
	out := map[string]*builtin{}
	for _, b := range all {
		if out[b.ID] != nil {
			return nil, fmt.Errorf("the library has the rule %s twice", b.ID)
		}
		out[b.ID] = b
	}
	return out, nil
})

func readLibrary() ([]*builtin, error) {
	var out []*builtin
	for _, f := range library.Files() {
		r := &policyReader{reader: newReader(f.Name), p: &Policy{Schema: condition.NewSchema()}}
		n := r.document(f.Text)
		if n != nil {
			r.Some(n, "the library", MaxRules, func(n *yaml.Node) {
				if b := r.builtin(n); b != nil {
					b.topic = strings.TrimSuffix(f.Name, ".yaml")
					out = append(out, b)
				}
			})
		}
		if len(r.Problems) > 0 {
			return nil, fmt.Errorf("the library of rules: %w", r.Problems)
		}
	}
	return out, nil
}

func (r *policyReader) builtin(n *yaml.Node) *builtin {
	b := &builtin{draft: draft{Rule: Rule{At: at(n), Unknown: UnknownDenies, Mode: Enforce, Actions: []admission.Action{admission.Run, admission.Register}}, params: map[string]Parameter{}}}
	known := r.ruleFields(&b.draft, n)
	known["parameters"] = func(n *yaml.Node) {
		r.Named(n, "parameters", MaxParams, func(name string, _, v *yaml.Node) {
			b.params[name] = r.parameter(name, v)
			b.order = append(b.order, name)
		})
	}
	if !r.Fields(n, "a rule", known) {
		return nil
	}
	text, err := yaml.Marshal(n)
	if err != nil {
		r.Wrong(n, "", "%v", err)
	}
	b.text = string(text)
	// Its texts have no place in a policy's document.
	b.deny.node, b.message.node, b.remedy.node = nil, nil, nil
	return b
}

func (r *policyReader) parameter(name string, n *yaml.Node) Parameter {
	p := Parameter{Name: name, Required: true}
	var value *yaml.Node
	r.Fields(n, name, map[string]func(*yaml.Node){
		"type":    func(n *yaml.Node) { p.Type, _ = r.short(n, "type") },
		"doc":     func(n *yaml.Node) { p.Doc, _ = r.short(n, "doc") },
		"example": func(n *yaml.Node) { p.Example, _ = r.short(n, "example") },
		"default": func(n *yaml.Node) { value, p.Required = n, false },
	})
	if value != nil {
		if p.Type == "string" && value.Value == "" && value.Kind == yaml.ScalarNode {
			p.Default = ""
		} else {
			p.Default = r.value(value, name, p.Type)
		}
	}
	return p
}

// Builtins lists the built-in rules.
func Builtins() ([]Builtin, error) {
	all, err := readLibrary()
	if err != nil {
		return nil, err
	}
	out := make([]Builtin, 0, len(all))
	for _, b := range all {
		o := Builtin{
			ID: b.ID, Topic: b.topic, Title: b.Title, Severity: b.Severity, Why: b.Why, For: b.kind, Actions: b.Actions, Doors: b.Doors,
			Deny: strings.TrimSpace(b.deny.text), Message: b.message.text, Remedy: b.remedy.text, Unknown: b.Unknown,
		}
		for _, name := range b.order {
			o.Parameters = append(o.Parameters, b.params[name])
		}
		out = append(out, o)
	}
	slices.SortStableFunc(out, func(a, b Builtin) int { return strings.Compare(a.Topic, b.Topic) })
	return out, nil
}
