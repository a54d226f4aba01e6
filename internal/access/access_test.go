package access_test

import (
	"slices"
	"testing"

	"github.com/castellan-security/castellan/internal/access"
)

func TestZeroValuesMayNothing(t *testing.T) {
	for _, s := range access.Scopes() {
		if (access.Identity{}).May(s) {
			t.Errorf("the zero identity may %s", s)
		}
	}
	for _, r := range []access.Role{"", "root", "Administrator"} {
		if r.Valid() || len(r.Scopes()) != 0 {
			t.Errorf("the role %q is valid: %v, with %v", r, r.Valid(), r.Scopes())
		}
	}
}

func TestEachRoleIncludesTheOneBefore(t *testing.T) {
	var before []access.Scope
	for _, r := range access.Roles() {
		have := r.Scopes()
		for _, s := range before {
			if !slices.Contains(have, s) {
				t.Errorf("%s lacks %s, which the role before has", r, s)
			}
		}
		before = have
	}
}
