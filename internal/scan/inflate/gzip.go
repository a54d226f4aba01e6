package inflate

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// maxGzipText bounds a name or comment in a header, which nobody here reads:
// gzip(1) itself writes file names alone.
const maxGzipText = 64 << 10

// Flags of a header (RFC 1952, 2.3.1).
const (
	flagHeaderCRC = 1 << 1
	flagExtra     = 1 << 2
	flagName      = 1 << 3
	flagComment   = 1 << 4
	flagsReserved = 0xe0
)

var (
	errNoGzip   = errors.New("not a gzip stream")
	errHalf     = errors.New("gzip header is cut off")
	errChecksum = errors.New("gzip checksum does not fit: the data is damaged")
	errSize     = errors.New("gzip size does not fit: the data is damaged")
)

// ErrTrailing says that all members were whole, and that what follows them is
// neither another one nor zeros: no header of one, or no whole one, behind which
// nothing can be.
var ErrTrailing = errors.New("bytes behind the gzip stream are none of it")

// Gzip decompresses a gzip stream of one member or of several, one behind the
// other, and checks their checksums and sizes. Behind the last member only zeros
// may follow, as some writers pad with; for anything else it returns ErrTrailing.
// Not for concurrent use.
type Gzip struct {
	r    *Reader
	sum  uint32
	size uint32
	err  error
}

// NewGzip returns a reader of src, after its first header has been read. Its
// error is that of src, or that this is no gzip stream.
func NewGzip(src io.Reader) (*Gzip, error) {
	g := &Gzip{r: &Reader{}}
	return g, g.Reset(src)
}

// Reset makes the reader begin anew with src, as NewGzip does.
func (g *Gzip) Reset(src io.Reader) error {
	g.r.Reset(src)
	g.sum, g.size = 0, 0
	g.err = g.header()
	if g.err == io.EOF || g.err == errHalf {
		g.err = io.ErrUnexpectedEOF
	}
	return g.err
}

// Read is io.Reader.
func (g *Gzip) Read(p []byte) (int, error) {
	if g.err != nil {
		return 0, g.err
	}
	for {
		n, err := g.r.Read(p)
		if n > 0 {
			g.add(p[:n])
			return n, nil
		}
		if err == nil {
			return 0, nil
		}
		if g.err = g.end(err); g.err != nil {
			return 0, g.err
		}
	}
}

// WriteTo is io.WriterTo: what is decoded is handed on without a copy.
func (g *Gzip) WriteTo(w io.Writer) (int64, error) {
	var written int64
	for g.err == nil {
		if g.r.from == g.r.to {
			if err := g.r.fill(); err != nil {
				g.err = g.end(err)
				continue
			}
		}
		b := g.r.out[g.r.from:g.r.to]
		n, err := w.Write(b)
		g.add(b[:n])
		g.r.from += n
		written += int64(n)
		if err == nil && n < len(b) {
			err = io.ErrShortWrite
		}
		if err != nil {
			return written, err
		}
	}
	if g.err == io.EOF {
		return written, nil
	}
	return written, g.err
}

func (g *Gzip) add(b []byte) {
	g.sum = crc32.Update(g.sum, crc32.IEEETable, b)
	g.size += uint32(len(b))
}

// end looks at what follows a member whose data ended with err: nil means that
// another one begins.
func (g *Gzip) end(err error) error {
	if err != io.EOF {
		return err
	}
	r := g.r
	r.take(r.count % 8)
	var trailer [8]byte
	if err := g.bytes(trailer[:]); err != nil {
		return cutOff(err)
	}
	if binary.LittleEndian.Uint32(trailer[:]) != g.sum {
		return errChecksum
	}
	if binary.LittleEndian.Uint32(trailer[4:]) != g.size {
		return errSize
	}
	g.sum, g.size = 0, 0
	r.next()
	err = g.header()
	if err == errNoGzip || err == errHalf {
		return ErrTrailing
	}
	return err
}

// byte returns the next byte of the source; io.EOF where it ends.
func (g *Gzip) byte() (byte, error) {
	if err := g.r.need(8); err != nil {
		if err == io.ErrUnexpectedEOF {
			err = io.EOF
		}
		return 0, err
	}
	return byte(g.r.take(8)), nil
}

func (g *Gzip) bytes(b []byte) error {
	for i := range b {
		var err error
		if b[i], err = g.byte(); err != nil {
			return err
		}
	}
	return nil
}

// cutOff is for an end where more should follow.
func cutOff(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// half is cutOff within a header.
func half(err error) error {
	if err == io.EOF {
		return errHalf
	}
	return err
}

// header reads the header of a member; io.EOF where nothing but zeros is left.
func (g *Gzip) header() error {
	first, err := g.byte()
	if err != nil {
		return err
	}
	if first == 0 {
		return g.padding()
	}
	if first != 0x1f {
		return errNoGzip
	}
	second, err := g.byte()
	if err != nil {
		return half(err)
	}
	if second != 0x8b {
		return errNoGzip
	}
	var h [8]byte
	if err := g.bytes(h[:]); err != nil {
		return half(err)
	}
	if h[0] != 8 {
		return fmt.Errorf("gzip stream of method %d, only deflate is known", h[0])
	}
	flags := h[1]
	if flags&flagsReserved != 0 {
		return errors.New("gzip header has unknown flags")
	}
	return half(g.options(flags))
}

// options skips what a header may have more.
func (g *Gzip) options(flags byte) error {
	if flags&flagExtra != 0 {
		var size [2]byte
		if err := g.bytes(size[:]); err != nil {
			return err
		}
		for range binary.LittleEndian.Uint16(size[:]) {
			if _, err := g.byte(); err != nil {
				return err
			}
		}
	}
	for _, flag := range [...]byte{flagName, flagComment} {
		for n := 0; flags&flag != 0; n++ {
			b, err := g.byte()
			if err != nil {
				return err
			}
			if b == 0 {
				break
			}
			if n == maxGzipText {
				return fmt.Errorf("gzip header has a text of more than %d bytes", maxGzipText)
			}
		}
	}
	if flags&flagHeaderCRC != 0 {
		return g.bytes(make([]byte, 2))
	}
	return nil
}

// padding reads zeros up to the end of the source.
func (g *Gzip) padding() error {
	for {
		b, err := g.byte()
		if err != nil {
			return err
		}
		if b != 0 {
			return errNoGzip
		}
	}
}
