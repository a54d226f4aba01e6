package sbom

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/castellan-security/castellan/internal/fault"
)

// xml reads CycloneDX in XML.
func (d *document) xml(r io.Reader) error {
	x := &xmlReader{document: d, r: xml.NewDecoder(&bounded{r, maxXML})}
	for {
		t, err := x.r.Token()
		if errors.Is(err, io.EOF) {
			return io.ErrUnexpectedEOF
		}
		if err != nil {
			return err
		}
		start, ok := t.(xml.StartElement)
		if !ok {
			continue
		}
		const space = "http://cyclonedx.org/schema/bom/"
		version, ok := strings.CutPrefix(start.Name.Space, space)
		if start.Name.Local != "bom" || !ok {
			return fault.New(fault.Unsupported, "this version does not read bills of materials in XML that are not CycloneDX").
				With("write it as CycloneDX, or as SPDX 2.3 in JSON")
		}
		if err := d.claim("CycloneDX", version); err != nil {
			return err
		}
		return x.children(x.bom)
	}
}

// bounded ends a document that is too long with an error.
type bounded struct {
	r    io.Reader
	left int64
}

// Read is io.Reader.
func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, fault.New(fault.Exhausted, "the bill of materials has more than %d bytes of XML", maxXML).With("write it in JSON, which may be larger")
	}
	return n, err
}

type xmlReader struct {
	*document
	r     *xml.Decoder
	depth int
}

// children calls each for the elements within the one that was begun. One that
// each does not read (it returns false) is passed over.
func (x *xmlReader) children(each func(xml.StartElement) (bool, error)) error {
	if x.depth++; x.depth > maxDepth {
		return fmt.Errorf("elements nested more than %d deep", maxDepth)
	}
	defer func() { x.depth-- }()
	for {
		t, err := x.token()
		if err != nil {
			return err
		}
		switch t := t.(type) {
		case xml.EndElement:
			return nil
		case xml.StartElement:
			read, err := each(t)
			if err == nil && !read {
				err = x.r.Skip()
			}
			if err != nil {
				return early(err)
			}
		}
	}
}

func (x *xmlReader) token() (xml.Token, error) {
	t, err := x.r.Token()
	return t, early(err)
}

func early(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// text returns the text of the element that was begun, or its beginning.
func (x *xmlReader) text() (string, error) {
	var s []byte
	for {
		t, err := x.token()
		if err != nil {
			return "", err
		}
		switch t := t.(type) {
		case xml.CharData:
			s = append(s, t[:min(len(t), maxText+1-len(s))]...)
		case xml.StartElement:
			if err := x.r.Skip(); err != nil {
				return "", early(err)
			}
		case xml.EndElement:
			return strings.TrimSpace(string(s)), nil
		}
	}
}

func (x *xmlReader) bom(e xml.StartElement) (bool, error) {
	switch e.Name.Local {
	case "metadata":
		return true, x.children(func(e xml.StartElement) (bool, error) {
			if e.Name.Local != "component" {
				return false, nil
			}
			c, err := x.component(e)
			x.subject = c
			return true, err
		})
	case "components":
		return true, x.children(x.componentsOf)
	}
	return false, nil
}

func (x *xmlReader) componentsOf(e xml.StartElement) (bool, error) {
	if e.Name.Local != "component" {
		return false, nil
	}
	c, err := x.component(e)
	if err != nil {
		return true, err
	}
	return true, x.add(c)
}

func (x *xmlReader) component(e xml.StartElement) (component, error) {
	c := component{kind: attribute(e, "type")}
	err := x.children(func(e xml.StartElement) (bool, error) {
		var into *string
		switch e.Name.Local {
		case "group":
			into = &c.group
		case "name":
			into = &c.name
		case "version":
			into = &c.version
		case "purl":
			into = &c.purl
		case "description":
			s, err := x.text()
			c.description = s
			return true, err
		case "licenses":
			return true, x.children(func(e xml.StartElement) (bool, error) { return x.license(&c, e) })
		case "properties":
			return true, x.children(func(e xml.StartElement) (bool, error) {
				value, err := x.text()
				if err != nil || len(value) > maxText {
					return true, err
				}
				return true, x.property(&c, attribute(e, "name"), value)
			})
		case "evidence":
			return true, x.children(func(e xml.StartElement) (bool, error) { return x.evidence(&c, e) })
		case "components":
			return true, x.children(x.componentsOf)
		}
		if into == nil {
			return false, nil
		}
		s, err := x.text()
		*into = c.keep(s)
		return true, err
	})
	return c, err
}

func (x *xmlReader) license(c *component, e xml.StartElement) (bool, error) {
	switch e.Name.Local {
	case "expression", "id", "name":
		s, err := x.text()
		c.license(s)
		return true, err
	case "license":
		return true, x.children(func(e xml.StartElement) (bool, error) {
			if e.Name.Local == "license" {
				return false, nil
			}
			return x.license(c, e)
		})
	}
	return false, nil
}

func (x *xmlReader) evidence(c *component, e xml.StartElement) (bool, error) {
	switch e.Name.Local {
	case "occurrences":
		return true, x.children(func(xml.StartElement) (bool, error) {
			return true, x.children(func(e xml.StartElement) (bool, error) {
				if e.Name.Local != "location" {
					return false, nil
				}
				path, err := x.text()
				if err != nil || path == "" || len(path) > maxText {
					return true, err
				}
				return true, x.put(c, place{path: path})
			})
		})
	}
	return false, nil
}

func attribute(e xml.StartElement, name string) string {
	for _, a := range e.Attr {
		if a.Name.Local == name {
			return a.Value
		}
	}
	return ""
}
