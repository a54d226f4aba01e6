package detect_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/castellan-security/castellan/internal/detect"
	"github.com/castellan-security/castellan/internal/detect/trial"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/threat"
)

var start = time.Date(2026, 11, 29, 8, 0, 0, 0, time.UTC)

func cases(t testing.TB) []trial.Case {
	t.Helper()
	var files []string
	for _, place := range []string{"library/testdata/*.yaml", "pattern/*/testdata/*.yaml"} {
		found, err := filepath.Glob(place)
		if err != nil || len(found) == 0 {
			t.Fatal(place, found, err)
		}
		files = append(files, found...)
	}
	var out []trial.Case
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		d, err := trial.Read(b)
		if err != nil {
			t.Fatalf("%s: %v", f, err)
		}
		out = append(out, d.Cases...)
	}
	return out
}

// engineOf returns an engine with the parameters that a case sets. Those of cases
// that set none are one, because to make one takes its time.
func engineOf(t testing.TB, c *trial.Case) *detect.Engine {
	t.Helper()
	if c == nil || len(c.Params) == 0 {
		e, err := ordinary()
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	b, err := yaml.Marshal(map[string]any{"change": []any{map[string]any{"rule": c.Rule, "params": c.Params}}})
	if err != nil {
		t.Fatal(err)
	}
	e, err := detect.New([]detect.Text{{Name: "case", Body: b}})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

var (
	ordinary = sync.OnceValues(func() (*detect.Engine, error) { return detect.New(nil) })
	worlds   int // that were observed: each is one of its own for an engine
)

func observed(t testing.TB, e *detect.Engine, short []trial.Event) []threat.Threat {
	t.Helper()
	events, err := trial.Events(short, start)
	if err != nil {
		t.Fatal(err)
	}
	worlds++
	world := "-" + strconv.Itoa(worlds)
	var out []threat.Threat
	for _, ev := range events {
		if ev.Call != nil {
			ev.Call = elsewhere(t, ev.Call, worlds)
			out = append(out, e.Observe(ev)...)
			continue
		}
		ev.AgentID += world
		if ev.WorkloadID != "" {
			ev.WorkloadID, ev.Group = ev.WorkloadID+world, ev.Group+world
		}
		out = append(out, e.Observe(ev)...)
	}
	return append(out, e.Rest()...)
}

// elsewhere is a call in the account of another world.
func elsewhere(t testing.TB, c *event.Call, world int) *event.Call {
	t.Helper()
	b, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	var out event.Call
	if err := json.Unmarshal(bytes.ReplaceAll(b, []byte("123456789012"), fmt.Appendf(nil, "%012d", 100_000_000_000+world)), &out); err != nil {
		t.Fatal(err)
	}
	return &out
}

func rulesOf(all []threat.Threat) []string {
	var out []string
	for i := range all {
		if !slices.Contains(out, all[i].Rule) {
			out = append(out, all[i].Rule)
		}
	}
	return out
}

func TestEveryRuleFiresAtWhatItIsForAndNotAtWhatLooksAlike(t *testing.T) {
	tried := map[string]bool{}
	for _, c := range cases(t) {
		if tried[c.Rule] {
			t.Errorf("%s has two cases: put them together", c.Rule)
		}
		tried[c.Rule] = true
		t.Run(c.Rule, func(t *testing.T) {
			if len(c.Fires) == 0 || len(c.Silent) == 0 {
				t.Errorf("it lacks what fires it, or what looks alike and does not")
			}
			for i, events := range c.Fires {
				e := engineOf(t, &c)
				got := observed(t, e, events)
				if !slices.Contains(rulesOf(got), c.Rule) {
					t.Errorf("fires %d: it does not; others do: %q", i+1, rulesOf(got))
				}
				complain(t, e)
			}
			for i, events := range c.Silent {
				e := engineOf(t, &c)
				for _, th := range observed(t, e, events) {
					if th.Rule == c.Rule {
						t.Errorf("silent %d: it fires: %s", i+1, th.Summary)
					}
				}
				complain(t, e)
			}
		})
	}
	for _, r := range engineOf(t, nil).Rules() {
		if !tried[r.ID] {
			t.Errorf("%s: no case in library/testdata or pattern/*/testdata tries it", r.ID)
		}
	}
}

// documents reads all files that a pattern matches, of which there must be some.
func documents[T any](t *testing.T, pattern string) (all []T) {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		var one T
		if err := yaml.Unmarshal(b, &one); err != nil {
			t.Fatalf("%s: %v", f, err)
		}
		all = append(all, one)
	}
	return all
}

// TestOrdinaryWorkIsNoIncident holds what ordinary software does, installs, servers and
// people's work, against all rules: it is told as low at most, but for what a document
// says must be told, and why.
func TestOrdinaryWorkIsNoIncident(t *testing.T) {
	for _, document := range documents[struct {
		Work []struct {
			Name   string            `yaml:"name"`
			Loud   map[string]string `yaml:"loud"` // rules that tell it nevertheless, and why they must
			Events []trial.Event     `yaml:"events"`
		} `yaml:"work"`
	}](t, "library/testdata/ordinary/*.yaml") {
		for _, w := range document.Work {
			t.Run(w.Name, func(t *testing.T) {
				if len(w.Events) == 0 {
					t.Fatal("it has no events")
				}
				e := engineOf(t, nil)
				quiet := maps.Clone(w.Loud)
				for _, th := range observed(t, e, w.Events) {
					if th.Severity <= finding.Low {
						continue
					}
					delete(quiet, th.Rule)
					if w.Loud[th.Rule] == "" {
						t.Errorf("%s (%s): %s", th.Rule, th.Severity, th.Summary)
					}
				}
				for rule := range quiet {
					t.Errorf("%s does not tell it above low: it need not be named", rule)
				}
				complain(t, e)
			})
		}
	}
}

// complain fails where a condition could not be told.
func complain(t *testing.T, e *detect.Engine) {
	t.Helper()
	for _, s := range e.Stats() {
		if s.Errors > 0 {
			t.Errorf("%s: %s", s.Rule, s.Error)
		}
	}
}

// The first technique of a rule is of its tactic; further ones may be of other steps of
// the same attack.
func TestEveryTechniqueIsOfATTACK(t *testing.T) {
	for _, r := range engineOf(t, nil).Rules() {
		for i, id := range r.Techniques {
			known, ok := threat.TechniqueOf(id)
			if !ok {
				t.Errorf("%s: there is no technique %s in the table of package threat", r.ID, id)
				continue
			}
			if i == 0 && !slices.Contains(known.Tactics, r.Tactic) {
				t.Errorf("%s: %s (%s) is of %q, and not of %s", r.ID, id, known.Name, known.Tactics, r.Tactic)
			}
			if slices.Contains(r.Techniques[:i], id) {
				t.Errorf("%s has %s twice", r.ID, id)
			}
		}
	}
}

func TestEveryRuleSaysWhatPeopleMustKnow(t *testing.T) {
	for _, r := range engineOf(t, nil).Rules() {
		for what, text := range map[string]string{"meaning": r.Meaning, "false alarms": r.FalseAlarm, "tuning": r.Tuning, "remedy": r.Remedy} {
			if text == "" || !strings.HasSuffix(text, ".") {
				t.Errorf("%s: %s is no sentence: %q", r.ID, what, text)
			}
		}
		if strings.HasSuffix(r.Title, ".") || len(r.Techniques) == 0 || r.Theme == "" || len(r.Kinds) == 0 {
			t.Errorf("%s: a title with a full stop, or no technique, theme or kinds", r.ID)
		}
		for _, p := range r.Parameters {
			if p.Meaning == "" {
				t.Errorf("%s: parameter %s says not what it is", r.ID, p.Name)
			}
		}
	}
}

// A host compiles the conditions that come with the program when it needs them: that
// all of them can be is for here.
func TestBuiltInConditions(t *testing.T) {
	if err := detect.Check(nil); err != nil {
		t.Error(err)
	}
}

// What people make of a rule is compiled, and refused, at once.
func TestChangedConditionIsRefusedAtOnce(t *testing.T) {
	text := "change:\n- rule: shell-injection\n  params:\n    commands: \"(\"\n"
	for _, s := range []struct {
		name string
		err  error
	}{
		{"check", detect.Check([]detect.Text{{Name: "own", Body: []byte(text)}})},
		{"new", func() error { _, err := detect.New([]detect.Text{{Name: "own", Body: []byte(text)}}); return err }()},
	} {
		if s.err == nil || !strings.Contains(s.err.Error(), "missing closing") {
			t.Errorf("%s: %v", s.name, s.err)
		}
	}
}
