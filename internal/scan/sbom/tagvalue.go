package sbom

import (
	"errors"
	"io"
	"strings"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/scan/pull"
)

// tags reads SPDX 2 as tags and values (specification 2.3, chapter 4.4): a line a
// value, or several between <text> and </text>. What follows PackageName is
// about that package, until another element begins.
func (d *document) tags(lines *pull.Lines) error {
	t := tagReader{document: d, lines: lines}
	for {
		tag, value, err := t.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if err := t.take(tag, value); err != nil {
			return err
		}
	}
	return t.flush()
}

type tagReader struct {
	*document
	lines   *pull.Lines
	c       *component // the package at hand
	urls    []string
	related [3]string // the relationship at hand
}

// next returns the next tag with its value.
func (t *tagReader) next() (tag, value string, err error) {
	for {
		line, err := t.lines.Next()
		if err != nil {
			return "", "", err
		}
		if t.format == "" && len(strings.TrimSpace(string(line[:min(len(line), maxText)]))) > 0 && !maybeTag(line) {
			return "", "", fault.New(fault.Invalid, "the file is no bill of materials that is known").
				With("write it as CycloneDX or SPDX 2.3, in JSON")
		}
		name, rest, ok := strings.Cut(string(line[:min(len(line), 2*maxText)]), ":")
		if !ok || strings.HasPrefix(name, "#") {
			continue
		}
		rest = strings.TrimSpace(rest)
		if open, ok := strings.CutPrefix(rest, "<text>"); ok {
			if rest, err = t.multiline(open); err != nil {
				return "", "", err
			}
		}
		return strings.TrimSpace(name), rest, nil
	}
}

// maybeTag says whether a line may stand before the version of the document, or
// be it. Everything else is another kind of file.
func maybeTag(line []byte) bool {
	s := strings.TrimPrefix(string(line[:min(len(line), maxText)]), "\ufeff")
	for _, begin := range [...]string{"#", "---", "SPDXVersion:", "DataLicense:", "SPDXID:", "spdxVersion:"} {
		if strings.HasPrefix(s, begin) {
			return true
		}
	}
	return false
}

// multiline reads on to </text>, and keeps the beginning.
func (t *tagReader) multiline(s string) (string, error) {
	for {
		if before, _, ok := strings.Cut(s, "</text>"); ok {
			return strings.TrimSpace(before), nil
		}
		line, err := t.lines.Next()
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return "", err
		}
		end := strings.Contains(string(line), "</text>")
		if len(s) <= maxText {
			s += "\n" + string(line[:min(len(line), maxText)])
		}
		if end {
			before, _, _ := strings.Cut(s, "</text>")
			return strings.TrimSpace(before), nil
		}
		if err := t.document.take(0); err != nil {
			return "", err
		}
	}
}

func (t *tagReader) take(tag, value string) error {
	switch tag {
	case "SPDXVersion":
		return t.claim("SPDX", value)
	case "spdxVersion":
		return fault.New(fault.Unsupported, "this version does not read SPDX in YAML").With("write it as SPDX 2.3 in JSON, or as CycloneDX")
	case "DocumentName":
		t.name = value[:min(len(value), maxText)]
	case "PackageName":
		if err := t.flush(); err != nil {
			return err
		}
		t.c = &component{}
		t.c.name = t.c.keep(value)
	case "FileName", "SnippetSPDXID", "LicenseID":
		return t.flush()
	case "Relationship":
		return t.relation(value)
	case "RelationshipComment":
		return t.document.related(t.related[0], t.related[1], t.related[2], value)
	}
	if t.c == nil {
		return nil
	}
	return t.ofPackage(tag, value)
}

func (t *tagReader) ofPackage(tag, value string) error {
	c := t.c
	switch tag {
	case "SPDXID":
		c.id = c.keep(value)
	case "PackageVersion":
		c.version = c.keep(value)
	case "PrimaryPackagePurpose":
		c.kind = kindOf(c.keep(value))
	case "PackageSourceInfo":
		c.sourceInfo(value)
	case "PackageDescription":
		c.description = value
	case "PackageLicenseDeclared":
		c.license(value)
	case "PackageAttributionText":
		return t.remark(c, c.keep(value))
	case "ExternalRef":
		if words := strings.Fields(value); len(words) == 3 && words[1] == "purl" {
			t.urls = addURL(t.urls, c.keep(words[2]))
		}
	}
	return nil
}

// relation takes "A KIND B". What is said of it follows in a line of its own.
func (t *tagReader) relation(value string) error {
	words := strings.Fields(value)
	if len(words) < 3 {
		return nil
	}
	copy(t.related[:], words)
	return t.document.related(words[0], words[1], words[2], "")
}

// flush adds the package at hand.
func (t *tagReader) flush() error {
	if t.c == nil {
		return nil
	}
	c, urls := *t.c, t.urls
	t.c, t.urls = nil, nil
	return t.addEach(c, urls)
}
