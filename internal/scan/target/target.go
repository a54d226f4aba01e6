// Package target says what a user means by the TARGET of a scan, and what images
// an ECS task definition names.
//
// A prefix says it outright:
//
//	registry:REFERENCE      an image of a registry
//	docker:NAME             an image of the local engine, by name, digest or id
//	oci:PATH[:NAME|@DIGEST] an OCI image layout, a folder or a tar archive
//	archive:PATH[:NAME|@DIGEST]  an archive of docker save
//	dir:PATH                a folder of source code
//	root:PATH               a root file system
//	sbom:PATH               a bill of materials, CycloneDX or SPDX
//	task:PATH               an ECS task definition in JSON
//	workload:ID             a running container
//	host                    this host
//
// The path "-" is the standard input. Without a prefix it is guessed, in this
// order: "-" is an archive unless Sniff says otherwise, "host" this host;
// what is there as a file or folder is what its content shows; the rest is the
// name of an image, of the local engine if that has it, else of its registry.
// What is written like a path and isn't there is an error, not an image.
//
// It opens nothing and asks nobody but Files: that is what doors are for.
package target

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/castellan-security/castellan/internal/fault"
)

// Kind says what a target is.
type Kind string

// The kinds of target.
const (
	Registry Kind = "registry"
	Engine   Kind = "docker"
	Layout   Kind = "oci"
	Archive  Kind = "archive"
	Source   Kind = "dir"
	Root     Kind = "root"
	SBOM     Kind = "sbom"
	Task     Kind = "task"
	Workload Kind = "workload"
	Host     Kind = "host"
)

// Stdin is the path that means the standard input.
const Stdin = "-"

// maxTarget bounds what is taken for a target: the longest path that Linux
// takes.
const maxTarget = 4096

// Target is what a user means.
type Target struct {
	// Kinds are what it may be, in the order in which they are to be tried. There
	// are several only for the name of an image that was given without a prefix.
	Kinds []Kind
	// Value is a path, the name of an image, or a workload's id; empty for the
	// host.
	Value string
	// Name is which image of a layout or archive is meant, by name or digest;
	// empty leaves it to what is inside.
	Name string
	// Guessed says in words why it was taken for what it is, to be shown;
	// empty for what was said outright.
	Guessed string
}

// Files shows what is at a path. Errors are those of package fs.
type Files interface {
	Stat(path string) (fs.FileInfo, error)
	// Head returns the first n bytes of a file, or as many as it has.
	Head(path string, n int) ([]byte, error)
}

// Parse returns what s means. Errors say what would be understood.
func Parse(s string, files Files) (Target, error) {
	switch {
	case s == "":
		return Target{}, fault.New(fault.Invalid, "no target given").With("name an image, a file or a folder; castellan scan --help lists all kinds")
	case len(s) > maxTarget || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return Target{}, fault.New(fault.Invalid, "target %.80q… of %d bytes, or with control characters", s, len(s)).With("name an image, a file or a folder")
	}
	if prefix, rest, ok := strings.Cut(s, ":"); ok && isPrefix(prefix) {
		return outright(Kind(prefix), rest, s, files)
	}
	return guess(s, files)
}

func isPrefix(s string) bool {
	switch Kind(s) {
	case Registry, Engine, Layout, Archive, Source, Root, SBOM, Task, Workload:
		return true
	}
	return false
}

// outright reads what follows a prefix.
func outright(kind Kind, rest, whole string, files Files) (Target, error) {
	t := Target{Kinds: []Kind{kind}, Value: rest}
	if rest == "" {
		return Target{}, fault.New(fault.Invalid, "target %q: nothing follows the prefix", whole).With("write " + string(kind) + ":" + wants(kind))
	}
	switch kind {
	case Registry, Engine:
		if isVersion(rest) {
			return Target{}, fault.New(fault.Invalid, "target %q can be read in two ways", whole).
				With(fmt.Sprintf("write %s:%s:latest for the image %s, or registry:%s for the image %s with the tag %s", kind, rest, rest, whole, kind, rest))
		}
	case Layout, Archive:
		return within(t, files)
	}
	return t, nil
}

// wants is what follows a prefix.
func wants(kind Kind) string {
	switch kind {
	case Registry, Engine:
		return "NAME"
	case Workload:
		return "ID"
	}
	return "PATH"
}

// isVersion says whether s is a tag rather than an image: registry:2 and
// docker:28 are images that many have.
func isVersion(s string) bool {
	return '0' <= s[0] && s[0] <= '9' && !strings.ContainsAny(s, "/:@")
}

// within takes the path of a layout or archive and the name of an image in it
// apart: a path may have colons, so what is there decides.
func within(t Target, files Files) (Target, error) {
	path := t.Value
	if path == Stdin || exists(files, path) {
		return t, nil
	}
	if at := strings.LastIndex(path, "@sha256:"); at > 0 && (path[:at] == Stdin || exists(files, path[:at])) {
		t.Value, t.Name = path[:at], path[at+1:]
		return t, nil
	}
	for at := len(path) - 1; at > 0; at-- {
		if path[at] == ':' && at+1 < len(path) && (path[:at] == Stdin || exists(files, path[:at])) {
			t.Value, t.Name = path[:at], path[at+1:]
			return t, nil
		}
	}
	return Target{}, notThere(path)
}

func exists(files Files, path string) bool {
	_, err := files.Stat(path)
	return err == nil
}

func notThere(path string) error {
	return fault.New(fault.NotFound, "there is no file or folder %.200s", path).
		With("is the path right, and relative to where you are?")
}

// guess finds out what a target without a prefix is.
func guess(s string, files Files) (Target, error) {
	switch s {
	case Stdin:
		return Target{Kinds: []Kind{Archive}, Value: Stdin}, nil
	case string(Host):
		return Target{Kinds: []Kind{Host}}, nil
	}
	info, err := files.Stat(s)
	switch {
	case err == nil:
		return atPath(s, info, files)
	case errors.Is(err, fs.ErrPermission):
		return Target{}, fault.New(fault.Denied, "look at %.200s: %w", s, err).With("run castellan as a user who may read it; for an image of that name write registry:" + s)
	case isPath(s):
		t, err := within(Target{Value: s}, files)
		if err != nil {
			return Target{}, err
		}
		found, err := guess(t.Value, files)
		if err != nil {
			return Target{}, err
		}
		if k := found.Kinds[0]; k != Layout && k != Archive {
			return Target{}, notThere(s)
		}
		found.Name = t.Name
		return found, nil
	}
	return asImage(s)
}

// isPath says whether s is written as paths are and images are not.
func isPath(s string) bool {
	for _, begin := range []string{"/", "./", "../", "~"} {
		if strings.HasPrefix(s, begin) {
			return true
		}
	}
	for _, end := range []string{".tar", ".tar.gz", ".tgz", ".tar.zst", ".json", ".xml", ".spdx", "/"} {
		if strings.HasSuffix(s, end) {
			return true
		}
	}
	return s == "." || s == ".."
}

// asImage takes s for the name of an image. Whether it can be one exactly is for
// who opens it to say; here it must look like one.
func asImage(s string) (Target, error) {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._:/@-[]"
	if strings.Trim(s, letters) != "" || strings.ContainsAny(s[:1], "-.:@") {
		return Target{}, fault.New(fault.Invalid, "target %.200q is no file or folder here, and no image has such a name", s).
			With("name an image, a file or a folder; castellan scan --help lists all kinds")
	}
	t := Target{
		Kinds: []Kind{Engine, Registry}, Value: s,
		Guessed: "no file or folder of that name is here, so it is an image: of the local engine if that has it, else of its registry",
	}
	if isID(s) {
		t.Kinds, t.Guessed = t.Kinds[:1], "it is an id, by which only the local engine knows images"
	}
	return t, nil
}

// isID says whether s is the id by which an engine knows an image.
func isID(s string) bool {
	const digits = 64
	s = strings.TrimPrefix(s, "sha256:")
	return len(s) == digits && strings.Trim(s, "0123456789abcdef") == ""
}
