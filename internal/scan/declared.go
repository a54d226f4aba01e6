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
