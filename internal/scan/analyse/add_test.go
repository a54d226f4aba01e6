package analyse_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan/analyse"
)

func TestAddIsBounded(t *testing.T) {
	long := strings.Repeat("x", analyse.MaxName+1)
	for _, tc := range []struct {
		name string
		p    inventory.Package
		want int
		ok   bool
	}{
		{"a package", inventory.Package{Name: "a", Version: "1"}, 1, true},
		{"no name", inventory.Package{Version: "1"}, 0, true},
		{"long name", inventory.Package{Name: long}, 0, false},
		{"long namespace", inventory.Package{Name: "a", Namespace: long[1:]}, 0, false},
		{"long version", inventory.Package{Name: "a", Version: long}, 0, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var s analyse.Shown
			if err := s.Add(tc.p); (err == nil) != tc.ok || len(s.Packages) != tc.want {
				t.Errorf("Add() = %v with %d packages, want ok: %v, %d", err, len(s.Packages), tc.ok, tc.want)
			}
		})
	}
	s := analyse.Shown{Packages: make([]inventory.Package, analyse.MaxPackages)}
	if err := s.Add(inventory.Package{Name: "a"}); err == nil {
		t.Error("Add() past MaxPackages = nil, want an error")
	}
}

func TestAddCleansLicenses(t *testing.T) {
	var s analyse.Shown
	if err := s.Add(inventory.Package{Name: "a", Licenses: []string{" MIT ", "", "MIT", "Apache-2.0", "Copyright\nAll rights"}}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(s.Packages[0].Licenses, []string{"MIT", "Apache-2.0"}); diff != "" {
		t.Errorf("licences: got, want: %s", diff)
	}
}

func TestEntryParts(t *testing.T) {
	for path, want := range map[string][2]string{"a/b/c.json": {"a/b", "c.json"}, "c.json": {"", "c.json"}, "": {"", ""}} {
		e := analyse.Entry{Path: path}
		if got := [2]string{e.Folder(), e.Base()}; got != want {
			t.Errorf("Folder(), Base() of %q = %q, want %q", path, got, want)
		}
	}
}
