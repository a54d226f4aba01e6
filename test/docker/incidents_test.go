package docker_test

import (
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/detect"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/threat"
)

// firstTechnique is the technique that the first line of an attack's script names first.
var firstTechnique = regexp.MustCompile(`MITRE ATT&CK (T\d{4}(?:\.\d{3})?)`)

// incidentsOf returns the incidents of a group that have something since a moment.
func (s *attackedShop) incidentsOf(g asset.Group, since time.Time) ([]threat.Incident, error) {
	var page struct{ Incidents []threat.Incident }
	query := url.Values{"since": {since.UTC().Format(time.RFC3339)}}
	if g != "" {
		query.Set("group", string(g))
	}
	if err := s.ask(&page, "/detect/incidents", query); err != nil {
		return nil, err
	}
	return slices.DeleteFunc(page.Incidents, func(i threat.Incident) bool {
		// Other tests have containers on this host, too; they are in no group of the shop.
		ours := slices.ContainsFunc(i.Groups, func(g string) bool { return strings.HasPrefix(g, "shop/") })
		return !ours || len(rulesSince(&i, since)) == 0
	}), nil
}

// rulesSince are the rules of an incident that fired since a moment.
func rulesSince(i *threat.Incident, since time.Time) (out []string) {
	for _, r := range i.Rules {
		if !r.Last.Before(since) {
			out = append(out, r.Rule)
		}
	}
	return out
}

// clock logs, until what it returns is called, how long after what happened each rule's
// threat was in an incident of the server.
func (s *attackedShop) clock(t *testing.T) (stop func()) {
	began, end := time.Now(), make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		seen := map[string]bool{}
		for {
			select {
			case <-end:
				return
			case <-tick.C:
			}
			all, err := s.incidentsOf("", began)
			if err != nil {
				t.Errorf("ask for incidents: %v", err)
				return
			}
			for _, i := range all {
				for _, r := range i.Rules {
					if !r.Last.Before(began) && !seen[r.Rule] {
						seen[r.Rule] = true
						t.Logf("%s was told %s after it happened", r.Rule, time.Since(r.Last).Round(time.Millisecond))
					}
				}
			}
		}
	})
	return func() { close(end); watching.Wait() }
}

// soon is how long after the end of an attack the last event may be that a rule needs to
// tell it, by the clock of the events: no rule waits for a count that comes by the minute,
// or for a flow that falls silent. How long a busy machine takes to look at the event is
// not held against it.
const soon = time.Second

// detected waits for an incident of the attacked group in which a rule that is meant for
// the attack fired since a moment. All that rules tell of it is of that one incident, and
// its techniques have the one that the attack's script names first. It was told by what
// happened while the attack lasted.
func (s *attackedShop) detected(t *testing.T, name string, a attack, since, ended time.Time) {
	t.Helper()
	text, err := os.ReadFile("../../demo/attacks/" + name + ".sh")
	if err != nil {
		t.Fatal(err)
	}
	want := firstTechnique.FindStringSubmatch(string(text))
	if want == nil {
		t.Fatal("the script names no technique")
	}
	var last []threat.Incident
	var rules []string
	for end := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		if last, err = s.incidentsOf(a.group, since); err != nil {
			t.Fatal(err)
		}
		rules = nil
		for _, i := range last {
			rules = append(rules, rulesSince(&i, since)...)
		}
		if slices.ContainsFunc(a.rules, func(rule string) bool { return slices.Contains(rules, rule) }) && s.explains(rules, want[1]) {
			break
		}
		if time.Now().After(end) {
			t.Errorf("no incident has one of %v, and the technique %s; rules that fired: %v", a.rules, want[1], rules)
			return
		}
	}
	if len(last) != 1 {
		t.Errorf("it became %d incidents:", len(last))
		for _, i := range last {
			t.Errorf("  %d %s: %v", i.ID, i.Title, rulesSince(&i, since))
		}
	}
	t.Logf("%s %s: %v", want[1], last[0].Severity, rules)
	if first := firstOf(last, a.rules, since); first.After(ended.Add(soon)) {
		t.Errorf("it was told by an event of %s after its end", first.Sub(ended))
	}
}

// firstOf is when the first of these rules fired, of those that fired since a moment.
func firstOf(incidents []threat.Incident, rules []string, since time.Time) (first time.Time) {
	for _, i := range incidents {
		for _, r := range i.Rules {
			if slices.Contains(rules, r.Rule) && !r.Last.Before(since) && (first.IsZero() || r.Last.Before(first)) {
				first = r.Last
			}
		}
	}
	return first
}

// explains says that one of these rules is of a technique, or a technique below it.
func (s *attackedShop) explains(rules []string, technique string) bool {
	return slices.ContainsFunc(rules, func(rule string) bool {
		return slices.ContainsFunc(s.techniques[rule], func(is string) bool { return strings.HasPrefix(is, technique) })
	})
}

// techniquesOf are those of all built-in rules.
func techniquesOf(t *testing.T) map[string][]string {
	t.Helper()
	e, err := detect.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][]string{}
	for _, r := range e.Rules() {
		out[r.ID] = r.Techniques
	}
	return out
}

// Work that looks like the attacks on the demo's shop, beside the shop at work, makes no
// incident above low. Each attack has a look-alike of the same name.
func TestLookAlikesAreNoIncidents(t *testing.T) {
	scripts, err := filepath.Glob("../../demo/lookalikes/*.sh")
	if err != nil {
		t.Fatal(err)
	}
	s := openShop(t)
	began := time.Now()
	alike := map[string]bool{}
	for _, script := range scripts {
		name := strings.TrimSuffix(filepath.Base(script), ".sh")
		if name == "lib" {
			continue
		}
		alike[name] = true
		t.Run(name, func(t *testing.T) {
			since := time.Now()
			word, err := s.runs(80*time.Second, "bash", script[len("../../"):])
			if err != nil || !strings.HasPrefix(word, "worked: ") {
				t.Fatalf("it did not work: %v, %s", err, word)
			}
			s.known(s.storefront)
			s.quiet(t, since)
		})
	}
	for name := range attacks {
		if !alike[name] {
			t.Errorf("the attack %s has no look-alike", name)
		}
	}
	s.known("ordinary")
	s.quiet(t, began) // what came late
}

// quiet fails the test for incidents above low that have something since a moment.
func (s *attackedShop) quiet(t *testing.T, since time.Time) {
	t.Helper()
	all, err := s.incidentsOf("", since)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range all {
		t.Logf("%s: %v: %s", i.Severity, rulesSince(&i, since), i.Story)
		if i.Severity > finding.Low {
			t.Errorf("incident %d is %s: %v", i.ID, i.Severity, rulesSince(&i, since))
		}
	}
}
