// Package feeds is the door to what others publish about weaknesses: it fetches
// their files into a folder and turns their formats into the nouns of package
// advisory.
//
// The two halves meet only in that folder, whose layout is described in
// docs/feeds.md: a mirror serves the same layout, and in an air gap the folder is
// carried in. Nothing is fetched unless Fetcher.Update is called.
//
//	for a, err := range feeds.Parse(ctx, source, os.DirFS(dir), &tally) {
//
// Everything that is read here was written by strangers. A document that is
// broken, too large or too deep is counted with its name and costs nobody else
// anything; limits are in limit.go. It is not for ordering versions or matching
// them with packages: that is scan's.
package feeds

import "slices"

// Format is how the files of a source are written.
type Format uint8

// The formats.
const (
	OSV           Format = iota + 1 // zips of OSV documents, or the documents
	DebianTracker                   // the security tracker's JSON
	SecDB                           // Alpine's secfixes, one JSON a branch and repository
	UpdateInfo                      // updateinfo.xml of RPM repositories
	AmazonCVE                       // the state of each CVE in Amazon Linux, JSON
	UbuntuTracker                   // the CVE tracker's JSON
	UbuntuVEX                       // Canonical's OpenVEX: one document a CVE, JSON in a tar
	CSAF                            // CSAF 2.0: advisories and VEX, JSON
	KEV                             // CISA's known exploited vulnerabilities, JSON
	EPSS                            // FIRST's exploit prediction scores, CSV
)

var formats = [...]string{
	"", "OSV", "Debian security tracker", "Alpine secdb", "updateinfo", "Amazon Linux CVE", "Ubuntu CVE tracker", "Ubuntu VEX", "CSAF", "KEV", "EPSS",
}

// String returns the format's name.
func (f Format) String() string {
	if int(f) < len(formats) {
		return formats[f]
	}
	return formats[0]
}

// Source is one publisher's feed.
type Source struct {
	// Name identifies it, and is what its advisories carry: "osv/Go", "debian",
	// "amazon/2023".
	Name   string
	Title  string // for people
	Format Format
	// Ecosystems are those it tells of, without releases. Empty for what tells
	// of weaknesses wherever they are.
	Ecosystems []string
	// Dir is its folder in the layout, Base the publisher's address of the same.
	Dir  string
	Base string
	Home string // where to read about it
	// Licence and Attribution are under what its content may be passed on, and
	// what must be said then.
	Licence     string
	Attribution string
	// Default says that it is among those used unless others are named. What is
	// not is either contained in one that is, or costs hours to fetch.
	Default bool
}

// Advisories reports whether the source publishes advisories, as all do but KEV
// and EPSS.
func (s Source) Advisories() bool { return s.Format != KEV && s.Format != EPSS }

// Named returns the source of that name.
func Named(name string) (Source, bool) {
	all := All()
	i := slices.IndexFunc(all, func(s Source) bool { return s.Name == name })
	if i < 0 {
		return Source{}, false
	}
	return all[i], true
}
