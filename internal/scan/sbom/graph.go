package sbom

import (
	"path"
	"strings"

	"github.com/castellan-security/castellan/internal/scan/pull"
)

const (
	// maxSets bounds sets of licences within sets.
	maxSets = 8
	// idWeight is what is kept of an element that is pointed to, beside its texts.
	idWeight = 100
)

// graph is what the elements of SPDX 3 (JSON-LD, specification 3.0) say while they
// come, in any order: a package, its licence and what is remarked of it are
// elements of their own.
type graph struct {
	*document
	packages []heldPackage
	byID     map[string]int
	licenses map[string]license
	declared []ownership // owner is a package, owned its licence
	remarks  []ownership // owner is a package, owned what is remarked of it
}

type heldPackage struct {
	component
	urls []string
}

// license is an expression, or a set of other licences.
type license struct {
	expression string
	members    []string
	operator   string
}

// graph reads the elements, and then adds the packages among them.
func (d *document) graph(j *pull.JSON) error {
	g := &graph{document: d, byID: map[string]int{}, licenses: map[string]license{}}
	err := j.Array(func(int) error {
		e := element{}
		if err := e.read(d, j); err != nil {
			return err
		}
		return g.take3(&e)
	})
	if err != nil {
		return err
	}
	return g.finish()
}

// take3 takes an element for what it says it is, in the short names of SPDX's
// context or in full ones.
func (g *graph) take3(e *element) error {
	kind := path.Base(e.kind)
	if _, name, ok := strings.Cut(kind, "_"); ok {
		kind = name
	}
	switch kind {
	case "Package", "AIPackage", "DatasetPackage":
		return g.hold(e, kind)
	case "SpdxDocument", "Sbom", "Bom", "Bundle":
		if kind == "SpdxDocument" {
			g.name = e.c.name
		}
		for _, id := range e.roots {
			if err := g.describe(id); err != nil {
				return err
			}
		}
	case "Relationship", "LifecycleScopedRelationship":
		return g.relation3(e)
	case "Annotation":
		if e.statement == "" {
			return nil
		}
		g.remarks = append(g.remarks, ownership{e.subject, e.statement})
		return g.take(len(e.subject) + len(e.statement) + idWeight)
	case "LicenseExpression", "ListedLicense", "CustomLicense", "License", "SimpleLicensingText", "ConjunctiveLicenseSet", "DisjunctiveLicenseSet":
		return g.license3(e, kind)
	}
	return g.take(0)
}

// hold keeps a package until its licences are known.
func (g *graph) hold(e *element, kind string) error {
	c := e.c
	switch {
	case c.kind != "":
	case kind == "AIPackage":
		c.kind = "machine-learning-model"
	case kind == "DatasetPackage":
		c.kind = "data"
	}
	urls := e.urls
	if c.purl != "" {
		urls = append([]string{c.purl}, urls...)
	}
	n := idWeight
	for _, u := range urls {
		n += len(u)
	}
	if err := g.charge(&c, n); err != nil {
		return err
	}
	g.byID[c.id] = len(g.packages)
	g.packages = append(g.packages, heldPackage{c, distinctURLs(urls)})
	return nil
}

// distinctURLs leaves a package URL once that stands in both of its places.
func distinctURLs(urls []string) []string {
	var out []string
	seen := map[string]bool{}
	for _, u := range urls {
		if !seen[u] {
			seen[u] = true
			out = append(out, u)
		}
	}
	return out
}

// relation3 takes a relationship that is needed.
func (g *graph) relation3(e *element) error {
	for _, to := range e.to {
		var err error
		switch {
		case e.relation == "describes":
			err = g.describe(to)
		case e.relation == "hasDeclaredLicense":
			g.declared = append(g.declared, ownership{e.from, to})
			err = g.take(len(e.from) + len(to) + idWeight)
		case e.relation == "other" && strings.HasPrefix(e.comment, byOverlap):
			err = g.related(e.from, "OTHER", to, e.comment)
		}
		if err != nil {
			return err
		}
	}
	return g.take(0)
}

func (g *graph) license3(e *element, kind string) error {
	l := license{expression: e.expression, members: e.members}
	if l.expression == "" {
		l.expression = e.c.name
	}
	switch kind {
	case "ConjunctiveLicenseSet":
		l.operator = " AND "
	case "DisjunctiveLicenseSet":
		l.operator = " OR "
	}
	n := len(e.c.id) + len(l.expression) + idWeight
	for _, m := range l.members {
		n += len(m) + idWeight
	}
	g.licenses[e.c.id] = l
	return g.take(n)
}

// listedLicense begins the names of the licences that SPDX lists, which need no element.
const listedLicense = "spdx.org/licenses/"

// expressionOf returns the name of a licence.
func (g *graph) expressionOf(id string, depth int) string {
	l, ok := g.licenses[id]
	if _, name, isListed := strings.Cut(id, listedLicense); isListed && (!ok || l.expression == "" && l.operator == "") {
		return name
	}
	if l.operator == "" {
		return l.expression
	}
	if depth == maxSets {
		return ""
	}
	var all []string
	size := 0
	for _, m := range l.members {
		s := g.expressionOf(m, depth+1)
		if size += len(s); s == "" || size > maxText {
			return ""
		}
		if strings.Contains(s, " ") && len(l.members) > 1 {
			s = "(" + s + ")"
		}
		all = append(all, s)
	}
	return strings.Join(all, l.operator)
}

// finish adds the packages with what other elements said of them.
func (g *graph) finish() error {
	for _, r := range g.remarks {
		if i, ok := g.byID[r.owner]; ok {
			if err := g.remark(&g.packages[i].component, r.owned); err != nil {
				return err
			}
		}
	}
	names := map[string]string{}
	for _, l := range g.declared {
		if i, ok := g.byID[l.owner]; ok {
			if err := g.take(0); err != nil {
				return err
			}
			name, ok := names[l.owned]
			if !ok {
				name = g.expressionOf(l.owned, 0)
				names[l.owned] = name
			}
			g.packages[i].license(name)
		}
	}
	for _, p := range g.packages {
		if len(p.urls) == 0 {
			g.settle(p.component)
		}
		for i, u := range p.urls {
			c := p.component
			c.purl = u
			if i > 0 {
				if err := g.charge(&c, 0); err != nil {
					return err
				}
			}
			g.settle(c)
		}
	}
	return nil
}
