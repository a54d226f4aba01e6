package layer

import (
	"slices"
	"strings"

	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan/analyse"
)

// Result is what one layer holds, as far as it matters. All paths are clean,
// relative to the root, and symbolic links of the layer itself on the way are
// followed; links of lower layers are for whoever puts layers together. The same
// bytes and analysers make the same Result.
type Result struct {
	// Digest is what was verified, DiffID what was verified or worked out; one
	// of them may be empty.
	Digest, DiffID string
	Size           int64 // bytes as stored
	TarBytes       int64
	Entries        int64
	// Files are those that show something, by path.
	Files []File
	// Whiteouts are removed from lower layers, Opaque folders hide everything
	// that lower layers have in them. They never hide what this layer holds.
	Whiteouts, Opaque []string
	// Links are the symbolic links that may be folders' other names: those to
	// another file of this layer are left out.
	Links []Link
	// Hard are hard links to files that this layer doesn't hold.
	Hard []Link
	// Missed are names that an analyser wants whose content is elsewhere.
	Missed []Missed
	// Names are all entries but folders, Folders all folders with an entry of
	// their own, Implied those that are only on the way to something.
	Names, Folders, Implied Set
	// Problems are those of the layer itself; those of a file are with it.
	Problems []inventory.Problem
	// Unsettled says that an analyser was stopped for taking too long: another
	// reading may find more, so the Result must not be kept.
	Unsettled bool
	// Missing says why the layer could not be had at all; nothing is known of it
	// but its digests.
	Missing string
}

// File is a file that shows something.
type File struct {
	Path   string
	Folder bool
	// Same names another file of the layer that this one is a hard link to, and
	// whose By it shares.
	Same string
	By   []By // by name of analyser
}

// By is what one analyser found in a file.
type By struct {
	Analyser string
	As       string // the other name for which it was asked, in a second reading
	Shown    analyse.Shown
}

// Link is a symbolic link with its target as written, or a hard link with the
// clean path of its target.
type Link struct{ Path, Target string }

// Missed is a name that an analyser wants for the name while the content goes by
// another one: Path is a symbolic link, whose target may be wanted too, or a hard
// link (Hard) whose target is not.
type Missed struct {
	Analyser, Path, Target string
	Hard                   bool
	// Entry is the number of a hard link's entry, if its target is in the layer.
	Entry int64
}

// Add joins to r what a second reading found.
func (r *Result) Add(second *Result) {
	for _, f := range second.Files {
		i, found := slices.BinarySearchFunc(r.Files, f.Path, func(f File, p string) int { return strings.Compare(f.Path, p) })
		if !found {
			r.Files = slices.Insert(r.Files, i, f)
			continue
		}
		have := &r.Files[i]
		if have.Same != "" { // its own from now on
			*have = File{Path: have.Path, By: r.Shared(have.Same)}
		}
		have.By = mergeBy(have.By, f.By)
	}
	r.Problems = append(r.Problems, second.Problems...)
	r.Unsettled = r.Unsettled || second.Unsettled
}

// Shared returns what a file shows under all its names: not what was found when
// it was asked for by another one.
func (r *Result) Shared(path string) (by []By) {
	f := r.File(path)
	if f == nil {
		return nil
	}
	for _, b := range f.By {
		if b.As == "" {
			by = append(by, b)
		}
	}
	return by
}

// File returns what the layer shows at a path, or nil.
func (r *Result) File(path string) *File {
	i, found := slices.BinarySearchFunc(r.Files, path, func(f File, p string) int { return strings.Compare(f.Path, p) })
	if !found {
		return nil
	}
	return &r.Files[i]
}

// mergeBy adds what analysers found under another name of a file; what one has
// found already under its own name stands.
func mergeBy(have, more []By) []By {
	for _, by := range more {
		if !slices.ContainsFunc(have, func(h By) bool { return h.Analyser == by.Analyser }) {
			have = append(have, by)
		}
	}
	slices.SortFunc(have, func(a, b By) int { return strings.Compare(a.Analyser, b.Analyser) })
	return have
}

// weight is roughly how many bytes a Result keeps in memory.
func (r *Result) weight() int64 {
	n := int64(8 * (len(r.Names) + len(r.Folders) + len(r.Implied)))
	for i := range r.Files {
		n += int64(len(r.Files[i].Path)+len(r.Files[i].Same)) + overhead
		for j := range r.Files[i].By {
			n += weigh(&r.Files[i].By[j].Shown)
		}
	}
	for _, l := range r.Links {
		n += int64(len(l.Path)+len(l.Target)) + overhead
	}
	for _, w := range r.Whiteouts {
		n += int64(len(w)) + overhead
	}
	return n
}

// Charge takes the memory of a Result that was kept from a budget.
func (r *Result) Charge(b *Budget) error { return b.Take(r.weight()) }

// overhead is what an entry of a list or map costs beside its text.
const overhead = 64

// weightOfMalware is what one of a file's entries of malware takes.
const weightOfMalware = 512

// weightOfSecret is what one of a file's secrets takes: it holds prints and names,
// no values.
const weightOfSecret = 512

// weigh is roughly how many bytes a Shown keeps in memory.
func weigh(s *analyse.Shown) int64 {
	n := int64(overhead)
	list := func(texts []string) {
		for _, t := range texts {
			n += int64(len(t)) + 16
		}
	}
	for i := range s.Packages {
		p := &s.Packages[i]
		n += 512 + int64(len(p.Name)+len(p.Version)+len(p.Namespace)+len(p.Source.Name)+len(p.Source.Version))
		list(p.Licenses)
		list(p.Files)
		list(p.Digests)
		for _, place := range p.Places {
			n += int64(len(place.Path)) + 32
		}
	}
	for i := range s.Owned {
		n += overhead + int64(len(s.Owned[i].Name))
		list(s.Owned[i].Files)
	}
	for i := range s.Files {
		n += overhead + int64(len(s.Files[i].Path))
	}
	if s.Users != nil {
		list(s.Users.Root)
		list(s.Users.Others)
	}
	n += int64(len(s.Secrets))*weightOfSecret + int64(len(s.Malware))*weightOfMalware
	for i := range s.Problems {
		n += overhead + int64(len(s.Problems[i].What)+len(s.Problems[i].Path))
	}
	return n
}
