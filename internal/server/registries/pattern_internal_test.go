package registries

import (
	"regexp"
	"strings"
	"testing"
)

func TestMatches(t *testing.T) {
	for _, tc := range []struct {
		pattern, name string
		want          bool
	}{
		{"shop/web", "shop/web", true},
		{"shop/web", "shop/webs", false},
		{"shop/*", "shop/web", true},
		{"shop/*", "shop/web/old", false},
		{"shop/**", "shop/web/old", true},
		{"*", "web", true},
		{"*", "shop/web", false},
		{"**", "shop/web", true},
		{"**/web", "shop/eu/web", true},
		{"**/web", "web", false},
		{"**web", "web", true},
		{"v*.*", "v1.2", true},
		{"v*.*", "v12", false},
		{"v?", "v1", true},
		{"v?", "v12", false},
		{"a?b", "a/b", false},
		{"a*b*c", "axxbyybzzc", true},
		{"a*b*c", "axxbyybzz", false},
		{"a**b*c", "a/x/b/yb-c", true},
		{"a**b*c", "a/x/b/y/c", false},
		{"a**/b*c", "a/b/b/bc", true},
		{"*-test", "web-test", true},
		{"", "", true},
		{"", "a", false},
		{"**", "", true},
		{"a", "", false},
		{"2.*", "2.4.1", true},
		{"2.*", "254", false},
	} {
		if got := matches(tc.pattern, tc.name); got != tc.want {
			t.Errorf("matches(%q, %q) = %v, want %v", tc.pattern, tc.name, got, tc.want)
		}
	}
}

func TestTheLastPatternThatMatchesDecides(t *testing.T) {
	for _, tc := range []struct {
		name     string
		patterns []string
		of       string
		want     bool
	}{
		{"none means all", nil, "shop/web", true},
		{"one that includes", []string{"shop/*"}, "shop/web", true},
		{"one that includes something else", []string{"shop/*"}, "ops/tool", false},
		{"only an exclusion", []string{"!ops/*"}, "shop/web", true},
		{"what only an exclusion excludes", []string{"!ops/*"}, "ops/tool", false},
		{"excluded from what is included", []string{"shop/*", "!shop/*-test"}, "shop/web-test", false},
		{"included again", []string{"shop/*", "!shop/*-test", "shop/one-test"}, "shop/one-test", true},
		{"the order counts", []string{"!shop/*-test", "shop/*"}, "shop/web-test", true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := chooses(tc.patterns, tc.of); got != tc.want {
				t.Errorf("got %v, want %v", got, tc.want)
			}
		})
	}
}

func TestCheckPatterns(t *testing.T) {
	for _, tc := range []struct {
		name     string
		patterns []string
		want     string
	}{
		{"good ones", []string{"shop/**", "!*-test", "v?.*"}, ""},
		{"empty", []string{"!"}, "empty pattern"},
		{"spaces", []string{"shop web"}, "characters that no name has"},
		{"too many stars", []string{strings.Repeat("a*", maxStars+1)}, "more than 8 stars"},
		{"too long", []string{strings.Repeat("a", maxPattern+1)}, "256 bytes"},
		{"too many", make([]string, maxPatterns+1), "101 patterns"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := checkPatterns("tags", tc.patterns)
			if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

// FuzzMatches holds the matcher against regular expressions that mean the same.
func FuzzMatches(f *testing.F) {
	for _, seed := range [][2]string{{"shop/*", "shop/web"}, {"a**b*c", "a/x/b/yb-c"}, {"**/x?", "a/b/xy"}, {"*a*a*", "aaa/aaa"}, {"***", "a/"}} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, pattern, name string) {
		if checkPatterns("tags", []string{pattern}) != nil || strings.HasPrefix(pattern, "!") || len(name) > 64 || strings.ContainsFunc(name, func(r rune) bool { return !isNameRune(r) }) {
			return
		}
		e := strings.NewReplacer(`\*\*`, `.*`, `\*`, `[^/]*`, `\?`, `[^/]`).Replace(regexp.QuoteMeta(pattern))
		want := regexp.MustCompile("^(?:" + e + ")$").MatchString(name)
		if got := matches(pattern, name); got != want {
			t.Errorf("matches(%q, %q) = %v, want %v", pattern, name, got, want)
		}
	})
}
