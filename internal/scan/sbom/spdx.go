package sbom

import (
	"strings"

	"github.com/castellan-security/castellan/internal/scan/pull"
)

// spdxPackage reads one package of SPDX 2.
func (d *document) spdxPackage(j *pull.JSON) error {
	var c component
	var urls []string
	err := j.Object(func(key []byte) error {
		var into *string
		switch string(key) {
		case "SPDXID":
			into = &c.id
		case "name":
			into = &c.name
		case "versionInfo":
			into = &c.version
		case "description":
			return text(j, &c.description)
		case "primaryPackagePurpose":
			return purpose(j, &c)
		case "sourceInfo":
			s, err := j.Begin(maxText)
			c.sourceInfo(s)
			return err
		case "licenseDeclared":
			s, err := j.Begin(maxText)
			c.license(s)
			return err
		case "externalRefs":
			return externalURLs(j, &c, &urls)
		case "attributionTexts":
			return j.Array(func(int) error { return d.remarkOf(j, &c) })
		case "annotations":
			return j.Array(func(int) error {
				return j.Object(func(key []byte) error {
					if string(key) != "comment" {
						return nil
					}
					return d.remarkOf(j, &c)
				})
			})
		}
		if into == nil {
			return nil
		}
		s, err := j.Begin(maxText + 1)
		*into = c.keep(s)
		return err
	})
	if err != nil {
		return err
	}
	return d.addEach(c, urls)
}

// purpose reads SPDX's purpose.
func purpose(j *pull.JSON, c *component) error {
	s, err := j.Begin(maxText)
	c.kind = kindOf(s)
	return err
}

// kindOf translates SPDX's purpose into CycloneDX's type. Its JSON schema has an
// underscore where the specification, and most writers, have a dash.
func kindOf(purpose string) string { return strings.ReplaceAll(strings.ToLower(purpose), "_", "-") }

func externalURLs(j *pull.JSON, c *component, urls *[]string) error {
	return j.Array(func(int) error {
		var kind, locator string
		err := j.Object(func(key []byte) (err error) {
			switch string(key) {
			case "referenceType":
				kind, err = j.Begin(maxText)
			case "referenceLocator":
				locator, err = j.Begin(maxText + 1)
			}
			return err
		})
		if kind == "purl" {
			*urls = addURL(*urls, c.keep(locator))
		}
		return err
	})
}

// maxURLs bounds how many package URLs one package of SPDX has.
const maxURLs = 20

func addURL(urls []string, u string) []string {
	if u == "" || len(urls) == maxURLs {
		return urls
	}
	return append(urls, u)
}

// addEach adds a component for each of its package URLs, or one without.
func (d *document) addEach(c component, urls []string) error {
	if len(urls) == 0 {
		return d.add(c)
	}
	for _, u := range urls {
		c.purl = u
		if err := d.add(c); err != nil {
			return err
		}
	}
	return nil
}

// sourceInfo takes the source package out of the sentence in which Trivy and we
// write it.
func (c *component) sourceInfo(s string) {
	for _, begin := range [...]string{"built package from: ", "built from "} {
		if rest, ok := strings.CutPrefix(s, begin); ok {
			name, version, _ := strings.Cut(rest, " ")
			if c.said.sourceName == "" {
				c.said.sourceName, c.said.sourceVersion = name, strings.TrimSpace(version)
			}
			return
		}
	}
}

func (d *document) remarkOf(j *pull.JSON, c *component) error {
	s, err := j.Begin(maxText + 1)
	if err != nil || len(s) > maxText {
		return err
	}
	return d.remark(c, s)
}

// remark takes a property that is written as a sentence: "LayerDiffID: sha256:…"
// by Trivy, "castellan:owned_by=…" by us.
func (d *document) remark(c *component, s string) error {
	if strings.HasPrefix(s, "castellan:") {
		name, value, _ := strings.Cut(s, "=")
		return d.property(c, name, value)
	}
	name, value, ok := strings.Cut(s, ": ")
	if !ok || strings.ContainsAny(name, " :") {
		return nil
	}
	return d.property(c, "aquasecurity:trivy:"+name, value)
}

// byOverlap begins the comment with which syft says that a package's files show
// another package.
const byOverlap = "ownership-by-file-overlap"

func (d *document) relationship(j *pull.JSON) error {
	var from, to, kind, comment string
	err := j.Object(func(key []byte) (err error) {
		switch string(key) {
		case "spdxElementId":
			from, err = j.Begin(maxText)
		case "relatedSpdxElement":
			to, err = j.Begin(maxText)
		case "relationshipType":
			kind, err = j.Begin(maxText)
		case "comment":
			comment, err = j.Begin(maxText)
		}
		return err
	})
	if err != nil {
		return err
	}
	return d.related(from, kind, to, comment)
}

func (d *document) related(from, kind, to, comment string) error {
	switch {
	case kind == "DESCRIBES" && from == "SPDXRef-DOCUMENT":
		return d.describe(to)
	case kind == "DESCRIBED_BY" && to == "SPDXRef-DOCUMENT":
		return d.describe(from)
	case kind == "OTHER" && strings.HasPrefix(comment, byOverlap):
		const size = 64
		d.owns = append(d.owns, ownership{from, to})
		return d.take(len(from) + len(to) + size)
	}
	return d.take(0)
}

func (d *document) describe(id string) error {
	const size = 100
	if d.describes == nil {
		d.describes = map[string]bool{}
	}
	d.describes[id] = true
	return d.take(len(id) + size)
}
