package rule

import (
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/threat"
	"github.com/castellan-security/castellan/internal/written"
)

// Document is a text of rules, lists, changes and silences that was read. What its
// expressions mean is found out when it is compiled.
type Document struct {
	reader   *reader
	source   threat.Source
	rules    []*spec
	lists    []*param
	changes  []*change
	silences []*silence
}

// spec is a rule as it is written.
type spec struct {
	threat.Rule
	node   *yaml.Node
	params []*param
	alone  step    // without a sequence
	state  stateOf // of what more than one event it is
	says   *yaml.Node
	about  []*yaml.Node
	// changed says that a document sets parameters of it.
	changed bool
}

// step is what one event must be.
type step struct {
	node     *yaml.Node
	on       []event.Kind
	programs *yaml.Node // names, or a parameter or list that has them
	calls    *yaml.Node // of AWS, likewise
	files    *yaml.Node // patterns of files, or a parameter or list that has them
	when     *yaml.Node
	key      *yaml.Node
}

type stateOf struct {
	form     string // count, sequence, first, or none
	node     *yaml.Node
	by       Scope
	within   *yaml.Node // a length of time, or a parameter
	reaches  *yaml.Node // a number, or a parameter
	distinct *yaml.Node
	key      *yaml.Node
	any      bool
	steps    []step
	after    *yaml.Node
	of       *yaml.Node
}

// param is a parameter of a rule, or a list of all rules.
type param struct {
	threat.Parameter
	value any // string, int64, float64, bool, time.Duration, []string
	node  *yaml.Node
}

// change is what a document changes of a rule of another.
type change struct {
	node     *yaml.Node
	rule     string
	severity *finding.Severity
	off      *bool
	params   map[string]*yaml.Node
	add      map[string]*yaml.Node
}

type silence struct {
	threat.Silence
	node *yaml.Node
}

// Scope is what must be the same of the events that are counted together or follow
// each other.
type Scope string

// The scopes.
const (
	ByProcess  Scope = "process"
	ByParent   Scope = "parent" // processes of one parent
	ByTree     Scope = "tree"
	ByWorkload Scope = "workload"
	ByGroup    Scope = "group"
	ByHost     Scope = "host"
	ByPeer     Scope = "peer" // address of the other side, in one workload
)

func scopes() []Scope {
	return []Scope{ByProcess, ByParent, ByTree, ByWorkload, ByGroup, ByHost, ByPeer, BySession, ByPrincipal, ByAccount, ByAddress}
}

// identifier is the form of a rule's id, a list's and a parameter's name.
var identifier = regexp.MustCompile(`^[a-z][a-z0-9]*([-_][a-z0-9]+)*$`)

const maxIdentifier = 64 // bytes

func (r *reader) id(n *yaml.Node, what string) string {
	s := r.text(n, what)
	if s != "" && (len(s) > maxIdentifier || !identifier.MatchString(s)) {
		r.Wrong(n, "small letters, digits and hyphens, such as escape-release-agent", "%s can't be %.80q", what, s)
		return ""
	}
	return s
}

// Read reads a document. The error is written.Problems. The source is what its rules
// are told to be from.
func Read(file string, b []byte, source threat.Source) (*Document, error) {
	r := &reader{Reader: written.Reader{File: file, Most: MaxProblems}}
	d := &Document{reader: r, source: source}
	root := r.document(b)
	if root != nil {
		d.read(root)
	}
	if len(r.Problems) > 0 {
		return nil, r.Problems
	}
	return d, nil
}

func (d *Document) read(root *yaml.Node) {
	r, theme := d.reader, "own"
	r.Fields(root, "the document", map[string]func(*yaml.Node){
		"theme": func(n *yaml.Node) { theme = r.id(n, "the theme") },
		"lists": func(n *yaml.Node) {
			r.Named(n, "lists", maxValues, func(name string, k, v *yaml.Node) { d.lists = append(d.lists, r.param(name, k, v, true)) })
		},
		"rules": func(n *yaml.Node) {
			r.List(n, "rules", maxRules, func(n *yaml.Node) { d.rules = append(d.rules, r.rule(n)) })
		},
		"change": func(n *yaml.Node) {
			r.List(n, "change", maxRules, func(n *yaml.Node) { d.changes = append(d.changes, r.change(n)) })
		},
		"silence": func(n *yaml.Node) {
			r.List(n, "silence", maxRules, func(n *yaml.Node) { d.silences = append(d.silences, r.silence(n)) })
		},
	})
	for _, s := range d.rules {
		s.Theme, s.Source = theme, d.source
	}
}

func (r *reader) rule(n *yaml.Node) *spec {
	s := &spec{node: n}
	s.alone.node = n
	prose := func(to *string) func(*yaml.Node) {
		return func(n *yaml.Node) { *to = strings.Join(strings.Fields(r.text(n, "it")), " ") }
	}
	known := map[string]func(*yaml.Node){
		"id":           func(n *yaml.Node) { s.ID = r.id(n, "the id of a rule") },
		"title":        prose(&s.Title),
		"severity":     func(n *yaml.Node) { s.Severity = r.severity(n) },
		"tactic":       func(n *yaml.Node) { s.Tactic = word(r, n, "a tactic", threat.Tactics()...) },
		"techniques":   func(n *yaml.Node) { s.Techniques = r.techniques(n) },
		"meaning":      prose(&s.Meaning),
		"false_alarms": prose(&s.FalseAlarm),
		"tuning":       prose(&s.Tuning),
		"remedy":       prose(&s.Remedy),
		"hosts":        func(n *yaml.Node) { s.Hosts = r.Bool(n, "hosts") },
		"off":          func(n *yaml.Node) { s.Off = r.Bool(n, "off") },
		"params": func(n *yaml.Node) {
			r.Named(n, "params", maxValues, func(name string, k, v *yaml.Node) { s.params = append(s.params, r.param(name, k, v, false)) })
			if len(s.params) > maxParams {
				r.Wrong(n, "", "%d parameters: at most %d are read", len(s.params), maxParams)
			}
		},
		"says":     func(n *yaml.Node) { s.says = n },
		"about":    func(n *yaml.Node) { r.List(n, "about", maxSteps, func(n *yaml.Node) { s.about = append(s.about, n) }) },
		"count":    func(n *yaml.Node) { r.state(&s.state, "count", n) },
		"sequence": func(n *yaml.Node) { r.state(&s.state, "sequence", n) },
		"first":    func(n *yaml.Node) { r.state(&s.state, "first", n) },
	}
	r.step(&s.alone, known)
	r.Fields(n, "a rule", known)
	r.complete(s)
	return s
}

// step adds the fields of what one event must be.
func (r *reader) step(s *step, known map[string]func(*yaml.Node)) {
	known["on"] = func(n *yaml.Node) {
		r.List(n, "on", len(kinds()), func(n *yaml.Node) {
			if k := word(r, n, "a kind of event", kinds()...); k != "" && !slices.Contains(s.on, k) {
				s.on = append(s.on, k)
			}
		})
	}
	known["programs"] = func(n *yaml.Node) { s.programs = n }
	known["calls"] = func(n *yaml.Node) { s.calls = n }
	known["files"] = func(n *yaml.Node) { s.files = n }
	known["when"] = func(n *yaml.Node) { s.when = n }
}

func (r *reader) state(s *stateOf, form string, n *yaml.Node) {
	if s.form != "" {
		r.Wrong(n, "keep one of both", "a rule has either %s or %s", s.form, form)
		return
	}
	s.form, s.node = form, n
	node := func(to **yaml.Node) func(*yaml.Node) { return func(n *yaml.Node) { *to = n } }
	known := map[string]func(*yaml.Node){"by": func(n *yaml.Node) { s.by = word(r, n, "by", scopes()...) }}
	switch form {
	case "count":
		known["within"], known["reaches"], known["distinct"], known["key"] = node(&s.within), node(&s.reaches), node(&s.distinct), node(&s.key)
	case "first":
		known["of"], known["after"] = node(&s.of), node(&s.after)
	case "sequence":
		known["within"] = node(&s.within)
		known["any_order"] = func(n *yaml.Node) { s.any = r.Bool(n, "any_order") }
		known["steps"] = func(n *yaml.Node) {
			r.List(n, "steps", maxSteps, func(n *yaml.Node) {
				st := step{node: n}
				fields := map[string]func(*yaml.Node){"key": node(&st.key)}
				r.step(&st, fields)
				r.Fields(n, "a step", fields)
				s.steps = append(s.steps, st)
			})
		}
	}
	r.Fields(n, form, known)
	r.stateComplete(s)
}

func (r *reader) stateComplete(s *stateOf) {
	need := func(missing bool, what string) {
		if missing {
			r.Wrong(s.node, "", "%s lacks %s", s.form, what)
		}
	}
	need(s.by == "", "by")
	switch s.form {
	case "count":
		need(s.within == nil, "within")
		need(s.reaches == nil, "reaches")
	case "sequence":
		need(s.within == nil, "within")
		need(len(s.steps) < 2, "steps: two at least")
		for i := range s.steps {
			if len(s.steps[i].on) == 0 {
				r.Wrong(s.steps[i].node, "name kinds of event", "a step lacks on")
			}
		}
	case "first":
		need(s.of == nil, "of: the field that is new")
		need(s.after == nil, "after: for how long it is learned first")
	}
}

// complete checks that a rule says what people must know of it.
func (r *reader) complete(s *spec) {
	for _, f := range []struct{ name, value string }{
		{"id", s.ID}, {"title", s.Title}, {"tactic", string(s.Tactic)}, {"meaning", s.Meaning},
	} {
		if f.value == "" {
			r.Wrong(s.node, "", "rule %s lacks %s", s.ID, f.name)
		}
	}
	if s.Severity == finding.Unknown {
		r.Wrong(s.node, "", "rule %s lacks severity", s.ID)
	}
	switch sequence := s.state.form == "sequence"; {
	case sequence && (s.alone.on != nil || s.alone.when != nil || s.alone.programs != nil || s.alone.calls != nil || s.alone.files != nil):
		r.Wrong(s.node, "put them into its steps", "rule %s has a sequence, and on, programs, calls, files or when beside", s.ID)
	case !sequence && len(s.alone.on) == 0:
		r.Wrong(s.node, "name kinds of event", "rule %s lacks on", s.ID)
	}
}

func (r *reader) severity(n *yaml.Node) finding.Severity {
	s, err := finding.ParseSeverity(n.Value)
	if n.Kind != yaml.ScalarNode || err != nil || s == finding.Unknown {
		r.Wrong(n, "write negligible, low, medium, high or critical", "%.80q is no severity", n.Value)
	}
	return s
}

func (r *reader) techniques(n *yaml.Node) []string {
	all := r.texts(n, "techniques")
	for _, id := range all {
		if err := threat.CheckTechnique(id); err != nil {
			r.Wrong(n, "", "%v", err)
		}
	}
	return all
}

func (r *reader) change(n *yaml.Node) *change {
	c := &change{node: n, params: map[string]*yaml.Node{}, add: map[string]*yaml.Node{}}
	into := func(m map[string]*yaml.Node) func(*yaml.Node) {
		return func(n *yaml.Node) { r.Named(n, "it", maxValues, func(name string, _, v *yaml.Node) { m[name] = v }) }
	}
	r.Fields(n, "a change", map[string]func(*yaml.Node){
		"rule":     func(n *yaml.Node) { c.rule = r.text(n, "rule") },
		"severity": func(n *yaml.Node) { s := r.severity(n); c.severity = &s },
		"off":      func(n *yaml.Node) { off := r.Bool(n, "off"); c.off = &off },
		"params":   into(c.params),
		"add":      into(c.add),
	})
	if c.rule == "" {
		r.Wrong(n, "name a rule, or lists", "a change lacks rule")
	}
	return c
}

func (r *reader) silence(n *yaml.Node) *silence {
	s := &silence{node: n}
	r.Fields(n, "a silence", map[string]func(*yaml.Node){
		"rule":   func(n *yaml.Node) { s.Rule = r.text(n, "rule") },
		"groups": func(n *yaml.Node) { s.Groups = r.texts(n, "groups") },
		"about":  func(n *yaml.Node) { s.About = r.text(n, "about") },
		"reason": func(n *yaml.Node) { s.Reason = r.text(n, "reason") },
		"by":     func(n *yaml.Node) { s.By = r.text(n, "by") },
		"until":  func(n *yaml.Node) { s.Until = r.Moment(n, "until") },
	})
	for _, f := range []struct {
		name string
		is   bool
	}{{"rule", s.Rule != ""}, {"reason: one sentence why", s.Reason != ""}, {"until: the day from which it is heard again", !s.Until.IsZero()}} {
		if !f.is {
			r.Wrong(n, "", "a silence lacks %s", f.name)
		}
	}
	return s
}

// silenced returns the silences of a document.
func (d *Document) silenced() []threat.Silence {
	var out []threat.Silence
	for _, s := range d.silences {
		out = append(out, s.Silence)
	}
	return out
}
