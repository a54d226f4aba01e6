package executable

import (
	"cmp"
	"encoding/binary"
	"slices"
)

// maxRegions bounds segments and sections; linkers make at most a few dozen.
const maxRegions = 256

// region is a run of bytes of the file and where it is mapped.
type region struct {
	offset, size int64
	addr         uint64
	writable     bool
	runs         bool // it holds code
	unmapped     bool // it is only in the file
}

// at returns the offset of an address in the region.
func (g *region) at(addr uint64) (int64, bool) {
	if g.unmapped || addr < g.addr || addr-g.addr >= uint64(g.size) {
		return 0, false
	}
	return g.offset + int64(addr-g.addr), true
}

// layout is what the headers of a file say.
type layout struct {
	regions []region // by offset
	goNote  bool     // it has a note that Go's linker writes
	// newGo says that the sections rule out that it is Go's of before 1.18.
	newGo bool
	elf   bool
	// codeHoldsText says that strings lie in the region of the code, as in
	// Mach-O files.
	codeHoldsText bool
	// sections is the table of section headers in an ELF file.
	sections struct {
		offset       int64
		count, width int
		wide         bool // of 64 bits
		order        binary.ByteOrder
	}
	// audit is where a PE or Mach-O file has cargo's list; ELF files say so only
	// at their end.
	audit *region
}

// add takes a region of the file; what cannot be is left out.
func (l *layout) add(offset, size, addr uint64, g region) {
	const maxFile = 1 << 46
	if size == 0 || offset > maxFile || size > maxFile || len(l.regions) >= maxRegions {
		return
	}
	g.offset, g.size, g.addr = int64(offset), int64(size), addr
	l.regions = append(l.regions, g)
}

func (l *layout) sort() {
	slices.SortFunc(l.regions, func(a, b region) int { return cmp.Compare(a.offset, b.offset) })
}

// at returns where in the file an address is.
func (l *layout) at(addr uint64) (int64, bool) {
	for i := range l.regions {
		if off, ok := l.regions[i].at(addr); ok {
			return off, true
		}
	}
	return 0, false
}

// number reads unsigned numbers at offsets of a header, 0 where it has ended.
type number struct {
	b     []byte
	order binary.ByteOrder
}

func (n number) u16(at uint64) uint64 {
	if !n.has(at, 2) {
		return 0
	}
	return uint64(n.order.Uint16(n.b[at:]))
}

func (n number) u32(at uint64) uint64 {
	if !n.has(at, 4) {
		return 0
	}
	return uint64(n.order.Uint32(n.b[at:]))
}

func (n number) u64(at uint64) uint64 {
	if !n.has(at, 8) {
		return 0
	}
	return n.order.Uint64(n.b[at:])
}

func (n number) has(at, size uint64) bool {
	return at <= uint64(len(n.b)) && uint64(len(n.b))-at >= size
}

// text returns what stands in a field of fixed size, without zeros at its end.
func (n number) text(at, size uint64) string {
	if !n.has(at, size) {
		return ""
	}
	b := n.b[at : at+size]
	if i := slices.Index(b, 0); i >= 0 {
		b = b[:i]
	}
	return string(b)
}
