package golang_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/scan/analyse"
	"github.com/castellan-security/castellan/internal/scan/analyse/golang"
	"github.com/castellan-security/castellan/internal/scan/analysetest"
)

// take returns what is shown, a line a package.
func take(path, content string) ([]string, error) {
	return analysetest.Lines(golang.Analyser{}, path, content)
}

func TestTake(t *testing.T) {
	for _, tc := range []struct {
		name, path, content string
		want                []string
	}{
		{"go.mod", "src/go.mod", "module example.com/app // comment\n\ngo 1.21.5\n\ntoolchain go1.22.1\n\nrequire example.com/a v1.0.0\n\nrequire (\n\texample.com/b v2.0.0+incompatible // indirect\n\t\"example.com/c\" v0.1.0\n\texample.com/d v0.2.0\n\texample.com/e v0.3.0\n)\n\nexclude example.com/a v0.9.0\n\nreplace (\n\texample.com/c => ../c\n\texample.com/d v0.2.0 => example.com/fork v0.2.1\n\texample.com/e v0.0.1 => example.com/x v1.0.0\n)\n",
			[]string{"golang:stdlib 1.22.1 declared [Go]", "golang:example.com/a v1.0.0 declared [Go]", "golang:example.com/b v2.0.0+incompatible declared [Go] indirect", "golang:example.com/fork v0.2.1 declared [Go]", "golang:example.com/e v0.3.0 declared [Go]"}},
		{"a version of the language", "go.mod", "module a\n\ngo 1.20\n", nil},
		{"the lowest release", "go.mod", "module a\n\ngo 1.21.0\n", []string{"golang:stdlib 1.21.0 declared [Go]"}},
		{"nonsense", "go.mod", "require\nreplace =>\nreplace a =>\nrequire (\n)\n)\n", nil},
		{"of a module that was fetched", "root/go/pkg/mod/example.com/a@v1.0.0/go.mod", "module a\n", []string{"not wanted"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := take(tc.path, tc.content)
			if err != nil {
				t.Errorf("Take() = %v", err)
			}
			if diff := cmp.Diff(got, tc.want); diff != "" {
				t.Errorf("got, want: %s", diff)
			}
		})
	}
}

func TestBrokenFiles(t *testing.T) {
	for path, content := range map[string]string{
		"a/go.mod": "require (\n" + strings.Repeat("a v1.0.0\n", analyse.MaxPackages+1) + ")\n",
		"go.mod":   "require a v" + strings.Repeat("1", 2000) + "\n",
	} {
		if got, err := take(path, content); err == nil {
			t.Errorf("%s: %q, want an error", path, got)
		}
	}
}

func FuzzTake(f *testing.F) {
	paths := []string{"go.mod"}
	f.Add(0, "module a\nrequire (\n\ta v1 // indirect\n)\nreplace a v1 => b v2\n")
	f.Fuzz(func(_ *testing.T, i int, content string) {
		_, _ = take(paths[uint(i)%uint(len(paths))], content)
	})
}
