package vulndb

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/castellan-security/castellan/internal/advisory"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/scan/version"
)

// Limits of texts, in bytes. What is longer is cut, with an ellipsis, unless it
// names something: then the advisory is unusable.
const (
	maxShown   = 80  // of something unusable, in an error
	maxText    = 512 // identifiers, names, vectors
	maxSummary = 400 // OSV recommends 120 at most; some CVEs have their description there
	maxNote    = 400
	maxURL     = 2048
	maxDetails = 128 << 10
	maxRelated = 64 << 10 // all of them together; texts must fit a block (maxBlock)
	// keptReferences are kept of an advisory, the more telling kinds first.
	keptReferences = 12
)

// clean checks an advisory and brings it into the form that is stored. An error
// means that it cannot be used at all; what cannot be used of it is noted.
func (b *Builder) clean(a *advisory.Advisory) error {
	invalid := func(format string, args ...any) error {
		return fault.New(fault.Invalid, "advisory %s: %s", clip(a.ID, maxShown), fmt.Sprintf(format, args...))
	}
	if a.ID == "" || len(a.ID) > maxText {
		return invalid("identifier of %d bytes", len(a.ID))
	}
	for _, list := range []*[]string{&a.Aliases, &a.Upstream, &a.Related} {
		*list = names(*list, a.ID)
		if len(*list) > maxNames {
			return invalid("%d other names, at most %d", len(*list), maxNames)
		}
	}
	if len(a.Affected) > maxAffected {
		return invalid("%d packages, at most %d", len(a.Affected), maxAffected)
	}
	a.Scores = scores(a.Scores)
	a.Weaknesses = names(a.Weaknesses, "")
	a.Weaknesses = a.Weaknesses[:min(len(a.Weaknesses), maxWeaknesses)]
	a.References = references(a.References)
	a.Details = strings.TrimSpace(a.Details)
	a.Summary = clip(line(cmp.Or(strings.TrimSpace(a.Summary), firstSentence(a.Details))), maxSummary)
	if b.o.Details > 0 {
		a.Details = clip(a.Details, min(b.o.Details, maxDetails))
	} else {
		a.Details = ""
	}
	if len(strings.Join(a.Related, "")) > maxRelated {
		a.Related = nil
	}
	affected := make([]advisory.Affected, 0, len(a.Affected))
	for _, x := range a.Affected {
		err := cleanAffected(&x)
		if err == nil {
			err = cleanVersions(&x)
		}
		if err != nil {
			b.note(a.Source, invalid("%v", err))
		}
		if len(x.Ranges) > 0 || len(x.Versions) > 0 {
			affected = append(affected, x)
		}
	}
	a.Affected = affected
	return nil
}

// cleanAffected brings what is said about one package into the form that is
// stored. An error means that none of it can be used; it is then of no version.
func cleanAffected(x *advisory.Affected) error {
	x.Ecosystem = storedEcosystem(x.Ecosystem)
	x.Package = advisory.Normalize(x.Ecosystem, x.Package)
	var err error
	switch {
	case x.Ecosystem == "" || len(x.Ecosystem) > maxText || strings.IndexByte(x.Ecosystem, 0) >= 0 || x.Ecosystem >= noEcosystem:
		err = fmt.Errorf("ecosystem %q", clip(x.Ecosystem, maxShown))
	case x.Package == "" || len(x.Package) > maxText || strings.ContainsRune(x.Package, 0):
		err = fmt.Errorf("package %q", clip(x.Package, maxShown))
	case len(x.Ranges) > maxRanges:
		err = fmt.Errorf("package %s: %d ranges, at most %d", x.Package, len(x.Ranges), maxRanges)
	case len(x.Versions) > maxListed:
		err = fmt.Errorf("package %s: %d versions, at most %d", x.Package, len(x.Versions), maxListed)
	case x.Of > advisory.OfBinary || x.Status > advisory.UnderInvestigation || x.Rating > advisory.Critical:
		err = fmt.Errorf("package %s: status %d, rating %d", x.Package, x.Status, x.Rating)
	case len(x.Ranges) == 0 && len(x.Versions) == 0 && x.Status == advisory.IsAffected:
		err = fmt.Errorf("package %s: affected in no version", x.Package)
	case len(x.Ranges) == 0 && len(x.Versions) == 0:
		x.Ranges = []advisory.Range{{}} // the state is of all versions
	}
	if err != nil {
		x.Ranges, x.Versions = nil, nil
		return err
	}
	x.Arches = names(x.Arches, "")
	x.Arches = x.Arches[:min(len(x.Arches), maxArches)]
	x.Repository = clip(x.Repository, maxText)
	x.Note = clip(line(x.Note), maxNote)
	x.Scores = scores(x.Scores)
	return nil
}

// cleanVersions takes out ranges with versions that have no place in the order of
// the ecosystem, and says so.
func cleanVersions(x *advisory.Affected) (err error) {
	order := version.OrderOf(x.Ecosystem)
	usable := func(v string) bool {
		if v == "" {
			return true
		}
		_, e := order.Key(v)
		if e != nil {
			err = fmt.Errorf("package %s: range with version %q: %w", x.Package, clip(v, maxShown), e)
		}
		return e == nil
	}
	var ranges []advisory.Range
	for _, r := range x.Ranges {
		if r.Introduced == "0" {
			r.Introduced = "" // OSV's word for the first
		}
		if r.Fixed != "" {
			r.Last = "" // more exact
		}
		if usable(r.Introduced) && usable(r.Fixed) && usable(r.Last) {
			ranges = append(ranges, r)
		}
	}
	x.Ranges = ranges
	x.Versions = slices.DeleteFunc(slices.Clone(x.Versions), func(v string) bool { return v == "" || len(v) > version.MaxLength })
	return err
}

// storedEcosystem takes the repository off the ecosystems that have one where
// distributions have their release: a package's name is the same in all of them,
// and an inventory does not know from which one it came.
func storedEcosystem(ecosystem string) string {
	base, _, found := strings.Cut(ecosystem, ":")
	if found && (base == "Maven" || base == "Packagist" || base == "VSCode") {
		return base
	}
	return ecosystem
}

// names sorts names and takes out what is empty, too long, double or own.
func names(list []string, own string) []string {
	var kept []string
	for _, n := range list {
		if n = strings.TrimSpace(n); n != "" && n != own && len(n) <= maxText {
			kept = append(kept, n)
		}
	}
	slices.Sort(kept)
	return slices.Compact(kept)
}

func scores(list []advisory.Score) []advisory.Score {
	var kept []advisory.Score
	for _, s := range list {
		if s.Vector = strings.TrimSpace(s.Vector); s.Vector != "" && len(s.Vector) <= maxText {
			s.By = clip(s.By, maxText)
			kept = append(kept, s)
		}
	}
	slices.SortFunc(kept, func(a, b advisory.Score) int {
		return cmp.Or(cmp.Compare(a.Vector, b.Vector), cmp.Compare(a.By, b.By))
	})
	kept = slices.Compact(kept)
	return kept[:min(len(kept), maxScores)]
}

// kinds of references, the more telling ones first.
var referenceKinds = []string{"advisory", "fix", "report", "article", "evidence", "detection", "discussion", "web"}

func references(list []advisory.Reference) []advisory.Reference {
	place := func(kind string) int {
		if i := slices.Index(referenceKinds, kind); i >= 0 {
			return i
		}
		return len(referenceKinds)
	}
	var kept []advisory.Reference
	for _, r := range list {
		if r.URL != "" && len(r.URL) <= maxURL && len(r.Kind) <= maxText {
			kept = append(kept, r)
		}
	}
	slices.SortStableFunc(kept, func(a, b advisory.Reference) int { return cmp.Compare(place(a.Kind), place(b.Kind)) })
	seen := map[string]bool{}
	kept = slices.DeleteFunc(kept, func(r advisory.Reference) bool {
		double := seen[r.URL]
		seen[r.URL] = true
		return double
	})
	return kept[:min(len(kept), keptReferences)]
}

// line puts text on one line.
func line(s string) string { return strings.Join(strings.Fields(s), " ") }

// firstSentence is the summary of an advisory that has none of its own: of the
// first paragraph of its details that is no heading, the first sentence that says
// more than what the package is ("urllib3 is an HTTP client library.").
func firstSentence(details string) string {
	for paragraph := range strings.SplitSeq(details, "\n\n") {
		paragraph = strings.TrimSpace(paragraph)
		if paragraph == "" || strings.HasPrefix(paragraph, "#") {
			continue
		}
		for {
			n := sentenceEnd(paragraph)
			if n == len(paragraph) || !introduces(paragraph[:n]) {
				return paragraph[:n]
			}
			paragraph = strings.TrimSpace(paragraph[n:])
		}
	}
	return ""
}

// sentenceEnd returns how long the first sentence is.
func sentenceEnd(text string) int {
	for at := 0; ; {
		i := strings.Index(text[at:], ". ")
		if i < 0 {
			return len(text)
		}
		at += i + 1
		before := text[:at-1]
		if !strings.HasSuffix(before, "e.g") && !strings.HasSuffix(before, "i.e") && !strings.HasSuffix(before, " vs") {
			return at
		}
	}
}

// introduces says whether a sentence says what something is.
func introduces(sentence string) bool {
	const words = 4 // of a name, at most
	name, _, ok := strings.Cut(sentence, " is ")
	rest := strings.TrimPrefix(sentence[len(name):], " is ")
	isA := strings.HasPrefix(rest, "a ") || strings.HasPrefix(rest, "an ") || strings.HasPrefix(rest, "the ")
	return ok && isA && len(strings.Fields(name)) <= words
}
