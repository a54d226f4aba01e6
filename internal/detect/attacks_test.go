package detect_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/castellan-security/castellan/internal/detect"
	"github.com/castellan-security/castellan/internal/detect/trial"
)

// TestPublishedAttacksAreOneIncidentEachAndExplained holds what tools and exploits do
// that are public, and that the suites of test/docker don't contain, against all rules.
func TestPublishedAttacksAreOneIncidentEachAndExplained(t *testing.T) {
	files, err := filepath.Glob("library/testdata/attacks/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		var document struct {
			Attacks []struct {
				Name      string        `yaml:"name"`
				Technique string        `yaml:"technique"` // that explains it, or its beginning
				Events    []trial.Event `yaml:"events"`
			} `yaml:"attacks"`
		}
		if err := yaml.Unmarshal(b, &document); err != nil {
			t.Fatalf("%s: %v", f, err)
		}
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
