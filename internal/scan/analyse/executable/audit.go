package executable

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"io"
	"math/bits"
	"slices"

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
		if !beginsZlib(h.w.held[at:]) {
			return false, nil
		}
		if h.tries++; h.tries > maxAuditTries || len(h.audits) >= maxAudits {
			return true, nil
		}
		b, err := h.w.need(at + auditBegin)
		if err != nil {
			return true, err
		}
		if !h.beginsAudit(b[at:]) {
			return false, nil
		}
		if h.begins++; h.begins > maxAuditBegins {
			return true, nil
		}
		if b, err = h.w.need(at + maxAudit); err != nil {
			return true, err
		}
		packages, err := readAudit(b[at:min(len(b), at+maxAudit)])
		if err == nil { // else something else that looks like one
			h.audits = append(h.audits, audit{h.w.position() + int64(at), packages})
		}
		return false, nil
	})
}

// beginsZlib says whether b can be a zlib stream of one of the four levels that
// inflates to a list. It says no to nearly all that isn't, so that little has to
// be inflated to see it: a block that is not compressed says its length twice, one
// of fixed codes shows its first byte, and one of its own codes says them.
func beginsZlib(b []byte) bool {
	if len(b) < 3 || b[1] != 0x01 && b[1] != 0x5e && b[1] != 0x9c && b[1] != 0xda {
		return false
	}
	kind := b[2] >> 1 & 3
	if kind == stored {
		return len(b) >= 7 && b[3] == ^b[5] && b[4] == ^b[6]
	}
	const enough = 2 + 16
	if len(b) < enough { // no more is there to go by
		return kind == fixedCodes || kind == dynamicCodes
	}
	switch kind {
	case fixedCodes:
		// Codes stand with their highest bit first; those of the first 144 bytes
		// have eight bits and begin here.
		const first = 0x30
		c := bits.Reverse8(byte((uint16(b[2])|uint16(b[3])<<8)>>3)) - first
		return c == '{' || isBlank(c)
	case dynamicCodes:
		return beginsCodes(binary.LittleEndian.Uint64(b[2:]), binary.LittleEndian.Uint64(b[2+8:]))
	}
	return false
}

// Kinds of deflate's blocks (RFC 1951, 3.2.3).
const (
	stored       = 0
	fixedCodes   = 1
	dynamicCodes = 2
)

// beginsCodes says whether codes can be read of a block whose first 128 bits are
// given: that the code in which their lengths are written is complete. Of data by
// chance one in a hundred is.
func beginsCodes(low, high uint64) bool {
	const literals, distances, lengths, order = 3, 8, 13, 17 // where the fields begin
	if low>>literals&31 > 29 || low>>distances&31 > 29 {
		return false // more codes than there are
	}
	sum, used := 0, 0
	fields := low>>order | high<<(64-order) // three for each of at most 19
	for range 4 + int(low>>lengths&15) {
		if n := fields & 7; n > 0 {
			sum += 1 << (7 - n)
			used++
		}
		fields >>= 3
	}
	const complete, one = 1 << 7, 1 << 6
	return sum == complete || used == 1 && sum == one
}

// auditBegin is how many bytes tell a list from other data: the lengths of all
// codes have at most 290, what a list begins with 85, blanks included; not
// compressed and in a block for each byte it has 270.
const auditBegin = 512

// beginsAudit inflates just as much as tells a list from other data.
func (h *hunt) beginsAudit(b []byte) bool {
	z, err := h.spare.inflate(bytes.NewReader(b[2:min(len(b), auditBegin)]))
	if err != nil {
		return false
	}
	defer h.spare.inflaters.Put(z)
	begin := make([]byte, len(auditBegins)+auditBlanks)
	n, _ := io.ReadFull(z, begin) // what is wrong further on, reading the list tells
	return bytes.HasPrefix(withoutBlanks(begin[:n]), auditBegins)
}

// withoutBlanks takes out what JSON allows between its parts.
func withoutBlanks(b []byte) []byte { return slices.DeleteFunc(b, isBlank) }

func isBlank(c byte) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\r' }

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
