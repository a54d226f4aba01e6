package scan

import (
	"cmp"
	"math"
	"slices"
	"strings"

	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan/analyse"
	"github.com/castellan-security/castellan/internal/scan/analyse/passwd"
	"github.com/castellan-security/castellan/internal/scan/layer"
)

// strata says what the layers of a view are called in places.
type strata struct {
	// layers is how many belong to an image, from the base up, numbered from 1.
	// What lies above them was written by a running workload; where there is no
	// image, layers is 0.
	layers  int
	running bool
	// source says that it is source code, of which lock files tell what will be
	// installed.
	source bool
}

// place completes a place with the layer that brought it.
func (s strata) place(p inventory.Place, layer int) inventory.Place {
	switch {
	case layer < s.layers:
		p.Layer = layer + 1
	case s.running:
		p.Written = true
	}
	return p
}

// assembly makes an inventory of a view.
type assembly struct {
	view   *view
	strata strata
	inv    *inventory.Inventory

	owned    []analyse.Owned
	packages []inventory.Package // before those at several places are made one
	sticky   map[string]bool     // folders
	osAt     string              // where inv.OS is from
	folders  folderCache
}

// assemble fills inv with what the view shows.
func assemble(v *view, s strata, inv *inventory.Inventory) {
	a := &assembly{view: v, strata: s, inv: inv, sticky: map[string]bool{}, packages: make([]inventory.Package, 0, v.packages())}
	for _, n := range v.nodes {
		if len(n.versions) > 0 {
			a.show(n)
		}
	}
	if s.layers > 0 {
		a.users()
	}
	a.ownership()
	a.absent()
	a.join()
	a.noteworthy()
	inventory.SortPackages(inv.Packages)
	slices.SortFunc(inv.Files, func(x, y inventory.File) int {
		return cmp.Or(cmp.Compare(x.Path, y.Path), cmp.Compare(x.Why, y.Why), inventory.ComparePlaces(x.Place, y.Place))
	})
	slices.SortFunc(inv.Problems, func(x, y inventory.Problem) int {
		return cmp.Or(inventory.ComparePlaces(x.Place, y.Place), cmp.Compare(x.What, y.What))
	})
}

// packages is how many the uppermost versions of files show.
func (v *view) packages() (many int) {
	for _, n := range v.nodes {
		if len(n.versions) > 0 {
			for _, by := range n.versions[len(n.versions)-1].by {
				many += len(by.Shown.Packages)
			}
		}
	}
	return many
}

// show takes what the uppermost version of a file shows.
func (a *assembly) show(n *node) {
	top := &n.versions[len(n.versions)-1]
	path := n.path()
	for _, by := range top.by {
		for i := range by.Shown.Packages {
			p := by.Shown.Packages[i]
			at := n.origin(thing{analyser: by.Analyser, pkg: p.Key()})
			p.Places = a.places(p.Places, top.from, path, at)
			a.packages = append(a.packages, p)
		}
		for _, f := range by.Shown.Files {
			f.Place = a.strata.place(moved(f.Place, top.from, path), n.origin(thing{analyser: by.Analyser, file: f}))
			if top.folder && f.Why == inventory.WorldWritable && f.Mode&0o1000 != 0 {
				a.sticky[f.Path] = true
				continue
			}
			a.inv.Files = append(a.inv.Files, f)
		}
		for _, p := range by.Shown.Problems {
			p.Place = a.strata.place(moved(p.Place, top.from, path), top.layer)
			a.inv.Problems = append(a.inv.Problems, p)
		}
		a.owned = append(a.owned, by.Shown.Owned...)
		if os := by.Shown.OS; os != nil && (a.osAt == "" || osRank(path) < osRank(a.osAt)) {
			a.inv.OS, a.osAt = *os, path
		}
	}
}

// users takes what the image's /etc/passwd shows. That there is none is known only
// when all layers were read.
func (a *assembly) users() {
	reader := (passwd.Analyser{}).Name()
	if a.view.analysers[reader] == nil || slices.ContainsFunc(a.inv.Problems, func(p inventory.Problem) bool { return p.Lost }) {
		return
	}
	real, ok := a.view.real(passwd.File)
	if !ok {
		return // links in a circle, or more of them than are followed here
	}
	a.inv.Users = &inventory.Users{}
	n := a.view.walk(real, false)
	if n == nil || len(n.versions) == 0 {
		return
	}
	for _, by := range n.versions[len(n.versions)-1].by {
		if by.Analyser == reader {
			a.inv.Users = by.Shown.Users // nil if the file could not be read
		}
	}
}

// osRank says which os-release file counts: the administrator's before the
// distribution's (os-release(5)).
func osRank(path string) int {
	switch path {
	case "etc/os-release":
		return 0
	case "usr/lib/os-release":
		return 1
	}
	return 2
}

// origin is the layer that brought a thing: the lowest from which on all
// versions of the file show it.
func (n *node) origin(t thing) int {
	k := len(n.versions) - 1
	for k > 0 && n.versions[k-1].shows(t) {
		k--
	}
	return n.versions[k].layer
}

func (v *version) shows(t thing) bool {
	if v.has == nil {
		v.has = map[thing]bool{}
		for _, by := range v.by {
			for i := range by.Shown.Packages {
				v.has[thing{analyser: by.Analyser, pkg: by.Shown.Packages[i].Key()}] = true
			}
			for _, f := range by.Shown.Files {
				v.has[thing{analyser: by.Analyser, file: f}] = true
			}
		}
	}
	return v.has[t]
}

// places completes the places of a package that a file shows.
func (a *assembly) places(places []inventory.Place, from, to string, layer int) []inventory.Place {
	if len(places) == 0 {
		places = []inventory.Place{{}}
	}
	out := make([]inventory.Place, len(places))
	for i, p := range places {
		out[i] = a.strata.place(moved(p, from, to), layer)
	}
	return out
}

// moved names the file that shows something where an analyser left that open,
// and by its own name where what it shows was found under another one.
func moved(p inventory.Place, from, to string) inventory.Place {
	switch inside, ok := strings.CutPrefix(p.Path, "/"+from); {
	case p.Path == "":
		p.Path = "/" + to
	case ok && (inside == "" || inside[0] == '!'):
		p.Path = "/" + to + inside
	}
	return p
}

// packageName is what Owned names a package by.
type packageName struct{ typ, name string }

// ownership joins the lists of files to their packages, and marks what else was
// found in those files.
func (a *assembly) ownership() {
	byName := map[packageName][]int{}
	for i := range a.packages {
		p := &a.packages[i]
		name := packageName{p.Type, p.Name}
		if !p.FromDistribution() {
			name.name = p.Places[0].Path // of several of one name, as in virtual environments
		}
		byName[name] = append(byName[name], i)
	}
	for _, o := range a.owned {
		for _, i := range byName[packageName{o.Type, o.Name}] {
			if p := &a.packages[i]; o.Arch == "" || p.Arch == "" || p.Arch == o.Arch {
				p.Files = append(slices.Clip(p.Files), o.Files...)
			}
		}
	}
	owners := a.wantedOwners()
	for i := range a.packages {
		if p := &a.packages[i]; p.FromDistribution() && len(p.Files) > 0 {
			p.Files = a.claim(i, p.Files, owners)
		}
	}
	for i := range a.packages {
		p := &a.packages[i]
		if owner := owners[fileOf(p.Places[0].Path)]; !p.FromDistribution() && owner > 0 && a.before(&a.packages[owner-1], p) {
			p.OwnedBy = a.packages[owner-1].Name
		}
	}
	for i := range a.inv.Files {
		f := &a.inv.Files[i]
		if owner := owners[f.Path]; owner > 0 {
			f.Owner = a.packages[owner-1].Name
		}
	}
}

// wantedOwners are the paths whose owner is asked for, with 0 for unknown, else
// the package's number and 1.
func (a *assembly) wantedOwners() map[string]int {
	owners := map[string]int{}
	for i := range a.packages {
		if p := &a.packages[i]; !p.FromDistribution() {
			owners[fileOf(p.Places[0].Path)] = 0
		}
	}
	for i := range a.inv.Files {
		owners[a.inv.Files[i].Path] = 0
	}
	return owners
}

// claim notes what package i owns of what is asked for, and returns the programs
// and libraries among its files by their real paths.
func (a *assembly) claim(i int, files []string, owners map[string]int) []string {
	out := make([]string, 0, len(files))
	for _, f := range files {
		real := a.folders.real(a.view, f)
		if _, asked := owners[real]; asked {
			owners[real] = i + 1
		}
		if analyse.Runs(f) || analyse.Runs(real) {
			out = append(out, real)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// before says whether an owner was there no later than what is in its files: a
// later layer may have put something else in their place.
func (a *assembly) before(owner, p *inventory.Package) bool {
	return age(p.Places[0]) <= age(owner.Places[0])
}

func age(p inventory.Place) int {
	if p.Written {
		return math.MaxInt
	}
	return p.Layer
}

// fileOf is the file of a place, without what is inside an archive.
func fileOf(place string) string {
	file, _, _ := strings.Cut(place, "!")
	return file
}

// folderCache follows the links on the way to a folder once for all its files,
// which stand together in lists.
type folderCache struct{ asked, found string }

func (c *folderCache) real(v *view, file string) string {
	i := strings.LastIndexByte(file, '/')
	if i <= 0 || len(v.links) == 0 {
		return file
	}
	if folder := file[1:i]; folder != c.asked {
		real, ok := layer.Resolve(folder, v.linkAt)
		if !ok {
			real = folder
		}
		c.asked, c.found = folder, real
	}
	if c.found == "" {
		return file[i:]
	}
	return "/" + c.found + file[i:]
}

// noteworthy leaves out what everybody may write in folders where nobody may
// remove what others wrote.
func (a *assembly) noteworthy() {
	a.inv.Files = slices.DeleteFunc(a.inv.Files, func(f inventory.File) bool {
		folder := f.Path[:max(1, strings.LastIndexByte(f.Path, '/'))]
		return f.Why == inventory.WorldWritable && a.sticky[folder]
	})
}
