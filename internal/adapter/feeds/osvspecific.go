package feeds

import (
	"strings"

	"github.com/castellan-security/castellan/internal/advisory"
	"github.com/castellan-security/castellan/internal/pull"
)

// The blocks database_specific and ecosystem_specific are of whoever wrote them:
// a field that has another form than expected there is no error, it is skipped.

// severity reads the scores, and the rating of those that rate by words.
func (o *osvReader) severity(rated advisory.Rating) ([]advisory.Score, advisory.Rating) {
	r := &o.json
	if !r.Array() {
		return nil, rated
	}
	var all []advisory.Score
	for r.Next() {
		var typ, score string
		if r.Object() {
			for r.Next() {
				switch string(r.Key()) {
				case "type":
					typ = o.words.of(r.Bytes())
				case "score":
					score = r.Scalar()
				default:
					r.Skip()
				}
			}
		}
		switch {
		case score == "" || len(score) > maxName:
		case strings.HasPrefix(typ, "CVSS_V"):
			if len(all) < maxScores {
				all = append(all, advisory.Score{Vector: score})
			}
		case typ == "Ubuntu":
			rated = rating(score)
		}
	}
	return all, rated
}

// databaseSpecific reads what concerns the whole document: GitHub's severity and
// its weaknesses.
func (o *osvReader) databaseSpecific(a *advisory.Advisory) {
	r := &o.json
	if r.Kind() != pull.Struct {
		r.Skip()
		return
	}
	r.Object()
	for r.Next() {
		switch string(r.Key()) {
		case "severity":
			if v := rating(r.Scalar()); v != advisory.Unrated {
				a.Rating = v
			}
		case "cwe_ids", "cwes":
			a.Weaknesses = append(a.Weaknesses, o.weaknesses()...)
		default:
			r.Skip()
		}
	}
}

// weaknesses reads a list of CWE numbers, plain or as objects with one.
func (o *osvReader) weaknesses() []string {
	r := &o.json
	if r.Kind() != pull.List {
		r.Skip()
		return nil
	}
	r.Array()
	var all []string
	for r.Next() {
		id := ""
		if r.Kind() == pull.Struct {
			r.Object()
			for r.Next() {
				switch string(r.Key()) {
				case "cweId", "cwe_id", "id":
					id = r.Scalar()
				default:
					r.Skip()
				}
			}
		} else {
			id = r.Scalar()
		}
		if strings.HasPrefix(id, "CWE-") && len(id) <= maxName && len(all) < maxWeaknesses {
			all = append(all, id)
		}
	}
	return all
}

// specific reads what concerns one package: Debian's urgency, Ubuntu's priority,
// what RustSec calls informational, and the state of Chainguard's packages.
func (o *osvReader) specific(p *advisory.Affected) {
	r := &o.json
	if r.Kind() != pull.Struct {
		r.Skip()
		return
	}
	r.Object()
	for r.Next() {
		switch string(r.Key()) {
		case "urgency":
			urgency := r.Scalar()
			p.Rating = rating(urgency)
			if urgency == "end-of-life" {
				p.Status = advisory.EndOfLife
			}
		case "ubuntu_priority", "severity":
			if v := rating(r.Scalar()); v != advisory.Unrated {
				p.Rating = v
			}
		case "informational": // unmaintained, unsound, notice
			if word := r.Scalar(); word != "" {
				p.Note = cut("informational: "+word, maxNote)
			}
		case "components":
			o.components(p)
		default: // imports, binaries, availability, …
			r.Skip()
		}
	}
}

// components reads the states of the components of a Chainguard package. Only
// where all agree is it the state of the package.
func (o *osvReader) components(p *advisory.Affected) {
	r := &o.json
	if r.Kind() != pull.List {
		r.Skip()
		return
	}
	r.Array()
	word, agree := "", true
	for n := 0; r.Next(); n++ {
		if r.Kind() != pull.Struct {
			r.Skip()
			continue
		}
		state := ""
		r.Object()
		for r.Next() {
			if string(r.Key()) == "latest_event_status" {
				state = r.Scalar()
			} else {
				r.Skip()
			}
		}
		agree = agree && (n == 0 || state == word)
		word = state
	}
	if word == "" || !agree {
		return
	}
	switch strings.ReplaceAll(word, "-", "_") {
	case "fix_not_planned":
		p.Status = advisory.WontFix
	case "pending_upstream_fix":
		p.Status = advisory.IsAffected
	case "under_investigation", "detected", "detection", "analysis_not_planned":
		p.Status = advisory.UnderInvestigation
	case "not_affected", "false_positive_determination":
		p.Status = advisory.NotAffected
	default: // fixed, affected
		return
	}
	p.Note = cut(strings.ReplaceAll(strings.ReplaceAll(word, "_", " "), "-", " "), maxNote)
}
