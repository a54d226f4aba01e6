package vulndb

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"

	"github.com/castellan-security/castellan/internal/fault"
)

// The file, little endian throughout: a header of headerSize bytes, then the
// sections in any order.
//
//	 0  magic
//	 8  format, revision of the orders of versions (32 bits each)
//	16  generation, time built (64 bits each)
//	32  size of the file (64 bits)
//	40  for each section: offset, size (64 bits each), SHA-256
//	 …  SHA-256 of all that is before it
const (
	magic       = "castadv\n"
	format      = 1
	sectionSize = 8 + 8 + sha256.Size
	sectionsAt  = 40
	digestAt    = sectionsAt + sections*sectionSize
	headerSize  = digestAt + sha256.Size
)

// The sections.
const (
	sectionSources    = iota // JSON
	sectionEcosystems        // names, counted
	sectionStrings           // versions, names of packages, vectors, notes: each with its length in front
	sectionTable             // from a package's name to its block
	sectionPackages          // one block a package (see block.go)
	sectionIndex             // from an advisory's number to its record
	sectionRecords           // one record an advisory (see record.go)
	sectionNames             // from an identifier to advisories
	sectionBlockIndex        // from the number of a block of texts to the block
	sectionBlocks            // compressed texts
	sectionKEV
	sectionEPSS
	sections
)

// Limits of a file. They bound what a hostile one can make us do, and are far
// above what feeds need: OSV has 600,000 advisories and 400 ecosystems.
const (
	maxAdvisories = 1 << 26
	maxEcosystems = 1 << 16
	maxSources    = 1 << 12
	maxBlock      = 1 << 20 // bytes of a block of texts, decompressed

	// Of one advisory. The largest in use: an update of SUSE's kernel with some
	// 800 CVEs for 120 packages, and packages of PyPI with 2,000 versions.
	maxNames      = 1 << 13 // aliases, upstream, related
	maxReferences = 64
	maxWeaknesses = 64
	maxScores     = 32
	maxArches     = 64
	maxRanges     = 1 << 13 // of one package
	maxListed     = 1 << 16 // versions of one package
	maxAffected   = 1 << 16 // packages
)

type section struct {
	offset, size uint64
	digest       [sha256.Size]byte
}

type header struct {
	generation uint64
	built      int64 // Unix time
	size       uint64
	sections   [sections]section
}

func (h *header) append(b []byte) []byte {
	b = append(b, magic...)
	b = binary.LittleEndian.AppendUint32(b, format)
	b = binary.LittleEndian.AppendUint32(b, orders)
	b = binary.LittleEndian.AppendUint64(b, h.generation)
	b = binary.LittleEndian.AppendUint64(b, uint64(h.built))
	b = binary.LittleEndian.AppendUint64(b, h.size)
	for _, s := range h.sections {
		b = binary.LittleEndian.AppendUint64(b, s.offset)
		b = binary.LittleEndian.AppendUint64(b, s.size)
		b = append(b, s.digest[:]...)
	}
	sum := sha256.Sum256(b)
	return append(b, sum[:]...)
}

// readHeader checks the header and that all sections are within the file. It
// does not read them.
func readHeader(data []byte) (header, error) {
	var h header
	if len(data) < headerSize || !bytes.HasPrefix(data, []byte(magic)) {
		return h, fault.New(fault.Invalid, "not an advisory database").With(remedy)
	}
	u32, u64 := binary.LittleEndian.Uint32, binary.LittleEndian.Uint64
	if f := u32(data[8:]); f != format {
		return h, fault.New(fault.Unsupported, "advisory database of format %d, want %d", f, format).With(remedy)
	}
	if r := u32(data[12:]); r != orders {
		return h, fault.New(fault.Unsupported, "advisory database with versions in order %d, want %d", r, orders).With(remedy)
	}
	if sum := sha256.Sum256(data[:digestAt]); !bytes.Equal(sum[:], data[digestAt:headerSize]) {
		return h, damaged("the digest of its header is another")
	}
	h.generation = u64(data[16:])
	h.built = int64(u64(data[24:]))
	h.size = u64(data[32:])
	if h.size != uint64(len(data)) {
		return h, damaged("it has %d bytes, should have %d", len(data), h.size)
	}
	for i := range h.sections {
		b := data[sectionsAt+i*sectionSize:]
		s := section{offset: u64(b), size: u64(b[8:]), digest: [sha256.Size]byte(b[16:sectionSize])}
		if s.offset < headerSize || s.offset > h.size || s.size > h.size-s.offset {
			return h, damaged("section %d is not within it", i)
		}
		h.sections[i] = s
	}
	return h, nil
}
