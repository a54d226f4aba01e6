package feeds

import (
	"bytes"
	"errors"
	"strings"

	"github.com/castellan-security/castellan/internal/advisory"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/pull"
)

// ubuntuVEXReader reads what Canonical publishes of each CVE as OpenVEX
// (https://documentation.ubuntu.com/security/security-updates/vex): the state of
// each package in each release and each pocket of it. Its OSV documents have the
// versions that fix, and these what OSV has no words for: that a package is not
// affected, or will not be fixed.
//
// Only what is said of source packages is taken. It is repeated for every binary
// package and architecture, which is 99 of 100 bytes. The version of a product is
// the one that the release has, not one that fixes; it says nothing here.
type ubuntuVEXReader struct {
	source string
	tally  *Tally
	json   pull.Reader
	order  []*ubuntuCVE
}

// ubuntuCVE is what a document says of one CVE. There is one in each.
type ubuntuCVE struct {
	*advisory.Advisory
	states table
}

// ubuntuStatement is one statement while it is read.
type ubuntuStatement struct {
	cve, details         string
	at                   string
	sources              []inventory.PackageURL
	status               string
	reason               string // VEX's justification
	action, impact, note string
}

func (u *ubuntuVEXReader) document(doc []byte, give func(*advisory.Advisory) bool) error {
	r := &u.json
	r.Reset(doc)
	u.order = u.order[:0]
	known, modified := false, ""
	if r.Object() {
		for r.Next() {
			switch string(r.Key()) {
			case "metadata":
				var isVEX bool
				isVEX, modified = u.metadata()
				known = known || isVEX
			case "statements":
				if !r.Array() {
					continue
				}
				for r.Next() {
					if err := u.statement(); err != nil {
						r.Fail(err)
					}
				}
			default:
				r.Skip()
			}
		}
	}
	if err := r.End(); err != nil {
		return err
	}
	if !known {
		return errors.New("not OpenVEX of Canonical: no metadata with an @context of https://openvex.dev/ns")
	}
	if len(u.order) == 0 {
		u.tally.skip(SkipNoPackage)
	}
	for _, c := range u.order {
		c.Modified = parseTime(modified)
		if c.Affected = c.states.affected(); len(c.Affected) == 0 {
			u.tally.skip(SkipNoPackage)
			continue
		}
		c.References = []advisory.Reference{{Kind: "advisory", URL: "https://ubuntu.com/security/" + c.ID}}
		if !give(c.Advisory) {
			break
		}
	}
	return nil
}

// metadata reads what the document says of itself, and reports whether it is VEX.
func (u *ubuntuVEXReader) metadata() (isVEX bool, modified string) {
	r := &u.json
	if !r.Object() {
		return false, ""
	}
	for r.Next() {
		switch string(r.Key()) {
		case "@context":
			isVEX = strings.HasPrefix(r.Scalar(), "https://openvex.dev/ns")
		case "timestamp":
			if s := r.Scalar(); modified == "" {
				modified = s
			}
		case "last_updated":
			modified = r.Scalar()
		default:
			r.Skip()
		}
	}
	return isVEX, modified
}

func (u *ubuntuVEXReader) statement() error {
	r := &u.json
	if !r.Object() {
		return nil
	}
	var s ubuntuStatement
	for r.Next() {
		switch string(r.Key()) {
		case "vulnerability":
			u.vulnerability(&s)
		case "products":
			u.products(&s)
		case "timestamp":
			s.at = r.Scalar()
		case "status":
			s.status = r.Text()
		case "justification":
			s.reason = r.Scalar()
		case "action_statement":
			s.action = r.Scalar()
		case "impact_statement":
			s.impact = r.Scalar()
		case "status_notes":
			s.note = r.Scalar()
		default:
			r.Skip()
		}
	}
	if r.Err() != nil {
		return nil // which is told at the end
	}
	return u.say(&s)
}

func (u *ubuntuVEXReader) vulnerability(s *ubuntuStatement) {
	r := &u.json
	if !r.Object() {
		return
	}
	for r.Next() {
		switch string(r.Key()) {
		case "name":
			s.cve = r.Text()
		case "description":
			s.details = cut(r.Scalar(), maxDetails)
		default:
			r.Skip()
		}
	}
}

// products keeps the source packages.
func (u *ubuntuVEXReader) products(s *ubuntuStatement) {
	r := &u.json
	if !r.Array() {
		return
	}
	for r.Next() {
		if !r.Object() {
			continue
		}
		for r.Next() {
			if string(r.Key()) != "@id" {
				r.Skip()
				continue
			}
			id := r.Bytes()
			if len(id) > maxName || !bytes.Contains(id, []byte("arch=source")) {
				continue
			}
			url, ok := inventory.ParsePURL(toText(id))
			if !ok || url.Type != "deb" || url.Name == "" || url.Qualifiers["arch"] != "source" {
				continue
			}
			if len(s.sources) == maxAffected {
				r.Fail(tooMany("source packages", maxAffected))
				return
			}
			s.sources = append(s.sources, url)
		}
	}
}

// say turns a statement into states.
func (u *ubuntuVEXReader) say(s *ubuntuStatement) error {
	if !isCVE(s.cve) {
		u.tally.skip(SkipNoPackage)
		return nil
	}
	state, fixed, ok := u.state(s)
	if !ok {
		return nil
	}
	c := u.of(s)
	for _, url := range s.sources {
		p := state
		if p.Ecosystem, ok = u.release(url.Qualifiers["distro"]); !ok {
			continue
		}
		p.Package = url.Name
		if err := checkNames(p.Package); err != nil {
			return err
		}
		if err := c.states.say(p, fixed); err != nil {
			return err
		}
	}
	return nil
}

// of returns what is collected of the statement's CVE.
func (u *ubuntuVEXReader) of(s *ubuntuStatement) *ubuntuCVE {
	for _, c := range u.order {
		if c.ID == s.cve {
			return c
		}
	}
	c := &ubuntuCVE{Advisory: &advisory.Advisory{ID: s.cve, Source: u.source, Details: s.details,
		Summary: firstSentence(s.details), Published: parseTime(s.at)}}
	u.order = append(u.order, c)
	return c
}

// state translates a statement. VEX has four words for the nine of Canonical's
// tracker; which of them is meant stands in its texts, which begin alike.
func (u *ubuntuVEXReader) state(s *ubuntuStatement) (p advisory.Affected, fixed, ok bool) {
	p.Of = advisory.OfSource
	switch s.status {
	case advisory.VEXFixed: // by a version that OSV tells
		u.tally.skip(SkipFixed)
		return p, true, true
	case advisory.VEXNotAffected:
		if s.reason == "component_not_present" {
			u.tally.skip(SkipNotInRelease)
			return p, false, false
		}
		p.Status, p.Note = advisory.NotAffected, reasonIn(s.impact)
	case advisory.VEXUnderInvestigation:
		p.Status, p.Note = advisory.UnderInvestigation, reasonIn(s.note)
		if strings.Contains(s.note, "deferred") {
			p.Status = advisory.Deferred
		}
	default:
		p.Note = reasonIn(s.action)
		switch {
		case strings.Contains(s.action, "decided to not fix"), strings.Contains(s.action, "decided not to fix"):
			p.Status = advisory.WontFix
		case strings.Contains(s.action, "no longer supported"), strings.Contains(s.action, "end of life"):
			p.Status = advisory.EndOfLife
		}
		if s.status != advisory.VEXAffected {
			u.tally.skip(SkipUnknownStatus)
		}
	}
	return p, false, true
}

// reasonIn returns the tracker's own words in one of the texts: what stands behind
// "CVE notes / justification:".
func reasonIn(text string) string {
	_, reason, _ := strings.Cut(text, "justification:")
	return cut(strings.TrimSpace(reason), maxNote)
}

// release turns the qualifier of a product into the ecosystem: "noble" is the
// release itself, "esm-infra/jammy" and, of the oldest, "trusty/esm" what
// subscribers get. Kernels and libraries that are built for other purposes (fips,
// realtime, bluefield) are packages of no release.
func (u *ubuntuVEXReader) release(distro string) (ecosystem string, ok bool) {
	pocket, codename, pocketed := strings.Cut(distro, "/")
	pro := ""
	switch {
	case !pocketed:
		codename = pocket
	case codename == "esm":
		pro, codename = "Pro:", pocket
	case pocket == "esm-infra" || pocket == "esm-apps" || pocket == "esm-infra-legacy" || pocket == "esm-apps-legacy":
		pro = "Pro:"
	default:
		u.tally.skip(SkipProduct)
		return "", false
	}
	release := ubuntuRelease(codename)
	if release == "" {
		u.tally.skip(SkipRelease)
		return "", false
	}
	return "Ubuntu:" + pro + release, true
}

// toText makes text of bytes that may be no UTF-8.
func toText(b []byte) string { return strings.ToValidUTF8(string(b), "\ufffd") }
