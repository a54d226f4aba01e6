// Package golang reads go.mod files. What a Go program itself says of the
// modules in it is read by executable.
//
// It is not for go.sum, which lists all that was ever looked at to choose
// versions: a thing that is not in use would be shown as if it were.
package golang

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan/analyse"
	"github.com/castellan-security/castellan/internal/scan/analyse/executable"
	"github.com/castellan-security/castellan/internal/scan/pull"
)

const (
	maxFile     = 16 << 20
	maxReplaces = 50_000
)

// Analyser reads go.mod files.
type Analyser struct{}

// Name is golang.
func (Analyser) Name() string { return "golang" }

// Wants takes go.mod, but not those of modules that Go fetched or vendored.
func (Analyser) Wants(e *analyse.Entry, head []byte) bool {
	return len(head) > 0 && strings.HasSuffix(e.Path, "go.mod") && e.Base() == "go.mod" &&
		!strings.Contains(e.Path, "pkg/mod/") && !strings.Contains(e.Path, "vendor/")
}

// module is a path with a version.
type module struct{ path, version string }

// required is a line of a require directive.
type required struct {
	module
	indirect bool
}

// Take reads the file. Where it names the toolchain, or a release of Go as the
// lowest that will do, the standard library is shown with that version.
func (Analyser) Take(_ context.Context, e *analyse.Entry, r io.Reader, shown *analyse.Shown) error {
	lines := pull.NewLines(r, e.Size, maxFile)
	var requires []required
	replaces := map[module]module{}
	block, release := "", ""
	for {
		b, err := lines.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		s, comment, _ := strings.Cut(string(b), "//")
		words := strings.Fields(s)
		switch {
		case len(words) == 0:
			continue
		case words[0] == ")":
			block = ""
			continue
		case len(words) == 2 && words[1] == "(":
			block = words[0]
			continue
		case block != "":
			words = append([]string{block}, words...)
		}
		switch words[0] {
		case "require":
			if len(requires) == analyse.MaxPackages {
				return fmt.Errorf("more than %d modules required", analyse.MaxPackages)
			}
			if len(words) == 3 {
				indirect := strings.HasPrefix(strings.TrimSpace(comment), "indirect")
				requires = append(requires, required{module{unquote(words[1]), words[2]}, indirect})
			}
		case "replace":
			if len(replaces) == maxReplaces {
				return fmt.Errorf("more than %d modules replaced", maxReplaces)
			}
			replace(replaces, words[1:])
		case "toolchain":
			if len(words) == 2 {
				release = words[1]
			}
		case "go":
			if len(words) == 2 && release == "" && strings.Count(words[1], ".") == 2 {
				release = "go" + words[1]
			}
		}
	}
	return show(requires, replaces, release, shown)
}

// replace reads "old [version] => new [version]"; without a version the new one
// is a folder.
func replace(replaces map[module]module, words []string) {
	for i, w := range words {
		if w != "=>" || i == 0 || i+1 == len(words) {
			continue
		}
		old, next := module{path: unquote(words[0])}, module{path: unquote(words[i+1])}
		if i == 2 {
			old.version = words[1]
		}
		if i+2 < len(words) {
			next.version = words[i+2]
		}
		replaces[old] = next
		return
	}
}

// show adds what is required, replaced where it is.
func show(requires []required, replaces map[module]module, release string, shown *analyse.Shown) error {
	if v := executable.GoVersion(release); v != "" {
		if err := add(shown, module{"stdlib", v}, false); err != nil {
			return err
		}
	}
	for _, q := range requires {
		m := q.module
		next, ok := replaces[m]
		if !ok {
			next, ok = replaces[module{path: m.path}]
		}
		if ok {
			m = next
		}
		if m.version == "" {
			continue // a folder of the builder's
		}
		if err := add(shown, m, q.indirect); err != nil {
			return err
		}
	}
	return nil
}

func add(shown *analyse.Shown, m module, indirect bool) error {
	return shown.Add(inventory.Package{Type: "golang", Name: m.path, Version: m.version, Ecosystem: "Go", Found: inventory.Declared, Indirect: indirect})
}

func unquote(s string) string { return strings.Trim(s, "\"`") }
