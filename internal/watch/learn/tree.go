package learn

import (
	"maps"
	"slices"

	"github.com/castellan-security/castellan/internal/profile"
	"github.com/castellan-security/castellan/internal/watch/widen"
)

// tree is a set of paths that stands for more the more it has seen. Which
// patterns it comes to depends on the set of paths alone, not on their order: a
// folder's names become one when there are more than its place permits, and names
// are never told apart again.
type tree struct {
	root  *node
	nodes int
	exact bool // names are never made one for their number
}

// node is a folder or a file.
type node struct {
	place widen.Place
	kids  map[string]*node
	mark  *mark // of itself; nil if nothing ended here
	deep  *mark // of everything below, which is one then; nil if it is not
	// any: the names of this folder are one, "*".
	any    bool
	joined map[string]bool // the forms of names that are one: "*.log"
	// numbered are the patterns of names that differ in a number and are one. Each
	// counts as many names as it takes to become one, so that the order in which names
	// come makes no difference. What is of a joined form is not among them.
	numbered map[string]bool
	// signs are the names seen that tell of a database, also where names are one.
	signs map[string]bool
}

// Bounds of a tree. A container that writes more than this is no longer described
// by a list of its files, and rules hold fewer (profile.MaxPatterns).
const (
	maxNodes = 16_000 // files and folders of one tree
	maxNames = 1_000  // of one folder whose names each count
)

// newTree returns an empty tree.
func newTree(exact bool) *tree {
	t := &tree{exact: exact}
	t.root = t.node(nil)
	return t
}

func (t *tree) node(folder []string) *node {
	t.nodes++
	place := widen.At(folder)
	if t.exact {
		place = widen.Place{Temporary: place.Temporary}
	}
	return &node{place: place}
}

// add adds what was seen at a path. It reports whether there was room.
func (t *tree) add(path string, m *mark) bool { return t.put(profile.Pattern(path).Names(), m, false) }

// addPattern is add of what each tells of another tree: all below a folder may be one
// there. What containers tell is no pattern: a file can be called "**".
func (t *tree) addPattern(p profile.Pattern, m *mark) bool {
	if names := p.Names(); len(names) > 0 && names[len(names)-1] == "**" {
		return t.put(names[:len(names)-1], m, true)
	}
	return t.put(p.Names(), m, false)
}

// put is add; all: of everything below.
func (t *tree) put(names []string, m *mark, all bool) bool {
	n, parent := t.root, (*node)(nil)
	for i, name := range names {
		if t.sign(n, names[:i], name); n.place.Whole && n.deep == nil {
			if parent != nil && parent.any {
				n = parent
			}
			t.swallow(n)
		}
		if n.deep != nil {
			n.deep.add(m)
			return true
		}
		kid, ok := t.step(n, names[:i], name)
		if !ok {
			return false
		}
		if n.any && parent != nil && parent.any {
			t.swallow(parent)
			parent.deep.add(m)
			return true
		}
		if kid == n {
			n.deep.add(m)
			return true
		}
		n, parent = kid, n
	}
	if all {
		t.swallow(n)
		n.deep.add(m)
		return true
	}
	if n.mark == nil {
		n.mark = &mark{}
	}
	n.mark.add(m)
	return true
}

// sign notes the names of a folder that tell of a database, which is one thing.
func (t *tree) sign(n *node, folder []string, names ...string) {
	if t.exact {
		return
	}
	for _, name := range names {
		if !widen.Sign(name) || n.signs[name] {
			continue
		}
		if n.signs == nil {
			n.signs = map[string]bool{}
		}
		n.signs[name] = true
		n.place.Whole = n.place.Whole || widen.Database(folder, n.signs)
	}
}

// step goes from a folder to one of its names, which it makes if need be. It
// returns the folder itself where everything below it became one.
func (t *tree) step(n *node, folder []string, name string) (*node, bool) {
	key := t.key(n, name)
	if kid := n.kids[key]; kid != nil {
		return kid, true
	}
	if t.nodes >= maxNodes || len(n.kids) >= maxNames {
		return nil, false
	}
	return t.attach(n, folder, key, t.node(join(folder, key))), true
}

// key is what a name of a folder is called there.
func (t *tree) key(n *node, name string) string {
	if n.any {
		return "*"
	}
	name = widen.Shape(name, n.place.Temporary)
	if form := widen.Alike(name); n.joined[form] {
		return form
	}
	if p := widen.Numbered(name); p != "" && n.numbered[p] {
		return p
	}
	if of := widen.Replacing(name); n.place.Total == 0 && n.kids[of] != nil {
		return of + "*"
	}
	return name
}

// attach gives a folder another name, and makes names one where there are too many
// then. It returns what the name leads to then, or the folder.
func (t *tree) attach(n *node, folder []string, key string, kid *node) *node {
	if n.kids == nil {
		n.kids = map[string]*node{}
	}
	n.kids[key] = kid
	if n.any {
		return kid
	}
	if n.place.Total == 0 {
		t.uniteReplacing(n, folder, key)
		return kid
	}
	if p := widen.Numbered(key); p != "" && n.alikeIn(p) >= n.place.Numbered && n.place.Numbered > 0 {
		kid = t.number(n, folder, p)
	}
	form := widen.Alike(key)
	if form != key && n.count(form) > n.place.Alike {
		if form == "*" {
			return t.joinAll(n, folder)
		}
		kid = t.join(n, folder, form)
	}
	if n.weight() > n.place.Total {
		return t.joinAll(n, folder)
	}
	return kid
}

// alikeIn is how many names of a folder differ in a number alone.
func (n *node) alikeIn(pattern string) int {
	c := 0
	for k := range n.kids {
		if widen.Numbered(k) == pattern {
			c++
		}
	}
	return c
}

// number makes the names one that differ in a number alone.
func (t *tree) number(n *node, folder []string, pattern string) *node {
	if n.numbered == nil {
		n.numbered = map[string]bool{}
	}
	n.numbered[pattern] = true
	return t.unite(n, folder, pattern, func(k string) bool { return widen.Numbered(k) == pattern })
}

// join makes the names of a form one.
func (t *tree) join(n *node, folder []string, form string) *node {
	if n.joined == nil {
		n.joined = map[string]bool{}
	}
	n.joined[form] = true
	one := t.unite(n, folder, form, func(k string) bool {
		return k == form || widen.Alike(k) == form || n.numbered[k] && widen.AlikeNumbered(k) == form
	})
	maps.DeleteFunc(n.numbered, func(p string, _ bool) bool { return widen.AlikeNumbered(p) == form })
	return one
}

// uniteReplacing makes the names one under which a file of the folder was replaced.
func (t *tree) uniteReplacing(n *node, folder []string, file string) {
	replaces := func(k string) bool { return widen.Replacing(k) == file }
	for k := range n.kids {
		if replaces(k) {
			t.unite(n, folder, file+"*", replaces)
			return
		}
	}
}

// count is how many names of a folder have a form.
func (n *node) count(form string) int {
	c := 0
	for k := range n.kids {
		if k != form && widen.Alike(k) == form {
			c++
		}
	}
	for p := range n.numbered {
		if widen.AlikeNumbered(p) == form {
			c += n.place.Numbered
		}
	}
	return c
}

// weight is how many names a folder has, where those of one form count at most as
// many as stand for themselves: it never shrinks.
func (n *node) weight() int {
	if len(n.kids) <= n.place.Total && len(n.joined)+len(n.numbered) == 0 {
		return len(n.kids)
	}
	forms := map[string]int{}
	for k := range n.kids {
		form, c := widen.Alike(k), 1
		switch {
		case n.joined[k]:
			form, c = k, n.place.Alike
		case n.numbered[k]:
			form, c = widen.AlikeNumbered(k), n.place.Numbered
		}
		forms[form] = min(forms[form]+c, n.place.Alike)
	}
	w := 0
	for _, c := range forms {
		w += c
	}
	return w
}

// joinAll makes all names of a folder one, or everything below it if its place says
// so or the names below are one already.
func (t *tree) joinAll(n *node, folder []string) *node {
	n.any, n.joined, n.numbered = true, nil, nil
	if n.place.Tree {
		t.swallow(n)
		return n
	}
	one := t.unite(n, folder, "*", func(string) bool { return true })
	if one.any {
		t.swallow(n)
		return n
	}
	return one
}

// unite makes the names that are meant one.
func (t *tree) unite(n *node, folder []string, name string, meant func(string) bool) *node {
	below := join(folder, name)
	one := n.kids[name]
	if one == nil {
		one = t.node(below)
	}
	for _, k := range sorted(n.kids) {
		if kid := n.kids[k]; meant(k) && kid != one {
			delete(n.kids, k)
			t.merge(one, below, kid)
		}
	}
	if n.kids == nil {
		n.kids = map[string]*node{}
	}
	n.kids[name] = one
	return one
}

// merge puts what is known of one node into another; the one is gone then.
func (t *tree) merge(to *node, folder []string, from *node) {
	t.nodes--
	to.mark = united(to.mark, from.mark)
	if t.sign(to, folder, sorted(from.signs)...); to.place.Whole {
		t.swallow(to)
	}
	if from.deep != nil {
		t.swallow(to)
		to.deep.add(from.deep)
		return
	}
	if from.any && !to.any && to.deep == nil {
		t.joinAll(to, folder)
	}
	t.joinForms(to, folder, from)
	for _, k := range sorted(from.kids) {
		if to.deep != nil {
			t.collect(from.kids[k], to.deep)
			continue
		}
		key := t.key(to, k)
		if form := widen.AlikeNumbered(k); from.numbered[k] && to.joined[form] {
			key = form
		}
		below := join(folder, key)
		kid := to.kids[key]
		if kid == nil {
			kid = t.node(below)
			t.merge(kid, below, from.kids[k])
			t.attach(to, folder, key, kid)
		} else {
			t.merge(kid, below, from.kids[k])
		}
		if to.any && to.deep == nil && to.kids["*"].any {
			t.swallow(to)
		}
	}
}

// joinForms makes names one that are one elsewhere.
func (t *tree) joinForms(n *node, folder []string, as *node) {
	for _, form := range slices.Sorted(maps.Keys(as.joined)) {
		if n.any || n.joined[form] {
			continue
		}
		t.join(n, folder, form)
		if n.weight() > n.place.Total {
			t.joinAll(n, folder)
		}
	}
	for _, p := range slices.Sorted(maps.Keys(as.numbered)) {
		form := widen.AlikeNumbered(p)
		if n.any || n.joined[form] || n.numbered[p] {
			continue
		}
		t.number(n, folder, p)
		switch {
		case n.count(form) <= n.place.Alike && n.weight() <= n.place.Total:
		case n.count(form) > n.place.Alike && form != "*":
			if t.join(n, folder, form); n.weight() > n.place.Total {
				t.joinAll(n, folder)
			}
		default:
			t.joinAll(n, folder)
		}
	}
}

// united is the sum of two marks, each of which may be none.
func united(a, b *mark) *mark {
	if a == nil {
		return b
	}
	if b != nil {
		a.add(b)
	}
	return a
}

// swallow makes everything below a node one.
func (t *tree) swallow(n *node) {
	if n.deep != nil {
		return
	}
	n.deep = &mark{}
	for _, k := range sorted(n.kids) {
		t.collect(n.kids[k], n.deep)
	}
	n.any, n.kids, n.joined, n.numbered = true, nil, nil, nil
}

// collect adds all marks at and below a node, which leaves the tree.
func (t *tree) collect(n *node, to *mark) {
	t.nodes--
	for _, m := range []*mark{n.mark, n.deep} {
		if m != nil && m.Count > 0 {
			to.add(m)
		}
	}
	for _, k := range sorted(n.kids) {
		t.collect(n.kids[k], to)
	}
}

// each calls do with every pattern, sorted by its names.
func (t *tree) each(do func(profile.Pattern, *mark)) { walk(t.root, "", do) }

func walk(n *node, path string, do func(profile.Pattern, *mark)) {
	if n.mark != nil {
		do(profile.Pattern(max(path, "/")), n.mark)
	}
	if n.deep != nil && n.deep.Count > 0 {
		do(profile.Pattern(path+"/**"), n.deep)
	}
	for _, k := range sorted(n.kids) {
		walk(n.kids[k], path+"/"+k, do)
	}
}

func sorted[V any](names map[string]V) []string { return slices.Sorted(maps.Keys(names)) }

func join(folder []string, name string) []string { return append(slices.Clone(folder), name) }
