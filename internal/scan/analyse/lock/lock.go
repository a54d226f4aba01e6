// Package lock reads the lock files of languages that have little else to show:
// Elixir and Erlang, Dart, Swift and CocoaPods, Conan, Haskell, R, and the
// actions that workflows of GitHub use. One file of source a language.
package lock

import (
	"context"
	"io"
	"strings"

	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan/analyse"
)

// maxFile bounds a lock file.
const maxFile = 64 << 20

// Analyser reads lock files.
type Analyser struct{}

// Name is lock.
func (Analyser) Name() string { return "lock" }

// take reads a file that is said to have size bytes.
type take func(r io.Reader, size int64, shown *analyse.Shown) error

// takerOf tells by its path what reads a file, nil if nothing does.
func takerOf(path string) take {
	i := strings.LastIndexByte(path, '/')
	base, folder := path[i+1:], path[:max(i, 0)]
	switch base {
	case "mix.lock":
		return takeMix
	case "rebar.lock":
		return takeRebar
	case "pubspec.lock":
		return takePub
	case "Package.resolved":
		return takeSwift
	case "Podfile.lock":
		return takePods
	case "conan.lock":
		return takeConan
	case "conanfile.txt":
		return takeConanfile
	case "stack.yaml.lock":
		return takeStack
	case "cabal.project.freeze":
		return takeCabal
	case "renv.lock":
		return takeRenv
	case "DESCRIPTION":
		above := folder[:max(strings.LastIndexByte(folder, '/'), 0)]
		if strings.HasSuffix(above, "/library") || strings.HasSuffix(above, "/site-library") {
			return takeDescription
		}
		return takeBuilt
	}
	if strings.HasSuffix(folder, ".github/workflows") && (strings.HasSuffix(base, ".yml") || strings.HasSuffix(base, ".yaml")) {
		return takeWorkflow
	}
	return nil
}

// Wants takes files by their names.
func (Analyser) Wants(e *analyse.Entry, head []byte) bool {
	return len(head) > 0 && takerOf(e.Path) != nil
}

// Take reads one file.
func (Analyser) Take(_ context.Context, e *analyse.Entry, r io.Reader, shown *analyse.Shown) error {
	if read := takerOf(e.Path); read != nil {
		return read(r, e.Size, shown)
	}
	return nil
}

func declared(kind, name, version, ecosystem string) inventory.Package {
	return inventory.Package{Type: kind, Name: name, Version: version, Ecosystem: ecosystem, Found: inventory.Declared}
}
