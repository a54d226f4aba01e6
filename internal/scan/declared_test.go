package scan_test

import (
	"testing"
	"testing/fstest"

	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan"
	"github.com/google/go-cmp/cmp"
)

// TestAbsent: where packages are installed, what a lock file only names is left
// out.
func TestAbsent(t *testing.T) {
	const (
		lock = `{"packages":{"node_modules/a":{"version":"1.0.0"},"node_modules/b":{"version":"2.0.0"}}}`
		a    = "file app/node_modules/a/package.json {\"name\":\"a\",\"version\":\"1.0.0\"}"
		php  = `{"packages":[{"name":"x/a","version":"1"},{"name":"x/b","version":"2"}]}`
	)
	s := scan.New(scan.Options{})
	for _, tc := range []struct {
		name   string
		layers [][]string
		want   []string
	}{
		{"a tree beside the lock", [][]string{{"file app/package-lock.json " + lock}, {a}}, []string{"npm a /app/node_modules/a/package.json 2", "npm a /app/package-lock.json 1"}},
		{"another version in the tree", [][]string{{"file app/package-lock.json " + lock, `file app/node_modules/b/package.json {"name":"b","version":"2.1.0"}`}},
			[]string{"npm b /app/node_modules/b/package.json 1"}},
		{"no tree", [][]string{{"file app/package-lock.json " + lock}}, []string{"npm a /app/package-lock.json 1", "npm b /app/package-lock.json 1"}},
		{"a tree that was removed", [][]string{{"file app/package-lock.json " + lock, a}, {"gone app/node_modules"}}, []string{"npm a /app/package-lock.json 1", "npm b /app/package-lock.json 1"}},
		{"a tree elsewhere", [][]string{{"file src/package-lock.json " + lock, a}},
			[]string{"npm a /app/node_modules/a/package.json 1", "npm a /src/package-lock.json 1", "npm b /src/package-lock.json 1"}},
		{"in the tree of a workspace", [][]string{{"file app/package-lock.json " + lock, a, `file app/part/node_modules/b/package.json {"name":"b","version":"2.0.0"}`}},
			[]string{"npm a /app/node_modules/a/package.json 1", "npm a /app/package-lock.json 1", "npm b /app/package-lock.json 1", "npm b /app/part/node_modules/b/package.json 1"}},
		{"Composer", [][]string{{"file composer.lock " + php, `file vendor/composer/installed.json {"packages":[{"name":"x/a","version":"1"}]}`}},
			[]string{"composer a /composer.lock 1", "composer a /vendor/composer/installed.json 1"}},
		{"of another language", [][]string{{"file app/composer.lock " + php, a}},
			[]string{"composer a /app/composer.lock 1", "composer b /app/composer.lock 1", "npm a /app/node_modules/a/package.json 1"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inv, _ := mustScan(t, s, imageOf(t, tc.layers...))
			if diff := cmp.Diff(tc.want, listing(inv)); diff != "" {
				t.Errorf("packages (-want +got):\n%s", diff)
			}
		})
	}
	source := fstest.MapFS{"package-lock.json": {Data: []byte(lock)}, "node_modules/a/package.json": {Data: []byte(`{"name":"a","version":"1.0.0"}`)}}
	for kind, want := range map[inventory.Kind]int{inventory.KindSource: 2, inventory.KindRoot: 1} {
		inv, err := s.Tree(t.Context(), source, scan.Target{Kind: kind})
		if err != nil {
			t.Fatal(err)
		}
		if got := len(inv.Packages); got != want {
			t.Errorf("%s: %d packages, want %d", kind, got, want)
		}
	}
}
