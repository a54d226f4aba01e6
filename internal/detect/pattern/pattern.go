// Package pattern has what rules of detection in Go are made of. Each rule is a
// package below it; package all lists them. They are for what rules in YAML can't
// say: rates and sums over events that are counts, regularity, generations of
// processes, what is tried in vain.
//
// A detector keeps its state in bounded memory (keep), and its clock is that of the
// events. What happens alike within a minute comes as one event with a count, a
// minute late: see event.Event's Count. Detectors that reckon with time use Span.
package pattern

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/detect/rule"
	"github.com/castellan-security/castellan/internal/detect/tree"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/threat"
)

// Maker makes a detector of a rule whose parameters are set.
type Maker func(*threat.Rule) (rule.Detector, error)

// Rule completes a rule that is written in Go, with its parameters.
func Rule(r threat.Rule, params ...threat.Parameter) *threat.Rule {
	r.Source, r.Code, r.Parameters = threat.BuiltIn, true, params
	return &r
}

// Int is a parameter that is a whole number.
func Int(name string, value int64, meaning string) threat.Parameter {
	return param(name, "int", strconv.FormatInt(value, 10), meaning)
}

// Double is a parameter that is a number.
func Double(name string, value float64, meaning string) threat.Parameter {
	return param(name, "double", fmt.Sprint(value), meaning)
}

// Duration is a parameter that is a length of time.
func Duration(name string, value time.Duration, meaning string) threat.Parameter {
	return param(name, "duration", value.String(), meaning)
}

// List is a parameter that is a list of texts. They have no commas in them.
func List(name, meaning string, values ...string) threat.Parameter {
	return param(name, "list(string)", "["+strings.Join(values, ", ")+"]", meaning)
}

func param(name, typ, value, meaning string) threat.Parameter {
	return threat.Parameter{Name: name, Type: typ, Default: value, Value: value, Meaning: meaning}
}

// Values are the parameters of a rule as they are set. The first thing that is wrong
// with them is kept, and Err has it.
type Values struct {
	rule *threat.Rule
	err  error
}

// ValuesOf returns the parameters of a rule.
func ValuesOf(r *threat.Rule) *Values { return &Values{rule: r} }

// Err is what is wrong with a value that was asked for.
func (v *Values) Err() error { return v.err }

func (v *Values) text(name string) string {
	for i := range v.rule.Parameters {
		if v.rule.Parameters[i].Name == name {
			return v.rule.Parameters[i].Value
		}
	}
	v.fail(fmt.Errorf("there is no parameter %s", name))
	return ""
}

func (v *Values) fail(err error) {
	if v.err == nil {
		v.err = err
	}
}

// Int returns a whole number that is from least to most.
func (v *Values) Int(name string, least, most int64) int64 {
	n, err := strconv.ParseInt(v.text(name), 10, 64)
	if err != nil || n < least || n > most {
		v.fail(fmt.Errorf("parameter %s is %.40q: want a number from %d to %d", name, v.text(name), least, most))
	}
	return n
}

// Double returns a number that is from least to most.
func (v *Values) Double(name string, least, most float64) float64 {
	f, err := strconv.ParseFloat(v.text(name), 64)
	if err != nil || !(f >= least && f <= most) {
		v.fail(fmt.Errorf("parameter %s is %.40q: want a number from %g to %g", name, v.text(name), least, most))
	}
	return f
}

// Duration returns a length of time that is more than none and at most most.
func (v *Values) Duration(name string, most time.Duration) time.Duration {
	d, err := time.ParseDuration(v.text(name))
	if err != nil || d <= 0 || d > most {
		v.fail(fmt.Errorf("parameter %s is %.40q: want a length of time up to %s", name, v.text(name), most))
	}
	return d
}

// List returns the texts of a list.
func (v *Values) List(name string) []string {
	s := strings.TrimSuffix(strings.TrimPrefix(v.text(name), "["), "]")
	if s == "" {
		return nil
	}
	return strings.Split(s, ", ")
}

// Set returns the texts of a list, to look things up in.
func (v *Values) Set(name string) map[string]bool {
	out := map[string]bool{}
	for _, s := range v.List(name) {
		out[s] = true
	}
	return out
}

// Ports returns the ports of a list.
func (v *Values) Ports(name string) map[uint16]bool {
	out := map[uint16]bool{}
	for _, s := range v.List(name) {
		n, err := strconv.ParseUint(s, 10, 16)
		if err != nil || n == 0 {
			v.fail(fmt.Errorf("parameter %s has %.40q: want ports", name, s))
		}
		out[uint16(n)] = true
	}
	return out
}

// detector is a rule in Go.
type detector struct {
	about   *threat.Rule
	entries []rule.Entry
}

// Detector returns one of its rule and what the engine calls it for.
func Detector(about *threat.Rule, entries ...rule.Entry) rule.Detector {
	return &detector{about, entries}
}

// Learner is what of a rule in Go learns over days: see rule.Rememberer.
type Learner interface {
	Memory() ([]byte, error)
	Remember([]byte) error
}

// Learned returns a detector as Detector does, that has a memory.
func Learned(about *threat.Rule, l Learner, entries ...rule.Entry) rule.Rememberer {
	return &struct {
		detector
		Learner
	}{detector{about, entries}, l}
}

// About is part of rule.Detector.
func (d *detector) About() *threat.Rule { return d.about }

// Entries is part of rule.Detector.
func (d *detector) Entries() []rule.Entry { return d.entries }

// On calls look for events of some kinds.
func On(look func(*rule.Subject) *rule.Match, kinds ...event.Kind) rule.Entry {
	return rule.Entry{Kinds: kinds, Look: func(s *rule.Subject) (*rule.Match, error) { return look(s), nil }}
}

// Workload is a container of a host; Peer one of its peers.
type Workload struct {
	Agent string `json:"agent,omitempty"`
	ID    string `json:"id"`
}

// WorkloadOf returns the container of an event.
func WorkloadOf(e *event.Event) Workload { return Workload{e.AgentID, e.WorkloadID} }

// Process is a process of a host.
type Process struct {
	Agent string
	Key   event.Key
}

// ProcessOf returns the process of an event.
func ProcessOf(e *event.Event) Process { return Process{e.AgentID, e.Process.Key} }

// Group returns what a container's normal is kept for: its group on all hosts, or
// itself where it has none.
func Group(e *event.Event) Workload {
	if e.Group != "" {
		return Workload{ID: e.Group}
	}
	return WorkloadOf(e)
}

// Span returns from when to when an event that may be a count happened. It is not
// negative.
func Span(e *event.Event) (from, to time.Time) {
	if e.Last.After(e.Time) {
		return e.Time, e.Last
	}
	return e.Time, e.Time
}

// EndsAny says whether a text has one of these ends. A name of the DNS is also its
// own end: ".example.com" is one of example.com.
func EndsAny(text string, ends []string) bool {
	for _, e := range ends {
		if strings.HasSuffix(text, e) || len(e) > 1 && e[0] == '.' && text == e[1:] {
			return true
		}
	}
	return false
}

// Who names the doer of an event in a sentence, briefly: the threat has the whole line.
func Who(s *rule.Subject) string { return Brief(s.Process) }

// Brief names a process: the beginning of its line, or what it runs.
func Brief(p *tree.Process) string {
	const most = 80 // bytes: a sentence goes on behind it
	line := p.Line
	if line == "" {
		line = p.Program
	}
	if line == "" {
		return "a process"
	}
	cut := false
	if len(line) > most {
		line, cut = strings.ToValidUTF8(line[:most], ""), true
	}
	line = strings.Join(strings.Fields(line), " ")
	if cut {
		line += "…"
	}
	return line
}
