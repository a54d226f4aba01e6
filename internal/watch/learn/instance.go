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
// same are one, and so are files of the same kind: what a service keeps for each user,
// stream or job. It is made of the whole tree, when that is read, so that the order in
// which paths came makes no difference. The tree itself stays as it is.
func (t *tree) instances() *tree {
	for range maxInstances {
		many := map[string]map[string]string{}
		t.root.instances("", many)
		if len(many) == 0 {
			break
		}
		one := newTree(t.exact)
		t.each(func(p profile.Pattern, m *mark) {
			out := ofMany(p.Names(), many)
			one.addPattern(profile.Pattern("/"+strings.Join(out, "/")), m)
		})
		t = one
	}
	return t
}

// ofMany returns the names of a path with what they are to be by folder. With the name of
// a folder goes what repeats it below.
func ofMany(names []string, many map[string]map[string]string) []string {
	out, folder := slices.Clone(names), ""
	var gone []string
	for i, name := range names {
		for _, of := range gone {
			if rest, ok := repeats(name, of); ok {
				out[i] = "*" + rest
			}
		}
		if one := many[folder][name]; one != "" {
			out[i] = one
			if one == "*" {
				gone = append(gone, name)
			}
		}
		folder += "/" + name
	}
	return out
}

// instances adds to many, by folder, what the names at and below a node are to be that
// are to be one.
func (n *node) instances(folder string, many map[string]map[string]string) {
	same, kinds := map[string][]string{}, map[string][]string{}
	for _, k := range sorted(n.kids) {
		kid := n.kids[k]
		kid.instances(folder+"/"+k, many)
		if n.place.Numbered == 0 || widen.Version(k) {
			continue // every name counts there
		}
		if holds := kid.holds(k); holds != "" {
			same[holds] = append(same[holds], k)
		} else if kind := widen.Kind(k); kind != "" {
			kinds[kind] = append(kinds[kind], k)
		}
	}
	become := func(one string, names []string) {
		if many[folder] == nil {
			many[folder] = map[string]string{}
		}
		for _, k := range names {
			many[folder][k] = one
		}
	}
	for _, names := range same {
		if len(names) >= minInstances || len(names) > 1 && slices.Contains(names, "*") {
			become("*", names)
		}
	}
	for kind, names := range kinds {
		if len(names) >= minInstances {
			become(kind, names)
		}
	}
}

// repeats tells a name that begins with that of its folder, or with what of that does not
// change: ann-1.bin in ann, seo in seo-*. It returns the rest.
func repeats(name, folder string) (rest string, ok bool) {
	own := strings.TrimRight(folder, "*-_.")
	rest, ok = strings.CutPrefix(name, own)
	return rest, ok && own != "" && (rest == "" || strings.IndexByte("-_.", rest[0]) >= 0)
}

// holds says of what form the names in a folder are, which has a name itself; "" if there
// are none.
func (n *node) holds(own string) string {
	if n.deep != nil {
		return "**"
	}
	var forms []string
	for k, kid := range n.kids {
		form := widen.Alike(k)
		if rest, ok := repeats(k, own); ok {
			form = "/" + rest // which no name has
		} else if form == "*" {
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
