package feeds

import (
	"errors"
	"strings"

	"github.com/castellan-security/castellan/internal/advisory"
	"github.com/castellan-security/castellan/internal/pull"
)

// ubuntuReader reads the CVE tracker's JSON (https://ubuntu.com/security/cves.json
// and /security/CVE-….json): one CVE, or a page of them. It tells what Canonical's
// OSV documents don't: that a package is not affected, or will not be fixed.
type ubuntuReader struct {
	source string
	tally  *Tally
	json   pull.Reader
	words  words
}

// ubuntuRelease returns the version of a release of Ubuntu as OSV's ecosystems
// have it, "" for what is none. A release is added here when it gets its name.
func ubuntuRelease(codename string) string {
	switch codename {
	case "trusty":
		return "14.04:LTS"
	case "xenial":
		return "16.04:LTS"
	case "bionic":
		return "18.04:LTS"
	case "focal":
		return "20.04:LTS"
	case "jammy":
		return "22.04:LTS"
	case "kinetic":
		return "22.10"
	case "lunar":
		return "23.04"
	case "mantic":
		return "23.10"
	case "noble":
		return "24.04:LTS"
	case "oracular":
		return "24.10"
	case "plucky":
		return "25.04"
	case "questing":
		return "25.10"
	case "resolute":
		return "26.04:LTS"
	case "stonking":
		return "26.10"
	}
	return ""
}

func (u *ubuntuReader) document(doc []byte, give func(*advisory.Advisory) bool) error {
	r := &u.json
	r.Reset(doc)
	one := &advisory.Advisory{Source: u.source}
	many := false
	if r.Object() {
		for r.Next() {
			if string(r.Key()) != "cves" {
				u.field(one, string(r.Key()))
				continue
			}
			many = true
			if !u.page(give) {
				return r.Err()
			}
		}
	}
	if err := r.End(); err != nil || many {
		return err
	}
	if one.ID == "" {
		return errors.New("the document has no id")
	}
	u.finish(one, give)
	return nil
}

// page reads a list of CVEs and reports whether to go on.
func (u *ubuntuReader) page(give func(*advisory.Advisory) bool) bool {
	r := &u.json
	if !r.Array() {
		return true
	}
	for r.Next() {
		a := &advisory.Advisory{Source: u.source}
		if r.Object() {
			for r.Next() {
				u.field(a, string(r.Key()))
			}
		}
		if r.Err() != nil || !u.finish(a, give) {
			return false
		}
	}
	return r.Err() == nil
}

// finish hands an advisory over and reports whether to go on.
func (u *ubuntuReader) finish(a *advisory.Advisory, give func(*advisory.Advisory) bool) bool {
	if len(a.Affected) == 0 || !isCVE(a.ID) {
		u.tally.skip(SkipNoPackage)
		return true
	}
	a.References = []advisory.Reference{{Kind: "advisory", URL: "https://ubuntu.com/security/" + a.ID}}
	return give(a)
}

func (u *ubuntuReader) field(a *advisory.Advisory, key string) {
	r := &u.json
	switch key {
	case "id":
		a.ID = r.Text()
	case "description":
		a.Details = cut(r.Scalar(), maxDetails)
		a.Summary = firstSentence(a.Details)
	case "priority":
		a.Rating = rating(r.Scalar())
	case "published":
		a.Published = parseTime(r.Scalar())
	case "updated_at":
		a.Modified = parseTime(r.Scalar())
	case "packages":
		a.Affected = u.packages()
	default:
		r.Skip()
	}
}

func (u *ubuntuReader) packages() []advisory.Affected {
	r := &u.json
	if !r.Array() {
		return nil
	}
	var all []advisory.Affected
	for r.Next() {
		first := len(all)
		name := ""
		if r.Object() {
			for r.Next() {
				switch string(r.Key()) {
				case "name":
					name = r.Text()
				case "statuses":
					all = u.statuses(all)
				default:
					r.Skip()
				}
			}
		}
		if err := checkNames(name); err != nil || name == "" {
			all = all[:first]
			continue
		}
		for i := first; i < len(all); i++ {
			all[i].Package = name
		}
	}
	return all
}

func (u *ubuntuReader) statuses(all []advisory.Affected) []advisory.Affected {
	r := &u.json
	if !r.Array() {
		return all
	}
	for r.Next() {
		if len(all) >= maxAffected {
			r.Fail(tooMany("affected packages", maxAffected))
			break
		}
		var codename, status, description, pocket string
		if r.Object() {
			for r.Next() {
				switch string(r.Key()) {
				case "release_codename":
					codename = u.words.of([]byte(r.Scalar()))
				case "status":
					status = u.words.of([]byte(r.Scalar()))
				case "description":
					description = r.Scalar()
				case "pocket":
					pocket = u.words.of([]byte(r.Scalar()))
				default:
					r.Skip()
				}
			}
		}
		if p, ok := u.state(codename, status, description, pocket); ok {
			all = append(all, p)
		}
	}
	return all
}

// state turns one status into a package's state. The description is the version
// of what is released, and a reason otherwise.
func (u *ubuntuReader) state(codename, status, description, pocket string) (advisory.Affected, bool) {
	p := advisory.Affected{Of: advisory.OfSource, Ranges: []advisory.Range{{}}}
	release := ubuntuRelease(codename)
	if release == "" {
		if codename != "upstream" {
			u.tally.skip(SkipRelease)
		}
		return p, false
	}
	p.Ecosystem = "Ubuntu:" + release
	if strings.HasPrefix(pocket, "esm-") { // only for subscribers
		p.Ecosystem = "Ubuntu:Pro:" + release
	}
	if len(description) > maxName {
		description = ""
	}
	p.Note = cut(description, maxNote)
	switch status {
	case "released":
		if description == "" || strings.ContainsAny(description, " \t\n") {
			u.tally.skip(SkipFixed)
			return p, false
		}
		p.Ranges[0].Fixed, p.Note = description, ""
	case "not-affected":
		p.Status, p.Ranges = advisory.NotAffected, nil
	case "DNE": // does not exist
		u.tally.skip(SkipNotInRelease)
		return p, false
	case "needs-triage":
		p.Status = advisory.UnderInvestigation
	case "deferred":
		p.Status = advisory.Deferred
	case "ignored":
		p.Status = advisory.WontFix
		if d := strings.ToLower(description); strings.Contains(d, "end of life") || strings.Contains(d, "end-of-life") ||
			strings.Contains(d, "end of standard support") || strings.Contains(d, "out of standard support") {
			p.Status = advisory.EndOfLife
		}
	case "needed", "pending", "active", "in-progress":
	default:
		u.tally.skip(SkipUnknownStatus)
	}
	return p, true
}
