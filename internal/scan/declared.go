package scan

import (
	"path"
	"slices"
	"strings"

	"github.com/castellan-security/castellan/internal/inventory"
)

// locks are the lock files beside which their package manager installs, by type
// of package.
var locks = map[string][]string{
	"npm":      {"package-lock.json", "npm-shrinkwrap.json", "yarn.lock", "pnpm-lock.yaml", "bun.lock"},
	"composer": {"composer.lock"},
}

// trees are where they install, seen from the lock file.
var trees = map[string]string{"npm": "/node_modules/", "composer": "/vendor/"}

// absent leaves out what a lock file names and the tree beside it does not hold.
// Lock files name what is for other platforms and for development, too; where
// their packages are installed, what is there is known, and a vulnerability in
// what is not would be a false alarm. Without a tree beside it a lock file is all
// that is known, and counts: what it names may have been bundled.
func (a *assembly) absent() {
	if a.strata.source {
		return // a lock file is what will be installed
	}
	a.packages = a.carriedOut()
	there := a.installed()
	if len(there.folders) == 0 {
		return
	}
	a.packages = slices.DeleteFunc(a.packages, func(p inventory.Package) bool {
		project, ok := lockOf(&p)
		if !ok || !there.folders[treeOf{p.Type, project}] {
			return false
		}
		return !there.holds(&p, project)
	})
}

// treeOf is a folder in which a project's packages of a type are installed.
type treeOf struct{ typ, project string }

// installed is what package managers put into trees.
type installed struct {
	folders map[treeOf]bool
	places  map[inventory.Key][]string
}

// installed finds the trees, and what is in them.
func (a *assembly) installed() installed {
	there := installed{map[treeOf]bool{}, map[inventory.Key][]string{}}
	for i := range a.packages {
		p := &a.packages[i]
		tree := trees[p.Type]
		if tree == "" || p.Found != inventory.Installed {
			continue
		}
		at := fileOf(p.Places[0].Path)
		there.places[p.Key()] = append(there.places[p.Key()], at)
		// Trees lie in trees; the file is in all of them.
		for from := 0; ; {
			j := strings.Index(at[from:], tree)
			if j < 0 {
				break
			}
			there.folders[treeOf{p.Type, at[:from+j]}] = true
			from += j + 1
		}
	}
	return there
}

// holds says whether a package is installed somewhere in a project.
func (i installed) holds(p *inventory.Package, project string) bool {
	return slices.ContainsFunc(i.places[p.Key()], func(at string) bool { return strings.HasPrefix(at, project+"/") })
}

// lockOf returns the folder of the project whose lock file names a package.
func lockOf(p *inventory.Package) (project string, ok bool) {
	if p.Found != inventory.Declared {
		return "", false
	}
	folder, file := path.Split(fileOf(p.Places[0].Path))
	return strings.TrimSuffix(folder, "/"), slices.Contains(locks[p.Type], file)
}

// everywhere are the types whose packages need not be beside the file that names
// them: in an environment of Python, among the gems, in a program. Those of npm
// are in trees of their own, of which every image with Node.js has one.
var everywhere = []string{"pypi", "gem", "cargo", "golang", "nuget", "maven"}

// list is a file that names packages of a type.
type list struct{ typ, file string }

// carriedOut leaves out what a lock file or a manifest names and the image does
// not have, if the file was carried out: at least half of what it names, but for
// development, is there, in whatever version.
func (a *assembly) carriedOut() []inventory.Package {
	names, there := map[list]map[string]bool{}, map[inventory.Key]bool{}
	for i := range a.packages {
		p := &a.packages[i]
		if !slices.Contains(everywhere, p.Type) {
			continue
		}
		if p.Found != inventory.Declared {
			there[nameOfPackage(p)], there[p.Key()] = true, true
			continue
		}
		l := list{p.Type, p.Places[0].Path}
		if names[l] == nil {
			names[l] = map[string]bool{}
		}
		if !p.Dev && p.Name != "stdlib" { // which every program of Go has
			names[l][nameOfPackage(p).Name] = true
		}
	}
	done := map[list]bool{}
	for l, all := range names {
		found := 0
		for name := range all {
			if there[inventory.Key{Type: l.typ, Name: name}] {
				found++
			}
		}
		done[l] = found > 0 && 2*found >= len(all)
	}
	return slices.DeleteFunc(a.packages, func(p inventory.Package) bool {
		return p.Found == inventory.Declared && len(p.Places) > 0 && done[list{p.Type, p.Places[0].Path}] && !there[p.Key()]
	})
}

// nameOfPackage is a package in whatever version. In names of Python's dots and
// dashes are the same.
func nameOfPackage(p *inventory.Package) inventory.Key {
	name := p.FullName()
	if p.Type == "pypi" {
		name = strings.ReplaceAll(name, ".", "-")
	}
	return inventory.Key{Type: p.Type, Name: name}
}
