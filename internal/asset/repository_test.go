package asset_test

import (
	"strings"
	"testing"

	"github.com/castellan-security/castellan/internal/asset"
)

func TestIsRepository(t *testing.T) {
	for name, want := range map[string]bool{
		"shop":                    true,
		"shop/web":                true,
		"a.b_c__d---e/0":          true,
		strings.Repeat("a", 256):  true,
		"":                        false,
		strings.Repeat("a", 257):  false,
		"Shop":                    false,
		"shop/":                   false,
		"/shop":                   false,
		"shop//web":               false,
		"..":                      false,
		"shop/../web":             false,
		"shop/..web":              false,
		"a..b":                    false,
		"a___b":                   false,
		"a._b":                    false,
		"-a":                      false,
		"a-":                      false,
		"shop web":                false,
		"shop?n=1":                false,
		"shop%2fweb":              false,
		"shöp":                    false,
		"registry.example:5000/a": false,
		"shop\x00":                false,
	} {
		if got := asset.IsRepository(name); got != want {
			t.Errorf("IsRepository(%q) = %v", name, got)
		}
	}
}

func TestTags(t *testing.T) {
	digits := strings.Repeat("0f", 32)
	for _, tc := range []struct {
		tag             string
		valid, attached bool
	}{
		{"latest", true, false},
		{"V1.2_x-3", true, false},
		{"_a", true, false},
		{strings.Repeat("a", 128), true, false},
		{"", false, false},
		{strings.Repeat("a", 129), false, false},
		{".a", false, false},
		{"-a", false, false},
		{"a/b", false, false},
		{"a:b", false, false},
		{"ä", false, false},
		{"sha256-" + digits, true, true},
		{"sha256-" + digits + ".sig", true, true},
		{"sha256-" + digits + ".att", true, true},
		{"sha256-" + digits + ".sbom", true, true},
		{"sha256-" + digits[1:], true, false},
		{"sha256-" + digits + "0", true, false},
		{"sha256-abc.sig", true, false},
		{"release.sig", true, false},
	} {
		if got := asset.IsTag(tc.tag); got != tc.valid {
			t.Errorf("IsTag(%q) = %v", tc.tag, got)
		}
		if got := asset.IsAttachedTag(tc.tag); got != tc.attached {
			t.Errorf("IsAttachedTag(%q) = %v", tc.tag, got)
		}
	}
}
