package detect_test

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/detect"
	"github.com/castellan-security/castellan/internal/detect/trial"
	"github.com/castellan-security/castellan/internal/event"
)

// TestPublishedAttacksAreOneIncidentEachAndExplained holds what tools and exploits do
// that are public, and that the suites of test/docker don't contain, against all rules.
func TestPublishedAttacksAreOneIncidentEachAndExplained(t *testing.T) {
	for _, document := range documents[struct {
		Attacks []struct {
			Name      string        `yaml:"name"`
			Technique string        `yaml:"technique"` // that explains it, or its beginning
			Missed    string        `yaml:"missed"`    // why nothing explains it, where nothing does
			Events    []trial.Event `yaml:"events"`
		} `yaml:"attacks"`
	}](t, "library/testdata/attacks/*.yaml") {
		for _, a := range document.Attacks {
			t.Run(a.Name, func(t *testing.T) {
				if len(a.Events) == 0 || a.Technique == "" {
					t.Fatal("it has no events, or no technique")
				}
				e, book := engineOf(t, nil), detect.NewBook()
				threats := observed(t, e, afterAWhile(a.Events))
				explained := false
				for i := range threats {
					book.Take(&threats[i], start.Add(time.Hour))
					explained = explained || slices.ContainsFunc(threats[i].Techniques, func(is string) bool { return strings.HasPrefix(is, a.Technique) })
				}
				if explained != (a.Missed == "") {
					t.Errorf("want %s unless it is missed (%q); rules that fired: %q", a.Technique, a.Missed, rulesOf(threats))
				}
				if n := book.Len(); n > 1 {
					t.Errorf("%d incidents, want one: %q", n, rulesOf(threats))
				}
				complain(t, e)
			})
		}
	}
}

// afterAWhile puts the first process of a container before what happens in it, which
// then begins ten minutes later: rules say nothing of much that belongs to the start.
func afterAWhile(events []trial.Event) []trial.Event {
	if kind, _ := events[0]["on"].(string); event.Kind(kind) == event.KindCall {
		return events
	}
	first := maps.Clone(events[0])
	first["after"] = "10m"
	entry := trial.Event{"on": string(event.KindExec), "pid": 1, "parent": 0, "cpid": 1, "exe": "/usr/bin/app"}
	return append([]trial.Event{entry, first}, events[1:]...)
}
