// Package analyse holds what an analyser is: something that is offered each file
// of a layer or of a folder once, while it passes, and says what it shows. One
// folder an analyser; all/all.go lists them.
//
// An analyser sees one file at a time and nothing of the files around it: what
// the whole image looks like is put together afterwards from what all files of
// all layers showed (package scan). That is why a layer's result can be kept by
// its digest. It is not for reading layers (see layer) and not for what is
// wrong with a package (see vulndb).
package analyse

import (
	"context"
	"io"
	"io/fs"

	"github.com/castellan-security/castellan/internal/inventory"
)

// Entry is one file of a layer or of a folder.
type Entry struct {
	// Path is clean, relative to the root, without a leading slash:
	// "var/lib/dpkg/status". It is valid UTF-8 or not, as it was found, and at
	// most MaxPath bytes long.
	Path string
	// Mode has the type, the permissions and set-uid, set-gid and sticky.
	Mode     fs.FileMode
	UID, GID int
	Size     int64 // bytes of content; 0 unless it is a regular file
	// Link is where a symbolic link points, as written, or for a hard link
	// (HardLink) the clean path of the file in the same layer.
	Link     string
	HardLink bool
	// Capabilities says that it carries the attribute security.capability.
	Capabilities bool
}

// MaxPath bounds a path, as Linux does (PATH_MAX).
const MaxPath = 4096

// HeadSize is how many of a file's first bytes Wants is shown, unless it is
// shorter.
const HeadSize = 512

// Analyser looks at files. Implementations hold no state that changes: one
// serves all layers of all scans at once.
type Analyser interface {
	// Name is a short word, unique among analysers: "dpkg".
	Name() string
	// Wants says whether the file shall be taken. It is asked for every regular
	// file of an image, of which there may be millions: it must be cheap. head
	// are the first bytes, at most HeadSize. For other entries (folders, links,
	// devices) it is asked with a nil head, and Take then gets an empty reader.
	Wants(e *Entry, head []byte) bool
	// Take reads the file from its beginning and adds to shown what it shows. It
	// need not read to the end, and it must not keep r. How much it may hold in
	// memory is its own, bounded concern. An error says that the file is not
	// what it claims to be; it becomes a Problem and spoils nothing else. The
	// context's error is returned as it is.
	Take(ctx context.Context, e *Entry, r io.Reader, shown *Shown) error
}

// Skipper is what a file's reader is where its content comes as a stream.
type Skipper interface {
	// Skip says that the next n bytes are of no use, so that they need not be
	// handed over; the next Read returns what follows them. That the file ends
	// before shows at that Read.
	Skip(n int64)
}

// Shown is what one file shows. Paths of places are set by the caller where an
// analyser leaves them empty; layers always.
type Shown struct {
	Packages []inventory.Package `json:"packages,omitempty"`
	Owned    []Owned             `json:"owned,omitempty"`
	OS       *inventory.OS       `json:"os,omitempty"`
	Users    *inventory.Users    `json:"users,omitempty"`
	Files    []inventory.File    `json:"files,omitempty"`
	Secrets  []inventory.Secret  `json:"secrets,omitempty"`
	Malware  []inventory.Malware `json:"malware,omitempty"`
	Problems []inventory.Problem `json:"problems,omitempty"`
}

// Empty says that the file shows nothing.
func (s *Shown) Empty() bool {
	return len(s.Packages) == 0 && len(s.Owned) == 0 && s.OS == nil && s.Users == nil && len(s.Files) == 0 && len(s.Secrets)+len(s.Malware) == 0 && len(s.Problems) == 0
}

// Owned lists files of a package that its own database keeps apart from the
// package's entry, as dpkg does. They are joined when the image is put together.
type Owned struct {
	Type string `json:"type"` // as inventory.Package.Type
	// Name is the package's, or, of a package of a language, the path of what
	// shows it; Arch is empty where the database doesn't tell it.
	Name  string   `json:"name"`
	Arch  string   `json:"arch,omitempty"`
	Files []string `json:"files"` // absolute; those that analyse.Keeps takes
}

// Runs says whether a path looks like something that is executed or mapped:
// a file in a folder for programs, or a shared library. Ownership is kept of
// these alone; an image has a hundred times as many other files.
func Runs(path string) bool { return isProgram(path) || isLibrary(path) }
