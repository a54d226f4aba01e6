package feeds

import (
	"errors"
	"fmt"
	"strings"

	"github.com/castellan-security/castellan/internal/adapter/feeds/pull"
	"github.com/castellan-security/castellan/internal/advisory"
)

// amazonCVEReader reads what the Amazon Linux Security Center publishes of each
// CVE (https://explore.alas.aws.amazon.com/CVE-….json): the state of each package
// on each platform. It is the only place that tells of weaknesses that have no
// fix, which the updateinfo of the repositories is silent about.
//
// Amazon documents no schema. What is relied on are a list of objects that have a
// platform, a package and a status each, as the page of the same name shows them,
// and the list of scores; names of fields are taken in the spellings below. A
// document in which no such list is found is broken, never empty.
type amazonCVEReader struct {
	source string
	tally  *Tally
	json   pull.Reader
	words  words
}

// amazonRow is one line of the table.
type amazonRow struct{ platform, pkg, status string }

func (z *amazonCVEReader) document(doc []byte, give func(*advisory.Advisory) bool) error {
	r := &z.json
	r.Reset(doc)
	a := &advisory.Advisory{Source: z.source}
	rows, found := 0, false
	packages := builder{limit: maxAffected}
	if r.Object() {
		for r.Next() {
			key := string(r.Key())
			switch key {
			case "cve_id", "cve", "id", "name", "cveId":
				if id := r.Scalar(); isCVE(id) {
					a.ID = id
				}
			case "public_date", "publicDate", "published", "public":
				a.Published = parseTime(r.Scalar())
			case "last_modified", "modified", "updated", "last_updated":
				a.Modified = parseTime(r.Scalar())
			case "description":
				a.Details = cut(r.Scalar(), maxDetails)
				a.Summary = firstSentence(a.Details)
			case "severity":
				a.Rating = rating(r.Scalar())
			case "scores", "cvss":
				z.scores(a)
			default:
				if r.Kind() != pull.List {
					r.Skip()
					continue
				}
				n, err := z.table(&packages)
				if err != nil {
					r.Fail(err)
				}
				rows += n
				found = found || n > 0 || strings.Contains(key, "package")
			}
		}
	}
	if err := r.End(); err != nil {
		return err
	}
	if a.ID == "" {
		return errors.New("the document names no CVE")
	}
	if !found {
		return errors.New("the document has no list of packages with their states: its form has changed")
	}
	a.Affected = packages.all
	if len(a.Affected) == 0 {
		if rows == 0 {
			z.tally.skip(SkipNoPackage)
		}
		return nil
	}
	a.References = []advisory.Reference{{Kind: "advisory", URL: "https://explore.alas.aws.amazon.com/" + a.ID + ".html"}}
	give(a)
	return nil
}

// table reads a list of states and returns how many of its lines are such.
func (z *amazonCVEReader) table(packages *builder) (int, error) {
	r := &z.json
	r.Array()
	rows := 0
	for r.Next() {
		if r.Kind() != pull.Struct {
			r.Skip()
			continue
		}
		var row amazonRow
		r.Object()
		for r.Next() {
			switch string(r.Key()) {
			case "platform", "product", "os", "distribution", "release_name":
				row.platform = z.words.of([]byte(r.Scalar()))
			case "package", "package_name", "packageName", "pkg", "source_package":
				row.pkg = r.Scalar()
			case "status", "state", "fix_state":
				row.status = z.words.of([]byte(r.Scalar()))
			default:
				r.Skip()
			}
		}
		if row.platform == "" || row.pkg == "" || row.status == "" {
			continue
		}
		rows++
		if err := z.state(packages, row); err != nil {
			return rows, err
		}
	}
	return rows, nil
}

// state turns a line into a package's state. What is fixed is in the updateinfo,
// with its version, and is left out here.
func (z *amazonCVEReader) state(packages *builder, row amazonRow) error {
	if err := checkNames(row.pkg, row.platform); err != nil {
		return err
	}
	p := advisory.Affected{Package: row.pkg, Of: advisory.OfSource, Note: cut(row.status, maxNote)}
	p.Ecosystem, p.Repository = amazonPlatform(row.platform)
	if p.Ecosystem == "" {
		z.tally.skip(SkipRelease)
		return nil
	}
	switch word := strings.ToLower(strings.NewReplacer("_", " ", "-", " ").Replace(row.status)); word {
	case "fixed":
		z.tally.skip(SkipFixed)
		return nil
	case "not affected":
		p.Status = advisory.NotAffected
		return packages.add(p, "")
	case "no fix planned", "will not fix", "wont fix":
		p.Status = advisory.WontFix
	case "pending analysis", "under investigation", "pending investigation":
		p.Status = advisory.UnderInvestigation
	case "fix deferred", "deferred":
		p.Status = advisory.Deferred
	case "end of life", "out of support", "out of support scope":
		p.Status = advisory.EndOfLife
	case "pending fix", "affected":
	default:
		z.tally.skip(SkipUnknownStatus)
	}
	p.Ranges = []advisory.Range{{}}
	return packages.add(p, "")
}

// amazonPlatform turns "Amazon Linux 2 - Docker Extra" into the ecosystem and the
// repository as the updateinfo's folders name it. The core has none.
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
	repository = strings.TrimSpace(strings.TrimSuffix(repository, "extra"))
	if repository == "core" {
		repository = ""
	}
	return fmt.Sprintf("Amazon Linux:%s", release), repository
}

// scores reads Amazon's own scores and others that it shows beside.
func (z *amazonCVEReader) scores(a *advisory.Advisory) {
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
		s := advisory.Score{By: "amazon"}
		r.Object()
		for r.Next() {
			switch string(r.Key()) {
			case "vector":
				s.Vector = r.Scalar()
			case "type", "score_type", "source":
				if strings.Contains(strings.ToLower(r.Scalar()), "nvd") {
					s.By = "nvd"
				}
			default:
				r.Skip()
			}
		}
		if s.Vector != "" && len(s.Vector) <= maxName && len(a.Scores) < maxScores {
			a.Scores = append(a.Scores, s)
		}
	}
}
