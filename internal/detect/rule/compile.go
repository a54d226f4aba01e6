package rule

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/ext"
	"go.yaml.in/yaml/v3"

	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/threat"
	"github.com/castellan-security/castellan/internal/written"
)

// Limits of a condition. A person writes it; what it is held against is a stranger's.
const (
	maxExpression = 4096
	maxNesting    = 50
	maxCost       = 20_000 // in CEL's own units, of one that loops: a millisecond
)

// Set is what documents come to.
type Set struct {
	Rules    []*Rule
	Silences []threat.Silence
}

// Compile makes rules of documents: of the built-in ones first, then of those that
// change them. The error is written.Problems. Each call gives rules with a state of
// their own. Code are the rules in Go, which documents may change too; check says what
// is wrong with the parameters of one.
//
// Conditions that came with the program and that nobody changed are compiled when they
// are first asked for, because a host asks for few of them and each takes memory. With
// all they are compiled at once, and what is wrong with them is told.
func Compile(documents []*Document, code []*threat.Rule, check func(*threat.Rule) error, all bool) (*Set, error) {
	c := &compiler{rules: map[string]*spec{}, lists: map[string]*param{}, code: map[string]*threat.Rule{}, check: check, all: all}
	for _, r := range code {
		c.code[r.ID] = r
	}
	var order []*spec
	for _, d := range documents {
		d.reader.Problems = nil
		order = append(order, c.take(d)...)
	}
	for _, d := range documents {
		c.change(d)
	}
	set := &Set{}
	if c.problems(documents) == nil {
		if err := c.prepare(); err != nil {
			return nil, err
		}
		for _, s := range order {
			if r := c.compile(s); r != nil {
				set.Rules = append(set.Rules, r)
			}
		}
	}
	if p := c.problems(documents); p != nil {
		return nil, p
	}
	for _, d := range documents {
		set.Silences = append(set.Silences, d.silenced()...)
	}
	return set, nil
}

type compiler struct {
	base  *cel.Env
	rules map[string]*spec
	lists map[string]*param
	code  map[string]*threat.Rule
	check func(*threat.Rule) error
	of    map[*spec]*reader
	all   bool // conditions are compiled at once
}

func (c *compiler) problems(documents []*Document) error {
	var all written.Problems
	for _, d := range documents {
		all = append(all, d.reader.Problems...)
	}
	if len(all) == 0 {
		return nil
	}
	return all
}

// take takes the rules and lists of a document, as copies that can be changed.
func (c *compiler) take(d *Document) []*spec {
	var out []*spec
	if c.of == nil {
		c.of = map[*spec]*reader{}
	}
	for _, l := range d.lists {
		if c.lists[l.Name] != nil {
			d.reader.Wrong(l.node, "change it below change, with rule: lists", "there is a list %s already", l.Name)
			continue
		}
		own := *l
		c.lists[l.Name] = &own
	}
	for _, s := range d.rules {
		if c.rules[s.ID] != nil || c.code[s.ID] != nil {
			d.reader.Wrong(s.node, "give it another id, or change the other below change", "there is a rule %s already", s.ID)
			continue
		}
		own := *s
		own.params = nil
		for _, p := range s.params {
			param := *p
			own.params = append(own.params, &param)
		}
		c.rules[s.ID], c.of[&own] = &own, d.reader
		out = append(out, &own)
	}
	return out
}

// listsRule is what a change names to change the lists of all rules.
const listsRule = "lists"

func (c *compiler) change(d *Document) {
	for _, ch := range d.changes {
		s := c.rules[ch.rule]
		params := map[string]*param{}
		switch {
		case ch.rule == listsRule:
			params, c.all = c.lists, true // any rule may be of another list now
		case s != nil:
			for _, p := range s.params {
				params[p.Name] = p
			}
			s.changed = s.changed || len(ch.params)+len(ch.add) > 0
			if ch.severity != nil {
				s.Severity = *ch.severity
			}
			if ch.off != nil {
				s.Off = *ch.off
			}
		case c.code[ch.rule] != nil:
			c.changeCode(d.reader, c.code[ch.rule], ch)
			continue
		default:
			d.reader.Wrong(ch.node, "castellan detect rules lists them", "there is no rule %.80q", ch.rule)
			continue
		}
		for i, values := range []map[string]*yaml.Node{ch.params, ch.add} {
			for _, name := range slices.Sorted(maps.Keys(values)) {
				if p := params[name]; p != nil {
					d.reader.set(p, values[name], i == 1)
					continue
				}
				d.reader.Wrong(values[name], "it has "+strings.Join(slices.Sorted(maps.Keys(params)), ", "), "%s has no parameter %.80q", ch.rule, name)
			}
		}
	}
}

// changeCode changes a rule in Go: its parameters are those that it tells.
func (c *compiler) changeCode(r *reader, about *threat.Rule, ch *change) {
	if ch.severity != nil {
		about.Severity = *ch.severity
	}
	if ch.off != nil {
		about.Off = *ch.off
	}
	for i, values := range []map[string]*yaml.Node{ch.params, ch.add} {
		for _, name := range slices.Sorted(maps.Keys(values)) {
			at := slices.IndexFunc(about.Parameters, func(p threat.Parameter) bool { return p.Name == name })
			if at < 0 {
				r.Wrong(values[name], "", "%s has no parameter %.80q", ch.rule, name)
				continue
			}
			p := &param{Parameter: about.Parameters[at]}
			if p.Type == "list(string)" {
				p.value = splitWritten(p.Value)
			}
			problems, before := len(r.Problems), about.Parameters[at]
			r.set(p, values[name], i == 1)
			about.Parameters[at] = p.Parameter
			if len(r.Problems) > problems {
				continue // its type is wrong, which is told
			}
			if err := c.check(about); err != nil {
				r.Wrong(values[name], "", "%v", err)
				about.Parameters[at] = before // so that it is told once
			}
		}
	}
}

// splitWritten is the list that asWritten wrote.
func splitWritten(s string) []string {
	s = strings.TrimSuffix(strings.TrimPrefix(s, "["), "]")
	if s == "" {
		return nil
	}
	return strings.Split(s, ", ")
}

// prepare makes what all expressions are compiled in.
func (c *compiler) prepare() error {
	options := []cel.EnvOption{
		cel.ClearMacros(), cel.Macros(cel.AllMacro, cel.ExistsMacro, cel.ExistsOneMacro, cel.MapMacro, cel.MapFilterMacro, cel.FilterMacro),
		cel.ParserRecursionLimit(maxNesting),
		cel.ParserExpressionSizeLimit(maxExpression),
		ext.Strings(),
	}
	options = append(options, functions()...)
	options = append(options, lineFunctions()...)
	for _, f := range fields {
		options = append(options, cel.Variable(f.Name, celType(f.Type)))
	}
	for _, name := range slices.Sorted(maps.Keys(c.lists)) {
		options = append(options, cel.Constant("lists."+name, celType("list(string)"), constant(c.lists[name].value)))
	}
	env, err := cel.NewEnv(options...)
	if err != nil {
		return fmt.Errorf("prepare conditions: %w", err)
	}
	c.base = env
	return nil
}

// compile makes a rule of how it is written; nil where something is wrong with it.
func (c *compiler) compile(s *spec) *Rule {
	r := c.of[s]
	before := len(r.Problems)
	w := &compiling{compiler: c, reader: r, spec: s, names: &names{base: c.base, params: s.params}}
	out := &Rule{about: s.Rule}
	for _, p := range s.params {
		out.about.Parameters = append(out.about.Parameters, p.Parameter)
	}
	out.says, out.names = w.template(), w.fields(s.about, "about")
	if s.state.form == "sequence" {
		for i := range s.state.steps {
			out.matchers = append(out.matchers, w.matcher(&s.state.steps[i]))
		}
	} else {
		out.matchers = []matcher{w.matcher(&s.alone)}
	}
	out.state = w.state(&s.state)
	for i := range out.matchers {
		if s.state.form != "" {
			w.scope(&s.state, out.matchers[i].kinds)
		}
		for _, k := range out.matchers[i].kinds {
			if !slices.Contains(out.about.Kinds, k) {
				out.about.Kinds = append(out.about.Kinds, k)
			}
		}
	}
	if len(r.Problems) > before {
		return nil
	}
	return out
}

// compiling compiles one rule.
type compiling struct {
	*compiler
	reader *reader
	spec   *spec
	names  *names
}

// named returns the value of a parameter or list that is named instead of a value.
func (w *compiling) named(n *yaml.Node) (*param, bool) {
	if n.Kind != yaml.ScalarNode {
		return nil, false
	}
	if name, ok := strings.CutPrefix(n.Value, "params."); ok {
		for _, p := range w.spec.params {
			if p.Name == name {
				return p, true
			}
		}
		w.reader.Wrong(n, "", "rule %s has no parameter %.80q", w.spec.ID, name)
		return nil, true
	}
	if name, ok := strings.CutPrefix(n.Value, "lists."); ok {
		if p := w.lists[name]; p != nil {
			return p, true
		}
		w.reader.Wrong(n, "", "there is no list %.80q", name)
		return nil, true
	}
	return nil, false
}

func (w *compiling) strings(n *yaml.Node, what string) []string {
	var out []string
	w.reader.List(n, what, maxItems, func(n *yaml.Node) {
		p, named := w.named(n)
		switch {
		case named && p != nil:
			l, ok := p.value.([]string)
			if !ok {
				w.reader.Wrong(n, "", "%s is no list", p.Name)
			}
			out = append(out, l...)
		case !named:
			out = append(out, w.reader.text(n, what))
		}
	})
	return out
}

func (w *compiling) span(n *yaml.Node, what string) time.Duration {
	if p, named := w.named(n); named {
		if p == nil {
			return maxWithin
		}
		d, ok := p.value.(time.Duration)
		if !ok || d <= 0 || d > maxWithin {
			w.reader.Wrong(n, "", "%s is no length of time up to %s", p.Name, maxWithin)
			return maxWithin
		}
		return d
	}
	return w.reader.span(n, what, maxWithin)
}

func (w *compiling) number(n *yaml.Node, what string, most int64) int64 {
	if p, named := w.named(n); named {
		if p == nil {
			return 1
		}
		v, ok := p.value.(int64)
		if !ok || v < 1 || v > most {
			w.reader.Wrong(n, "", "%s is no number of 1 to %d", p.Name, most)
			return 1
		}
		return v
	}
	return w.reader.whole(n, what, 1, most)
}

// field returns the field of that name; nil and a problem where there is none.
func (w *compiling) field(n *yaml.Node, what string) *Field {
	name := w.reader.text(n, what)
	if f := byName[name]; f != nil || name == "" {
		return f
	}
	w.reader.Wrong(n, "docs/detect.md lists the fields", "there is no field %.80q", name)
	return nil
}

func (w *compiling) fields(nodes []*yaml.Node, what string) []*Field {
	var out []*Field
	for _, n := range nodes {
		if f := w.field(n, what); f != nil {
			out = append(out, f)
		}
	}
	return out
}

func (w *compiling) matcher(s *step) matcher {
	m := matcher{kinds: s.on}
	if s.programs != nil {
		m.programs = w.strings(s.programs, "programs")
		if len(m.programs) == 0 {
			m.programs = []string{} // none, and not any
		}
	}
	if s.calls != nil {
		if s.programs != nil {
			w.reader.Wrong(s.calls, "keep one of both", "a rule has either programs or calls")
		}
		m.programs = w.calls(s.calls, s.on)
	}
	if s.files != nil {
		m.files = w.files(s.files, s.on)
	}
	if s.when != nil {
		m.when = w.condition(s.when, s.on)
	}
	if s.key != nil {
		m.key = w.field(s.key, "key")
	}
	return m
}

// check complains of fields that events of none of these kinds have.
func (w *compiling) check(n *yaml.Node, a *ast.AST, on []event.Kind) {
	for _, r := range a.ReferenceMap() {
		if r.Value != nil || byName[r.Name] == nil {
			continue
		}
		want := kindsOf(r.Name)
		if want == "" || slices.ContainsFunc(on, func(k event.Kind) bool { return strings.HasPrefix(string(k), want) }) {
			continue
		}
		w.reader.Wrong(n, "it is there in events "+want, "%s is never there in the events that the rule looks at", r.Name)
	}
}

var undeclared = regexp.MustCompile(`^undeclared reference to '([^']+)'`)

// complain says what is wrong in words that need no knowledge of CEL.
func (w *compiling) complain(n *yaml.Node, issues *cel.Issues) {
	all := issues.Errors()
	if len(all) == 0 {
		w.reader.Wrong(n, "", "%v", issues.Err())
		return
	}
	first := all[0]
	at := w.reader.Within(n, max(first.Location.Line(), 1), max(first.Location.Column()+1, 1))
	if m := undeclared.FindStringSubmatch(first.Message); m != nil {
		w.reader.WrongAt(at, "docs/detect.md lists the fields and functions", "there is no %q", m[1])
		return
	}
	w.reader.WrongAt(at, "", "%s", first.Message)
}
