// Package sbom reads bills of materials that others wrote, as inventories that
// advisories can be matched with: CycloneDX (JSON and XML), SPDX 2 (JSON, and tags
// and values) and SPDX 3 (JSON-LD); in JSON also as the predicate of an in-toto
// statement.
//
// A package is what its package URL says, its distribution and its source
// package included; what the properties of well-known writers add (syft, Trivy,
// and ours) is taken as well: source packages, layers, module streams, owners.
// What has no package URL is kept and told as a problem, and never looked up by a
// name that might be another's.
//
// It is not for writing them (see report), and not for believing them: a bill
// says what its writer found, and says nothing of what the writer overlooked.
//
// A document is read as it passes, by whoever wrote it: what is kept of it is
// taken from the budget of a scan.
package sbom

import (
	"bufio"
	"context"
	"errors"
	"io"
	"strings"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan/layer"
	"github.com/castellan-security/castellan/internal/scan/pull"
)

// Limits of what is read.
const (
	// maxDocument bounds a document in JSON or of lines, which is read as it
	// passes: one that lists the files of a large image has some 200 MB.
	maxDocument = 1 << 30
	// maxXML bounds one in XML, of which a token is held whole.
	maxXML = 64 << 20
	// maxDocuments bounds an array of documents: one for each platform of an
	// image, or each image of a task definition.
	maxDocuments = 1000
	// maxText bounds each text that is kept, in bytes: the longest path that
	// Linux takes. Package URLs, names and versions are shorter.
	maxText = 4096
	// maxDepth bounds components within components.
	maxDepth = 1000
	// maxLayers bounds the layers of an image that are told; engines take 127.
	maxLayers = 10_000
	// weight is what a component takes beside its texts: as it is listed, as a
	// package of the inventory, and while those that are the same are found.
	weight = 2000
)

// Options say how a document is read.
type Options struct {
	// Budget is what all documents may hold; nil: the default of a scan.
	Budget *layer.Budget
	// Ecosystem returns where advisories for the packages of a distribution are
	// looked up.
	Ecosystem func(inventory.OS) string
}

// Read returns what a bill of materials lists, or several if it is an array of
// them. The packages are as they are listed, unsorted, and the same one may be
// among them at several places; those of a distribution have an ecosystem of
// their own only where it is not that of the inventory's system. Errors are of
// kind Invalid, Unsupported or Exhausted, the reader's, or the context's.
func Read(ctx context.Context, r io.Reader, o Options) ([]inventory.Inventory, error) {
	if o.Budget == nil {
		o.Budget = layer.NewBudget(layer.Limits{})
	}
	s := &session{ended: ctx.Err, o: o}
	if err := s.read(bufio.NewReader(r)); err != nil {
		return nil, explain(err)
	}
	out := make([]inventory.Inventory, 0, len(s.documents))
	for _, d := range s.documents {
		if err := d.check(); err != nil {
			return nil, err
		}
		out = append(out, d.inventory(o.Ecosystem))
	}
	return out, nil
}

// explain says of an error of the content that it is one.
func explain(err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || fault.Of(err) != fault.Unknown {
		return err
	}
	remedy := "write it again with the tool that made it, as CycloneDX or SPDX in JSON"
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return fault.New(fault.Invalid, "the bill of materials ends early").With(remedy)
	}
	return fault.New(fault.Invalid, "the bill of materials cannot be read: %w", err).With(remedy)
}

// session is the reading of one file.
type session struct {
	ended     func() error // why reading must end
	o         Options
	documents []*document
}

// read finds out by its first byte which form a file has.
func (s *session) read(r *bufio.Reader) error {
	first, err := firstByte(r)
	if err != nil {
		return err
	}
	switch first {
	case '{':
		return s.one(func(d *document) error { return d.json(pull.NewJSON(r, 0, maxDocument)) })
	case '[':
		j := pull.NewJSON(r, 0, maxDocument)
		return j.Array(func(i int) error {
			if i == maxDocuments {
				return fault.New(fault.Exhausted, "more than %d bills of materials in one file", maxDocuments).With("split it")
			}
			return s.one(func(d *document) error { return d.json(j) })
		})
	case '<':
		return s.one(func(d *document) error { return d.xml(r) })
	}
	return s.one(func(d *document) error { return d.tags(pull.NewLines(r, 0, maxDocument)) })
}

func (s *session) one(read func(*document) error) error {
	d := &document{session: s}
	s.documents = append(s.documents, d)
	return read(d)
}

// firstByte passes over blanks and a byte order mark.
func firstByte(r *bufio.Reader) (byte, error) {
	for {
		b, err := r.ReadByte()
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return 0, err
		}
		if b < 0x80 && !strings.ContainsRune(" \t\r\n", rune(b)) { // what is above can only be the mark
			return b, r.UnreadByte()
		}
	}
}

// document is one bill of materials while it is read.
type document struct {
	*session
	format  string // CycloneDX or SPDX
	version string
	name    string
	subject component
	// subjects are, in SPDX, what may be the subject: relationships come later.
	subjects []component
	listed   []listed
	systems  []inventory.OS
	// relations are of SPDX: what the document is about, and which package
	// another one claims the files of.
	describes map[string]bool
	owns      []ownership
	notes     notes
}

// ownership says that the files of one element show another.
type ownership struct{ owner, owned string }

// take charges the budget with what is kept.
func (d *document) take(n int) error {
	if err := d.ended(); err != nil {
		return err
	}
	return d.o.Budget.Take(int64(n))
}

// check says whether the document is one that can be read.
func (d *document) check() error {
	const remedy = "write it as CycloneDX 1.2 to 1.7, or SPDX 2.2, 2.3 or 3.0"
	switch {
	case d.format == "CycloneDX" && strings.HasPrefix(d.version, "1."):
		return nil
	case d.format == "SPDX" && (strings.HasPrefix(d.version, "SPDX-2.") || strings.HasPrefix(d.version, "SPDX-3.")):
		return nil
	case d.format == "":
		return fault.New(fault.Invalid, "the file is no bill of materials: it says neither bomFormat nor spdxVersion, nor has the @context of SPDX 3").With(remedy)
	}
	return fault.New(fault.Unsupported, "this version does not read %s %.40q", d.format, d.version).With(remedy)
}

// claim says which format the document has. A document that claims two is none.
func (d *document) claim(format, version string) error {
	if d.format != "" && format != d.format {
		return errors.New("it claims to be CycloneDX and SPDX")
	}
	d.format = format
	if version != "" {
		d.version = version
	}
	return nil
}
