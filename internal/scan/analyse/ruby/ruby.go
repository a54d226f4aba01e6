// Package ruby reads the specifications of installed gems and the lock files of
// Bundler. It is not for the gemspec of a project itself, which is a program.
package ruby

import (
	"bytes"
	"context"
	"io"
	"slices"
	"strings"

	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan/analyse"
	"github.com/castellan-security/castellan/internal/scan/pull"
)

const (
	maxSpec = 4 << 20
	maxLock = 64 << 20
	// maxDirect bounds what a project asks for itself.
	maxDirect = 100_000
)

// Analyser reads gems.
type Analyser struct{}

// Name is ruby.
func (Analyser) Name() string { return "ruby" }

// Wants takes what RubyGems writes into a folder called specifications, and lock
// files.
func (Analyser) Wants(e *analyse.Entry, head []byte) bool {
	if len(head) == 0 {
		return false
	}
	if strings.HasSuffix(e.Path, ".gemspec") {
		return strings.Contains(e.Path, "specifications/")
	}
	if !strings.HasSuffix(e.Path, "ock") && !strings.HasSuffix(e.Path, "ocked") {
		return false
	}
	switch e.Base() {
	case "Gemfile.lock", "gems.locked":
		return !strings.Contains(e.Path, "/gems/") // how a gem was developed
	}
	return false
}

// Take reads one file.
func (Analyser) Take(_ context.Context, e *analyse.Entry, r io.Reader, shown *analyse.Shown) error {
	if strings.HasSuffix(e.Path, ".gemspec") {
		return takeSpec(r, e.Size, shown)
	}
	return takeLock(r, e.Size, shown)
}

func asPackage(name, version string, found inventory.Evidence) inventory.Package {
	if strings.ContainsAny(name, " /\\\"'") {
		name = ""
	}
	return inventory.Package{Type: "gem", Name: name, Version: version, Ecosystem: "RubyGems", Found: found}
}

// takeSpec reads a specification as RubyGems writes it: a comment with the name
// and the version for readers in a hurry, then a program of assignments.
func takeSpec(r io.Reader, size int64, shown *analyse.Shown) error {
	lines := pull.NewLines(r, size, maxSpec)
	var name, version string
	var licenses []string
	for {
		b, err := lines.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		if stub, ok := bytes.CutPrefix(b, []byte("# stub: ")); ok && name == "" {
			if words := strings.Fields(string(stub)); len(words) >= 3 {
				name, version = words[0], words[1]
			}
			continue
		}
		_, after, ok := bytes.Cut(b, []byte("."))
		key, value, assigned := strings.Cut(string(after), "=")
		if !ok || !assigned {
			continue
		}
		switch strings.TrimSpace(key) {
		case "name":
			name = first(literals(value), name)
		case "version":
			version = first(literals(value), version)
		case "license", "licenses":
			licenses = literals(value)
		}
	}
	if version == "" {
		return nil
	}
	p := asPackage(name, version, inventory.Installed)
	p.Licenses = licenses
	return shown.Add(p)
}

// first returns the first of some texts, or what it was before.
func first(texts []string, before string) string {
	if before != "" || len(texts) == 0 {
		return before
	}
	return texts[0]
}

// literals returns the texts in an expression: "a".freeze, ['b'], %q{c}.
func literals(s string) []string {
	var all []string
	for len(s) > 0 && len(all) < analyse.MaxLicenses {
		i := strings.IndexAny(s, `"'%`)
		if i < 0 {
			break
		}
		end := s[i : i+1]
		if s = s[i+1:]; end == "%" {
			if !strings.HasPrefix(s, "q{") {
				continue
			}
			s, end = s[2:], "}"
		}
		text, rest, ok := strings.Cut(s, end)
		if !ok {
			break
		}
		all = append(all, text)
		s = rest
	}
	return all
}

// takeLock reads a Gemfile.lock: sections of sources with the gems that were
// chosen (indented by four), and what the project asks for.
func takeLock(r io.Reader, size int64, shown *analyse.Shown) error {
	lines := pull.NewLines(r, size, maxLock)
	section := ""
	seen := map[string]bool{}
	var direct []string
	for {
		b, err := lines.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		s := string(b)
		text := strings.TrimLeft(s, " ")
		indent := len(s) - len(text)
		name, rest, _ := strings.Cut(text, " ")
		switch {
		case indent == 0:
			section = text
		case section == "DEPENDENCIES" && indent == 2 && len(direct) < maxDirect:
			direct = append(direct, strings.TrimSuffix(name, "!"))
		case indent == 4 && (section == "GEM" || section == "GIT" || section == "PLUGIN SOURCE") && strings.HasPrefix(rest, "("):
			// A platform follows the version; one gem has several.
			version, _, _ := strings.Cut(strings.Trim(rest, "()"), "-")
			if key := name + " " + version; !seen[key] {
				seen[key] = true
				if err := shown.Add(asPackage(name, version, inventory.Declared)); err != nil {
					return err
				}
			}
		}
	}
	slices.Sort(direct)
	for i := range shown.Packages {
		_, ok := slices.BinarySearch(direct, shown.Packages[i].Name)
		shown.Packages[i].Indirect = len(direct) > 0 && !ok
	}
	return nil
}
