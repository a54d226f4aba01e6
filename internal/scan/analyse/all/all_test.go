package all_test

import (
	"os"
	"path"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/castellan-security/castellan/internal/scan/analyse/all"
)

// TestEveryFolderIsListed: an analyser that nobody lists finds nothing. A folder
// that serves analysers without being one has no type called Analyser.
func TestEveryFolderIsListed(t *testing.T) {
	var listed []string
	for _, a := range all.Analysers() {
		listed = append(listed, path.Base(reflect.TypeOf(a).PkgPath()))
	}
	folders, err := os.ReadDir("..")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range folders {
		if f.IsDir() && f.Name() != "all" && hasAnalyser(t, path.Join("..", f.Name())) && !slices.Contains(listed, f.Name()) {
			t.Errorf("analyser %s is not in all.go", f.Name())
		}
	}
	if len(listed) < 2 {
		t.Errorf("%d analysers are listed: %v", len(listed), listed)
	}
}

// method is how a type shows that it is an analyser.
var method = regexp.MustCompile(`(?m)^func \([^)]*\) Wants\(`)

func hasAnalyser(t *testing.T, folder string) bool {
	t.Helper()
	files, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	return slices.ContainsFunc(files, func(f os.DirEntry) bool {
		if !strings.HasSuffix(f.Name(), ".go") || strings.HasSuffix(f.Name(), "_test.go") {
			return false
		}
		src, err := os.ReadFile(path.Join(folder, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		return method.Match(src)
	})
}

func TestNamesAreUnique(t *testing.T) {
	seen := map[string]bool{}
	for _, a := range all.Analysers() {
		if seen[a.Name()] || a.Name() == "" {
			t.Errorf("name %q is taken", a.Name())
		}
		seen[a.Name()] = true
	}
}
