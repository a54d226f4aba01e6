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

// TestCarriedOut: a list of what was to be installed says nothing of what was not,
// once half of it is there.
func TestCarriedOut(t *testing.T) {
	dist := func(name, version string) string {
		return "file venv/lib/site-packages/" + name + "-" + version + ".dist-info/METADATA Name: " + name + "\nVersion: " + version + "\n"
	}
	const wants = "file app/requirements.txt zope-interface==1.0\nb==2.0\nc==3.0\n"
	s := scan.New(scan.Options{})
	for _, tc := range []struct {
		name  string
		layer []string
		want  []string
	}{
		{"nothing is there", []string{wants}, []string{"pypi b /app/requirements.txt 1", "pypi c /app/requirements.txt 1", "pypi zope-interface /app/requirements.txt 1"}},
		{"less than half", []string{wants, dist("b", "2.0"), dist("pip", "24.0")},
			[]string{"pypi b /app/requirements.txt 1", "pypi b /venv/lib/site-packages/b-2.0.dist-info/METADATA 1", "pypi c /app/requirements.txt 1",
				"pypi pip /venv/lib/site-packages/pip-24.0.dist-info/METADATA 1", "pypi zope-interface /app/requirements.txt 1"}},
		{"half, one in another version", []string{wants, dist("b", "2.1"), dist("zope.interface", "1.0")},
			[]string{"pypi b /venv/lib/site-packages/b-2.1.dist-info/METADATA 1", "pypi zope.interface /venv/lib/site-packages/zope.interface-1.0.dist-info/METADATA 1"}},
		{"what is for development does not count", []string{`file app/Pipfile.lock {"default":{"b":{"version":"==2.0"}},"develop":{"c":{"version":"==1"},"d":{"version":"==1"}}}`, dist("b", "2.0")},
			[]string{"pypi b /app/Pipfile.lock 1", "pypi b /venv/lib/site-packages/b-2.0.dist-info/METADATA 1"}},
		{"of another language", []string{wants, "file gems/specifications/b-2.0.gemspec # stub: b 2.0 ruby lib\n", "file gems/specifications/c-3.0.gemspec # stub: c 3.0 ruby lib\n"},
			[]string{"gem b /gems/specifications/b-2.0.gemspec 1", "gem c /gems/specifications/c-3.0.gemspec 1", "pypi b /app/requirements.txt 1", "pypi c /app/requirements.txt 1", "pypi zope-interface /app/requirements.txt 1"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inv, _ := mustScan(t, s, imageOf(t, tc.layer))
			if diff := cmp.Diff(tc.want, listing(inv)); diff != "" {
				t.Errorf("packages (-want +got):\n%s", diff)
			}
		})
	}
}
