package rule_test

import (
	"strings"
	"testing"

	"github.com/castellan-security/castellan/internal/detect/rule"
)

func TestLike(t *testing.T) {
	for _, tc := range []struct {
		pattern, text string
		want          bool
	}{
		{"a", "a", true}, {"a", "ab", false}, {"*", "", true}, {"*", "a/b", false}, {"**", "a/b", true}, {"a/*", "a/b", true}, {"a/*", "a/b/c", false},
		{"a/**", "a/b/c", true}, {"**/x", "/x", true}, {"**/x", "a/b/x", true}, {"**/x", "a/bx", false}, {"/proc/*/mem", "/proc/1/mem", true},
		{"/proc/*/mem", "/proc/1/task/2/mem", false}, {"**/proc/**/mem", "/host/proc/1/task/2/mem", true}, {"**/a*/c", "/x/ab/d/ab/c", true},
		{strings.Repeat("*a", 400), strings.Repeat("a", 5000) + "b", false}, // takes no time
	} {
		if got := rule.Like(tc.text, tc.pattern); got != tc.want {
			t.Errorf("Like(%.40q, %.40q) = %v, want %v", tc.text, tc.pattern, got, tc.want)
		}
	}
}

func TestDomain(t *testing.T) {
	for name, want := range map[string]string{"a.b.example.com": "example.com", "x.example.co.uk": "example.co.uk", "com": "com", "example.com": "example.com", "co.uk": "co.uk", "": "", ".": "."} {
		if got := rule.Domain(name); got != want {
			t.Errorf("Domain(%q) = %q, want %q", name, got, want)
		}
	}
}
