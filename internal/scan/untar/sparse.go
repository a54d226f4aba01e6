package untar

import (
	"bytes"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// span is a stretch of a sparse file that the archive holds; between spans are
// holes, which are never made.
type span struct{ offset, length int64 }

// sparseFile places the content of an archive in the file it makes.
type sparseFile struct {
	spans []span
	size  int64
	pos   int64
	// need is how many newlines a sparse map at the beginning of the content
	// must have before it can be read; lines is how many there are.
	need, lines int64
	blocks      int // of an old sparse map
}

// beginSparse looks whether the entry is a sparse file, in one of the four ways
// in which that is written. If so it has been taken care of.
func (p *Parser) beginSparse(b *[blockSize]byte, f format) (handled bool, err error) {
	if p.h.Type == typeOldSparse {
		return true, p.beginOldSparse(b, f)
	}
	x := p.next.pax
	if x == nil {
		return false, nil
	}
	inFront := false // the map is in front of the content
	switch {
	case x.sparseMajor == "0" && (x.sparseMinor == "0" || x.sparseMinor == "1"):
	case x.sparseMajor == "1" && x.sparseMinor == "0":
		inFront = true
	case x.sparseMajor != "" || x.sparseMinor != "", x.sparseMap == "":
		return false, nil
	}
	if x.sparseName != "" {
		p.h.Name = x.sparseName
	}
	p.sparse = &sparseFile{size: p.h.Size}
	if size := cmpOr(x.sparseSize, x.sparseRealSize); size != "" {
		if p.sparse.size, err = strconv.ParseInt(size, 10, 64); err != nil {
			return true, fmt.Errorf("sparse size %.24q: %w", size, ErrHeader)
		}
	}
	if inFront {
		p.sparse.need = 1
		p.state, p.gather = inSparseMap, p.gather[:0]
		return true, p.wantMapBlock()
	}
	if err := p.sparse.parseText(x); err != nil {
		return true, err
	}
	return true, p.emitSparse()
}

func cmpOr(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// emitSparse checks the map against the content and hands the entry over.
func (p *Parser) emitSparse() error {
	s := p.sparse
	if headerOnly(p.h.Type) {
		return fmt.Errorf("sparse file of type %q: %w", p.h.Type, ErrHeader)
	}
	held, err := s.check()
	if err != nil {
		return err
	}
	if held != p.left {
		return fmt.Errorf("sparse map of %d bytes for %d: %w", held, p.left, ErrHeader)
	}
	if p.h.Type == typeOldSparse {
		p.h.Type = Regular
	}
	p.h.Size = s.size
	return p.emit()
}

// check wants spans in order, within the file, and returns what they add up to.
func (s *sparseFile) check() (held int64, err error) {
	var end int64
	for _, sp := range s.spans {
		if sp.offset < end || sp.length < 0 || sp.offset > math.MaxInt64-sp.length || sp.offset+sp.length > s.size {
			return 0, fmt.Errorf("sparse map out of order: %w", ErrHeader)
		}
		end = sp.offset + sp.length
		held += sp.length
	}
	if s.size < 0 {
		return 0, fmt.Errorf("sparse file of %d bytes: %w", s.size, ErrHeader)
	}
	return held, nil
}

func (s *sparseFile) content(sink Sink, b []byte) error {
	for len(b) > 0 {
		if err := s.holeBefore(sink); err != nil {
			return err
		}
		sp := &s.spans[0]
		n := min(int64(len(b)), sp.length)
		if err := sink.Content(b[:n]); err != nil {
			return err
		}
		b = b[n:]
		sp.offset, sp.length = sp.offset+n, sp.length-n
		s.pos += n
	}
	return nil
}

// holeBefore hands over the hole before the next span that has something.
func (s *sparseFile) holeBefore(sink Sink) error {
	for s.spans[0].length == 0 {
		s.spans = s.spans[1:]
	}
	hole := s.spans[0].offset - s.pos
	s.pos = s.spans[0].offset
	if hole == 0 {
		return nil
	}
	return sink.Hole(hole)
}

func (s *sparseFile) end(sink Sink) error {
	if s.pos == s.size {
		return nil
	}
	return sink.Hole(s.size - s.pos)
}

// beginOldSparse reads the map of a header of type S: four spans, then blocks
// of 21 as long as one says that another follows.
func (p *Parser) beginOldSparse(b *[blockSize]byte, f format) error {
	if f != formatGNU {
		return fmt.Errorf("sparse file that is not GNU's: %w", ErrHeader)
	}
	n := numbers{}
	p.sparse = &sparseFile{size: n.parse(b[483:495])}
	if n.err != nil {
		return n.err
	}
	p.gather = p.gather[:0]
	return p.oldSpans(b[386 : 386+4*24+1])
}

func (p *Parser) moreOldSparse(b []byte) error { return p.oldSpans(b[:21*24+1]) }

// oldSpans reads pairs of numbers; the byte behind them says whether more
// follow.
func (p *Parser) oldSpans(b []byte) error {
	const pair = 24
	n := numbers{}
	for e := b; len(e) > pair && e[0] != 0; e = e[pair:] {
		p.sparse.spans = append(p.sparse.spans, span{n.parse(e[:12]), n.parse(e[12:24])})
		if n.err != nil {
			return n.err
		}
	}
	if b[len(b)-1] == 0 {
		return p.emitSparse()
	}
	p.sparse.blocks++
	if p.sparse.blocks > maxSpecial/blockSize {
		return fmt.Errorf("sparse map of more than %d bytes: %w", maxSpecial, ErrHeader)
	}
	p.state = inOldSparse
	return nil
}

// parseText reads the map of versions 0.0 and 0.1, which is in the header.
func (s *sparseFile) parseText(x *pax) error {
	count, err := strconv.ParseInt(x.sparseBlocks, 10, 0)
	var numbers []string
	if x.sparseMap != "" {
		numbers = strings.Split(x.sparseMap, ",")
	}
	if err != nil || count < 0 || int64(len(numbers)) != 2*count {
		return fmt.Errorf("sparse map of %.24q spans: %w", x.sparseBlocks, ErrHeader)
	}
	return s.add(numbers)
}

func (s *sparseFile) add(numbers []string) error {
	s.spans = make([]span, 0, len(numbers)/2)
	for ; len(numbers) > 0; numbers = numbers[2:] {
		offset, err1 := strconv.ParseInt(numbers[0], 10, 64)
		length, err2 := strconv.ParseInt(numbers[1], 10, 64)
		if err1 != nil || err2 != nil {
			return fmt.Errorf("sparse map: %w", ErrHeader)
		}
		s.spans = append(s.spans, span{offset, length})
	}
	return nil
}

// wantMapBlock says whether the content still has a block for the map.
func (p *Parser) wantMapBlock() error {
	if p.left < blockSize || len(p.gather) >= maxSpecial {
		return fmt.Errorf("sparse map does not end: %w", ErrHeader)
	}
	return nil
}

// moreSparseMap takes a block of the map of version 1.0: a number of spans and
// then the spans, one number a line, padded to a block.
func (p *Parser) moreSparseMap(b []byte) error {
	s := p.sparse
	p.left -= blockSize
	p.gather = append(p.gather, b...)
	s.lines += int64(bytes.Count(b, []byte{'\n'}))
	if s.need == 1 && s.lines >= 1 {
		line, _, _ := strings.Cut(string(p.gather), "\n")
		count, err := strconv.ParseInt(line, 10, 0)
		if err != nil || count < 0 || count > maxSpecial {
			return fmt.Errorf("sparse map of %.24q spans: %w", line, ErrHeader)
		}
		s.need = 1 + 2*count
	}
	if s.lines < s.need {
		return p.wantMapBlock()
	}
	lines := strings.SplitN(string(p.gather), "\n", int(s.need)+1)
	p.gather = p.gather[:0]
	if err := s.add(lines[1:s.need]); err != nil {
		return err
	}
	return p.emitSparse()
}
