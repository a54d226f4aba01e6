package rule

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"go.yaml.in/yaml/v3"
)

// paramTypes are those that a parameter can have.
func paramTypes() []string {
	return []string{"string", "int", "double", "bool", "duration", "list(string)"}
}

// param reads a parameter: its type, its value, and what it is.
func (r *reader) param(name string, k, v *yaml.Node, onlyList bool) *param {
	p := &param{node: v}
	if p.Name = r.id(k, "a parameter"); strings.Contains(p.Name, "-") {
		r.Wrong(k, "conditions would read a hyphen as minus", "a parameter can't be called %s", name)
	}
	var value *yaml.Node
	r.Fields(v, "parameter "+name, map[string]func(*yaml.Node){
		"type":    func(n *yaml.Node) { p.Type = word(r, n, "the type of a parameter", paramTypes()...) },
		"value":   func(n *yaml.Node) { value = n },
		"meaning": func(n *yaml.Node) { p.Meaning = strings.Join(strings.Fields(r.text(n, "meaning")), " ") },
	})
	if onlyList && p.Type == "" {
		p.Type = "list(string)"
	}
	switch {
	case value == nil:
		r.Wrong(v, "", "parameter %s lacks value", name)
	case p.Type == "":
		r.Wrong(v, "write one of "+strings.Join(paramTypes(), ", "), "parameter %s lacks type", name)
	default:
		p.value = r.value(p.Type, value, name)
		p.Default = asWritten(p.value)
		p.Value = p.Default
	}
	return p
}

// value reads a value of a type.
func (r *reader) value(typ string, n *yaml.Node, what string) any {
	switch typ {
	case "int":
		return r.whole(n, what, -1<<53, 1<<53)
	case "double":
		f, err := strconv.ParseFloat(n.Value, 64)
		if n.Kind != yaml.ScalarNode || err != nil || f != f {
			r.Wrong(n, "", "%s is no number", what)
		}
		return f
	case "bool":
		return r.Bool(n, what)
	case "duration":
		return r.span(n, what, 366*24*time.Hour)
	case "list(string)":
		if n.Kind == yaml.SequenceNode && len(n.Content) == 0 {
			return []string{}
		}
		return r.texts(n, what)
	}
	return r.text(n, what)
}

// asWritten is a value as it is written in YAML, on one line.
func asWritten(v any) string {
	if l, ok := v.([]string); ok {
		return "[" + strings.Join(l, ", ") + "]"
	}
	return fmt.Sprint(v)
}

// constant is a value as CEL has it.
func constant(v any) ref.Val {
	switch v := v.(type) {
	case int64:
		return types.Int(v)
	case float64:
		return types.Double(v)
	case bool:
		return types.Bool(v)
	case time.Duration:
		return types.Duration{Duration: v}
	case []string:
		return types.NewStringList(types.DefaultTypeAdapter, v)
	}
	s, _ := v.(string)
	return types.String(s)
}

// set gives a parameter another value, or with add more of what it has.
func (r *reader) set(p *param, n *yaml.Node, add bool) {
	v := r.value(p.Type, n, p.Name)
	if add {
		have, ok := p.value.([]string)
		more, _ := v.([]string)
		if !ok {
			r.Wrong(n, "set it below params", "%s is no list that something can be added to", p.Name)
			return
		}
		v = append(append([]string{}, have...), more...)
	}
	p.value, p.Value = v, asWritten(v)
}
