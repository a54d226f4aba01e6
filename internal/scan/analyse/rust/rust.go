// Package rust reads Cargo.lock files. What a Rust program itself says of the
// crates in it is read by executable.
package rust

import (
	"context"
	"errors"
	"io"
	"strings"

	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan/analyse"
	"github.com/castellan-security/castellan/internal/scan/pull"
)

const (
	maxLock = 64 << 20
	// maxDirect bounds what a project's own crates ask for.
	maxDirect = 100_000
)

// Analyser reads lock files of Cargo.
type Analyser struct{}

// Name is rust.
func (Analyser) Name() string { return "rust" }

// Wants takes Cargo.lock, but not those of crates that Cargo fetched.
func (Analyser) Wants(e *analyse.Entry, head []byte) bool {
	return len(head) > 0 && strings.HasSuffix(e.Path, "Cargo.lock") && e.Base() == "Cargo.lock" && !strings.Contains(e.Path, "registry/src/")
}

// Take reads the file. A crate without a source is the project's own, or a part
// of it, and is looked up nowhere; so is one of another registry, which has
// names of its own.
func (Analyser) Take(_ context.Context, e *analyse.Entry, r io.Reader, shown *analyse.Shown) error {
	direct := map[string]bool{}
	err := pull.NewTOML(r, e.Size, maxLock).Tables("package", func(m map[string]string) error {
		p := inventory.Package{Type: "cargo", Name: pull.TOMLText(m["name"]), Version: pull.TOMLText(m["version"]), Found: inventory.Declared}
		source := pull.TOMLText(m["source"])
		switch {
		case strings.HasPrefix(source, "git+"), strings.Contains(source, "github.com/rust-lang/crates.io-index"), strings.Contains(source, "index.crates.io"):
			p.Ecosystem = "crates.io"
		case source == "":
			for _, d := range pull.TOMLTexts(m["dependencies"]) {
				name, _, _ := strings.Cut(d, " ")
				if direct[name] = true; len(direct) > maxDirect {
					return errors.New("too many dependencies")
				}
			}
			direct[p.Name] = true
		}
		return shown.Add(p)
	})
	for i := range shown.Packages {
		p := &shown.Packages[i]
		p.Indirect = len(direct) > 0 && !direct[p.Name]
	}
	return err
}
