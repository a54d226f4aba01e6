package executable

import "encoding/binary"

// What is needed of the Mach-O format.
const (
	machoSegment32, machoSegment64 = 0x1, 0x19
	machoWritable, machoRuns       = 2, 4
	machoMaxCommands               = 1024 // a few dozen are usual
)

// isFat tells universal programs from Java classes, which begin with the same
// four bytes: these go on with a version of at least 45, those with how many
// programs they hold.
func isFat(head []byte) bool {
	n := binary.BigEndian.Uint32(head[4:])
	return n > 0 && n < 45
}

// fatOffset is where the first program of a universal file begins.
func fatOffset(head []byte) int64 { return int64(binary.BigEndian.Uint32(head[16:])) }

// readMachO reads the header and the load commands.
func readMachO(head []byte) *layout {
	n := number{head, binary.LittleEndian}
	size := uint64(28)
	switch binary.BigEndian.Uint32(head) {
	case magicMachO32:
		n.order = binary.BigEndian
	case magicMachO64:
		n.order, size = binary.BigEndian, 32
	case magicMachO64Swapped:
		size = 32
	case magicMachO32Swapped:
	default:
		return nil
	}
	l := &layout{codeHoldsText: true}
	at := size
	for range min(n.u32(16), machoMaxCommands) {
		switch n.u32(at) {
		case machoSegment32:
			l.machoSegment(n, at, false)
		case machoSegment64:
			l.machoSegment(n, at, true)
		}
		length := n.u32(at + 4)
		if length < 8 {
			break
		}
		at += length
	}
	l.sort()
	return l
}

// machoSegment reads one segment and looks through its sections.
func (l *layout) machoSegment(n number, at uint64, wide bool) {
	name := n.text(at+8, 16)
	addr, offset, size, protection, count := n.u32(at+24), n.u32(at+32), n.u32(at+36), n.u32(at+44), n.u32(at+48)
	section, width := at+56, uint64(68)
	if wide {
		addr, offset, size, protection, count = n.u64(at+24), n.u64(at+40), n.u64(at+48), n.u32(at+60), n.u32(at+64)
		section, width = at+72, 80
	}
	if name == "__PAGEZERO" || name == "__LINKEDIT" {
		return
	}
	l.add(offset, size, addr, region{writable: protection&machoWritable != 0, runs: protection&machoRuns != 0})
	for i := range min(count, maxRegions) {
		s := section + i*width
		if n.text(s, 16) != auditSection {
			continue
		}
		size, offset := n.u32(s+36), n.u32(s+40)
		if wide {
			size, offset = n.u64(s+40), n.u32(s+48)
		}
		if size > 0 && size < maxWindow {
			l.audit = &region{offset: int64(offset), size: int64(size)}
		}
	}
}
