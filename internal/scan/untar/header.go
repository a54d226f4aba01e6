package untar

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
)

// format is how the fields behind the link name are to be read.
type format uint8

const (
	formatV7 format = iota
	formatUSTAR
	formatSTAR
	formatGNU
)

// header reads a header block and begins what follows it.
func (p *Parser) header(b *[blockSize]byte) error {
	if !checksumFits(b) {
		return fmt.Errorf("wrong checksum: %w", ErrHeader)
	}
	f := formatOf(b)
	if err := p.fields(b, f); err != nil {
		return err
	}
	switch p.h.Type {
	case typePAX, typeGlobal, typeLongName, typeLongLink:
		return p.beginSpecial()
	}
	if err := p.merge(); err != nil {
		return err
	}
	size := p.h.Size
	if headerOnly(p.h.Type) {
		size = 0
	}
	if size < 0 {
		return fmt.Errorf("size %d: %w", size, ErrHeader)
	}
	p.begin(inContent, size)
	if handled, err := p.beginSparse(b, f); handled || err != nil {
		return err
	}
	p.h.Size = size
	return p.emit()
}

// emit hands the entry over and goes on to its content.
func (p *Parser) emit() error {
	p.next = pending{}
	if err := p.sink.Entry(&p.h); err != nil {
		return err
	}
	p.state = inContent
	if p.left == 0 {
		return p.endContent()
	}
	return nil
}

func (p *Parser) beginSpecial() error {
	if p.h.Size < 0 || p.h.Size > maxSpecial {
		return fmt.Errorf("%d bytes describe one entry, at most %d are read: %w", p.h.Size, maxSpecial, ErrHeader)
	}
	p.special = p.h.Type
	p.begin(inSpecial, p.h.Size)
	if p.left == 0 {
		return p.endSpecial()
	}
	return nil
}

// merge brings what earlier headers said into the entry.
func (p *Parser) merge() error {
	if x := p.next.pax; x != nil {
		if err := x.merge(&p.h); err != nil {
			return err
		}
	}
	if p.next.longName != "" {
		p.h.Name = p.next.longName
	}
	if p.next.longLink != "" {
		p.h.Link = p.next.longLink
	}
	if p.h.Type == typeOldFile {
		p.h.Type = Regular
		if strings.HasSuffix(p.h.Name, "/") {
			p.h.Type = Folder
		}
	}
	return nil
}

func headerOnly(t byte) bool { return t >= HardLink && t <= FIFO }

// fields reads a header's own fields. Times are read for their errors alone: an
// archive that archive/tar refuses is refused.
func (p *Parser) fields(b *[blockSize]byte, f format) error {
	n := numbers{}
	p.h = Header{
		Type: b[156],
		Name: cString(b[:100]),
		Link: cString(b[157:257]),
		Mode: n.parse(b[100:108]),
		UID:  int(n.parse(b[108:116])),
		GID:  int(n.parse(b[116:124])),
		Size: n.parse(b[124:136]),
	}
	n.parse(b[136:148])
	if f == formatV7 {
		return n.err
	}
	p.h.Major, p.h.Minor = n.parse(b[329:337]), n.parse(b[337:345])
	prefix := ""
	switch f {
	case formatUSTAR:
		prefix = cString(b[345:500])
	case formatSTAR:
		prefix = cString(b[345:476])
		n.parse(b[476:488])
		n.parse(b[488:500])
	case formatGNU:
		prefix = gnuPrefix(b)
	}
	if prefix != "" {
		p.h.Name = prefix + "/" + p.h.Name
	}
	return n.err
}

// gnuPrefix returns what stands in place of the two times if they are none: a
// writer of long ago put a prefix there, and archive/tar still reads it.
func gnuPrefix(b *[blockSize]byte) string {
	times := numbers{}
	for _, field := range [...][]byte{b[345:357], b[357:369]} {
		if field[0] != 0 {
			times.parse(field)
		}
	}
	if times.err == nil {
		return ""
	}
	s := cString(b[345:500])
	for i := range len(s) {
		if s[i] >= 0x80 {
			return ""
		}
	}
	return s
}

func formatOf(b *[blockSize]byte) format {
	switch {
	case string(b[257:263]) == "ustar\x00" && string(b[508:512]) == "tar\x00":
		return formatSTAR
	case string(b[257:263]) == "ustar\x00":
		return formatUSTAR
	case string(b[257:265]) == "ustar  \x00":
		return formatGNU
	}
	return formatV7
}

// checksumFits takes the sum of unsigned bytes, which the standard wants, and
// of signed ones, which some wrote.
func checksumFits(b *[blockSize]byte) bool {
	n := numbers{}
	want := n.octal(b[148:156])
	if n.err != nil {
		return false
	}
	const blanks = 8 * ' ' // the field itself counts as blanks
	sum := sumBytes(b[:])
	for _, c := range b[148:156] {
		sum -= int64(c)
	}
	if sum+blanks == want {
		return true
	}
	signed := int64(blanks)
	for i, c := range b {
		if i < 148 || i >= 156 {
			signed += int64(int8(c))
		}
	}
	return signed == want
}

// sumBytes adds eight bytes at a time, in four lanes of 16 bits, which 64
// additions of two bytes cannot fill.
func sumBytes(b []byte) int64 {
	const even = 0x00ff00ff00ff00ff
	var lanes uint64
	for ; len(b) >= 8; b = b[8:] {
		x := binary.LittleEndian.Uint64(b)
		lanes += x&even + x>>8&even
	}
	return int64(lanes&0xffff + lanes>>16&0xffff + lanes>>32&0xffff + lanes>>48)
}

func cString(b []byte) string {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return string(b)
}

// numbers reads numeric fields and keeps the last error.
type numbers struct{ err error }

// parse reads a field that is octal, or, with its highest bit set, a two's
// complement number in base 256.
func (n *numbers) parse(b []byte) int64 {
	if b[0]&0x80 == 0 {
		return n.octal(b)
	}
	var flip byte
	if b[0]&0x40 != 0 {
		flip = 0xff
	}
	var x uint64
	for i, c := range b {
		c ^= flip
		if i == 0 {
			c &= 0x7f
		}
		if x>>56 > 0 {
			return n.fail(b)
		}
		x = x<<8 | uint64(c)
	}
	if x>>63 > 0 {
		return n.fail(b)
	}
	if flip != 0 {
		return ^int64(x)
	}
	return int64(x)
}

func (n *numbers) octal(b []byte) int64 {
	for len(b) > 0 && (b[0] == ' ' || b[0] == 0) {
		b = b[1:]
	}
	var x uint64
	for i, c := range b {
		if c == ' ' || c == 0 {
			return n.rest(b, i, x)
		}
		if c < '0' || c > '7' || x>>61 > 0 {
			return n.fail(b)
		}
		x = x<<3 | uint64(c-'0')
	}
	return int64(x)
}

// rest decides on what follows a number: padding, or, after a zero byte,
// anything; a blank followed by something is an error.
func (n *numbers) rest(b []byte, i int, x uint64) int64 {
	tail := bytes.TrimRight(b[i:], " \x00")
	if len(tail) > 0 && tail[0] != 0 {
		return n.fail(b)
	}
	return int64(x)
}

func (n *numbers) fail(b []byte) int64 {
	n.err = fmt.Errorf("number %q: %w", b, ErrHeader)
	return 0
}
