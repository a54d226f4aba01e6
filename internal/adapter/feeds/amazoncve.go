package feeds

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/castellan-security/castellan/internal/advisory"
	"github.com/castellan-security/castellan/internal/pull"
)

// amazonCVEReader reads what the Amazon Linux Security Center publishes of each
// CVE (https://explore.alas.aws.amazon.com/CVE-….json, and the page .html): the
// state of each package on each platform. It is the only place that tells of
// weaknesses that have no fix, which the updateinfo of the repositories is silent
// about.
//
// Amazon documents no schema. What is relied on are a list of objects that have a
// platform, a package and a status each, as the page of the same name shows them,
// and the list of scores; names of fields are taken in the spellings below. A
// document in which no such list is found is broken, never empty. The page has the
// same in its tables (see page).
type amazonCVEReader struct {
	source string
	tally  *Tally
	json   pull.Reader
	words  words
}

// amazonCVE is one document while it is read.
type amazonCVE struct {
	*advisory.Advisory
	states table
	rows   int  // lines that name a platform, a package and a status
	listed bool // there is a list that such lines could be in
}

var (
	errNoCVE    = errors.New("the document names no CVE")
	errNoStates = errors.New("the document has no list of packages with their states: its form has changed")
)

func (z *amazonCVEReader) document(doc []byte, give func(*advisory.Advisory) bool) error {
	a := &amazonCVE{Advisory: &advisory.Advisory{Source: z.source}}
	var err error
	if bytes.HasPrefix(bytes.TrimLeft(doc, "\ufeff \t\r\n"), []byte("<")) {
		err = z.page(doc, a)
	} else {
		z.json.Reset(doc)
		z.members(a)
		err = z.json.End()
	}
	switch {
	case err != nil:
		return err
	case a.ID == "":
		return errNoCVE
	case !a.listed:
		return errNoStates
	}
	a.Affected = a.states.affected()
	if len(a.Affected) == 0 {
		if a.rows == 0 {
			z.tally.skip(SkipNoPackage)
		}
		return nil
	}
	a.References = []advisory.Reference{{Kind: "advisory", URL: "https://explore.alas.aws.amazon.com/" + a.ID + ".html"}}
	give(a.Advisory)
	return nil
}

// members reads an object: the document, or one that it is wrapped in.
func (z *amazonCVEReader) members(a *amazonCVE) {
	r := &z.json
	if !r.Object() {
		return
	}
	for r.Next() {
		switch key := plainKey(r.Key()); key {
		case "cveid", "cve", "id", "name":
			if id := r.Scalar(); isCVE(id) && a.ID == "" {
				a.ID = id
			}
		case "publicdate", "published", "public":
			a.Published = parseTime(r.Scalar())
		case "lastmodified", "modified", "updated", "lastupdated":
			a.Modified = parseTime(r.Scalar())
		case "description":
			a.describe(r.Scalar())
		case "severity":
			a.Rating = rating(r.Scalar())
		case "scores", "cvss":
			z.scores(a)
		default:
			switch r.Kind() {
			case pull.Struct:
				z.members(a)
			case pull.List:
				z.rows(a, key)
			default:
				r.Skip()
			}
		}
	}
}

func (a *amazonCVE) describe(text string) {
	a.Details = cut(text, maxDetails)
	a.Summary = firstSentence(a.Details)
}

// plainKey returns the name of a field without what tells its spellings apart:
// affected_packages and affectedPackages are the same.
func plainKey(key []byte) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		case r == '_' || r == '-' || r == ' ':
			return -1
		}
		return r
	}, string(key))
}

// rows reads a list, which may be that of the states.
func (z *amazonCVEReader) rows(a *amazonCVE, key string) {
	r := &z.json
	r.Array()
	before := a.rows
	for r.Next() {
		if r.Kind() != pull.Struct {
			r.Skip()
			continue
		}
		var platform, pkg, status string
		r.Object()
		for r.Next() {
			switch plainKey(r.Key()) {
			case "platform", "platformname", "product", "productname", "os", "distribution", "releasename":
				platform = z.words.of([]byte(r.Scalar()))
			case "package", "packagename", "pkg", "pkgname", "sourcepackage":
				pkg = r.Scalar()
			case "status", "state", "fixstate", "fixstatus":
				status = z.words.of([]byte(r.Scalar()))
			default:
				r.Skip()
			}
		}
		if err := z.row(a, platform, pkg, status); err != nil {
			r.Fail(err)
		}
	}
	a.listed = a.listed || a.rows > before || strings.Contains(key, "package")
}

// row turns a line into a package's state, if it is one. What is fixed is in the
// updateinfo, with its version, and is left out here.
func (z *amazonCVEReader) row(a *amazonCVE, platform, pkg, status string) error {
	if platform == "" || pkg == "" || status == "" {
		return nil
	}
	a.rows++
	if err := checkNames(pkg, platform); err != nil {
		return err
	}
	p := advisory.Affected{Package: pkg, Of: advisory.OfSource, Note: cut(status, maxNote)}
	p.Ecosystem, p.Repository = amazonPlatform(platform)
	if p.Ecosystem == "" {
		z.tally.skip(SkipRelease)
		return nil
	}
	fixed := false
	switch strings.ToLower(strings.NewReplacer("_", " ", "-", " ").Replace(status)) {
	case "fixed":
		z.tally.skip(SkipFixed)
		fixed = true
	case "not affected":
		p.Status = advisory.NotAffected
	case "no fix planned", "will not fix", "wont fix", "won't fix":
		p.Status = advisory.WontFix
	case "pending analysis", "under investigation", "pending investigation", "in progress":
		p.Status = advisory.UnderInvestigation
	case "fix deferred", "deferred":
		p.Status = advisory.Deferred
	case "end of life", "out of support", "out of support scope":
		p.Status = advisory.EndOfLife
	case "pending fix", "affected":
	default:
		z.tally.skip(SkipUnknownStatus)
	}
	return a.states.say(p, fixed)
}

// amazonPlatform turns "Amazon Linux 2 - Docker Extra" into the ecosystem and the
// repository as the updateinfo's folders name it. The core has none, and neither
// have the repositories of Amazon Linux 2023: no package is in two of them, and
// the page names the same package now with its repository and now without.
func amazonPlatform(platform string) (ecosystem, repository string) {
	rest, ok := strings.CutPrefix(platform, "Amazon Linux ")
	if !ok {
		return "", ""
	}
	release, repository, _ := strings.Cut(rest, " - ")
	release, _, _ = strings.Cut(strings.TrimSpace(release), " ")
	if !isNumber(release) {
		return "", ""
	}
	repository = strings.ToLower(strings.TrimSpace(repository))
	repository = strings.TrimSpace(strings.TrimSuffix(strings.TrimSuffix(repository, "extras"), "extra"))
	return fmt.Sprintf("Amazon Linux:%s", release), extraOf(release, repository)
}

// extraOf is the repository by which packages of a release are kept
// apart: an extra of Amazon Linux 2, in small letters, because its folder and the
// states write some of them in different ones.
func extraOf(release, name string) string {
	if name = strings.ToLower(name); name == "core" || release != "2" {
		return ""
	}
	return name
}

// scores reads Amazon's own scores and others that it shows beside.
func (z *amazonCVEReader) scores(a *amazonCVE) {
	r := &z.json
	if r.Kind() != pull.List {
		r.Skip()
		return
	}
	r.Array()
	for r.Next() {
		if r.Kind() != pull.Struct {
			r.Skip()
			continue
		}
		var vector, kind string
		r.Object()
		for r.Next() {
			switch plainKey(r.Key()) {
			case "vector":
				vector = r.Scalar()
			case "type", "scoretype", "source":
				kind = r.Scalar()
			default:
				r.Skip()
			}
		}
		a.score(kind, vector)
	}
}

// score adds a score of Amazon's or, if its kind says so, of the NVD.
func (a *amazonCVE) score(kind, vector string) {
	s := advisory.Score{By: "amazon", Vector: vector}
	if strings.Contains(strings.ToLower(kind), "nvd") {
		s.By = "nvd"
	}
	if vector != "" && len(vector) <= maxName && len(a.Scores) < maxScores {
		a.Scores = append(a.Scores, s)
	}
}
