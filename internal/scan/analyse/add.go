package analyse

import (
	"fmt"
	"slices"
	"strings"

	"github.com/castellan-security/castellan/internal/inventory"
)

// Limits of what one file may show. The largest lock files seen name a tenth as
// many packages; names and versions are an order of magnitude shorter.
const (
	MaxPackages = 50_000
	MaxName     = 1024 // bytes of a name with its namespace, and of a version
	MaxLicenses = 20
	MaxLicense  = 256 // bytes of one licence
)

// Add adds p to what is shown. Without a name p is nothing and is left out.
// The error says that a limit was passed, after which reading on is of no use.
func (s *Shown) Add(p inventory.Package) error {
	if p.Name == "" {
		return nil
	}
	if len(p.Namespace)+len(p.Name) > MaxName || len(p.Version) > MaxName {
		return fmt.Errorf("package %.80q at version %.80q: name or version of more than %d bytes", p.Name, p.Version, MaxName)
	}
	if len(s.Packages) >= MaxPackages {
		return fmt.Errorf("more than %d packages in one file", MaxPackages)
	}
	p.Licenses = cleanLicenses(p.Licenses)
	s.Packages = append(s.Packages, p)
	return nil
}

// Incomplete counts records of a package manager without a name or a version:
// there may be as many as a file has bytes for.
type Incomplete struct {
	Of    string // "dpkg's record"
	first string
	count int
}

// Add counts one; what is what it has instead.
func (i *Incomplete) Add(what string) {
	if i.count++; i.count == 1 {
		i.first = what
	}
}

// Tell adds a problem to shown if there were any.
func (i *Incomplete) Tell(shown *Shown) {
	if i.count == 0 {
		return
	}
	what := fmt.Sprintf("%s of %.100q has no name or no version", i.Of, i.first)
	if i.count > 1 {
		what += fmt.Sprintf(", nor have %d others", i.count-1)
	}
	shown.Problems = append(shown.Problems, inventory.Problem{What: what})
}

// cleanLicenses leaves out what is empty, repeated, or the text of a licence
// instead of its name.
func cleanLicenses(all []string) []string {
	var kept []string
	for _, l := range all {
		l = strings.TrimSpace(l)
		if l == "" || len(l) > MaxLicense || strings.Contains(l, "\n") || len(kept) == MaxLicenses || slices.Contains(kept, l) {
			continue
		}
		kept = append(kept, l)
	}
	return kept
}

// Base returns the last part of the path.
func (e *Entry) Base() string { return e.Path[strings.LastIndexByte(e.Path, '/')+1:] }

// Folder returns the path without its last part and the slash before it, "" at
// the root.
func (e *Entry) Folder() string {
	i := strings.LastIndexByte(e.Path, '/')
	return e.Path[:max(i, 0)]
}
