package executable

import (
	"bytes"
	"compress/flate"
	"compress/zlib"
	"errors"
	"io"

	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan/pull"
)

const (
	maxAudit    = 512 << 10 // compressed; lists of 400 crates have 4 KiB
	maxAuditRaw = 16 << 20  // and inflated
	maxAudits   = 4         // lists in one file; there is one
	// maxAuditTries bounds how often something that looks like a zlib stream is
	// inflated a little; 100 MiB of chance data have 3,000 such places.
	maxAuditTries = 100_000
	// maxAuditBegins bounds what begins like a list and is read as one, which
	// takes a thousand times as long.
	maxAuditBegins = 64
)

// audit is a list found somewhere in an ELF file, which counts if a section
// begins there.
type audit struct {
	offset   int64
	packages []inventory.Package
}

// auditBegins is what every list begins with once inflated, but for blanks, of
// which there are fewer than auditBlanks.
var auditBegins = []byte(`{"packages":[`)

const auditBlanks = 32

// lookForAudit searches for zlib streams that inflate to a list of crates. The
// section that holds it has a name only in headers that come at the very end.
func (h *hunt) lookForAudit(size, to int) error {
	// A zlib stream with a window of 32 KiB begins with this byte.
	return h.w.each(size, to, []byte{0x78}, func(at int) (bool, error) {
		held := h.w.held
		if !beginsZlib(held[at:]) {
			return false, nil
		}
		if h.tries++; h.tries > maxAuditTries || len(h.audits) >= maxAudits {
			return true, nil
		}
		if !h.beginsAudit(held[at:]) {
			return false, nil
		}
		if h.begins++; h.begins > maxAuditBegins {
			return true, nil
		}
		b, err := h.w.need(at + maxAudit)
		if err != nil {
			return true, err
		}
		packages, err := readAudit(b[at:min(len(b), at+maxAudit)])
		if err == nil { // else something else that looks like one
			h.audits = append(h.audits, audit{h.w.position() + int64(at), packages})
		}
		return false, nil
	})
}

// beginsZlib says whether b can be a zlib stream of one of the four levels. A
// block that is not compressed says its length twice.
func beginsZlib(b []byte) bool {
	if len(b) < 7 || b[1] != 0x01 && b[1] != 0x5e && b[1] != 0x9c && b[1] != 0xda {
		return false
	}
	switch b[2] >> 1 & 3 {
	case 0:
		return b[3] == ^b[5] && b[4] == ^b[6]
	case 1, 2:
		return true
	}
	return false
}

// beginsAudit inflates just as much as tells a list from other data.
func (h *hunt) beginsAudit(b []byte) bool {
	r := bytes.NewReader(b[2:min(len(b), 4<<10)])
	if h.inflater == nil {
		h.inflater = flate.NewReader(r)
	} else if err := h.inflater.(flate.Resetter).Reset(r, nil); err != nil {
		return false
	}
	begin := make([]byte, len(auditBegins)+auditBlanks)
	n, err := io.ReadFull(h.inflater, begin)
	if err != nil && err != io.ErrUnexpectedEOF {
		return false
	}
	return bytes.HasPrefix(withoutBlanks(begin[:n]), auditBegins)
}

// withoutBlanks takes out what JSON allows between its parts.
func withoutBlanks(b []byte) []byte {
	kept := b[:0]
	for _, c := range b {
		if c != ' ' && c != '\t' && c != '\n' && c != '\r' {
			kept = append(kept, c)
		}
	}
	return kept
}

// confirmAudits shows the list at whose offset a section begins.
func (h *hunt) confirmAudits() error {
	if len(h.audits) == 0 {
		return nil
	}
	s := &h.layout.sections
	if err := h.w.skipTo(s.offset); err != nil {
		return err
	}
	size := min(s.count*s.width, maxWindow)
	b, err := h.w.need(size)
	if err != nil {
		return err
	}
	for _, a := range h.audits {
		if h.layout.sectionAt(b[:min(len(b), size)], a.offset) {
			return h.showAudit(a.packages)
		}
	}
	return nil
}

// takeAudit shows the list in a section that is known.
func (h *hunt) takeAudit(g *region) error {
	if g.size > maxAudit {
		return errors.New("list of crates: section is too large")
	}
	if err := h.w.skipTo(g.offset); err != nil {
		return endOfFile(err)
	}
	b, err := h.w.need(int(g.size))
	if err != nil {
		return err
	}
	packages, err := readAudit(b[:min(int64(len(b)), g.size)])
	if err != nil {
		return err
	}
	return h.showAudit(packages)
}

func (h *hunt) showAudit(packages []inventory.Package) error {
	for _, p := range packages {
		if err := h.shown.Add(p); err != nil {
			return err
		}
	}
	return nil
}

// readAudit inflates and reads a list. Crates that were only needed to build
// are not in the program and are left out.
func readAudit(b []byte) ([]inventory.Package, error) {
	z, err := zlib.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	defer z.Close()
	var packages []inventory.Package
	j := pull.NewJSON(z, 0, maxAuditRaw)
	err = j.Object(func(key []byte) error {
		if string(key) != "packages" {
			return nil
		}
		return j.Array(func(int) error {
			p, err := readCrate(j)
			if p.Name != "" && p.Version != "" {
				packages = append(packages, p)
			}
			return err
		})
	})
	return packages, err
}

// readCrate reads one entry; it is empty for one that isn't in the program.
func readCrate(j *pull.JSON) (inventory.Package, error) {
	p := inventory.Package{Type: "cargo", Ecosystem: "crates.io", Found: inventory.Compiled}
	build := false
	err := j.Object(func(key []byte) (err error) {
		var s string
		switch string(key) {
		case "name":
			p.Name, err = j.Text()
		case "version":
			p.Version, err = j.Text()
		case "source":
			// Crates of the builder's own folder and of git keep the name they
			// are published under; another registry has names of its own.
			if s, err = j.Text(); s == "registry" {
				p.Ecosystem = ""
			}
		case "kind":
			s, err = j.Text()
			build = s == "build"
		}
		return err
	})
	if build {
		p = inventory.Package{}
	}
	return p, err
}
