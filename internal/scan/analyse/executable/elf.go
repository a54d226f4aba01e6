package executable

import "encoding/binary"

// What is needed of the ELF format (System V ABI, chapters 4 and 5).
const (
	ptLoad, ptNote = 1, 4
	pfX, pfW       = 1, 2
	noteGoBuildID  = 4
)

// readELF reads the header and the program headers.
func readELF(head []byte) *layout {
	l := &layout{elf: true}
	n := number{b: head}
	switch head[5] {
	case 1:
		n.order = binary.LittleEndian
	case 2:
		n.order = binary.BigEndian
	default:
		return nil
	}
	s := &l.sections
	s.order = n.order
	var phoff, width, count uint64
	switch head[4] {
	case 1:
		phoff, width, count = n.u32(0x1c), n.u16(0x2a), n.u16(0x2c)
		s.offset, s.width, s.count = int64(n.u32(0x20)), int(n.u16(0x2e)), int(n.u16(0x30))
	case 2:
		s.wide = true
		phoff, width, count = n.u64(0x20), n.u16(0x36), n.u16(0x38)
		s.offset, s.width, s.count = int64(n.u64(0x28)), int(n.u16(0x3a)), int(n.u16(0x3c))
	default:
		return nil
	}
	if phoff > headerSize || s.offset < 0 {
		return nil
	}
	for i := range min(count, maxRegions) {
		l.segment(n, phoff+i*width)
	}
	l.sort()
	l.addTail()
	l.newGo = l.goNote && l.inlineOnly(head)
	return l
}

// inlineOnly says whether the section headers, which Go's own linker puts at the
// beginning of the file, have none that is as long as build information with
// pointers, which spares keeping strings for it.
func (l *layout) inlineOnly(head []byte) bool {
	s := &l.sections
	if s.count == 0 || s.offset+int64(s.count*s.width) > int64(len(head)) {
		return false // they are at the end
	}
	n := number{head, s.order}
	for i := range s.count {
		at := uint64(s.offset) + uint64(i*s.width)
		size := n.u32(at + 0x14)
		if s.wide {
			size = n.u64(at + 0x20)
		}
		if size == buildHeader {
			return false
		}
	}
	return true
}

// segment reads one program header.
func (l *layout) segment(n number, at uint64) {
	kind, flags := n.u32(at), n.u32(at+24)
	offset, addr, size := n.u32(at+4), n.u32(at+8), n.u32(at+16)
	if l.sections.wide {
		flags = n.u32(at + 4)
		offset, addr, size = n.u64(at+8), n.u64(at+16), n.u64(at+32)
	}
	switch kind {
	case ptLoad:
		l.add(offset, size, addr, region{writable: flags&pfW != 0, runs: flags&pfX != 0})
	case ptNote:
		l.notes(n, offset, min(size, headerSize))
	}
}

// notes looks through a segment of notes for that of Go's linker.
func (l *layout) notes(n number, at, size uint64) {
	for end := at + size; at < end && n.has(at, 12); {
		name, text := n.u32(at), n.u32(at+4)
		if n.u32(at+8) == noteGoBuildID && n.text(at+12, name) == "Go" {
			l.goNote = true
		}
		at += 12 + (name+3)/4*4 + (text+3)/4*4
	}
}

// addTail adds what lies between the last segment and the section headers:
// sections that are not mapped, of which cargo's list is one.
func (l *layout) addTail() {
	end := int64(0)
	for _, g := range l.regions {
		end = max(end, g.offset+g.size)
	}
	if s := &l.sections; s.offset > end && s.count > 0 {
		l.add(uint64(end), uint64(s.offset-end), 0, region{unmapped: true})
	}
}

// sectionAt says whether one of the section headers in b begins at offset.
func (l *layout) sectionAt(b []byte, offset int64) bool {
	n := number{b, l.sections.order}
	for i := range l.sections.count {
		at := uint64(i * l.sections.width)
		if l.sections.wide && n.u64(at+0x18) == uint64(offset) || !l.sections.wide && n.u32(at+0x10) == uint64(offset) {
			return true
		}
	}
	return false
}
