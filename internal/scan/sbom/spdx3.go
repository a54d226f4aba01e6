package sbom

import (
	"strings"

	"github.com/castellan-security/castellan/internal/scan/pull"
)

// maxRelated bounds how many elements one of SPDX 3 points to that are followed:
// what a document is about, and the licences of a package. A package that contains
// more than these says nothing that is needed.
const maxRelated = 1000

// context reads the @context of JSON-LD, a text or a list, in which SPDX 3 says that
// it is SPDX.
func (d *document) context(j *pull.JSON) error {
	var all []string
	if err := texts(j, &all); err != nil {
		return err
	}
	for _, s := range all {
		if _, rest, ok := strings.Cut(s, "spdx.org/rdf/"); ok {
			version, _, _ := strings.Cut(rest, "/")
			return d.claim("SPDX", "SPDX-"+version)
		}
	}
	return nil
}

// texts reads a list of texts, or one that stands for itself.
func texts(j *pull.JSON, into *[]string) error {
	one := func() error {
		s, err := j.Begin(maxText)
		if s != "" && len(*into) < maxRelated {
			*into = append(*into, s)
		}
		return err
	}
	kind, err := j.Kind()
	if err != nil {
		return err
	}
	if kind != '[' {
		return one()
	}
	return j.Array(func(int) error { return one() })
}

// element is one element while it is read; what it is may be its last member.
type element struct {
	kind string
	c    component
	urls []string
	// from, to and comment are of a relationship, roots of a document, subject and
	// statement of an annotation, expression and members of a licence.
	from, relation, comment string
	to, roots, members      []string
	subject, statement      string
	expression              string
}

func (e *element) read(d *document, j *pull.JSON) error {
	return j.Object(func(key []byte) error {
		var into *string
		switch string(key) {
		case "type", "@type":
			into = &e.kind
		case "spdxId", "@id":
			into = &e.c.id
		case "from":
			into = &e.from
		case "relationshipType":
			into = &e.relation
		case "comment":
			into = &e.comment
		case "subject":
			into = &e.subject
		case "simplelicensing_licenseExpression":
			into = &e.expression
		case "description":
			into = &e.c.description
		case "to":
			return texts(j, &e.to)
		case "rootElement":
			return texts(j, &e.roots)
		case "expandedlicensing_member":
			return texts(j, &e.members)
		default:
			return e.ofPackage(d, j, string(key))
		}
		return text(j, into)
	})
}

// ofPackage reads what mostly packages have.
func (e *element) ofPackage(d *document, j *pull.JSON, key string) error {
	c := &e.c
	var into *string
	switch key {
	case "name":
		into = &c.name
	case "software_packageVersion":
		into = &c.version
	case "software_packageUrl":
		into = &c.purl
	case "statement":
		into = &e.statement
	case "software_primaryPurpose":
		s, err := j.Begin(maxText)
		c.kind = kindOf3(s)
		return err
	case "software_sourceInfo":
		s, err := j.Begin(maxText)
		c.sourceInfo(s)
		return err
	case "software_attributionText":
		var all []string
		if err := texts(j, &all); err != nil {
			return err
		}
		for _, s := range all {
			if err := d.remark(c, s); err != nil {
				return err
			}
		}
		return nil
	case "externalIdentifier":
		return externalURLs3(j, c, &e.urls)
	}
	if into == nil {
		return nil
	}
	s, err := j.Begin(maxText + 1)
	*into = c.keep(s)
	return err
}

func externalURLs3(j *pull.JSON, c *component, urls *[]string) error {
	return j.Array(func(int) error {
		var kind, identifier string
		err := j.Object(func(key []byte) (err error) {
			switch string(key) {
			case "externalIdentifierType":
				kind, err = j.Begin(maxText)
			case "identifier":
				identifier, err = j.Begin(maxText + 1)
			}
			return err
		})
		if strings.EqualFold(kind, "packageUrl") || kind == "purl" {
			*urls = addURL(*urls, c.keep(identifier))
		}
		return err
	})
}

// kindOf3 translates a purpose of SPDX 3 into CycloneDX's type.
func kindOf3(purpose string) string {
	switch purpose {
	case "operatingSystem":
		return "operating-system"
	case "model":
		return "machine-learning-model"
	}
	return kindOf(purpose)
}
