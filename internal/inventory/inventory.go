// Package inventory holds the words for what is inside a container image, a host
// or a source folder: its layers, packages and noteworthy files, and where each
// of them came from.
//
// It is what a scan finds and what advisories are matched with; it can be kept
// and matched again. It is not for what is wrong with a package (see finding)
// and not for what runs from it (see asset).
//
// All text in it was written by whoever made the image: untrusted, bounded
// where it is read, escaped where it is shown.
package inventory

import (
	"slices"
	"time"
)

// Inventory is everything that one scan found in one subject.
type Inventory struct {
	Subject Subject `json:"subject"`
	// Image is set when the subject is one image.
	Image *Image `json:"image,omitempty"`
	OS    OS     `json:"os,omitzero"`
	// Users are those of /etc/passwd; nil: it is not known whom that names.
	Users *Users `json:"users,omitempty"`
	// Packages are in the order of SortPackages.
	Packages []Package `json:"packages"`
	Files    []File    `json:"files,omitempty"` // noteworthy ones
	// Secrets are in the order of CompareSecrets; those of layers whose files were
	// deleted or replaced later are among them.
	Secrets []Secret `json:"secrets,omitempty"`
	// Malware is in the order of CompareMalware; that of layers whose files were
	// deleted or replaced later is among it.
	Malware []Malware `json:"malware,omitempty"`
	// Problems say what could not be read; the rest of the inventory stands.
	Problems []Problem `json:"problems,omitempty"`
	// Analysis names the version of the analysis that made it: another version
	// may find more in the same layers.
	Analysis int       `json:"analysis"`
	Made     time.Time `json:"made"`
}

// Kind says what a subject is.
type Kind string

// The kinds of subject.
const (
	KindImage    Kind = "image"
	KindRoot     Kind = "root"   // a root file system in a folder
	KindSource   Kind = "source" // a folder of source code
	KindSBOM     Kind = "sbom"
	KindWorkload Kind = "workload" // an image and what was written since
	KindHost     Kind = "host"
	KindIaC      Kind = "iac"      // documents that say how containers are built and run
	KindHistory  Kind = "history"  // of a repository; it has secrets alone
	KindDocument Kind = "document" // a task definition itself; it has secrets alone
)

// Subject is what was scanned.
type Subject struct {
	Kind Kind   `json:"kind"`
	Name string `json:"name"` // as the user named it
}

// OS is the operating system of the subject, from its os-release file. The zero
// value means that it has none, as images made from scratch.
type OS struct {
	ID       string   `json:"id"`                // debian, alpine, amzn, rhel, …
	Like     []string `json:"like,omitempty"`    // ID_LIKE
	Version  string   `json:"version,omitempty"` // VERSION_ID
	Codename string   `json:"codename,omitempty"`
	Name     string   `json:"name,omitempty"` // PRETTY_NAME
}

// Users are the names that /etc/passwd gives numbers to, sorted, as container
// engines read that file: a line whose number is missing or none gives 0. Without
// the file there are none, and a container that asks for a name does not start.
type Users struct {
	Root   []string `json:"root,omitempty"`   // with the number 0, in one of their lines at least
	Others []string `json:"others,omitempty"` // with other numbers only
}

// Package is one installed or declared package. Two packages with the same
// Ecosystem, Name, Version, Arch and place are one.
type Package struct {
	// Type is the package URL type: deb, apk, rpm, golang, npm, pypi, maven,
	// gem, cargo, nuget, composer, …
	Type string `json:"type"`
	// Namespace is the package URL's: the distribution for deb, apk and rpm,
	// the group for maven, the scope for npm (with its @), empty for most.
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"` // without the namespace
	Version   string `json:"version"`
	Arch      string `json:"arch,omitempty"`
	// Ecosystem is where advisories are looked up, as OSV names it, with the
	// release after a colon where there is one: "Debian:12", "Alpine:v3.20",
	// "Amazon Linux:2023", "npm". Empty: none is known.
	Ecosystem string `json:"ecosystem,omitempty"`
	// Source is what it was built from, for packages of distributions; the
	// zero value means the package itself.
	Source   Source   `json:"source,omitzero"`
	Licenses []string `json:"licenses,omitempty"`
	// Repository names where a distribution's package was installed from, when
	// its database says so: an Amazon Linux extra, a module stream.
	Repository string   `json:"repository,omitempty"`
	Places     []Place  `json:"places"`
	Files      []string `json:"files,omitempty"` // programs and libraries it owns; absolute, sorted
	// OwnedBy names the distribution's package that brought this one, where a
	// package manager of a distribution installed the files that show a package
	// of a language: "python3-urllib3" for urllib3 on Debian. It is then matched
	// only through its owner, because the distribution fixes it under a version
	// of its own. Empty: nobody else vouches for it.
	OwnedBy   string     `json:"owned_by,omitempty"`
	Digests   []string   `json:"digests,omitempty"`
	Dev       bool       `json:"dev,omitempty"`      // declared for development only
	Indirect  bool       `json:"indirect,omitempty"` // wanted by another package, not by the subject itself
	Found     Evidence   `json:"found"`
	Published *time.Time `json:"published,omitempty"`
}

// Evidence says how much a package's entry is worth.
type Evidence string

// The kinds of evidence.
const (
	Installed Evidence = "installed" // a package manager's own record, or the package itself
	Declared  Evidence = "declared"  // a lock file or manifest names it; whether it is there is not known
	Compiled  Evidence = "compiled"  // a program says that it was built in
	Stated    Evidence = "stated"    // an SBOM says so
	// Inferred is put together from a file's name and a manifest that doesn't
	// name the package fully.
	Inferred Evidence = "inferred"
)

// Source is a source package.
type Source struct {
	Name    string `json:"name"`
	Version string `json:"version"`
}

// Place is a file that shows a package, and what brought it.
type Place struct {
	// Path is absolute within the subject. For a package inside an archive the
	// archive's path comes first, then "!" and the path within, as often as
	// archives are nested.
	Path string `json:"path"`
	// Layer counts from 1, the base; 0 where there are no layers, and for what
	// a workload wrote since it started see Written.
	Layer int `json:"layer,omitempty"`
	// Written says that it was written by the running workload.
	Written bool `json:"written,omitempty"`
}

// File is a file that is noteworthy whatever package it belongs to.
type File struct {
	Place
	Size  int64  `json:"size"`
	Mode  uint32 `json:"mode"` // permission bits with set-uid, set-gid and sticky, as in stat(2)
	UID   int    `json:"uid"`
	GID   int    `json:"gid"`
	Why   Why    `json:"why"`
	Owner string `json:"owner,omitempty"` // name of the package that owns it
}

// Why says why a file is noteworthy.
type Why string

// The reasons.
const (
	SetUID        Why = "set-uid"
	SetGID        Why = "set-gid"
	WorldWritable Why = "world-writable" // and not in a sticky folder
	Capabilities  Why = "capabilities"   // security.capability
	PackageCache  Why = "package-cache"  // of a package manager, of no use to who runs the image
)

// Problem is something that could not be read. It never hides the rest.
type Problem struct {
	Place
	What string `json:"what"` // in words, with its cause
	// Lost says that a large part was not looked at, as a whole layer of the image,
	// or all that was left when a search had taken its time: nothing is known of
	// it, or of what it hides. No gate lets that pass.
	Lost bool `json:"lost,omitempty"`
}

// String says what could not be read, and why.
func (p Problem) String() string {
	if p.Path == "" {
		return p.What
	}
	return p.Path + ": " + p.What
}

// Key identifies a package across scans: what makes two entries the same
// package, but for its places.
type Key struct{ Type, Namespace, Name, Version, Arch, Ecosystem string }

// Key returns the identity of p.
func (p *Package) Key() Key {
	return Key{p.Type, p.Namespace, p.Name, p.Version, p.Arch, p.Ecosystem}
}

// FullName returns the name as its ecosystem writes it: "group:artifact" for
// maven, "@scope/name" for npm, "vendor/name" for composer, else with the
// namespace in front of a slash; distributions' packages have just their name.
func (p *Package) FullName() string {
	switch {
	case p.Namespace == "" || p.FromDistribution():
		return p.Name
	case p.Type == "maven":
		return p.Namespace + ":" + p.Name
	}
	return p.Namespace + "/" + p.Name
}

// SortPackages brings packages into the one order that makes two scans of the
// same bytes the same: by type, full name, version, architecture, then place.
func SortPackages(ps []Package) {
	slices.SortFunc(ps, comparePackages)
}
