package feeds

import (
	"slices"

	"github.com/castellan-security/castellan/internal/advisory"
)

// statement reads one element of "vulnerabilities".
func (c *csafReader) statement() statement {
	s := statement{status: map[string][]string{}, flags: map[string]string{}, remedies: map[string]remedy{}}
	r := &c.json
	if !r.Object() {
		return s
	}
	for r.Next() {
		switch string(r.Key()) {
		case "cve":
			s.cve = r.Scalar()
		case "title":
			s.title = cut(r.Scalar(), maxSummary)
		case "notes":
			c.each(func() { c.note(&s) })
		case "cwe":
			if id := c.member("id"); id != "" && len(id) <= maxName {
				s.weaknesses = []string{id}
			}
		case "references":
			s.references = c.references(nil)
		case "scores":
			c.each(func() { c.score(&s) })
		case "threats":
			c.each(func() { c.threat(&s) })
		case "flags":
			c.each(func() { c.flag(&s) })
		case "remediations":
			c.each(func() { c.remediation(&s) })
		case "product_status":
			if !r.Object() {
				continue
			}
			for r.Next() {
				key := string(r.Key())
				s.status[key] = r.Strings(maxProducts)
			}
		default:
			r.Skip()
		}
	}
	return s
}

// each calls read in front of every element of an array.
func (c *csafReader) each(read func()) {
	if c.json.Array() {
		for c.json.Next() {
			read()
		}
	}
}

func (c *csafReader) note(s *statement) {
	r := &c.json
	var category, text string
	if r.Object() {
		for r.Next() {
			switch string(r.Key()) {
			case "category":
				category = r.Scalar()
			case "text":
				text = cut(r.Text(), maxDetails)
			default:
				r.Skip()
			}
		}
	}
	if category == "description" {
		s.details = text
	}
}

// score reads the vector of one score; its products are all, as a rule.
func (c *csafReader) score(s *statement) {
	r := &c.json
	if !r.Object() {
		return
	}
	for r.Next() {
		switch string(r.Key()) {
		case "cvss_v2", "cvss_v3", "cvss_v4":
			v := advisory.Score{Vector: c.member("vectorString"), By: c.publisher()}
			if v.Vector != "" && len(v.Vector) <= maxName && len(s.scores) < maxScores && !slices.Contains(s.scores, v) {
				s.scores = append(s.scores, v)
			}
		default:
			r.Skip()
		}
	}
}

func (c *csafReader) threat(s *statement) {
	r := &c.json
	var category, details string
	if r.Object() {
		for r.Next() {
			switch string(r.Key()) {
			case "category":
				category = r.Scalar()
			case "details":
				details = r.Scalar()
			default:
				r.Skip()
			}
		}
	}
	if category == "impact" && rating(details) > rating(s.impact) {
		s.impact = details
	}
}

// products reads the members of an object that says something of products: what
// it is called by name and to which products it applies.
func (c *csafReader) products(fields map[string]*string) []string {
	r := &c.json
	var ids []string
	if r.Object() {
		for r.Next() {
			key := string(r.Key())
			switch key {
			case "product_ids":
				ids = append(ids, r.Strings(maxProducts)...)
			case "group_ids":
				for _, g := range r.Strings(maxProducts) {
					if ids = append(ids, c.tree.groups[g]...); len(ids) > maxProducts {
						r.Fail(tooMany("products", maxProducts))
						return nil
					}
				}
			default:
				if f := fields[key]; f != nil {
					*f = r.Scalar()
				} else {
					r.Skip()
				}
			}
		}
	}
	return ids
}

func (c *csafReader) flag(s *statement) {
	label := ""
	for _, id := range c.products(map[string]*string{"label": &label}) {
		s.flags[id] = label
	}
}

// remediation keeps what a publisher intends where nothing is fixed. That there is
// a work-around says nothing about a fix.
func (c *csafReader) remediation(s *statement) {
	var m remedy
	ids := c.products(map[string]*string{"category": &m.category, "details": &m.details})
	if m.category != "no_fix_planned" && m.category != "none_available" {
		return
	}
	m.details = cut(m.details, maxDetails)
	for _, id := range ids {
		s.remedies[id] = m
	}
}
