// Package node reads what npm, Yarn, pnpm and Bun leave behind: the package.json
// of each package that is installed below a node_modules folder, the archives of
// Yarn's cache, and lock files, which declare what was to be installed.
//
// It is not for the package.json of an application itself, which names no
// package of a registry, and not for lock files within node_modules, which say
// how a dependency was once developed.
package node

import (
	"context"
	"io"
	"strings"

	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan/analyse"
)

const (
	maxManifest = 16 << 20 // a package.json may hold a readme
	maxLock     = 64 << 20 // lock files pass; those of large monorepos have 10 MiB
	maxZip      = 1 << 30
)

// Analyser reads packages and lock files of Node.js.
type Analyser struct{}

// Name is node.
func (Analyser) Name() string { return "node" }

// Wants takes manifests where packages are installed, and lock files elsewhere.
func (Analyser) Wants(e *analyse.Entry, head []byte) bool {
	if len(head) == 0 {
		return false
	}
	switch base := e.Base(); base {
	case "package.json":
		return isInstalled(e.Path) || isNamedFolder(e.Path)
	case "package-lock.json", "npm-shrinkwrap.json", "yarn.lock", "pnpm-lock.yaml", "bun.lock":
		return !strings.Contains(e.Path, "node_modules/")
	default:
		return strings.HasSuffix(base, ".zip") && strings.HasSuffix(e.Folder(), ".yarn/cache")
	}
}

// isInstalled says whether a package.json lies where installers put it:
// node_modules/name/package.json or node_modules/@scope/name/package.json, or
// where Bower did, which fetches what npm has, too.
func isInstalled(path string) bool {
	folder, _ := cutLast(path)
	above, _ := cutLast(folder)
	top, scope := cutLast(above)
	if scope == "node_modules" || scope == "bower_components" {
		return true
	}
	_, holder := cutLast(top)
	return strings.HasPrefix(scope, "@") && holder == "node_modules"
}

// isNamedFolder says whether a package.json lies where a package was unpacked by
// hand or by a distribution: in a folder named with a version (yarn-v1.22.22),
// or in Debian's. What is in it must bear the name out (see fits).
func isNamedFolder(path string) bool {
	folder, _ := cutLast(path)
	above, name := cutLast(folder)
	return strings.HasSuffix(above, "share/nodejs") || strings.Contains(above, "share/nodejs/@") ||
		strings.ContainsAny(name, "-@") && strings.ContainsAny(name, "0123456789")
}

// fits says whether a package lies in a folder of its name.
func fits(path, name, version string) bool {
	if isInstalled(path) {
		return true
	}
	folder, _ := cutLast(path)
	if strings.HasSuffix(folder, "share/nodejs/"+name) {
		return true
	}
	_, folder = cutLast(folder)
	rest, ok := strings.CutPrefix(folder, name)
	return ok && (rest == "-"+version || rest == "-v"+version || rest == "@"+version)
}

// cutLast splits a path at its last slash.
func cutLast(path string) (before, last string) {
	i := strings.LastIndexByte(path, '/')
	return path[:max(i, 0)], path[i+1:]
}

// Take reads one file.
func (Analyser) Take(ctx context.Context, e *analyse.Entry, r io.Reader, shown *analyse.Shown) error {
	if e.Base() == "package.json" {
		return takeManifest(e.Path, r, e.Size, shown)
	}
	l := list{shown: shown, at: map[[2]string]int{}}
	switch e.Base() {
	case "package-lock.json", "npm-shrinkwrap.json":
		return takeNPM(&l, r, e.Size)
	case "yarn.lock":
		return takeYarn(&l, r, e.Size)
	case "pnpm-lock.yaml":
		return takePNPM(&l, r, e.Size)
	case "bun.lock":
		return takeBun(&l, r, e.Size)
	}
	return takeYarnCache(ctx, e, r, shown)
}

// asPackage makes a package of a name with its scope.
func asPackage(name, version string, found inventory.Evidence) inventory.Package {
	p := inventory.Package{Type: "npm", Name: name, Version: version, Ecosystem: "npm", Found: found}
	if scope, rest, ok := strings.Cut(name, "/"); ok && strings.HasPrefix(scope, "@") {
		p.Namespace, p.Name = scope, rest
	}
	return p
}

// isName says whether a registry can have a package of that name.
func isName(name string) bool {
	const longest = 214 // the registry's limit
	scope, rest, scoped := strings.Cut(name, "/")
	if !scoped {
		rest = name
	} else if len(scope) < 2 || scope[0] != '@' {
		return false
	}
	return rest != "" && len(name) <= longest && !strings.ContainsAny(rest, "/@:\\ \t\n") && rest[0] != '.'
}

// list collects the packages of a lock file, one entry for a name and version.
type list struct {
	shown *analyse.Shown
	at    map[[2]string]int
}

// add adds a package; for one that is there already it is dev or indirect only
// if all its entries are.
func (l *list) add(name, version string, dev, indirect bool) error {
	if !isName(name) {
		return nil
	}
	if i, ok := l.at[[2]string{name, version}]; ok {
		p := &l.shown.Packages[i]
		p.Dev, p.Indirect = p.Dev && dev, p.Indirect && indirect
		return nil
	}
	p := asPackage(name, version, inventory.Declared)
	p.Dev, p.Indirect = dev, indirect
	l.at[[2]string{name, version}] = len(l.shown.Packages)
	return l.shown.Add(p)
}
