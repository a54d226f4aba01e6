package feeds

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/advisory"
	"github.com/castellan-security/castellan/internal/pull"
)

// osvReader reads OSV documents, schema 1.7 (https://ossf.github.io/osv-schema).
// It keeps its memory from one to the next and belongs to one goroutine.
type osvReader struct {
	source string
	tally  *Tally
	json   pull.Reader
	words  words
	events []event
	// What is left of the limits for the whole document.
	ranges, versions int
}

// document hands over the advisory of one document, if there is anything in it
// that a package could be matched with.
func (o *osvReader) document(doc []byte, give func(*advisory.Advisory) bool) error {
	a, err := o.advisory(doc)
	if a != nil {
		give(a)
	}
	return err
}

func (o *osvReader) advisory(doc []byte) (*advisory.Advisory, error) {
	r := &o.json
	r.Reset(doc)
	o.ranges, o.versions = maxRanges, maxVersions
	a := &advisory.Advisory{Source: o.source}
	if r.Object() {
		for r.Next() {
			o.field(a, r.Key())
		}
	}
	if err := r.End(); err != nil {
		return nil, err
	}
	if a.ID == "" {
		return nil, errors.New("the document has no id")
	}
	if err := checkNames(a.ID); err != nil {
		return nil, err
	}
	if len(a.Affected) == 0 {
		o.tally.skip(SkipNoPackage)
		return nil, nil
	}
	o.complete(a)
	return a, nil
}

func (o *osvReader) field(a *advisory.Advisory, key []byte) {
	r := &o.json
	switch string(key) {
	case "id":
		a.ID = r.Text()
	case "modified":
		a.Modified = o.time()
	case "published":
		a.Published = o.time()
	case "withdrawn":
		a.Withdrawn = o.withdrawn()
	case "aliases":
		a.Aliases = names(r.Strings(maxNames))
	case "upstream":
		a.Upstream = names(r.Strings(maxNames))
	case "related":
		a.Related = names(r.Strings(maxNames))
	case "summary":
		a.Summary = cut(r.Text(), maxSummary)
	case "details":
		a.Details = cut(r.Text(), maxDetails)
	case "severity":
		a.Scores, a.Rating = o.severity(a.Rating)
	case "references":
		a.References = o.references()
	case "affected":
		a.Affected = o.affected()
	case "database_specific":
		o.databaseSpecific(a)
	default: // schema_version, credits, and what newer versions add
		r.Skip()
	}
}

// complete works out what distributions say in other fields than the schema
// wants, and brings names into the form in which inventories meet them.
func (o *osvReader) complete(a *advisory.Advisory) {
	distribution := false
	for i := range a.Affected {
		_, is := namesOf(a.Affected[i].Ecosystem)
		distribution = distribution || is
	}
	if !distribution {
		return
	}
	upstream(a)
	if a.Rating == advisory.Unrated {
		a.Rating = titleRating(a.Summary)
	}
	module := moduleOf(a.Summary)
	if module == "" {
		return
	}
	for i := range a.Affected {
		if p := &a.Affected[i]; slices.ContainsFunc(p.Ranges, func(r advisory.Range) bool { return isModular(r.Fixed) }) {
			p.Repository = module
		}
	}
}

// upstream brings the weaknesses that a distribution's advisory fixes to where
// they belong. Publishers put them into aliases (before schema 1.7 that was
// usual), into related, or only into their own name.
func upstream(a *advisory.Advisory) {
	keep := a.Aliases[:0]
	for _, id := range a.Aliases {
		if isCVE(id) && a.ID != id {
			a.Upstream = append(a.Upstream, id)
			continue
		}
		keep = append(keep, id)
	}
	a.Aliases = keep
	if cve := cveIn(a.ID); cve != "" {
		a.Upstream = append(a.Upstream, cve)
	}
	if len(a.Upstream) == 0 {
		keep := a.Related[:0]
		for _, id := range a.Related {
			if isCVE(id) || strings.HasPrefix(id, "GHSA-") {
				a.Upstream = append(a.Upstream, id)
				continue
			}
			keep = append(keep, id)
		}
		a.Related = keep
	}
	a.Upstream = unique(a.Upstream, a.ID)
	a.Related = slices.DeleteFunc(unique(a.Related, a.ID), func(id string) bool {
		return isCVE(id) && slices.Contains(a.Upstream, id)
	})
}

// unique removes duplicates, and without, and keeps the order.
func unique(ids []string, without string) []string {
	if len(ids) < 2 {
		if len(ids) == 1 && ids[0] == without {
			return nil
		}
		return ids
	}
	seen := make(map[string]bool, len(ids))
	keep := ids[:0]
	for _, id := range ids {
		if !seen[id] && id != without {
			seen[id] = true
			keep = append(keep, id)
		}
	}
	return keep
}

func (o *osvReader) affected() []advisory.Affected {
	r := &o.json
	if !r.Array() {
		return nil
	}
	var all []advisory.Affected
	for n := 0; r.Next(); n++ {
		if n == maxAffected {
			r.Fail(tooMany("affected packages", maxAffected))
			break
		}
		if p, ok := o.affectedPackage(); ok {
			all = append(all, p)
		}
	}
	return all
}

// affectedPackage reads one, and reports whether a package could be matched with
// it.
func (o *osvReader) affectedPackage() (advisory.Affected, bool) {
	r := &o.json
	var p advisory.Affected
	if r.Object() {
		for r.Next() {
			switch string(r.Key()) {
			case "package":
				o.name(&p)
			case "ranges":
				p.Ranges = o.rangesOf()
			case "versions":
				p.Versions = o.versionsOf()
			case "severity":
				p.Scores, p.Rating = o.severity(p.Rating)
			case "ecosystem_specific", "database_specific":
				o.specific(&p)
			default:
				r.Skip()
			}
		}
	}
	if p.Ecosystem == "" || p.Package == "" || len(p.Ranges)+len(p.Versions) == 0 && p.Status == advisory.IsAffected {
		return p, false
	}
	if err := checkNames(p.Ecosystem, p.Package); err != nil {
		r.Fail(err)
	}
	return p, true
}

func (o *osvReader) name(p *advisory.Affected) {
	r := &o.json
	name := ""
	if r.Object() {
		for r.Next() {
			switch string(r.Key()) {
			case "ecosystem":
				p.Ecosystem = o.words.of(r.Bytes())
			case "name":
				name = r.Text()
			default: // purl says nothing that these two don't
				r.Skip()
			}
		}
	}
	p.Of, _ = namesOf(p.Ecosystem)
	if cpe, ok := strings.CutPrefix(p.Ecosystem, "Red Hat:"); ok {
		ecosystem, _ := redHat(cpe)
		p.Ecosystem = o.words.of([]byte(ecosystem))
	}
	p.Package = advisory.Normalize(p.Ecosystem, name)
}

func (o *osvReader) versionsOf() []string {
	r := &o.json
	if !r.Array() {
		return nil
	}
	var all []string
	for r.Next() {
		if o.versions == 0 {
			r.Fail(tooMany("versions", maxVersions))
			break
		}
		o.versions--
		v := r.Text()
		if len(v) > maxName {
			r.Fail(errTooLong)
		}
		all = append(all, v)
	}
	return all
}

func (o *osvReader) references() []advisory.Reference {
	r := &o.json
	if !r.Array() {
		return nil
	}
	var all []advisory.Reference
	for r.Next() {
		if len(all) == maxReferences {
			o.tally.skip(SkipReference)
			r.Skip()
			continue
		}
		var ref advisory.Reference
		if r.Object() {
			for r.Next() {
				switch string(r.Key()) {
				case "type":
					ref.Kind = o.words.lower(r.Bytes())
				case "url":
					ref.URL = r.Text()
				default:
					r.Skip()
				}
			}
		}
		if ref.URL != "" && len(ref.URL) <= maxURL {
			all = append(all, ref)
		}
	}
	return all
}

// time reads a time as RFC 3339 has it. One that cannot be read is zero: it is
// only for showing.
func (o *osvReader) time() time.Time {
	return parseTime(string(o.json.Bytes()))
}

// withdrawn reads when a document was withdrawn. Here a time that cannot be read
// is an error, because without one the advisory would stand.
func (o *osvReader) withdrawn() time.Time {
	s := o.json.Text()
	t := parseTime(s)
	if s != "" && t.IsZero() {
		o.json.Fail(fmt.Errorf("withdrawn at %.40q: not a time", s))
	}
	return t
}

// parseTime reads the forms of time that feeds use; zero if it is none.
func parseTime(s string) time.Time {
	for _, layout := range [...]string{time.RFC3339, "2006-01-02", "2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02 15:04", "2006-01-02T15:04:05-0700"} {
		if t, err := time.Parse(layout, s); err == nil {
			if t.Year() <= 1 { // the Go database's "not known"
				return time.Time{}
			}
			return t.UTC()
		}
	}
	return time.Time{}
}

// checkNames fails if one of them is longer than any real one.
func checkNames(names ...string) error {
	for _, n := range names {
		if len(n) > maxName {
			return errTooLong
		}
	}
	return nil
}

// names drops the identifiers that are none.
func names(ids []string) []string {
	return slices.DeleteFunc(ids, func(id string) bool { return id == "" || len(id) > maxName })
}
