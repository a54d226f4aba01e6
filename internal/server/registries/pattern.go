package registries

import (
	"strings"

	"github.com/castellan-security/castellan/internal/fault"
)

// Limits of the patterns of one registry: with them, a name is held against all
// in some microseconds, whatever they are.
const (
	maxPatterns = 100
	maxPattern  = 255 // bytes, as long as a repository's name may be
	// maxStars bounds the ways in which one pattern can match.
	maxStars = 8
)

// chooses reports whether patterns mean a name: the last that matches decides.
// With none that includes, all are meant that none excludes.
func chooses(patterns []string, name string) bool {
	chosen := true
	for _, p := range patterns {
		if !strings.HasPrefix(p, "!") {
			chosen = false
			break
		}
	}
	for _, p := range patterns {
		if p, excludes := strings.CutPrefix(p, "!"); matches(p, name) {
			chosen = !excludes
		}
	}
	return chosen
}

// matches reports whether a pattern matches all of a name: "*" stands for any
// characters but "/", "**" for any, "?" for one character but "/", and everything
// else for itself.
//
// It goes through the name once and comes back only to the last "*" and the last
// "**": what stands before a star has matched as early as it can.
func matches(pattern, name string) bool {
	type place struct{ pattern, name int }
	star, wide := place{pattern: -1}, place{pattern: -1}
	p, n := 0, 0
	for n < len(name) {
		switch {
		case strings.HasPrefix(pattern[p:], "**"):
			wide, star = place{p, n}, place{pattern: -1}
			p += len("**")
			continue
		case p < len(pattern) && pattern[p] == '*':
			star = place{p, n}
			p++
			continue
		case p < len(pattern) && (pattern[p] == name[n] || pattern[p] == '?' && name[n] != '/'):
			p++
			n++
			continue
		case star.pattern >= 0 && name[star.name] != '/':
			star.name++
			p, n = star.pattern+1, star.name
			continue
		case wide.pattern >= 0:
			wide.name++
			p, n, star = wide.pattern+len("**"), wide.name, place{pattern: -1}
			continue
		}
		return false
	}
	return strings.Trim(pattern[p:], "*") == ""
}

// checkPatterns returns what is wrong with patterns.
func checkPatterns(field string, patterns []string) error {
	if len(patterns) > maxPatterns {
		return fault.New(fault.Invalid, "%s: %d patterns, want %d at most", field, len(patterns), maxPatterns)
	}
	for _, p := range patterns {
		switch bare := strings.TrimPrefix(p, "!"); {
		case bare == "":
			return fault.New(fault.Invalid, "%s: an empty pattern", field).With(`write what it is to match, as in shop/* or !*-test`)
		case len(p) > maxPattern:
			return fault.New(fault.Invalid, "%s: a pattern of %d bytes, want %d at most", field, len(p), maxPattern)
		case strings.Count(p, "*") > maxStars:
			return fault.New(fault.Invalid, "%s: %q has more than %d stars", field, p, maxStars).With("write two patterns instead")
		case strings.ContainsFunc(bare, func(r rune) bool { return !isNameRune(r) && r != '*' && r != '?' }):
			return fault.New(fault.Invalid, "%s: %q has characters that no name has", field, p).
				With("names have letters, digits and . _ - /; a pattern also * ** ? and a leading !")
		}
	}
	return nil
}

// isNameRune reports whether names of repositories and tags can have a character.
func isNameRune(r rune) bool {
	return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("._-/", r)
}
