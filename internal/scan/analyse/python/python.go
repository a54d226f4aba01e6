// Package python reads what Python's installers leave behind: the metadata of
// each installed distribution (dist-info, egg-info) and which libraries and
// programs are its own, wheels and eggs that lie
// about, Conda's records, and requirements and lock files, which declare what
// was to be installed.
//
// It is not for setup.py and pyproject.toml, which name ranges that only a
// resolver can answer, and not for requirements within installed packages.
package python

import (
	"context"
	"io"
	"strings"

	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan/analyse"
)

const (
	maxMetadata = 16 << 20 // headers come first; what follows is not read
	maxLock     = 64 << 20
	maxConda    = 64 << 20 // records list every file of a package
)

// Analyser reads packages and lock files of Python.
type Analyser struct{}

// Name is python.
func (Analyser) Name() string { return "python" }

// Wants takes metadata by the names that installers give it, and lock files
// outside of what they install.
func (Analyser) Wants(e *analyse.Entry, head []byte) bool {
	return len(head) > 0 && kindOf(e.Path) != none
}

// kind is what a file is.
type kind int

const (
	none kind = iota
	metadata
	record
	archive
	conda
	requirements
	pipfile
	poetry
	pdm
	uv
	pylock
)

// kindOf tells files apart by their path alone.
func kindOf(path string) kind {
	i := strings.LastIndexByte(path, '/')
	base, folder := path[i+1:], path[:max(i, 0)]
	switch base {
	case "METADATA":
		return only(strings.HasSuffix(folder, "dist-info") || strings.HasSuffix(folder, "DIST-INFO"), metadata)
	case recordName:
		return only(strings.HasSuffix(folder, ".dist-info"), record)
	case installedName:
		return only(strings.HasSuffix(folder, ".egg-info"), record)
	case "PKG-INFO":
		return only(strings.HasSuffix(folder, "egg-info") || strings.HasSuffix(folder, "EGG-INFO"), metadata)
	case "Pipfile.lock":
		return outside(path, pipfile)
	case "poetry.lock":
		return outside(path, poetry)
	case "pdm.lock":
		return outside(path, pdm)
	case "uv.lock":
		return outside(path, uv)
	case "pylock.toml":
		return outside(path, pylock)
	}
	switch dot := strings.LastIndexByte(base, '.'); base[max(dot, 0):] {
	case ".egg-info":
		return metadata
	case ".whl", ".egg":
		return archive
	case ".json":
		return only(strings.HasSuffix(folder, "conda-meta"), conda)
	case ".txt":
		if strings.Contains(base, "requirements") || strings.HasSuffix(folder, "/requirements") || folder == "requirements" {
			return outside(path, requirements)
		}
	}
	return none
}

func only(is bool, k kind) kind {
	if is {
		return k
	}
	return none
}

// outside leaves out what lies within installed packages: it says how they were
// developed.
func outside(path string, k kind) kind {
	return only(!strings.Contains(path, "site-packages/") && !strings.Contains(path, "dist-packages/"), k)
}

// Take reads one file.
func (Analyser) Take(ctx context.Context, e *analyse.Entry, r io.Reader, shown *analyse.Shown) error {
	switch kindOf(e.Path) {
	case metadata:
		return takeMetadata(r, e.Size, "", shown)
	case record:
		return takeRecord(e, r, shown)
	case archive:
		return takeArchive(ctx, e, r, shown)
	case conda:
		return takeConda(r, e.Size, shown)
	case requirements:
		return takeRequirements(r, e.Size, shown)
	case pipfile:
		return takePipfile(r, e.Size, shown)
	case poetry:
		return takeGrouped(r, e.Size, "package", "main", shown)
	case pdm:
		return takeGrouped(r, e.Size, "package", "default", shown)
	case pylock:
		return takeGrouped(r, e.Size, "packages", "", shown)
	case uv:
		return takeUV(r, e.Size, shown)
	}
	return nil
}

// asPackage makes a package. The name is as package URLs want it: in lower case
// with dashes.
func asPackage(name, version string, found inventory.Evidence) inventory.Package {
	if !isName(name) {
		name = ""
	}
	return inventory.Package{Type: "pypi", Name: strings.ReplaceAll(strings.ToLower(name), "_", "-"),
		Version: version, Ecosystem: "PyPI", Found: found}
}

// isName says whether a name is one by the core metadata specification.
func isName(s string) bool {
	for i := range len(s) {
		c := s[i]
		alnum := c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z'
		if !alnum && (i == 0 || i == len(s)-1 || c != '.' && c != '-' && c != '_') {
			return false
		}
	}
	return s != ""
}
