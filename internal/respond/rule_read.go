package respond

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	_ "time/tzdata" // rules name zones, and a container of a server has no files of them

	"go.yaml.in/yaml/v3"

	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/response"
	"github.com/castellan-security/castellan/internal/threat"
	"github.com/castellan-security/castellan/internal/written"
)

// Limits of the rules, which anybody who may have something done writes.
const (
	// MaxRules bounds rules: each threat is held against each.
	MaxRules = 200
	// MaxRulesText bounds their text in bytes.
	MaxRulesText = 256 << 10
	// MaxWithin bounds the time of a limit, MaxCoolDown that of a cool-down: what rules
	// did in it is remembered.
	MaxWithin   = 24 * time.Hour
	MaxCoolDown = 24 * time.Hour
	// MaxUndo bounds after how long something is undone.
	MaxUndo = 7 * 24 * time.Hour
	// MaxTimes bounds how often a rule acts in a group Within its time.
	MaxTimes = 100

	maxRuleProblems = 100
	maxRuleDepth    = 8 // rules need six
	maxRuleValues   = 50_000
	maxPatterns     = 50
	maxPattern      = 512
	maxActs         = 10
	maxTitle        = 200
)

// What rules have that say nothing of it: a handful an hour is what people can still
// look at, and after acting on a workload the next threats of it are mostly of the
// same story.
const (
	defaultTimes    = 5
	defaultWithin   = time.Hour
	defaultCoolDown = 10 * time.Minute
)

var ruleID = regexp.MustCompile(`^[a-z][a-z0-9]*([-_][a-z0-9]+)*$`)

// ReadRules reads rules as people write them. The error is as of written.Reader.Err.
func ReadRules(file string, b []byte) ([]Rule, error) {
	r := &ruleReader{Reader: written.Reader{File: file, Most: maxRuleProblems}}
	if root := r.document(b); root != nil {
		r.Fields(root, "the document", map[string]func(*yaml.Node){
			"responses": func(n *yaml.Node) {
				r.List(n, "responses", MaxRules, func(n *yaml.Node) { r.rule(n) })
			},
		})
	}
	if err := r.Err("response policy"); err != nil {
		return nil, err
	}
	return r.rules, nil
}

// ruleReader reads rules and collects what is wrong with them.
type ruleReader struct {
	written.Reader
	rules []Rule
}

func (r *ruleReader) document(b []byte) *yaml.Node {
	if len(b) > MaxRulesText {
		r.WrongAt(written.Position{}, "", "%d bytes: at most %d are read", len(b), MaxRulesText)
		return nil
	}
	return r.Parse(b, written.Limits{Name: "document of rules", Depth: maxRuleDepth, Values: maxRuleValues}, "rules are one document of YAML or JSON: responses, a colon, and a list")
}

func (r *ruleReader) text(n *yaml.Node, what string, most int) string {
	switch {
	case n.Kind != yaml.ScalarNode:
		r.Wrong(n, "", "%s is no text", what)
	case strings.TrimSpace(n.Value) == "" || n.Tag == "!!null":
		r.Wrong(n, "", "%s is empty", what)
	case len(n.Value) > most || strings.ContainsAny(n.Value, "\x00\r\n"):
		r.Wrong(n, "", "%s: want one line of at most %d bytes", what, most)
	default:
		return strings.TrimSpace(n.Value)
	}
	return ""
}

func (r *ruleReader) patterns(n *yaml.Node, what string) (out []string) {
	r.List(n, what, maxPatterns, func(n *yaml.Node) {
		if s := r.text(n, what, maxPattern); s != "" {
			out = append(out, s)
		}
	})
	return out
}

// span reads a length of time: 90s, 5m, 24h.
func (r *ruleReader) span(n *yaml.Node, what string, least, most time.Duration) time.Duration {
	d, err := time.ParseDuration(n.Value)
	if n.Kind != yaml.ScalarNode || err != nil || d < least || d > most {
		r.Wrong(n, "write 90s, 5m or 1h", "%s is no length of time from %s to %s: %.40q", what, short(least), short(most), n.Value)
		return 0
	}
	return d
}

func (r *ruleReader) severity(n *yaml.Node) finding.Severity {
	s, err := finding.ParseSeverity(n.Value)
	if n.Kind != yaml.ScalarNode || err != nil || s == finding.Unknown {
		r.Wrong(n, "write negligible, low, medium, high or critical", "%.80q is no severity", n.Value)
	}
	return s
}

func (r *ruleReader) rule(n *yaml.Node) {
	x := Rule{Times: defaultTimes, Within: defaultWithin, CoolDown: defaultCoolDown}
	var on, do, until *yaml.Node
	r.Fields(n, "a rule", map[string]func(*yaml.Node){
		"id":        func(n *yaml.Node) { x.ID = r.id(n) },
		"title":     func(n *yaml.Node) { x.Title = r.text(n, "title", maxTitle) },
		"owner":     func(n *yaml.Node) { x.Owner = r.text(n, "owner", maxTitle) },
		"on":        func(n *yaml.Node) { on = n; x.On = r.on(n) },
		"do":        func(n *yaml.Node) { do = n; x.Do = r.do(n) },
		"dry_run":   func(n *yaml.Node) { x.DryRun = r.Bool(n, "dry_run") },
		"limit":     func(n *yaml.Node) { r.limit(n, &x) },
		"cool_down": func(n *yaml.Node) { x.CoolDown = r.span(n, "cool_down", 0, MaxCoolDown) },
		"until":     func(n *yaml.Node) { until = n; x.Until = r.span(n, "until", time.Minute, MaxUndo) },
		"off":       func(n *yaml.Node) { x.Off = r.Bool(n, "off") },
	})
	for _, f := range []struct {
		is     bool
		name   string
		remedy string
	}{
		{x.ID != "", "id", "small letters, digits and hyphens, such as miners-out"},
		{x.Owner != "", "owner", "say who answers for what it does"},
		{on != nil, "on", "say for which threats it is: themes, tactics, rules or severity"},
		{do != nil, "do", "say what is done: notify, kill, quarantine, stop, revoke or snapshot"},
	} {
		if !f.is && !hasField(n, f.name) {
			r.Wrong(n, f.remedy, "%s lacks %s", strings.TrimSpace("rule "+x.ID), f.name)
		}
	}
	if until != nil && !slices.ContainsFunc(x.Do, func(a Action) bool { return a.Kind.Undo() != "" }) {
		r.Wrong(until, "leave until out", "nothing that the rule does can be undone")
	}
	for i := range r.rules {
		if x.ID != "" && r.rules[i].ID == x.ID {
			r.Wrong(n, "give one of both another id", "there are two rules %s", x.ID)
		}
	}
	r.rules = append(r.rules, x)
}

// hasField reports whether a map has a field, were it a wrong one.
func hasField(n *yaml.Node, name string) bool {
	for i := 0; n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == name {
			return true
		}
	}
	return false
}

func (r *ruleReader) id(n *yaml.Node) string {
	const most = 64
	s := r.text(n, "id", most)
	if s != "" && !ruleID.MatchString(s) {
		r.Wrong(n, "small letters, digits and hyphens, such as miners-out", "the id of a rule can't be %.80q", s)
		return ""
	}
	return s
}

func (r *ruleReader) limit(n *yaml.Node, x *Rule) {
	r.Fields(n, "limit", map[string]func(*yaml.Node){
		"times": func(n *yaml.Node) {
			v, err := strconv.Atoi(n.Value)
			if n.Kind != yaml.ScalarNode || err != nil || v < 1 || v > MaxTimes {
				r.Wrong(n, "", "times is no number of 1 to %d", MaxTimes)
				return
			}
			x.Times = v
		},
		"within": func(n *yaml.Node) { x.Within = r.span(n, "within", time.Minute, MaxWithin) },
	})
}

func (r *ruleReader) on(n *yaml.Node) (o On) {
	before := len(r.Problems)
	r.Fields(n, "on", map[string]func(*yaml.Node){
		"themes": func(n *yaml.Node) { o.Themes = r.patterns(n, "a theme") },
		"tactics": func(n *yaml.Node) {
			r.List(n, "tactics", maxPatterns, func(n *yaml.Node) {
				if !slices.Contains(threat.Tactics(), threat.Tactic(n.Value)) {
					r.Wrong(n, "write one of "+joined(threat.Tactics()), "%.80q is no tactic", n.Value)
					return
				}
				o.Tactics = append(o.Tactics, threat.Tactic(n.Value))
			})
		},
		"rules":     func(n *yaml.Node) { o.Rules = r.patterns(n, "a rule") },
		"severity":  func(n *yaml.Node) { o.Severity = r.severity(n) },
		"incident":  func(n *yaml.Node) { o.Incident = r.severity(n) },
		"groups":    func(n *yaml.Node) { o.Groups = r.patterns(n, "a group") },
		"workloads": func(n *yaml.Node) { o.Workloads = r.patterns(n, "a workload") },
		"external":  func(n *yaml.Node) { o.External = r.Bool(n, "external") },
		"hours":     func(n *yaml.Node) { o.Hours = r.hours(n) },
	})
	if len(r.Problems) == before && len(o.Themes)+len(o.Tactics)+len(o.Rules) == 0 && o.Severity == finding.Unknown && o.Incident == finding.Unknown {
		r.Wrong(n, "name themes, tactics, rules, a severity, or one of the incident", "on says for no threats: a rule is never for all")
	}
	return o
}

func joined[T ~string](all []T) string {
	var names []string
	for _, a := range all {
		names = append(names, string(a))
	}
	return strings.Join(names, ", ")
}

var weekdays = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"} // by time.Weekday

func (r *ruleReader) hours(n *yaml.Node) (h Hours) {
	r.Fields(n, "hours", map[string]func(*yaml.Node){
		"days": func(n *yaml.Node) {
			r.List(n, "days", len(weekdays), func(n *yaml.Node) {
				i := slices.Index(weekdays, strings.ToLower(n.Value))
				if i < 0 {
					r.Wrong(n, "write some of "+strings.Join(weekdays, ", "), "%.20q is no day", n.Value)
					return
				}
				h.Days = append(h.Days, time.Weekday(i))
			})
		},
		"from": func(n *yaml.Node) { h.From = r.clock(n, "from") },
		"to":   func(n *yaml.Node) { h.To = r.clock(n, "to") },
		"zone": func(n *yaml.Node) {
			zone, err := time.LoadLocation(n.Value)
			if err != nil || n.Value == "Local" || n.Value == "" {
				r.Wrong(n, "write one of the IANA's names, such as Europe/Berlin, or UTC", "there is no zone %.80q", n.Value)
				return
			}
			h.Zone, h.Place = zone, n.Value
		},
	})
	return h
}

// clock reads a time of day in minutes; 24:00 is the end of it.
func (r *ruleReader) clock(n *yaml.Node, what string) int {
	if t, err := time.Parse("15:04", n.Value); err == nil {
		return t.Hour()*60 + t.Minute()
	}
	if n.Value == "24:00" {
		return 24 * 60
	}
	r.Wrong(n, `write "08:00", with the quotes`, "%s is no time of day: %.20q", what, n.Value)
	return 0
}

// do reads what a rule does: words, or maps of one name.
func (r *ruleReader) do(n *yaml.Node) (out []Action) {
	r.List(n, "do", maxActs, func(n *yaml.Node) {
		a := r.act(n)
		if a == (Action{}) {
			return
		}
		if slices.Contains(out, a) {
			r.Wrong(n, "leave one out", "do has %s twice", a)
			return
		}
		out = append(out, a)
	})
	if n.Kind == yaml.SequenceNode && len(n.Content) == 0 {
		r.Wrong(n, "say what is done, or leave the rule out", "do is empty")
	}
	return out
}

func (r *ruleReader) act(n *yaml.Node) (a Action) {
	if n.Kind == yaml.ScalarNode {
		switch k := response.Kind(n.Value); k {
		case response.Kill, response.Quarantine, response.Stop, response.Revoke, response.Snapshot:
			a.Kind = k
		default:
			r.Wrong(n, "write kill, quarantine, stop, revoke, snapshot, or notify: TARGET", "%.80q is nothing that can be done", n.Value)
		}
		return a
	}
	word := func(n *yaml.Node, what, plain, more string) bool {
		if n.Kind != yaml.ScalarNode || n.Value != plain && n.Value != more {
			r.Wrong(n, "write "+plain+" or "+more, "%s can't be %.80q", what, n.Value)
		}
		return n.Value == more
	}
	if n.Kind == yaml.MappingNode && len(n.Content) != 2 {
		r.Wrong(n, "make it an item for each, with a hyphen", "an item of do is one thing, not %d", len(n.Content)/2)
		return a
	}
	r.Fields(n, "an item of do", map[string]func(*yaml.Node){
		"notify": func(n *yaml.Node) { a.Notify = r.text(n, "the target's name", maxTitle) },
		"kill": func(n *yaml.Node) {
			a.Kind, a.Whole = response.Kill, word(n, "kill", "process", "container")
		},
		"quarantine": func(n *yaml.Node) {
			a.Kind, a.Freeze = response.Quarantine, word(n, "quarantine", "cut", "freeze")
		},
		"snapshot": func(n *yaml.Node) {
			a.Kind = response.Snapshot
			r.Fields(n, "snapshot", map[string]func(*yaml.Node){
				"packets": func(n *yaml.Node) { a.Packets = r.span(n, "packets", 0, response.MaxPackets) },
				"files":   func(n *yaml.Node) { a.Files = r.Bool(n, "files") },
			})
		},
	})
	return a
}
