package watch

import (
	"path"
	"slices"
	"strings"

	"github.com/castellan-security/castellan/internal/profile"
	"github.com/castellan-security/castellan/internal/watch/widen"
)

// Width is how much is made normal together with what lay outside.
type Width struct {
	// Word names it: exact, this, alike, folder, tree, domain, network.
	Word   string           `json:"word"`
	Says   string           `json:"says"`   // what it permits, for people
	Permit *profile.Profile `json:"permit"` // the entries
}

// WidthThis is the width that is taken unless another is named: what was done, and
// what differs from it only in a name made by chance.
const WidthThis = "this"

// Widths lists what a person may permit of a violation, the narrowest first: what was
// done, and what learning would make of it if it had seen many of the kind. Nothing is
// offered that learning never does: whole folders of the system, sensitive files, what
// runs. None if no profile can say what it was.
func Widths(v *profile.Violation) []Width {
	if v.Permit == nil || Entries(v.Permit) == 0 {
		return nil
	}
	p := v.Permit
	if v.Gathered() {
		return []Width{folderWidth(v)}
	}
	out := []Width{{WidthThis, "this alone", p}}
	if Entries(p) != 1 {
		return out
	}
	switch {
	case len(p.Writes) == 1:
		return fileWidths(v, p.Writes[0], func(f profile.File) *profile.Profile {
			return &profile.Profile{Group: p.Group, Writes: []profile.File{f}}
		})
	case len(p.Reads) == 1:
		return exactWidth(v, p.Reads[0], func(f profile.File) *profile.Profile {
			return &profile.Profile{Group: p.Group, Reads: []profile.File{f}}
		})
	case len(p.Names) == 1:
		_, above, _ := strings.Cut(p.Names[0].Name, ".")
		if wide := "*." + above; strings.Contains(above, ".") && !strings.HasPrefix(p.Names[0].Name, "*") && !widen.Wide(wide) {
			n := p.Names[0]
			n.Name = wide
			out = append(out, Width{"domain", "all names below " + above, &profile.Profile{Group: p.Group, Names: []profile.Name{n}}})
		}
	case len(p.Peers) == 1:
		if q, says := networkOf(p.Peers[0]); says != "" {
			out = append(out, Width{"network", says, &profile.Profile{Group: p.Group, Peers: []profile.Peer{q}}})
		}
	case len(p.Callers) == 1:
		if q, says := networkOf(p.Callers[0]); says != "" {
			out = append(out, Width{"network", says, &profile.Profile{Group: p.Group, Callers: []profile.Peer{q}}})
		}
	}
	return out
}

// folderWidth is all that many files of a folder are of: with folders below it, the
// profile has nothing of it yet, so that its own making is part of that.
func folderWidth(v *profile.Violation) Width {
	if !v.Folder.Below || len(v.Permit.Writes) != 1 {
		return Width{WidthThis, "all files in " + v.Subject, v.Permit}
	}
	p, folder := *v.Permit, v.Permit.Writes[0]
	folder.Path = profile.Pattern(v.Subject)
	p.Writes = []profile.File{folder, v.Permit.Writes[0]}
	return Width{WidthThis, "the folder " + v.Subject + ", all files in it and in the folders below", &p}
}

// exactWidth is the file that was meant alone, if a pattern stands for it, and what is
// taken unless another width is named.
func exactWidth(v *profile.Violation, f profile.File, of func(profile.File) *profile.Profile) []Width {
	this := Width{WidthThis, "this file alone", v.Permit}
	if exact := profile.Pattern(v.Subject); exact != f.Path && exact.Check() == nil && !strings.Contains(v.Subject, "*") {
		f.Path = exact
		this.Says = "this file, whatever is made by chance or by a count in its name"
		return []Width{{"exact", "this name alone, which may never come again", of(f)}, this}
	}
	return []Width{this}
}

func fileWidths(v *profile.Violation, f profile.File, of func(profile.File) *profile.Profile) []Width {
	out := exactWidth(v, f, of)
	names := f.Path.Names()
	if len(names) == 0 || names[len(names)-1] == "**" {
		return out
	}
	folder, last := names[:len(names)-1], names[len(names)-1]
	base := "/" + strings.Join(folder, "/")
	place := widen.At(folder)
	add := func(word, says, name string) {
		g := f
		if g.Path = profile.Pattern(path.Join(base, name)); g.Path.Check() == nil && g.Path != f.Path {
			out = append(out, Width{word, says, of(g)})
		}
	}
	if alike := widen.Alike(last); place.Alike > 0 && alike != "*" {
		add("alike", "all files of "+base+" that are called "+alike, alike)
	}
	if place.Total > 0 {
		add("folder", "all files in "+base, "*")
	}
	if place.Total > 0 || place.Whole || place.Tree {
		add("tree", "all files in "+base+" and in the folders below", "**")
	}
	return out
}

// networkOf returns a peer with the network that its private address is of; "" if
// learning would never do that.
func networkOf(p profile.Peer) (profile.Peer, string) {
	if !p.Network.IsSingleIP() {
		return p, ""
	}
	wide, ok := widen.Neighbourhood(p.Network.Addr())
	if !ok {
		return p, ""
	}
	p.Network = wide
	return p, "all addresses of the private network " + wide.String() + ", at the same port"
}

// WidthNamed returns the width of a violation that a word names; "" is WidthThis.
func WidthNamed(v *profile.Violation, word string) (Width, bool) {
	if word == "" {
		word = WidthThis
	}
	all := Widths(v)
	i := slices.IndexFunc(all, func(w Width) bool { return w.Word == word })
	if i < 0 {
		return Width{}, false
	}
	return all[i], true
}
