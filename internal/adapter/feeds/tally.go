package feeds

import (
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/advisory"
)

// maxFailures is how many broken documents are kept by name: enough to see what
// is wrong, whatever their number.
const maxFailures = 20

// Skip is why something was left out that is not broken.
type Skip string

// The reasons.
const (
	SkipGitRange      Skip = "git range"             // commits are no versions of packages
	SkipUnknownRange  Skip = "unknown type of range" // newer than this program
	SkipNoPackage     Skip = "no package"            // nothing that could be matched
	SkipSuperseded    Skip = "superseded"            // a newer document of the same name was read
	SkipRelease       Skip = "unknown release"       // a release this program has no number for
	SkipProduct       Skip = "other product"         // no package of a distribution
	SkipFixed         Skip = "fixed elsewhere"       // another feed says by which version
	SkipReference     Skip = "reference"             // beyond maxReferences
	SkipNotInRelease  Skip = "not in release"        // the release has no such package
	SkipUnknownStatus Skip = "unknown status"        // newer than this program; taken for affected
)

// Tally counts what was read from a source. It belongs to one reading at a time.
type Tally struct {
	Documents  int   // read, good or broken
	Bytes      int64 // of the documents, unpacked
	Advisories int   // handed over
	Failed     int   // documents left out because they are broken or beyond a limit
	// Failures are the first of the broken ones.
	Failures []Failure
	Skipped  map[Skip]int
	// Newest is the latest date among what was handed over: how old the feed is.
	// Advisories without a date, as the Go database's export has them, count from
	// the beginning of the year in their name.
	Newest time.Time

	failed func(Failure) // told of every one
	within string        // the file that is being read, where documents are in it
}

// Failure is one document that could not be read.
type Failure struct {
	Document string // its file, and its name in that
	Err      error
}

func (t *Tally) skip(why Skip) {
	if t.Skipped == nil {
		t.Skipped = map[Skip]int{}
	}
	t.Skipped[why]++
}

// fail counts a broken document.
func (t *Tally) fail(document string, err error) {
	if t.within != "" {
		document = t.within + ": " + document
	}
	t.count(document, err)
	if t.failed != nil {
		t.failed(Failure{document, err})
	}
}

// count is fail for what is told of in another way.
func (t *Tally) count(document string, err error) {
	t.Failed++
	if len(t.Failures) < maxFailures {
		t.Failures = append(t.Failures, Failure{document, err})
	}
}

func (t *Tally) saw(modified time.Time) {
	if modified.After(t.Newest) {
		t.Newest = modified
	}
}

func (t *Tally) sawAdvisory(a *advisory.Advisory) {
	if a.Modified.IsZero() && a.Published.IsZero() {
		t.saw(yearIn(a.ID))
		return
	}
	t.saw(a.Modified)
	t.saw(a.Published)
}

// yearIn returns the beginning of the year that an identifier names, GO-2026-6249,
// and zero if it names none.
func yearIn(id string) time.Time {
	for part := range strings.SplitSeq(id, "-") {
		if year, err := strconv.Atoi(part); err == nil && len(part) == 4 && year >= 1999 && year < 2100 {
			return time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC)
		}
	}
	return time.Time{}
}

// add adds what one of several readers counted.
func (t *Tally) add(o *Tally) {
	t.Documents += o.Documents
	t.Bytes += o.Bytes
	t.Advisories += o.Advisories
	t.Failed += o.Failed
	t.Failures = append(t.Failures, o.Failures[:min(len(o.Failures), maxFailures-len(t.Failures))]...)
	if t.Skipped == nil {
		t.Skipped = map[Skip]int{}
	}
	for why, n := range maps.All(o.Skipped) {
		t.Skipped[why] += n
	}
	t.saw(o.Newest)
}
