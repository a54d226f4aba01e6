package feeds

import (
	"cmp"
	"errors"
	"fmt"
	"strings"

	"github.com/castellan-security/castellan/internal/advisory"
	"github.com/castellan-security/castellan/internal/pull"
)

// debianReader reads the security tracker's JSON
// (https://security-tracker.debian.org/tracker/data/json): an object of source
// packages, of weaknesses, of releases.
type debianReader struct {
	source string
	tally  *Tally
	json   pull.Reader
	words  words
}

// debianRelease returns the number of a release of Debian, as OSV's ecosystems
// have it. A release is added here when it gets its name, two years before it is
// published; until then, and for sid and experimental, its code name stands for
// it, which is also what such a system calls itself.
func debianRelease(codename string) string {
	switch codename {
	case "wheezy":
		return "7"
	case "jessie":
		return "8"
	case "stretch":
		return "9"
	case "buster":
		return "10"
	case "bullseye":
		return "11"
	case "bookworm":
		return "12"
	case "trixie":
		return "13"
	case "forky":
		return "14"
	case "duke":
		return "15"
	}
	return codename
}

// mention is one weakness of one package, as a place in the document.
type mention struct {
	pkg string
	at  int
}

// document goes through the packages for where each weakness is mentioned, and
// then hands over one advisory a weakness. What was found before an error holds.
func (d *debianReader) document(doc []byte, give func(*advisory.Advisory) bool) error {
	var ids []string
	mentions := map[string][]mention{}
	err := d.index(doc, func(id string, m mention) {
		if mentions[id] == nil {
			ids = append(ids, id)
		}
		mentions[id] = append(mentions[id], m)
	})
	for _, id := range ids {
		a := &advisory.Advisory{ID: id, Source: d.source}
		broken := checkNames(id)
		for _, m := range mentions[id] {
			d.json.Reset(doc[m.at:])
			d.weakness(a, m.pkg)
			broken = cmp.Or(broken, d.json.Err())
		}
		a.Summary = firstSentence(a.Details)
		if broken != nil {
			d.tally.fail(cut(id, maxShown), broken)
			continue
		}
		if len(a.Affected) == 0 {
			d.tally.skip(SkipNoPackage)
			continue
		}
		if !give(a) {
			return nil
		}
	}
	if err == nil && len(ids) == 0 {
		return errors.New("the document mentions no weakness: its form has changed")
	}
	return err
}

// index calls found for every mention of a weakness.
func (d *debianReader) index(doc []byte, found func(id string, m mention)) error {
	r := &d.json
	r.Reset(doc)
	if !r.Object() {
		return r.End()
	}
	for n := 0; r.Next(); {
		pkg := d.words.of(r.Key())
		if !r.Object() {
			continue
		}
		for r.Next() {
			id, m := r.Name(), mention{pkg, r.Offset()}
			if r.Skip(); r.Err() != nil {
				break
			}
			if n++; n > maxMentions {
				return tooMany("mentions of weaknesses", maxMentions)
			}
			if id == "" || pkg == "" || len(pkg) > maxName {
				d.tally.fail(fmt.Sprintf("%.60q of %.60q", id, pkg), errors.New("no usable name"))
				continue
			}
			found(id, m)
		}
	}
	return r.End()
}

func (d *debianReader) weakness(a *advisory.Advisory, pkg string) {
	r := &d.json
	if !r.Object() {
		return
	}
	for r.Next() {
		switch string(r.Key()) {
		case "description":
			a.Details = cut(r.Text(), maxDetails) // the same for every package
		case "releases":
			a.Affected = d.releases(a.Affected, pkg)
		default: // debianbug, scope
			r.Skip()
		}
	}
	a.References = []advisory.Reference{{Kind: "advisory", URL: "https://security-tracker.debian.org/tracker/" + cut(a.ID, maxName)}}
}

// releases appends the states of one package.
func (d *debianReader) releases(all []advisory.Affected, pkg string) []advisory.Affected {
	r := &d.json
	if !r.Object() {
		return all
	}
	for r.Next() {
		if len(all) == maxAffected {
			r.Fail(tooMany("releases", maxAffected))
			break
		}
		p := advisory.Affected{
			Ecosystem: "Debian:" + debianRelease(string(r.Key())),
			Package:   pkg,
			Of:        advisory.OfSource,
		}
		p.Ecosystem = d.words.of([]byte(p.Ecosystem))
		d.state(&p)
		all = append(all, p)
	}
	return all
}

// state reads what the tracker says of a package in one release.
//
// "open" is affected in every version, and the security team's decision about a
// separate advisory says what will come: "ignored" means never, "postponed" and a
// mere no-dsa that a fix may come with another one.
func (d *debianReader) state(p *advisory.Affected) {
	r := &d.json
	if !r.Object() {
		return
	}
	var status, version, urgency, nodsa, reason string
	for r.Next() {
		switch string(r.Key()) {
		case "status":
			status = r.Scalar()
		case "fixed_version":
			version = d.words.of(r.Bytes())
		case "urgency":
			urgency = r.Scalar()
		case "nodsa":
			nodsa = r.Scalar()
		case "nodsa_reason":
			reason = r.Scalar()
		default: // repositories: which version is where
			r.Skip()
		}
	}
	if len(version) > maxName {
		r.Fail(errTooLong)
	}
	p.Rating = rating(urgency)
	p.Note = cut(nodsa, maxNote)
	switch {
	case status == "resolved" && version == "0":
		p.Status = advisory.NotAffected
		return
	case status == "resolved" && version != "":
		p.Ranges = []advisory.Range{{Fixed: version}}
		return
	case status == "undetermined":
		p.Status = advisory.UnderInvestigation
	case urgency == "end-of-life":
		p.Status = advisory.EndOfLife
	case reason == "ignored":
		p.Status = advisory.WontFix
	case reason == "postponed" || nodsa != "":
		p.Status = advisory.Deferred
	case status != "open":
		d.tally.skip(SkipUnknownStatus)
	}
	p.Ranges = []advisory.Range{{}}
}

// firstSentence makes a summary of a text that has none.
func firstSentence(text string) string {
	text = strings.TrimSpace(text)
	if i := strings.Index(text, "\n\n"); i > 0 {
		text = text[:i]
	}
	if i := strings.Index(text, ". "); i > 0 {
		text = text[:i+1]
	}
	const longest = 200
	if len(text) > longest {
		text = strings.TrimSpace(cut(text, longest)) + " …"
	}
	return strings.ReplaceAll(text, "\n", " ")
}
