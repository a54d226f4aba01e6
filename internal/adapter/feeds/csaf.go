package feeds

import (
	"errors"
	"slices"
	"strings"

	"github.com/castellan-security/castellan/internal/advisory"
	"github.com/castellan-security/castellan/internal/pull"
)

// csafReader reads CSAF 2.0 documents (https://docs.oasis-open.org/csaf/csaf/v2.0)
// of distributions with RPMs: advisories, which say what is fixed by which
// version, and VEX, which also says what is affected without a fix, not affected,
// or not yet looked at.
//
// Only packages of releases of a distribution are taken. Red Hat's documents are
// for the most part about containers and layered products, which no operating
// system says that it is; those are counted.
type csafReader struct {
	source string
	tally  *Tally
	json   pull.Reader
	words  words
	tree   tree
}

// publisher is who scores in the documents of a source.
func (c *csafReader) publisher() string {
	name, _, _ := strings.Cut(c.source, "/")
	return name
}

func (c *csafReader) document(doc []byte, give func(*advisory.Advisory) bool) error {
	head, err := c.head(doc)
	if err != nil {
		return err
	}
	var whole *advisory.Advisory
	packages := builder{limit: maxAffected}
	r := &c.json
	r.Reset(doc)
	if r.Object() {
		for r.Next() {
			if string(r.Key()) != "vulnerabilities" || !r.Array() {
				if string(r.Key()) != "vulnerabilities" {
					r.Skip()
				}
				continue
			}
			for r.Next() {
				if a := c.vulnerability(head); a != nil {
					whole = join(whole, a)
					if err := packages.merge(a.Affected); err != nil {
						r.Fail(err)
					}
				}
			}
		}
	}
	if err := r.End(); err != nil {
		return err
	}
	if whole == nil {
		c.tally.skip(SkipNoPackage)
		return nil
	}
	whole.Affected = packages.all
	if whole.Upstream = unique(whole.Upstream, whole.ID); len(whole.Upstream) > maxNames {
		return tooMany("weaknesses", maxNames)
	}
	give(whole)
	return nil
}

// head reads what concerns the whole document, and the product tree, which may
// come after what refers to it.
func (c *csafReader) head(doc []byte) (*advisory.Advisory, error) {
	a := &advisory.Advisory{Source: c.source}
	r := &c.json
	r.Reset(doc)
	c.tree = tree{}
	if r.Object() {
		for r.Next() {
			switch string(r.Key()) {
			case "document":
				c.about(a)
			case "product_tree":
				c.tree.read(r)
			default:
				r.Skip()
			}
		}
	}
	if err := r.End(); err != nil {
		return nil, err
	}
	if a.ID == "" {
		return nil, errors.New("the document has no tracking id")
	}
	return a, checkNames(a.ID)
}

func (c *csafReader) about(a *advisory.Advisory) {
	r := &c.json
	if !r.Object() {
		return
	}
	for r.Next() {
		switch string(r.Key()) {
		case "title":
			a.Summary = cut(r.Text(), maxSummary)
		case "aggregate_severity":
			a.Rating = rating(c.member("text"))
		case "references":
			a.References = c.references(a.References)
		case "tracking":
			if !r.Object() {
				continue
			}
			for r.Next() {
				switch string(r.Key()) {
				case "id":
					a.ID = r.Text()
				case "initial_release_date":
					a.Published = parseTime(r.Scalar())
				case "current_release_date":
					a.Modified = parseTime(r.Scalar())
				default:
					r.Skip()
				}
			}
		default:
			r.Skip()
		}
	}
}

// member reads one text of an object and skips the rest of it.
func (c *csafReader) member(name string) string {
	r := &c.json
	text := ""
	if r.Object() {
		for r.Next() {
			if string(r.Key()) == name {
				text = r.Scalar()
			} else {
				r.Skip()
			}
		}
	}
	return text
}

func (c *csafReader) references(all []advisory.Reference) []advisory.Reference {
	r := &c.json
	if !r.Array() {
		return all
	}
	for r.Next() {
		ref := advisory.Reference{Kind: "web"}
		if r.Object() {
			for r.Next() {
				switch string(r.Key()) {
				case "category":
					if string(r.Bytes()) == "self" {
						ref.Kind = "advisory"
					}
				case "url":
					ref.URL = r.Text()
				default:
					r.Skip()
				}
			}
		}
		if ref.URL != "" && len(ref.URL) <= maxURL && len(all) < maxReferences && !slices.Contains(all, ref) {
			all = append(all, ref)
		}
	}
	return all
}

// statement is what one vulnerability of a document says.
type statement struct {
	cve, title, details, impact string
	scores                      []advisory.Score
	weaknesses                  []string
	references                  []advisory.Reference
	status                      map[string][]string // product_status
	flags                       map[string]string   // product: why it is not affected
	remedies                    map[string]remedy   // product: what is to come
}

// remedy is what a publisher intends.
type remedy struct{ category, details string }

// vulnerability reads one, and returns nil if it says nothing about packages of a
// distribution.
func (c *csafReader) vulnerability(head *advisory.Advisory) *advisory.Advisory {
	s := c.statement()
	if c.json.Err() != nil {
		return nil
	}
	packages := builder{limit: maxAffected}
	repairs := repairs{}
	for _, state := range [...]string{"fixed", "first_fixed", "known_affected", "first_affected", "last_affected", "under_investigation", "known_not_affected"} {
		for _, id := range s.status[state] {
			if err := c.product(&packages, repairs, &s, state, id); err != nil {
				c.json.Fail(err)
				return nil
			}
		}
	}
	if err := repairs.addTo(&packages); err != nil {
		c.json.Fail(err)
		return nil
	}
	if len(packages.all) == 0 {
		return nil
	}
	a := *head
	a.Affected = packages.all
	a.Scores, a.Weaknesses = s.scores, s.weaknesses
	a.References = append(slices.Clone(head.References), s.references...)
	if v := rating(s.impact); v != advisory.Unrated {
		a.Rating = v
	}
	if s.title != "" && isCVE(a.ID) {
		a.Summary = s.title
	}
	a.Details = s.details
	if isCVE(s.cve) && s.cve != a.ID {
		a.Upstream = []string{s.cve}
	}
	return &a
}

// join adds what another vulnerability of the document says, whose packages are
// in those of the whole already. As a rule all of an advisory are fixed by the
// same packages; where one is in fewer, the advisory still counts for all that it
// brings.
func join(whole, a *advisory.Advisory) *advisory.Advisory {
	if whole == nil {
		return a
	}
	whole.Upstream = append(whole.Upstream, a.Upstream...)
	whole.Rating = max(whole.Rating, a.Rating)
	whole.Scores, whole.Details = nil, "" // each of one weakness
	for _, w := range a.Weaknesses {
		if !slices.Contains(whole.Weaknesses, w) && len(whole.Weaknesses) < maxWeaknesses {
			whole.Weaknesses = append(whole.Weaknesses, w)
		}
	}
	return whole
}

// product adds what is said of one product.
func (c *csafReader) product(packages *builder, repairs repairs, s *statement, state, id string) error {
	rpm, ok := c.tree.component(id)
	ecosystem, enterprise := platform(rpm.cpe)
	if !ok || !enterprise {
		c.tally.skip(SkipProduct)
		return nil
	}
	if err := checkNames(rpm.name, rpm.version, rpm.arch, rpm.module); err != nil {
		return err
	}
	p := advisory.Affected{
		Ecosystem: c.words.of([]byte(ecosystem)), Package: rpm.name, Of: advisory.OfBinary,
		Repository: c.words.of([]byte(rpm.module)),
	}
	arch := rpm.arch
	if arch == "src" {
		p.Of, arch = advisory.OfSource, ""
	}
	switch state {
	case "fixed", "first_fixed":
		if rpm.version != "" {
			repairs.add(p, c.words.of([]byte(rpm.version)), c.words.of([]byte(arch)))
		}
		return nil
	case "known_not_affected":
		if rpm.version != "" {
			return nil // builds of releases where the rest of the document says it by name
		}
		p.Status, p.Note = advisory.NotAffected, strings.ReplaceAll(cut(s.flags[id], maxNote), "_", " ")
		return packages.add(p, "")
	case "under_investigation":
		p.Status = advisory.UnderInvestigation
	default:
		p.Status, p.Note = intended(s.remedies[id])
	}
	p.Ranges = []advisory.Range{{}}
	return packages.add(p, "")
}

// intended is what a remedy says will become of what is affected.
func intended(r remedy) (advisory.Status, string) {
	details := strings.ToLower(r.details)
	note := cut(r.details, maxNote)
	switch {
	case r.category != "no_fix_planned" && r.category != "none_available":
		return advisory.IsAffected, ""
	case strings.Contains(details, "out of support") || strings.Contains(details, "end of life") || strings.Contains(details, "end-of-life"):
		return advisory.EndOfLife, note
	case r.category == "no_fix_planned" || strings.Contains(details, "will not fix"):
		return advisory.WontFix, note
	case strings.Contains(details, "deferred"):
		return advisory.Deferred, note
	case strings.Contains(details, "under investigation"):
		return advisory.UnderInvestigation, note
	}
	return advisory.IsAffected, note
}
