package profile

import (
	"fmt"
	"strings"
)

// Pattern stands for paths. It is absolute and has no "." or ".." in it:
//
//   - "*" within a name stands for any characters of that name, also none; one
//     name has at most one: "/var/log/nginx/*.log", "/tmp/npm-*", "/proc/*/stat"
//   - "**" as the last name stands for whatever is below, at any depth, but not
//     for the folder itself: "/var/lib/postgresql/**"
//
// Everything else stands for itself. A kernel can decide on it with a few
// look-ups a name; what it can't say, profiles don't say.
type Pattern string

// MaxPattern bounds a pattern, in bytes, as PATH_MAX bounds a path, and
// MaxDepth its names: deeper paths are cut by the sensors.
const (
	MaxPattern = 4096
	MaxDepth   = 64
)

// deep is the last name of a pattern that stands for all below.
const deep = "**"

// Check returns an error that says what is wrong with the pattern.
func (p Pattern) Check() error {
	s := string(p)
	switch {
	case len(s) > MaxPattern:
		return fmt.Errorf("a pattern of %d bytes is longer than any path", len(s))
	case !strings.HasPrefix(s, "/"):
		return fmt.Errorf("%q is not absolute: begin it with /", s)
	case s == "/":
		return nil
	case strings.ContainsAny(s, "\x00"):
		return fmt.Errorf("%q has a zero byte in it", s)
	}
	names := p.Names()
	if len(names) > MaxDepth {
		return fmt.Errorf("%q is deeper than %d folders", s, MaxDepth)
	}
	for i, n := range names {
		switch {
		case n == "" || n == "." || n == "..":
			return fmt.Errorf("%q has the name %q in it: write the path as it is", s, n)
		case n == deep && i < len(names)-1:
			return fmt.Errorf("%q has ** before its end: it stands for everything below and must be last", s)
		case n != deep && strings.Count(n, "*") > 1:
			return fmt.Errorf("%q has a name with more than one *", s)
		}
	}
	return nil
}

// Names returns the names between the slashes; none for "/".
func (p Pattern) Names() []string {
	s := strings.TrimPrefix(string(p), "/")
	if s == "" {
		return nil
	}
	return strings.Split(s, "/")
}

// Exact reports whether the pattern stands for one path alone.
func (p Pattern) Exact() bool { return !strings.Contains(string(p), "*") }

// Match reports whether path, absolute and clean, is one that p stands for.
func (p Pattern) Match(path string) bool {
	pattern, rest := strings.TrimPrefix(string(p), "/"), strings.TrimPrefix(path, "/")
	if !strings.HasPrefix(string(p), "/") || !strings.HasPrefix(path, "/") {
		return false
	}
	for {
		want, more, wants := strings.Cut(pattern, "/")
		got, left, has := strings.Cut(rest, "/")
		switch {
		case want == deep && !wants:
			return got != "" // something is below
		case !matchName(want, got) || wants != has:
			return false
		case !wants:
			return true
		}
		pattern, rest = more, left
	}
}

// matchName matches one name.
func matchName(pattern, name string) bool {
	before, after, any := strings.Cut(pattern, "*")
	if !any {
		return pattern == name
	}
	return name != "" && len(name) >= len(before)+len(after) && strings.HasPrefix(name, before) && strings.HasSuffix(name, after)
}

// Folder returns the folder that p stands for all below of, and false if it does not.
func (p Pattern) Folder() (Pattern, bool) {
	folder, ok := strings.CutSuffix(string(p), "/"+deep)
	return Pattern(folder), ok && folder != ""
}

// Covers reports whether every path that o stands for is one of p's.
func (p Pattern) Covers(o Pattern) bool {
	pn, on := p.Names(), o.Names()
	for i, n := range pn {
		if n == deep {
			return len(on) > i
		}
		if i >= len(on) || on[i] == deep || !coversName(n, on[i]) {
			return false
		}
	}
	return len(pn) == len(on)
}

// coversName reports whether the names that o stands for are all of p's.
func coversName(p, o string) bool {
	before, after, any := strings.Cut(p, "*")
	if !any {
		return p == o
	}
	oBefore, oAfter, oAny := strings.Cut(o, "*")
	if !oAny {
		return matchName(p, o)
	}
	return strings.HasPrefix(oBefore, before) && strings.HasSuffix(oAfter, after)
}
