package sbom

import "github.com/castellan-security/castellan/internal/scan/pull"

// json reads a document in JSON of either format. Members come in any order; a
// list that is there twice is read twice.
func (d *document) json(j *pull.JSON) error {
	return j.Object(func(key []byte) error {
		switch string(key) {
		case "bomFormat":
			return d.claimed(j, "")
		case "specVersion":
			return text(j, &d.version)
		case "spdxVersion":
			return d.claimed(j, "SPDX")
		case "@context":
			return d.context(j)
		case "@graph":
			return d.graph(j)
		case "predicate": // of an in-toto statement, in which builders attach bills to images
			return d.json(j)
		case "metadata":
			return d.metadata(j)
		case "components":
			return d.componentsOf(j)
		case "name":
			return text(j, &d.name)
		case "packages":
			return j.Array(func(int) error { return d.spdxPackage(j) })
		case "documentDescribes":
			return j.Array(func(int) error {
				s, err := j.Begin(maxText)
				if err != nil {
					return err
				}
				return d.describe(s)
			})
		case "relationships":
			return j.Array(func(int) error { return d.relationship(j) })
		}
		return nil
	})
}

// claimed reads which format a document has: SPDX's member is its version.
func (d *document) claimed(j *pull.JSON, format string) error {
	s, err := j.Begin(maxText)
	if err != nil {
		return err
	}
	if format == "" {
		return d.claim(s, "")
	}
	return d.claim(format, s)
}

func text(j *pull.JSON, into *string) (err error) {
	*into, err = j.Begin(maxText)
	return err
}

func (d *document) metadata(j *pull.JSON) error {
	return j.Object(func(key []byte) (err error) {
		if string(key) == "component" {
			d.subject, err = d.component(j)
		}
		return err
	})
}

func (d *document) componentsOf(j *pull.JSON) error {
	return j.Array(func(int) error {
		c, err := d.component(j)
		if err != nil {
			return err
		}
		return d.add(c)
	})
}

// component reads one, and adds those within it.
func (d *document) component(j *pull.JSON) (component, error) {
	var c component
	err := j.Object(func(key []byte) error {
		var into *string
		switch string(key) {
		case "type":
			into = &c.kind
		case "group":
			into = &c.group
		case "name":
			into = &c.name
		case "version":
			into = &c.version
		case "purl":
			into = &c.purl
		case "description":
			return text(j, &c.description)
		case "licenses":
			return c.licensesOf(j)
		case "properties":
			return j.Array(func(int) error { return d.propertyOf(j, &c) })
		case "evidence":
			return d.evidence(j, &c)
		case "components":
			return d.componentsOf(j)
		}
		if into == nil {
			return nil
		}
		s, err := j.Begin(maxText + 1)
		*into = c.keep(s)
		return err
	})
	return c, err
}

func (c *component) licensesOf(j *pull.JSON) error {
	name := func() error {
		s, err := j.Begin(maxText)
		c.license(s)
		return err
	}
	return j.Array(func(int) error {
		return j.Object(func(key []byte) error {
			switch string(key) {
			case "expression":
				return name()
			case "license":
				return j.Object(func(key []byte) error {
					if string(key) == "id" || string(key) == "name" {
						return name()
					}
					return nil
				})
			}
			return nil
		})
	})
}

func (d *document) propertyOf(j *pull.JSON, c *component) error {
	var name, value string
	err := j.Object(func(key []byte) (err error) {
		switch string(key) {
		case "name":
			name, err = j.Begin(maxText)
		case "value":
			value, err = j.Begin(maxText + 1)
		}
		return err
	})
	if err != nil || len(value) > maxText {
		return err // what is as long is none of those that are needed
	}
	return d.property(c, name, value)
}

func (d *document) evidence(j *pull.JSON, c *component) error {
	return j.Object(func(key []byte) error {
		if string(key) != "occurrences" {
			return nil
		}
		return j.Array(func(int) error {
			var path string
			err := j.Object(func(key []byte) error {
				if string(key) != "location" {
					return nil
				}
				return text(j, &path)
			})
			if err != nil || path == "" {
				return err
			}
			return d.put(c, place{path: path})
		})
	})
}
