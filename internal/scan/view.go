package scan

import (
	"cmp"
	"slices"
	"strings"

	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan/analyse"
	"github.com/castellan-security/castellan/internal/scan/layer"
)

// view is what a container sees once layers are put on one another, as far as
// it matters: the files that show something, the symbolic links, and the folders
// on the way to them. Everything else is known by its hash at most.
type view struct {
	analysers map[string]analyse.Analyser
	root      *node
	nodes     []*node // all but the root
	byKey     map[uint64]*node
	links     map[*node]bool
}

// node is one path.
type node struct {
	name     string
	parent   *node
	children map[string]*node
	hash     layer.PathHash
	link     string // target of a symbolic link; "" if it is none
	// versions are what the layers show at the path, the lowest first, since
	// something last stood there that shows nothing.
	versions []version
	missed   []miss
}

// version is what one layer shows at a path.
type version struct {
	layer  int // from 0
	folder bool
	by     []layer.By
	raw    string         // the path in the layer
	from   string         // the path for which by was found
	has    map[thing]bool // what it shows, once somebody asked
}

// thing is something that an analyser found, as it is told from others.
type thing struct {
	analyser string
	pkg      inventory.Key
	file     inventory.File
}

// miss is a name that was wanted in a layer, and whose content is elsewhere.
type miss struct {
	layer int
	layer.Missed
}

// newView puts layers on one another, the base first.
func newView(analysers []analyse.Analyser, layers []*layer.Result) *view {
	v := &view{analysers: map[string]analyse.Analyser{}, root: &node{}, byKey: map[uint64]*node{}, links: map[*node]bool{}}
	for _, a := range analysers {
		v.analysers[a.Name()] = a
	}
	for i, r := range layers {
		v.apply(i, r)
	}
	return v
}

// apply puts a layer on top.
func (v *view) apply(i int, r *layer.Result) {
	u := &upper{view: v, Result: r, crossing: v.crossed(r)}
	u.hide()
	replaced := u.replaced()
	for _, l := range r.Links {
		n := u.node(l.Path, true)
		n.link = l.Target
		v.links[n] = true
	}
	for k := range r.Files {
		f := &r.Files[k]
		ver := version{layer: i, folder: f.Folder, by: f.By, raw: f.Path, from: f.Path}
		if f.Same != "" {
			ver.by, ver.from = r.Shared(f.Same), f.Same
		}
		if n := u.node(f.Path, true); !u.covered(n) {
			n.push(ver)
		}
	}
	for _, h := range r.Hard {
		v.hardLink(i, u.node(h.Path, true), h.Target)
	}
	for _, m := range r.Missed {
		n := u.node(m.Path, true)
		n.missed = append(n.missed, miss{i, m})
	}
	for _, n := range replaced {
		n.forget(i)
	}
}

// push adds what a layer shows; a folder and a file have nothing in common.
func (n *node) push(ver version) {
	if k := len(n.versions); k > 0 && n.versions[k-1].folder != ver.folder {
		n.versions = nil
	}
	n.versions = append(n.versions, ver)
}

// forget drops what was there before layer i, if that shows nothing there.
func (n *node) forget(i int) {
	if k := len(n.versions); k > 0 && n.versions[k-1].layer != i {
		n.versions = nil
	}
	for k := 0; k < len(n.missed); k++ {
		if n.missed[k].layer != i {
			n.missed = append(n.missed[:k], n.missed[k+1:]...)
			k--
		}
	}
}

// hardLink gives a name what the file of a lower layer shows that it is a link
// to.
func (v *view) hardLink(i int, n *node, target string) {
	t := v.find(target)
	if t == nil || len(t.versions) == 0 || t == n {
		return
	}
	top := t.versions[len(t.versions)-1]
	ver := version{layer: i, raw: n.path(), from: top.from}
	for _, by := range top.by {
		if a := v.analysers[by.Analyser]; a != nil && layer.ByContent(a, cmp.Or(by.As, target), n.path()) {
			ver.by = append(ver.by, by)
		}
	}
	if k := len(n.versions); k > 0 && n.versions[k-1].layer == i {
		// A second reading, or the link itself, showed something already.
		have := &n.versions[k-1]
		have.by = append(slices.Clip(have.by), slices.DeleteFunc(ver.by, func(b layer.By) bool {
			return slices.ContainsFunc(have.by, func(h layer.By) bool { return h.Analyser == b.Analyser })
		})...)
		return
	}
	if len(ver.by) > 0 {
		n.push(ver)
	}
}

// path is where the node is, relative to the root.
func (n *node) path() string {
	if n.parent == nil {
		return ""
	}
	size := 0
	for m := n; m.parent != nil; m = m.parent {
		size += len(m.name) + 1
	}
	b := make([]byte, size)
	for m := n; m.parent != nil; m = m.parent {
		size -= len(m.name) + 1
		b[size] = '/'
		copy(b[size+1:], m.name)
	}
	return string(b[1:])
}

// child returns the node of a name in the folder, which it makes if it is to.
func (v *view) child(n *node, name string, create bool) *node {
	c := n.children[name]
	if c != nil || !create {
		return c
	}
	if n.children == nil {
		n.children = map[string]*node{}
	}
	c = &node{name: name, parent: n, hash: n.hash.Child(name)}
	n.children[name] = c
	v.nodes = append(v.nodes, c)
	v.byKey[c.hash.Key()] = c
	return c
}

// clear forgets everything at and below a node.
func (v *view) clear(n *node) {
	n.versions, n.missed = nil, nil
	v.unlink(n)
	v.clearBelow(n)
}

func (v *view) clearBelow(n *node) {
	for _, c := range n.children {
		v.clear(c)
	}
}

func (v *view) unlink(n *node) {
	if n.link != "" {
		n.link = ""
		delete(v.links, n)
	}
}

// find returns the node of a path after following symbolic links on the way, or
// nil.
func (v *view) find(p string) *node {
	real, ok := v.realFile(p)
	if !ok {
		return nil
	}
	return v.walk(real, false)
}

// walk returns the node of a path, no links followed.
func (v *view) walk(p string, create bool) *node {
	n := v.root
	for name := range strings.SplitSeq(p, "/") {
		if name == "" {
			continue
		}
		if n = v.child(n, name, create); n == nil {
			return nil
		}
	}
	return n
}

// linkAt is what layer.Resolve follows.
func (v *view) linkAt(p string) (string, bool) {
	n := v.walk(p, false)
	if n == nil || n.link == "" {
		return "", false
	}
	return n.link, true
}

// realFile follows the symbolic links on the way to p, but not p itself.
func (v *view) realFile(p string) (string, bool) {
	if len(v.links) == 0 {
		return p, true
	}
	i := strings.LastIndexByte(p, '/')
	if i < 0 {
		return p, true
	}
	folder, ok := layer.Resolve(p[:i], v.linkAt)
	if !ok || folder == "" {
		return p[i+1:], ok
	}
	return folder + p[i:], true
}

// real follows all symbolic links, p itself included.
func (v *view) real(p string) (string, bool) { return layer.Resolve(p, v.linkAt) }
