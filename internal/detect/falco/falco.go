// Package falco makes rules of detection of Falco's rules files, as far as what they
// ask for is known here, and says of each rule what is not:
// https://falco.org/docs/reference/rules/.
//
// What a rule asks for and events can't tell is never guessed. A rule whose condition
// needs it is left out. Where only one of several alternatives needs it, that is left
// out, and the rule is narrower; where an exception does, the rule is wider. Both are
// said.
package falco

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/castellan-security/castellan/internal/detect/rule"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/threat"
	"github.com/castellan-security/castellan/internal/written"
)

// Bounds of a file.
const (
	MaxFile  = 2 << 20 // bytes
	maxItems = 5_000
)

// Outcome is what became of one rule.
type Outcome struct {
	Rule string `json:"rule"` // its name in the file
	ID   string `json:"id,omitempty"`
	// Taken says that it is in the document. Notes say what differs, or why it is not.
	Taken bool     `json:"taken"`
	Notes []string `json:"notes,omitempty"`
}

// item is one item of a file: a list, a macro or a rule.
type item struct {
	Rule      string   `yaml:"rule"`
	Macro     string   `yaml:"macro"`
	List      string   `yaml:"list"`
	Condition string   `yaml:"condition"`
	Items     []any    `yaml:"items"`
	Desc      string   `yaml:"desc"`
	Priority  string   `yaml:"priority"`
	Source    string   `yaml:"source"`
	Tags      []string `yaml:"tags"`
	Enabled   *bool    `yaml:"enabled"`
	Append    bool     `yaml:"append"`
	// Override says of each key whether it is appended to what was there before, or
	// stands in its place; what it does not name stays.
	Override   map[string]string `yaml:"override"`
	Exceptions []exception       `yaml:"exceptions"`
}

type exception struct {
	Name   string `yaml:"name"`
	Fields any    `yaml:"fields"`
	Comps  any    `yaml:"comps"`
	Values []any  `yaml:"values"`
}

// file is what a file says, by name.
type file struct {
	lists  map[string][]string
	macros map[string]string
	rules  []*item
}

// Convert makes a document of the rules of a file, which is empty when it can take
// none, and says what became of each. The error says why the file as a whole can't be
// read.
func Convert(b []byte) (document []byte, outcomes []Outcome, err error) {
	f, err := read(b)
	if err != nil {
		return nil, nil, err
	}
	taken, used := []*made{}, map[string]bool{}
	for _, r := range f.rules {
		m, notes := f.convert(r)
		o := Outcome{Rule: r.Rule, Notes: notes}
		if m != nil {
			m.ID = unlike(m.ID, used)
			if err := sound(m); err != nil {
				m, o.Notes = nil, append(o.Notes, err.Error())
			}
		}
		if m != nil {
			o.ID, o.Taken = m.ID, true
			taken = append(taken, m)
		}
		outcomes = append(outcomes, o)
	}
	if len(taken) == 0 {
		return nil, outcomes, nil
	}
	document, err = write(taken)
	return document, outcomes, err
}

func write(rules []*made) ([]byte, error) {
	var out bytes.Buffer
	e := yaml.NewEncoder(&out)
	e.SetIndent(2)
	err := e.Encode(struct {
		Theme string  `yaml:"theme"`
		Rules []*made `yaml:"rules"`
	}{"falco", rules})
	return out.Bytes(), errors.Join(err, e.Close())
}

// sound says what is wrong with a rule that was made.
func sound(m *made) error {
	b, err := write([]*made{m})
	if err != nil {
		return err
	}
	d, err := rule.Read(m.ID, b, threat.Written)
	if err == nil {
		_, err = rule.Compile([]*rule.Document{d}, nil, nil, true)
	}
	if problems := written.ProblemsOf(err); len(problems) > 0 {
		return fmt.Errorf("what it asks for can't be said here: %s", problems[0].Text)
	}
	return err
}

// read reads a file, with what later items append to earlier ones.
func read(b []byte) (*file, error) {
	if len(b) > MaxFile {
		return nil, fault.New(fault.Invalid, "a file of %d bytes: at most %d are read", len(b), MaxFile)
	}
	var items []item
	for d := yaml.NewDecoder(bytes.NewReader(b)); ; {
		var more []item
		err := d.Decode(&more)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fault.New(fault.Invalid, "no rules file of Falco: %w", err).With("it is a list of rules, macros and lists in YAML")
		}
		if items = append(items, more...); len(items) > maxItems {
			return nil, fault.New(fault.Invalid, "more than %d items", maxItems)
		}
	}
	f := &file{lists: map[string][]string{}, macros: map[string]string{}}
	for i := range items {
		f.add(&items[i])
	}
	if len(f.rules) == 0 {
		return nil, fault.New(fault.Invalid, "the file has no rules")
	}
	return f, nil
}

func (f *file) add(x *item) {
	more := func(key string) bool { return x.Append || x.Override[key] == "append" }
	switch {
	case x.List != "":
		if !more("items") {
			f.lists[x.List] = nil
		}
		for _, v := range x.Items {
			f.lists[x.List] = append(f.lists[x.List], unquoted(fmt.Sprint(v)))
		}
	case x.Macro != "":
		if more("condition") {
			x.Condition = f.macros[x.Macro] + " " + x.Condition
		}
		f.macros[x.Macro] = x.Condition
	case x.Rule != "":
		i := slices.IndexFunc(f.rules, func(o *item) bool { return o.Rule == x.Rule })
		switch {
		case i < 0:
			f.rules = append(f.rules, x)
		case x.Append, len(x.Override) > 0, x.Condition == "": // an overlay
			f.rules[i].overlay(x, more)
		default:
			f.rules[i] = x
		}
	}
}

// overlay changes a rule by a later item of its name.
func (r *item) overlay(x *item, more func(key string) bool) {
	join := func(to *string, key, what string) {
		switch {
		case what == "":
		case more(key):
			*to += " " + what
		default:
			*to = what
		}
	}
	join(&r.Condition, "condition", x.Condition)
	join(&r.Desc, "desc", x.Desc)
	if x.Priority != "" {
		r.Priority = x.Priority
	}
	if x.Enabled != nil {
		r.Enabled = x.Enabled
	}
	if x.Tags != nil && !more("tags") {
		r.Tags = nil
	}
	r.Tags = append(r.Tags, x.Tags...)
	if x.Exceptions != nil && !more("exceptions") {
		r.Exceptions = nil
	}
	r.Exceptions = append(r.Exceptions, x.Exceptions...)
}

// unquoted is an item of a list without quotes of its own, by which Falco knows where
// it ends.
func unquoted(s string) string {
	if len(s) >= 2 && (s[0] == '"' || s[0] == '\'') && s[len(s)-1] == s[0] {
		s = strings.ReplaceAll(s[1:len(s)-1], `\"`, `"`)
	}
	return s
}

var notInID = regexp.MustCompile(`[^a-z0-9]+`)

// unlike returns an id of a rule that no other has.
func unlike(id string, used map[string]bool) string {
	out := id
	for n := 2; used[out]; n++ {
		tail := fmt.Sprintf("-%d", n)
		out = strings.TrimRight(id[:min(len(id), threat.MaxRuleID-len(tail))], "-") + tail
	}
	used[out] = true
	return out
}

func idOf(name string) string {
	id := "falco-" + strings.Trim(notInID.ReplaceAllString(strings.ToLower(name), "-"), "-")
	return strings.TrimRight(id[:min(len(id), threat.MaxRuleID)], "-")
}
