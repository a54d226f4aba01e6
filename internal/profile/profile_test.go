package profile_test

import (
	"testing"

	"github.com/castellan-security/castellan/internal/profile"
)

func TestPatternsStandForPaths(t *testing.T) {
	for _, tc := range []struct {
		pattern, path string
		want          bool
	}{
		{"/etc/passwd", "/etc/passwd", true},
		{"/etc/passwd", "/etc/passwd-", false},
		{"/etc/passwd", "/etc", false},
		{"/etc/passwd", "etc/passwd", false},
		{"/", "/", true},
		{"/", "/a", false},
		{"/tmp/*", "/tmp/a", true},
		{"/tmp/*", "/tmp/a/b", false},
		{"/tmp/*", "/tmp/", false},
		{"/tmp/*", "/tmp", false},
		{"/tmp/a*b", "/tmp/ab", true},
		{"/tmp/a*b", "/tmp/axb", true},
		{"/tmp/aa*aa", "/tmp/aaa", false},
		{"/var/log/*.log", "/var/log/x.log", true},
		{"/var/log/*.log", "/var/log/x.log.1", false},
		{"/proc/*/stat", "/proc/12/stat", true},
		{"/proc/*/stat", "/proc/12/x/stat", false},
		{"/data/**", "/data/a/b/c", true},
		{"/data/**", "/data/a", true},
		{"/data/**", "/data", false},
		{"/data/**", "/data/", false},
		{"/data/**", "/database/a", false},
		{"/data/*/x/**", "/data/1/x/y", true},
		{"/data/*/x/**", "/data/1/y/x", false},
	} {
		if got := profile.Pattern(tc.pattern).Match(tc.path); got != tc.want {
			t.Errorf("%s matches %s: %v, want %v", tc.pattern, tc.path, got, tc.want)
		}
	}
}

func TestPatternsThatAreNone(t *testing.T) {
	for _, p := range []profile.Pattern{"", "etc", "/a//b", "/a/", "/a/../b", "/a/./b", "/a/**/b", "/a*b*c", "/a\x00b"} {
		if p.Check() == nil {
			t.Errorf("%q passes", p)
		}
	}
	for _, p := range []profile.Pattern{"/", "/**", "/a", "/a/*", "/a/b*c/**"} {
		if err := p.Check(); err != nil {
			t.Errorf("%q: %v", p, err)
		}
	}
}

func TestPatternsCoverPatterns(t *testing.T) {
	for _, tc := range []struct {
		p, o string
		want bool
	}{
		{"/a", "/a", true}, {"/a", "/b", false}, {"/a/*", "/a/b", true}, {"/a/b", "/a/*", false},
		{"/a/**", "/a/b/c", true}, {"/a/**", "/a/**", true}, {"/a/**", "/a", false}, {"/a/*", "/a/**", false},
		{"/**", "/a/**", true}, {"/a/x*", "/a/xy*", true}, {"/a/xy*", "/a/x*", false}, {"/a/*.log", "/a/b*.log", true},
		{"/a/*", "/a/b/c", false}, {"/a/*/c", "/a/b*/c", true}, {"/a/ab*ba", "/a/aba", false},
	} {
		if got := profile.Pattern(tc.p).Covers(profile.Pattern(tc.o)); got != tc.want {
			t.Errorf("%s covers %s: %v, want %v", tc.p, tc.o, got, tc.want)
		}
	}
}

func TestRulesWithoutAnswersAreRefused(t *testing.T) {
	r := profile.Rules{Group: "a/b/c", Answers: map[profile.Control]profile.Answer{}}
	for _, c := range profile.Controls() {
		if r.Check() == nil {
			t.Fatalf("rules without an answer for %s pass", c)
		}
		r.Answers[c] = profile.Deny
	}
	if err := r.Check(); err != nil {
		t.Fatal(err)
	}
	r.File.Writes = []profile.Pattern{"tmp"}
	if r.Check() == nil {
		t.Error("rules with a pattern that is none pass")
	}
}
