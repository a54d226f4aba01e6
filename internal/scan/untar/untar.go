// Package untar reads a tar archive as it is pushed in, piece by piece, in the
// way in which container engines read layers: what archive/tar of Go's standard
// library takes, it takes, with the same meaning, because containerd and Docker
// unpack with it. A difference would be a file that runs and is not scanned.
//
// It is pushed to, rather than reading, so that a decompressor can hand over
// its own window: content that nobody wants is then never copied at all.
//
// It is not for paths: names are as the archive has them (see layer).
package untar

import (
	"errors"
	"fmt"
	"io"
)

// Header is one entry of an archive. It is reused: a Sink must not keep it.
type Header struct {
	Name string
	// Link is the target of a symbolic link or a hard link, as written.
	Link string
	Type byte
	// Size is of the content as a reader of the file would see it, holes
	// included; 0 for types that have none.
	Size         int64
	Mode         int64
	UID, GID     int
	Major, Minor int64
	Capability   bool // it has the attribute security.capability
	Opaque       bool // it has overlayfs's mark of a folder that hides what lies below
}

// The types of entries that mean something in a layer. Contiguous is read as
// Regular everywhere today; old sparse files are handed over as Regular.
const (
	Regular    = '0'
	HardLink   = '1'
	Symlink    = '2'
	Char       = '3'
	Block      = '4'
	Folder     = '5'
	FIFO       = '6'
	Contiguous = '7'
)

// The types that only describe the entry after them, and sparse files of old.
const (
	typePAX       = 'x'
	typeGlobal    = 'g'
	typeLongName  = 'L'
	typeLongLink  = 'K'
	typeOldSparse = 'S'
	typeOldFile   = 0 // of tar's seventh edition; with a slash at its end a folder
)

// Sink takes the entries in the order of the archive. An error ends it.
type Sink interface {
	// Entry begins an entry; its content follows.
	Entry(h *Header) error
	// Content is the next piece of the entry's content. b is the caller's.
	Content(b []byte) error
	// Hole stands for n bytes of zeros that the archive does not hold.
	Hole(n int64) error
}

// ErrHeader says that a header is not one, or contradicts itself.
var ErrHeader = errors.New("invalid tar header")

const (
	blockSize = 512
	// maxSpecial bounds what describes one entry: a PAX header, a long name, a
	// sparse map. archive/tar has the same bound, so no engine takes more.
	maxSpecial = 1 << 20
)

type state uint8

const (
	atHeader state = iota
	atZeroBlock
	inContent
	inSpecial   // content of a header that describes the next entry
	inOldSparse // blocks that continue an old sparse map
	inSparseMap // a sparse map at the beginning of the content
	inPadding
	atEnd
)

// Parser reads one archive. The zero value with a Sink is not enough: see New.
type Parser struct {
	sink  Sink
	state state
	err   error
	read  int64 // bytes taken so far, for messages

	block [blockSize]byte // a block that came in pieces
	have  int

	h       Header
	left    int64 // content still to come, without padding
	padding int64
	special byte   // type of the header whose content is gathered
	gather  []byte // that content, or a sparse map
	next    pending
	sparse  *sparseFile
}

// pending is what headers said about the entry that comes after them.
type pending struct {
	pax      *pax
	longName string
	longLink string
}

// New returns a parser that hands the entries to sink.
func New(sink Sink) *Parser { return &Parser{sink: sink} }

// Ended says that the archive's end mark was seen; what comes after it is
// ignored, as all readers do.
func (p *Parser) Ended() bool { return p.state == atEnd }

// Write takes the next piece of the archive. After an error it returns that
// error for ever.
func (p *Parser) Write(b []byte) (int, error) {
	size := len(b)
	for len(b) > 0 && p.err == nil {
		n, err := p.step(b)
		p.read += int64(n)
		b = b[n:]
		if err != nil {
			p.err = fmt.Errorf("tar, at byte %d: %w", p.read, err)
		}
	}
	return size - len(b), p.err
}

// Close says that nothing follows. It returns io.ErrUnexpectedEOF if an entry
// is cut off; an archive without an end mark is whole, as for archive/tar.
func (p *Parser) Close() error {
	if p.err != nil {
		return p.err
	}
	switch p.state {
	case atHeader, atZeroBlock:
		if p.have == 0 {
			return nil
		}
	case inPadding, atEnd:
		return nil
	}
	return fmt.Errorf("tar, at byte %d: %w", p.read, io.ErrUnexpectedEOF)
}

// step takes some bytes of b, at least one.
func (p *Parser) step(b []byte) (int, error) {
	switch p.state {
	case inContent:
		n := int(min(int64(len(b)), p.left))
		p.left -= int64(n)
		err := p.content(b[:n])
		if err == nil && p.left == 0 {
			err = p.endContent()
		}
		return n, err
	case inPadding:
		n := int(min(int64(len(b)), p.padding))
		p.padding -= int64(n)
		if p.padding == 0 {
			p.state = atHeader
		}
		return n, nil
	case inSpecial:
		n := int(min(int64(len(b)), p.left))
		p.left -= int64(n)
		p.gather = append(p.gather, b[:n]...)
		if p.left > 0 {
			return n, nil
		}
		return n, p.endSpecial()
	case atEnd:
		return len(b), nil
	}
	if p.have == 0 && len(b) >= blockSize {
		return blockSize, p.takeBlock((*[blockSize]byte)(b))
	}
	n := copy(p.block[p.have:], b)
	p.have += n
	if p.have < blockSize {
		return n, nil
	}
	p.have = 0
	return n, p.takeBlock(&p.block)
}

func (p *Parser) takeBlock(b *[blockSize]byte) error {
	switch p.state {
	case inOldSparse:
		return p.moreOldSparse(b[:])
	case inSparseMap:
		return p.moreSparseMap(b[:])
	case atZeroBlock:
		if *b != ([blockSize]byte{}) {
			return fmt.Errorf("block of zeros in the middle: %w", ErrHeader)
		}
		p.state = atEnd
		return nil
	}
	if b[0] == 0 && *b == ([blockSize]byte{}) {
		p.state = atZeroBlock
		return nil
	}
	return p.header(b)
}

// begin makes the parser take size bytes of content, then padding, in the
// given state.
func (p *Parser) begin(s state, size int64) {
	p.left, p.padding = size, -size&(blockSize-1)
	p.state = s
}

// afterContent goes on behind an entry's content.
func (p *Parser) afterContent() {
	p.state = atHeader
	if p.padding > 0 {
		p.state = inPadding
	}
}

func (p *Parser) content(b []byte) error {
	if p.sparse != nil {
		return p.sparse.content(p.sink, b)
	}
	return p.sink.Content(b)
}

func (p *Parser) endContent() error {
	p.afterContent()
	if p.sparse == nil {
		return nil
	}
	s := p.sparse
	p.sparse = nil
	return s.end(p.sink)
}

// endSpecial keeps what the gathered content says about the next entry.
func (p *Parser) endSpecial() error {
	b := p.gather
	p.gather = p.gather[:0]
	p.afterContent()
	switch p.special {
	case typeLongName:
		p.next.longName = cString(b)
	case typeLongLink:
		p.next.longLink = cString(b)
	default:
		x, err := parsePAX(string(b))
		if err != nil {
			return err
		}
		if p.special == typePAX {
			p.next.pax = x
			return nil
		}
		// A global header counts for nothing with any engine, but it ends what
		// was said before it.
		p.next = pending{}
	}
	return nil
}
