// Package xz reads files in the format of xz (specification 1.2.0) as they pass,
// in bounded memory: what Canonical publishes comes in no other form.
//
//	r, err := xz.NewReader(file)
//	if err != nil {
//		return err
//	}
//	_, err = io.Copy(to, r)
//
// The memory that a file asks for stands in it, and can be 4 GiB: one that asks for
// more than MaxDictionary is refused before anything is taken. All checksums are
// verified. It is not for writing, and knows only the filter that xz uses unless it
// is told otherwise (LZMA2), not those for programs.
package xz

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// MaxDictionary is the largest dictionary that is taken: that of xz -9, twice what
// publishers use. Unpacking takes that and 18 MiB.
const MaxDictionary = 64 << 20

// Errors that a caller may tell apart.
var (
	// ErrFormat says that a file is not in the format of xz, or damaged.
	ErrFormat = errors.New("the xz file is damaged")
	// ErrMemory says that a file asks for more memory than is given.
	ErrMemory = fmt.Errorf("the xz file wants a dictionary of more than %d bytes", MaxDictionary)
)

func damaged(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrFormat, fmt.Errorf(format, args...))
}

var (
	magic       = []byte{0xfd, '7', 'z', 'X', 'Z', 0}
	footerMagic = []byte("YZ")
)

// Reader unpacks one file, of one stream or several.
type Reader struct {
	in    *counter
	err   error
	flags [2]byte // of the stream
	block block
	open  bool // within a block

	// blocks sums up the sizes of the blocks that came by, as the index lists
	// them again at the end of the stream.
	blocks sizes
	chunks chunks
}

// NewReader returns a Reader of r, of which the beginning has been read.
func NewReader(r io.Reader) (*Reader, error) {
	x := &Reader{in: &counter{r: bufio.NewReaderSize(r, bufferSize)}}
	x.chunks.in = x.in
	if err := x.header(); err != nil {
		return nil, err
	}
	return x, nil
}

// bufferSize is how much of a file is read at once: a whole chunk.
const bufferSize = 64 << 10

// Read unpacks into p.
func (x *Reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for {
		if n := x.chunks.take(p); n > 0 {
			return n, nil
		}
		if x.err != nil {
			return 0, x.err
		}
		x.err = x.next()
	}
}

// next unpacks the next chunk, and whatever stands before it.
func (x *Reader) next() error {
	if !x.open {
		more, err := x.begin()
		if err != nil {
			return early(err)
		}
		if !more {
			return x.another()
		}
	}
	text, err := x.chunks.next()
	if err != nil {
		return early(err)
	}
	if text == nil {
		x.open = false
		return early(x.end())
	}
	x.block.unpacked += int64(len(text))
	_, _ = x.block.check.Write(text)
	return nil
}

// early makes the end of the file within something an error.
func early(err error) error {
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: %w", ErrFormat, io.ErrUnexpectedEOF)
	}
	return err
}

// header reads the header of a stream.
func (x *Reader) header() error {
	var b [12]byte
	if err := x.in.full(b[:]); err != nil {
		return early(err)
	}
	if !bytes.Equal(b[:6], magic) {
		return damaged("it begins with %q", b[:6])
	}
	if crc32.ChecksumIEEE(b[6:8]) != binary.LittleEndian.Uint32(b[8:]) {
		return damaged("the checksum of its header is another")
	}
	x.flags = [2]byte(b[6:8])
	if x.flags[0] != 0 || newCheck(x.flags[1]) == nil {
		return fmt.Errorf("the xz file has checksums of kind %x, which this version does not know", x.flags)
	}
	x.blocks = sizes{}
	return nil
}

// another goes on to the next stream, or to the end of the file.
func (x *Reader) another() error {
	for {
		b, err := x.in.peek(4)
		switch {
		case len(b) == 0 && errors.Is(err, io.EOF):
			return io.EOF
		case err != nil:
			return early(err)
		case !bytes.Equal(b, make([]byte, 4)): // padding between streams
			return x.header()
		}
		if err := x.in.skip(4); err != nil {
			return err
		}
	}
}

// counter counts what is read.
type counter struct {
	r *bufio.Reader
	n int64
}

func (c *counter) byte() (byte, error) {
	b, err := c.r.ReadByte()
	if err == nil {
		c.n++
	}
	return b, err
}

func (c *counter) full(b []byte) error {
	n, err := io.ReadFull(c.r, b)
	c.n += int64(n)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return io.EOF
	}
	return err
}

func (c *counter) peek(n int) ([]byte, error) { return c.r.Peek(n) }

func (c *counter) skip(n int) error {
	k, err := c.r.Discard(n)
	c.n += int64(k)
	return err
}
