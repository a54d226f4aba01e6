package falco

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/threat"
)

// made is a rule as a document has it.
type made struct {
	ID          string       `yaml:"id"`
	Title       string       `yaml:"title"`
	Severity    string       `yaml:"severity"`
	Tactic      string       `yaml:"tactic"`
	Techniques  []string     `yaml:"techniques,omitempty"`
	Meaning     string       `yaml:"meaning"`
	FalseAlarms string       `yaml:"false_alarms,omitempty"`
	On          []event.Kind `yaml:"on"`
	When        string       `yaml:"when,omitempty"`
	Says        string       `yaml:"says"`
	Off         bool         `yaml:"off,omitempty"`
}

const (
	maxTitle   = 100
	maxMeaning = 500
)

// severities are Falco's priorities, of syslog, as severities.
var severities = map[string]string{
	"EMERGENCY": "critical", "ALERT": "critical", "CRITICAL": "critical", "ERROR": "high", "WARNING": "medium", "NOTICE": "low",
	"INFO": "negligible", "INFORMATIONAL": "negligible", "DEBUG": "negligible",
}

var technique = regexp.MustCompile(`^T[0-9]{4}(\.[0-9]{3})?$`)

// convert makes a rule, or says why it can't; the notes say what differs, too.
func (f *file) convert(r *item) (*made, []string) {
	if r.Source != "" && r.Source != "syscall" {
		return nil, []string{"it is of the source " + r.Source + ", which is not system calls"}
	}
	tree, err := f.tree(r)
	if err != nil {
		return nil, []string{err.Error()}
	}
	kinds, any := kindsOf(tree, false)
	switch {
	case any:
		return nil, []string{"it is for events of every type: name some with evt.type"}
	case len(kinds) == 0:
		return nil, []string{"no sensor tells of the types of event that it is for"}
	}
	t := &translation{kinds: kinds}
	when := t.of(tree, false)
	if when.unknown != "" {
		return nil, []string{when.unknown}
	}
	if when.never {
		return nil, []string{"its condition never holds for what sensors tell"}
	}
	if slices.Contains(kinds, event.KindFileRead) {
		t.note("opening for reading is told of sensitive files alone")
	}
	m := &made{
		ID: idOf(r.Rule), Title: cut(oneLine(r.Rule), maxTitle), Severity: severities[strings.ToUpper(r.Priority)], Tactic: string(threat.Execution),
		Meaning: cut(oneLine(r.Desc), maxMeaning), FalseAlarms: "It was made of a rule of Falco: what that says of false alarms holds here.",
		On: kinds, When: when.cel, Says: saying(kinds), Off: r.Enabled != nil && !*r.Enabled,
	}
	if m.Severity == "" {
		m.Severity = "medium"
		t.note("its priority " + r.Priority + " is none that is known: medium")
	}
	if m.Meaning == "" {
		m.Meaning = m.Title
	}
	if !m.classify(r.Tags) {
		t.note("its tags name no tactic of ATT&CK: execution")
	}
	return m, t.notes
}

// classify takes tactic and techniques from tags.
func (m *made) classify(tags []string) (found bool) {
	for _, tag := range tags {
		name := strings.ReplaceAll(strings.TrimPrefix(tag, "mitre_"), "_", "-")
		if !found && strings.HasPrefix(tag, "mitre_") && slices.Contains(threat.Tactics(), threat.Tactic(name)) {
			m.Tactic, found = name, true
		}
		if technique.MatchString(tag) && len(m.Techniques) < 8 {
			m.Techniques = append(m.Techniques, tag)
		}
	}
	return found
}

func saying(kinds []event.Kind) string {
	switch {
	case all(kinds, "file."):
		return "{process.line}: {file.target}"
	case all(kinds, "network."):
		return "{process.line}: {connection.remote} {connection.name}"
	case all(kinds, "privilege."):
		return "{process.line}: {privilege.call} {privilege.target}"
	}
	return "{process.line}"
}

// all says that all kinds are of one sensor.
func all(kinds []event.Kind, sensor string) bool {
	return !slices.ContainsFunc(kinds, func(k event.Kind) bool { return !strings.HasPrefix(string(k), sensor) })
}

func oneLine(s string) string { return strings.TrimRight(strings.Join(strings.Fields(s), " "), ".") }

func cut(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "")
}

// tree returns a rule's condition and its exceptions, with macros and lists put in.
func (f *file) tree(r *item) (*node, error) {
	if strings.TrimSpace(r.Condition) == "" {
		return nil, fmt.Errorf("it has no condition")
	}
	root, err := parse(r.Condition)
	if err != nil {
		return nil, err
	}
	out := &node{op: "and", kids: []*node{root}}
	for i := range r.Exceptions {
		out.kids = append(out.kids, exceptions(&r.Exceptions[i])...)
	}
	left := maxNodes
	return f.expand(out, 0, &left)
}

// exceptions are what a rule does not fire for, one part for each value.
func exceptions(x *exception) (out []*node) {
	fields, single := texts(x.Fields)
	comps, _ := texts(x.Comps)
	if single {
		cmp := "in"
		if len(comps) > 0 {
			cmp = comps[0]
		}
		if len(fields) == 0 || len(x.Values) == 0 {
			return nil
		}
		values, _ := texts(x.Values)
		return []*node{{op: "not", kids: []*node{{field: fields[0], cmp: cmp, values: values}}}}
	}
	for _, v := range x.Values {
		row, ok := v.([]any)
		if !ok || len(row) != len(fields) {
			continue
		}
		one := &node{op: "and"}
		for i, field := range fields {
			leaf := &node{field: field, cmp: "="}
			if i < len(comps) {
				leaf.cmp = comps[i]
			}
			leaf.values, _ = texts(row[i])
			one.kids = append(one.kids, leaf)
		}
		out = append(out, &node{op: "not", kids: []*node{one}})
	}
	return out
}

// texts are the texts of a value that may be one or several.
func texts(v any) (out []string, single bool) {
	switch v := v.(type) {
	case nil:
		return nil, false
	case []any:
		for _, x := range v {
			out = append(out, fmt.Sprint(x))
		}
		return out, false
	}
	return []string{fmt.Sprint(v)}, true
}

// expand puts macros and lists in.
func (f *file) expand(n *node, depth int, left *int) (*node, error) {
	if *left--; *left < 0 || depth > maxDepth {
		return nil, fmt.Errorf("its condition is too large, or its macros name each other")
	}
	switch n.op {
	case "macro":
		text, ok := f.macros[n.field]
		if !ok {
			return n, nil // it stays unknown
		}
		inner, err := parse(text)
		if err != nil {
			return nil, fmt.Errorf("macro %s: %w", n.field, err)
		}
		return f.expand(inner, depth+1, left)
	case "":
		var values []string
		for _, v := range n.values {
			values = f.items(values, v, 0)
		}
		if len(values) > maxItems {
			return nil, fmt.Errorf("%s is held against more than %d values", n.field, maxItems)
		}
		return &node{field: n.field, cmp: n.cmp, values: values, via: n.via, against: n.against}, nil
	}
	out := &node{op: n.op}
	for _, k := range n.kids {
		kid, err := f.expand(k, depth+1, left)
		if err != nil {
			return nil, err
		}
		out.kids = append(out.kids, kid)
	}
	return out, nil
}

// items appends a value, or those of the list of that name.
func (f *file) items(out []string, value string, depth int) []string {
	list, ok := f.lists[value]
	if !ok || depth > maxDepth || len(out) > maxItems {
		return append(out, value)
	}
	for _, v := range list {
		if v == value {
			continue
		}
		out = f.items(out, v, depth+1)
	}
	return out
}

// kindsOf are the kinds of event for which a condition can hold; any where it says
// nothing of that.
func kindsOf(n *node, not bool) (kinds []event.Kind, any bool) {
	switch n.op {
	case "not":
		return kindsOf(n.kids[0], !not)
	case "":
		if not {
			return nil, true
		}
		return typesOf(n)
	case "macro":
		return nil, true
	}
	any = true
	join := (n.op == "or") != not
	for i, k := range n.kids {
		more, free := kindsOf(k, not)
		switch {
		case join && free:
			return nil, true
		case join && i == 0 || !join && any && !free:
			kinds, any = more, false
		case join:
			kinds = append(kinds, more...)
		case !free:
			kinds = slices.DeleteFunc(slices.Clone(kinds), func(k event.Kind) bool { return !slices.Contains(more, k) })
		}
	}
	slices.Sort(kinds)
	return slices.Compact(kinds), any
}
