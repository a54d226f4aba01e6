package detect_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/detect"
	"github.com/castellan-security/castellan/internal/detect/trial"
)

// TestPublishedAttacksAreOneIncidentEachAndExplained holds what tools and exploits do
// that are public, and that the suites of test/docker don't contain, against all rules.
func TestPublishedAttacksAreOneIncidentEachAndExplained(t *testing.T) {
	for _, document := range documents[struct {
		Attacks []struct {
			Name      string        `yaml:"name"`
			Technique string        `yaml:"technique"` // that explains it, or its beginning
			Events    []trial.Event `yaml:"events"`
		} `yaml:"attacks"`
	}](t, "library/testdata/attacks/*.yaml") {
		for _, a := range document.Attacks {
			t.Run(a.Name, func(t *testing.T) {
				if len(a.Events) == 0 || a.Technique == "" {
					t.Fatal("it has no events, or no technique")
				}
				e, book := engineOf(t, nil), detect.NewBook()
				threats := observed(t, e, a.Events)
				explained := false
				for i := range threats {
					book.Take(&threats[i], start.Add(time.Hour))
					explained = explained || slices.ContainsFunc(threats[i].Techniques, func(is string) bool { return strings.HasPrefix(is, a.Technique) })
				}
				if !explained {
					t.Errorf("want %s; rules that fired: %q", a.Technique, rulesOf(threats))
				}
				if n := book.Len(); n > 1 {
					t.Errorf("%d incidents, want one: %q", n, rulesOf(threats))
				}
				complain(t, e)
			})
		}
	}
}
