package executable

import "encoding/binary"

// What is needed of the PE format.
const (
	peSectionSize       = 40
	peRuns, peWritable  = 0x20000000, 0x80000000
	peOptional64        = 0x20b
	auditSection        = ".dep-v0"
	peMaxHeaderDistance = 1 << 12 // the stub for DOS before it is of 64 to 300 bytes
)

// isPE tells PE programs from other files that begin with MZ.
func isPE(head []byte) bool {
	n := number{head, binary.LittleEndian}
	at := n.u32(0x3c)
	return at >= 0x40 && at < peMaxHeaderDistance && (at+4 > uint64(len(head)) || n.u32(at) == 'P'|'E'<<8)
}

// readPE reads the headers and the table of sections.
func readPE(head []byte) *layout {
	n := number{head, binary.LittleEndian}
	at := n.u32(0x3c)
	if n.u32(at) != 'P'|'E'<<8 {
		return nil
	}
	l := &layout{}
	count, optional := n.u16(at+6), at+24
	base := n.u32(optional + 28)
	if n.u16(optional) == peOptional64 {
		base = n.u64(optional + 24)
	}
	table := optional + n.u16(at+20)
	for i := range min(count, maxRegions) {
		s := table + i*peSectionSize
		flags := n.u32(s + 36)
		size, addr, offset := n.u32(s+16), n.u32(s+12), n.u32(s+20)
		before := len(l.regions)
		l.add(offset, size, base+addr, region{writable: flags&peWritable != 0, runs: flags&peRuns != 0})
		if n.text(s, 8) == auditSection && len(l.regions) > before {
			g := l.regions[before]
			g.size = min(g.size, int64(n.u32(s+8))) // without what fills the last block
			l.audit = &g
		}
	}
	l.sort()
	return l
}
