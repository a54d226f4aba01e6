package profile

import (
	"path"
	"slices"
	"strings"

	"github.com/castellan-security/castellan/internal/event"
)

// Folder is where a file lay outside, if what one program does to many files there is
// told together. Paths have "*" for what is made by chance in them.
type Folder struct {
	// Print is the fingerprint of what is told together.
	Print string `json:"print"`
	// Path is the folder that all of them are in, Below says that they are in folders
	// below it, too.
	Path  string `json:"path"`
	Below bool   `json:"below,omitempty"`
	// Instead is what the profile allows there.
	Instead string `json:"instead"`
	// Examples are some of the files, the first ones seen; none where it is one file
	// that is told by itself.
	Examples []string `json:"examples,omitempty"`
}

// MaxApart is how many files of one folder that one program changes, and that nobody has
// permitted, are told of one by one. Beyond, they are one violation: see Gather.
const MaxApart = 5

// maxExamples bounds the files that a violation of many names.
const maxExamples = 3

// Gathered reports whether v stands for many files of a folder.
func (v *Violation) Gathered() bool { return v.Folder != nil && len(v.Folder.Examples) > 0 }

// Gather makes v, which is of one file and has a Folder, stand for all that its program
// does to files there.
func (v *Violation) Gather() {
	f := *v.Folder
	f.Examples = []string{v.Subject}
	v.Folder, v.Fingerprint = &f, f.Print
	v.tellFolder()
}

// tellFolder says of a folder what v says of a file.
func (v *Violation) tellFolder() {
	f := v.Folder
	entry := File{Path: Pattern(path.Join(f.Path, "*")), Evidence: Evidence{Source: Person}}
	where := "in " + f.Path
	if f.Below {
		entry.Path, where = Pattern(path.Join(f.Path, deep)), "in "+f.Path+" and below"
	}
	if p := Pattern(v.Program); p.Check() == nil && p != "/" {
		entry.Programs = []Pattern{p}
	}
	who := "a process"
	if v.Program != "" {
		who = path.Base(v.Program)
	}
	v.Subject, v.Permit = f.Path, &Profile{Group: v.Group, Writes: []File{entry}}
	v.Sentence = who + " changed many files " + where + ", such as " + strings.Join(f.Examples, ", ") + Happened(v.Reaction) + ": " + f.Instead + "."
}

// and is a folder that has what both have.
func (f *Folder) and(o *Folder) *Folder {
	out := *f
	out.Examples = slices.Clone(f.Examples)
	for _, e := range o.Examples {
		if len(out.Examples) < maxExamples && !slices.Contains(out.Examples, e) {
			out.Examples = append(out.Examples, e)
		}
	}
	out.Below = f.Below || o.Below || f.Path != o.Path
	for out.Path != "/" && out.Path != o.Path && !strings.HasPrefix(o.Path, out.Path+"/") {
		out.Path = path.Dir(out.Path)
	}
	return &out
}

// Happened says in a sentence what a kernel did about what lay outside, behind a comma.
func Happened(r event.Reaction) string {
	switch r {
	case event.ReactionDenied:
		return ", which was denied"
	case event.ReactionKilled:
		return ", and was killed for it"
	case event.ReactionAudited:
		return ", which would have been denied"
	}
	return ""
}
