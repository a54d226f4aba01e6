package harden_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/harden"
	"github.com/castellan-security/castellan/internal/profile"
)

// Whatever a path, a group or a comment is, it ends no rule, no line and no
// document: the outputs have the rules of a plain profile, and this path alone.
func FuzzNothingBreaksOut(f *testing.F) {
	for _, s := range []string{`/a"} /** rwx, {`, "/a\n  /** rw,", `/a\`, `/a\"`, "/a#", "/a{b,c}", "/a[^b]", "/@{HOME}/x", "/a,b", "/a?b", "/a\x00b", "/*", "/a*b/**", "/\u2028x", "/a)(allow x", "/\xff"} {
		f.Add(s, "shop/web/app", "learned")
		f.Add("/a", s, "learned")
		f.Add("/a", "shop/web/app", s)
	}
	f.Fuzz(func(t *testing.T, path, group, comment string) {
		p := hostile(path, group, comment)
		r, err := harden.Compile(&p, harden.Options{Outputs: harden.Outputs(), TaskDefinition: []byte(oneTask), Container: "nginx"})
		if err != nil {
			return
		}
		plain := hostile("/plain", "shop/web/app", "")
		want := newWorld(t, withTask(plain), oneTask)
		text := map[harden.Output]string{}
		for _, file := range r.Files {
			text[file.Output] = file.Content
			if strings.ContainsAny(file.Name, "/\n\x00\"' ") {
				t.Errorf("the file is called %q", file.Name)
			}
		}
		got, err := parseAppArmor(text[harden.AppArmor])
		if err != nil {
			t.Fatalf("%v\n%s", err, text[harden.AppArmor])
		}
		if len(got.other) != len(want.apparmor.other) {
			t.Errorf("rules %q, want as %q", got.other, want.apparmor.other)
		}
		pattern := profile.Pattern(path)
		if pattern.Exact() && (!got.permits(path, "w") || !got.permits(path, "x")) {
			t.Errorf("%q may not be written and run", path)
		}
		for _, other := range []string{"/castellan-other", "/a", "/b", "/etc/passwd"} {
			if !pattern.Match(other) && !pattern.Match(other+"/") && (got.permits(other, "w") || got.permits(other, "x")) {
				t.Errorf("%q permits %q", path, other)
			}
		}
		if forms := topLevel(text[harden.SELinux]); forms != 1 {
			t.Errorf("%d forms in the module, want 1\n%s", forms, text[harden.SELinux])
		}
		if l, err := harden.ReadLandlock([]byte(text[harden.Landlock])); err != nil || !slices.ContainsFunc(l.Paths, func(x profile.LandlockPath) bool { return x.Path == "/" }) {
			t.Errorf("rules for Landlock: %v", err)
		}
	})
}

func hostile(path, group, comment string) profile.Profile {
	e := profile.Evidence{Source: profile.Person, Comment: comment, Actor: comment, Sample: comment}
	return profile.Profile{
		Group:       asset.Group(group),
		Executables: []profile.Executable{{Path: profile.Pattern(path), Origin: event.Origin(event.OriginImage), Evidence: e}},
		Writes:      []profile.File{{Path: profile.Pattern(path), Evidence: e}},
	}
}

// withTask is p, of the group whose task definition the tests have.
func withTask(p profile.Profile) profile.Profile {
	p.Group = "shop/web/nginx"
	return p
}

// topLevel counts the forms of a CIL document; -1 if its parentheses don't match.
func topLevel(text string) (forms int) {
	depth := 0
	for line := range strings.SplitSeq(text, "\n") {
		line, _, _ = strings.Cut(line, ";")
		for _, c := range line {
			switch c {
			case '(':
				if depth++; depth == 1 {
					forms++
				}
			case ')':
				if depth--; depth < 0 {
					return -1
				}
			}
		}
	}
	if depth != 0 {
		return -1
	}
	return forms
}
