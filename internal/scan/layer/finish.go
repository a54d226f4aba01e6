package layer

import (
	"cmp"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/castellan-security/castellan/internal/scan/analyse"
)

// finish waits for the analysers and returns what the layer holds. why says that
// it broke off.
func (c *collector) finish(why error) (*Result, error) {
	c.endFile(why)
	done, err := c.crew.wait()
	if err != nil {
		return nil, err
	}
	r := &c.res
	r.Names, r.Folders = c.names.set(), c.folders.set()
	r.Implied = c.implied.set().without(r.Folders)
	r.Unsettled = c.crew.late
	slices.Sort(r.Whiteouts)
	r.Whiteouts = slices.Compact(r.Whiteouts)
	slices.Sort(r.Opaque)
	r.Opaque = slices.Compact(r.Opaque)
	slices.SortFunc(done, func(a, b *taken) int {
		return cmp.Or(strings.Compare(a.path, b.path), cmp.Compare(a.order, b.order),
			strings.Compare(c.name(a), c.name(b)))
	})
	r.Files = c.files(done)
	c.hardLinks(done)
	r.Links = c.folderLinks()
	return r, nil
}

func (c *collector) name(t *taken) string { return c.o.Analysers[t.analyser].Name() }

// stands says whether what was at the path when that entry came is still there
// at the end of the layer.
func (c *collector) stands(p string, key uint64, order int64) bool {
	if c.latest[key] != order {
		return false
	}
	if len(c.cut) == 0 {
		return true
	}
	var h PathHash
	for name := range strings.SplitSeq(parent(p), "/") {
		h = h.Child(name)
		if c.cut[h.Key()] > order {
			return false
		}
	}
	return true
}

// files groups what was found by path, and drops what the layer itself replaced.
func (c *collector) files(done []*taken) []File {
	var files []File
	for _, t := range done {
		if !c.stands(t.path, t.key, t.order) {
			continue
		}
		if n := len(files); n == 0 || files[n-1].Path != t.path {
			files = append(files, File{Path: t.path, Folder: t.folder})
		}
		f := &files[len(files)-1]
		f.By = append(f.By, By{Analyser: c.name(t), As: t.as, Shown: t.shown})
	}
	for i := range files {
		files[i].By = joinBy(files[i].By)
	}
	return files
}

// joinBy makes one of several findings of one analyser: a problem of its asking
// and what it took.
func joinBy(by []By) []By {
	slices.SortStableFunc(by, func(a, b By) int { return strings.Compare(a.Analyser, b.Analyser) })
	out := by[:0]
	for _, b := range by {
		n := len(out)
		if n == 0 || out[n-1].Analyser != b.Analyser {
			out = append(out, b)
			continue
		}
		s := &out[n-1].Shown
		s.Packages = append(s.Packages, b.Shown.Packages...)
		s.Owned = append(s.Owned, b.Shown.Owned...)
		s.Files = append(s.Files, b.Shown.Files...)
		s.Secrets = append(s.Secrets, b.Shown.Secrets...)
		s.Malware = append(s.Malware, b.Shown.Malware...)
		s.Problems = append(s.Problems, b.Shown.Problems...)
		s.OS = cmp.Or(s.OS, b.Shown.OS)
		s.Users = cmp.Or(s.Users, b.Shown.Users)
	}
	return out
}

// hardLinks gives the names that are hard links what their files show, and
// records those whose files are elsewhere.
func (c *collector) hardLinks(done []*taken) {
	added := map[string]File{}
	for _, name := range slices.Sorted(maps.Keys(c.hard)) {
		l := c.hard[name]
		if !c.stands(name, HashPath(name).Key(), l.order) {
			continue
		}
		if l.of == 0 && !c.res.Names.Has(HashPath(l.target).Key()) {
			c.res.Hard = append(c.res.Hard, Link{name, l.target})
			c.miss(Missed{Path: name, Target: l.target, Hard: true})
			continue
		}
		if f := c.second(name, l, done); f.Same != "" || len(f.By) > 0 {
			added[name] = f
		}
		c.miss(Missed{Path: name, Target: l.target, Hard: true, Entry: l.order})
	}
	var fresh []File
	for name, f := range added {
		if own := c.res.File(name); own != nil { // of what the entry itself showed
			own.By = mergeBy(own.By, byOf(f, &c.res))
			continue
		}
		fresh = append(fresh, f)
	}
	c.res.Files = append(c.res.Files, fresh...)
	slices.SortFunc(c.res.Files, compareFiles)
}

func compareFiles(a, b File) int { return strings.Compare(a.Path, b.Path) }

func byOf(f File, r *Result) []By {
	if f.Same != "" {
		return r.Shared(f.Same)
	}
	return f.By
}

// miss records which analysers want a link for its name, but not its target for
// its own: the target was taken for its content at most.
func (c *collector) miss(m Missed) {
	for _, a := range c.o.Analysers {
		if WantsName(a, m.Path) && !WantsName(a, m.Target) {
			m.Analyser = a.Name()
			c.res.Missed = append(c.res.Missed, m)
		}
	}
}

// second is what a file shows under a second name.
func (c *collector) second(name string, l hardLink, done []*taken) File {
	f := File{Path: name}
	all := true
	i, _ := slices.BinarySearchFunc(done, l.target, func(t *taken, p string) int { return strings.Compare(t.path, p) })
	for ; i < len(done) && done[i].path == l.target; i++ {
		t := done[i]
		if t.order != l.of || t.shown.Empty() {
			continue
		}
		if !ByContent(c.o.Analysers[t.analyser], l.target, name) {
			all = false
			continue
		}
		f.By = append(f.By, By{Analyser: c.name(t), Shown: t.shown})
	}
	if all && len(f.By) > 0 && c.stands(l.target, HashPath(l.target).Key(), l.of) {
		return File{Path: name, Same: l.target}
	}
	f.By = joinBy(f.By)
	return f
}

// ByContent says whether what an analyser found in a file counts for another
// name of the file too: it wants that name, or it doesn't go by names.
func ByContent(a analyse.Analyser, target, name string) bool {
	return WantsName(a, name) || !WantsName(a, target)
}

// WantsName says whether an analyser wants a file for its name, whatever is in
// it. Those that go by content too may say no.
func WantsName(a analyse.Analyser, name string) (yes bool) {
	defer func() { _ = recover() }() // then it is not wanted
	return a.Wants(&analyse.Entry{Path: name, Mode: 0o644, Size: analyse.HeadSize}, []byte{})
}

// folderLinks are the symbolic links whose target is not a file of this layer,
// and those on the way from a wanted name to its file.
func (c *collector) folderLinks() []Link {
	var links []Link
	needed := c.wantedLinks()
	for _, p := range slices.Sorted(maps.Keys(c.links)) {
		l := c.links[p]
		if c.linkStands(p) && (needed[p] || !c.isFile(targetOf(p, l.target))) {
			links = append(links, Link{p, l.target})
		}
	}
	return links
}

func (c *collector) linkStands(p string) bool {
	return c.stands(p, HashPath(p).Key(), c.links[p].order)
}

// wantedLinks records the symbolic links that an analyser wants for their names,
// and returns them with those that they lead through.
func (c *collector) wantedLinks() map[string]bool {
	needed := map[string]bool{}
	for _, p := range slices.Sorted(maps.Keys(c.links)) {
		for _, a := range c.o.Analysers {
			if WantsName(a, p) && c.linkStands(p) {
				c.res.Missed = append(c.res.Missed, Missed{Analyser: a.Name(), Path: p, Target: targetOf(p, c.links[p].target)})
				c.need(p, needed)
			}
		}
	}
	return needed
}

func (c *collector) need(p string, needed map[string]bool) {
	for range maxLinks {
		l, ok := c.links[p]
		if !ok || needed[p] {
			return
		}
		needed[p] = true
		p = targetOf(p, l.target)
	}
}

// targetOf is the path that a symbolic link names, if no other link is on the
// way.
func targetOf(p, target string) string {
	if !strings.HasPrefix(target, "/") {
		target = path.Join("/", parent(p), target)
	}
	return clean(target)
}

func (c *collector) isFile(p string) bool {
	if _, link := c.links[p]; link || tooLong(p) != "" {
		return false
	}
	key := HashPath(p).Key()
	return c.res.Names.Has(key) && !c.res.Folders.Has(key) // it may have been both
}
