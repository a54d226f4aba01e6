package learn

import (
	"slices"
	"strings"

	"github.com/castellan-security/castellan/internal/profile"
	"github.com/castellan-security/castellan/internal/watch/widen"
)

const (
	// minInstances is how many folders that hold the same make their names one.
	minInstances = 3
	// maxInstances is how deep such folders lie in each other.
	maxInstances = 8
)

// instances returns a tree in which folders that stand beside each other and hold the
// same are one: what a service keeps for each user, stream or job. It is made of the
// whole tree, when that is read, so that the order in which paths came makes no
// difference. The tree itself stays as it is.
func (t *tree) instances() *tree {
	for range maxInstances {
		many := map[string]map[string]bool{}
		t.root.instances("", many)
		if len(many) == 0 {
			break
		}
		one := newTree(t.exact)
		t.each(func(p profile.Pattern, m *mark) {
			names, folder := p.Names(), ""
			out := slices.Clone(names)
			for i, name := range names {
				if many[folder][name] {
					out[i] = "*"
				}
				folder += "/" + name
			}
			one.addPattern(profile.Pattern("/"+strings.Join(out, "/")), m)
		})
		t = one
	}
	return t
}

// instances adds to many, by folder, the names at and below a node that are to be one.
func (n *node) instances(folder string, many map[string]map[string]bool) {
	same := map[string][]string{}
	for _, k := range sorted(n.kids) {
		kid := n.kids[k]
		kid.instances(folder+"/"+k, many)
		if n.place.Numbered == 0 || widen.Version(k) {
			continue // every name counts there
		}
		if holds := kid.holds(); holds != "" {
			same[holds] = append(same[holds], k)
		}
	}
	for _, names := range same {
		if len(names) < 2 || len(names) < minInstances && !slices.Contains(names, "*") {
			continue
		}
		if many[folder] == nil {
			many[folder] = map[string]bool{}
		}
		for _, k := range names {
			many[folder][k] = true
		}
	}
}

// holds says of what form the names in a folder are; "" if there are none.
func (n *node) holds() string {
	if n.deep != nil {
		return "**"
	}
	var forms []string
	for k, kid := range n.kids {
		form := widen.Alike(k)
		if form == "*" {
			form = k
		}
		if kid.deep != nil || len(kid.kids) > 0 {
			form += "/"
		}
		forms = append(forms, form)
	}
	slices.Sort(forms)
	return strings.Join(slices.Compact(forms), "/")
}
