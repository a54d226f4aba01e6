package scan

import (
	"strings"

	"github.com/castellan-security/castellan/internal/scan/layer"
)

// maxCrossings bounds the names looked at where a layer's entries go through
// symbolic links of lower layers, which may lead in circles.
const maxCrossings = 1 << 22

// upper is a layer that is being put on a view. A path of its own may go through
// a symbolic link of a lower layer, if the folder has no entry of its own in the
// layer (Implied); an entry would have replaced the link. crossing says that
// this happens at all; builders that start from a file system never do it.
type upper struct {
	*layer.Result
	view     *view
	crossing bool
	steps    int
}

// crossed says whether entries of r go through symbolic links of the view.
func (v *view) crossed(r *layer.Result) bool {
	for n := range v.links {
		if r.Implied.Has(n.hash.Key()) {
			return true
		}
	}
	return false
}

// node returns where a path of the layer is in the view.
func (u *upper) node(p string, create bool) *node {
	n := u.folder(parent(p))
	if n == nil && create {
		n = u.makeFolder(parent(p))
	}
	if n == nil {
		return nil
	}
	return u.view.child(n, p[strings.LastIndexByte(p, '/')+1:], create)
}

// folder returns where a folder of the layer is, or nil.
func (u *upper) folder(p string) *node { return u.enter(p, false) }

func (u *upper) makeFolder(p string) *node { return u.enter(p, true) }

func (u *upper) enter(p string, create bool) *node {
	if !u.crossing {
		return u.view.walk(p, create)
	}
	n, raw := u.view.root, layer.PathHash{}
	for name := range strings.SplitSeq(p, "/") {
		if name == "" {
			continue
		}
		raw = raw.Child(name)
		if n = u.view.child(n, name, create); n == nil {
			return nil
		}
		if n = u.through(n, raw, create); n == nil {
			return nil
		}
	}
	return n
}

// through follows a symbolic link that the layer goes through.
func (u *upper) through(n *node, raw layer.PathHash, create bool) *node {
	if n.link == "" || !u.Implied.Has(raw.Key()) {
		return n
	}
	real, ok := u.view.real(n.path())
	if !ok {
		return n
	}
	return u.view.walk(real, create)
}

// hide clears what the layer's whiteouts and opaque folders hide. Where they all
// are is worked out before a link that one of them is behind may go.
func (u *upper) hide() {
	var gone, emptied []*node
	for _, p := range u.Whiteouts {
		if n := u.node(p, false); n != nil {
			gone = append(gone, n)
		}
	}
	for _, p := range u.Opaque {
		if n := u.folder(p); n != nil {
			emptied = append(emptied, n)
		}
	}
	for _, n := range gone {
		u.view.clear(n)
	}
	for _, n := range emptied {
		u.view.clearBelow(n)
	}
}

// covered says that the layer has something else than a folder where one is
// needed for n: what it put there through a link is gone again.
func (u *upper) covered(n *node) bool {
	if !u.crossing {
		return false // the layer's own reading has seen to it
	}
	for m := n.parent; m != nil && m.parent != nil; m = m.parent {
		if u.Names.Has(m.hash.Key()) {
			return true
		}
	}
	return false
}

// replaced clears what the layer puts something else in the place of, and
// returns the nodes that it has an entry for.
func (u *upper) replaced() (nodes []*node) {
	hit := func(n *node, key uint64) {
		folder, name := u.Folders.Has(key), u.Names.Has(key)
		if !folder && !name {
			return
		}
		u.view.unlink(n)
		if name {
			u.view.clearBelow(n)
		}
		nodes = append(nodes, n)
	}
	switch {
	case u.crossing:
		u.steps = 0
		u.visit(u.view.root, layer.PathHash{}, hit)
	case len(u.Names)+len(u.Folders) < len(u.view.nodes)/4:
		for _, set := range [...]layer.Set{u.Names, u.Folders} {
			for _, key := range set {
				if n := u.view.byKey[key]; n != nil {
					hit(n, key)
				}
			}
		}
	default:
		for _, n := range u.view.nodes {
			hit(n, n.hash.Key())
		}
	}
	return nodes
}

// visit calls hit for all nodes below n with the keys that they have when the
// layer's way to n is raw.
func (u *upper) visit(n *node, raw layer.PathHash, hit func(*node, uint64)) {
	for name, c := range n.children {
		if u.steps++; u.steps > maxCrossings {
			return
		}
		way := raw.Child(name)
		// What lies behind a link is looked at before the link may go.
		if t := u.through(c, way, false); t != nil {
			u.visit(t, way, hit) // as deep as the layer's own paths, even in a circle
		}
		hit(c, way.Key())
	}
}

func parent(p string) string { return p[:max(0, strings.LastIndexByte(p, '/'))] }
