package zipstream

import (
	"bytes"
	"encoding/binary"
	"hash/maphash"
	"io"
)

// An entry whose header doesn't say its sizes is followed by a descriptor
// (section 4.3.9): a signature, which may be missing, a checksum, and the two
// sizes of 4 bytes each, or of 8 in large archives. After it comes the
// signature of the next header. Which of the four forms it has shows in where
// that is.
const (
	longest = 24 // bytes of the longest form
	ahead   = longest + 4
)

// endsAt says whether b[i:] is a descriptor of content of so many bytes as
// have passed up to there; size is that of the descriptor. Chance data of the
// right form would need 64 bits to fit.
func endsAt(b []byte, i int, passed int64) (size int, ok bool) {
	le := binary.LittleEndian
	for _, form := range [...]struct{ signed, wide int }{{4, 4}, {4, 8}, {0, 4}, {0, 8}} {
		size = form.signed + 4 + 2*form.wide
		if i+size+4 > len(b) {
			continue
		}
		if form.signed > 0 && le.Uint32(b[i:]) != sigDescriptor {
			continue
		}
		at := i + form.signed + 4
		compressed := uint64(le.Uint32(b[at:]))
		if form.wide == 8 {
			compressed = le.Uint64(b[at:])
		}
		next := le.Uint32(b[i+size:])
		if compressed == uint64(passed) && (next == sigLocal || next == sigCentral) {
			return size, true
		}
	}
	return 0, false
}

// piecewise hands out content up to the descriptor that ends it.
type piecewise struct {
	z      *Reader
	passed int64
	// sure is how many of the bytes that are held are content, as far as was
	// searched; descriptor the size of what follows them, 0 while it is unknown.
	sure, descriptor int
	done             bool
}

// search looks through what is held for the descriptor, and reads on only when
// that is used up: reading on moves all that is held.
func (p *piecewise) search() error {
	held, err := p.z.r.Peek(p.z.r.Buffered())
	if err != nil {
		return err
	}
	if p.find(held) {
		return nil
	}
	if len(held) <= ahead {
		if held, err = p.z.r.Peek(bufferSize); err != nil && err != io.EOF {
			return err
		}
		if p.find(held) {
			return nil
		}
		if err == io.EOF {
			return io.ErrUnexpectedEOF
		}
	}
	p.sure = len(held) - ahead
	return nil
}

// find searches for a descriptor that follows content.
func (p *piecewise) find(held []byte) bool {
	for from := 0; ; from += 2 {
		i := bytes.Index(held[from:], []byte("PK"))
		if i < 0 {
			return false
		}
		from += i
		if from+4 > len(held) {
			return false
		}
		// A descriptor begins here, or one without a signature ends here.
		var back []int
		switch binary.LittleEndian.Uint32(held[from:]) {
		case sigDescriptor:
			back = []int{0}
		case sigLocal, sigCentral:
			back = []int{12, 20}
		}
		for _, n := range back {
			at := from - n
			if at < 0 {
				continue
			}
			if size, ok := endsAt(held, at, p.passed+int64(at)); ok {
				p.sure, p.descriptor = at, size
				return true
			}
		}
	}
}

// more makes sure that something is known. The error is io.EOF at the end of
// the content, whose descriptor is skipped then.
func (p *piecewise) more() error {
	if p.sure > 0 {
		return nil
	}
	if !p.done && p.descriptor == 0 {
		if err := p.search(); err != nil {
			return err
		}
	}
	if p.sure > 0 {
		return nil
	}
	if !p.done {
		p.z.discard(p.descriptor)
		p.done, p.z.body = true, none
	}
	return io.EOF
}

// Read implements io.Reader.
func (p *piecewise) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	if err := p.more(); err != nil {
		return 0, err
	}
	n, err := p.z.r.Read(b[:min(len(b), p.sure)])
	p.passed += int64(n)
	p.sure -= n
	return n, err
}

// skip passes over the content and its descriptor.
func (p *piecewise) skip() error {
	for {
		if err := p.more(); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		p.z.discard(p.sure)
		p.passed += int64(p.sure)
		p.sure = 0
	}
}

// descriptor skips the descriptor behind content that told its own end.
func (z *Reader) descriptor() error {
	b, err := z.r.Peek(ahead)
	if err != nil && err != io.EOF {
		return err
	}
	for _, size := range [...]int{16, 24, 12, 20} {
		if len(b) < size+4 {
			continue
		}
		if next := binary.LittleEndian.Uint32(b[size:]); next == sigLocal || next == sigCentral {
			z.discard(size)
			return nil
		}
	}
	return nil // Next searches
}

const centralSize = 46

// directory compares the directory (section 4.3.12) with the entries that were
// read. It returns io.EOF if they agree.
func (z *Reader) directory() error {
	var names uint64
	var name []byte
	for count := 0; ; count++ {
		b, err := z.r.Peek(4)
		if err != nil {
			return early(err)
		}
		if binary.LittleEndian.Uint32(b) != sigCentral {
			if count != z.count || names != z.names {
				return ErrDirectory
			}
			return io.EOF
		}
		if count >= z.count {
			return ErrDirectory
		}
		if b, err = z.r.Peek(centralSize); err != nil {
			return early(err)
		}
		le := binary.LittleEndian
		length, rest := int(le.Uint16(b[28:])), int(le.Uint16(b[30:]))+int(le.Uint16(b[32:]))
		z.discard(centralSize)
		if name, err = z.take(name, length); err != nil {
			return err
		}
		names += maphash.Bytes(z.seed, name)
		if _, err := z.r.Discard(rest); err != nil {
			return early(err)
		}
	}
}
