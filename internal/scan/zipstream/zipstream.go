// Package zipstream reads a zip archive as it passes, entry after entry by their
// local headers, without its directory at the end and without holding it:
// archives lie in layers, which are streams, and archives lie in archives.
//
// An entry that isn't wanted is not inflated, even where its header doesn't say
// how long it is: its end is found by the descriptor that follows it. When the
// directory comes at last it is compared with what was seen, so that an archive
// that shows other entries to those who read it from its end is noticed. It is
// not for writing archives and checks no checksums.
package zipstream

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"io"

	"github.com/klauspost/compress/flate"
)

// Limits of one archive.
const (
	bufferSize = 64 << 10
	// maxGap is how far the first entry is searched for behind a script or a
	// program that runs the archive, and the next one behind a gap.
	maxGap = 1 << 20
)

// Methods of compression that are read (APPNOTE 6.3.10, section 4.4.5).
const (
	stored   = 0
	deflated = 8
)

// Budget bounds the work on an archive and on all archives within it.
type Budget struct {
	Entries  int   // headers that may be read
	Inflated int64 // bytes of content that may be read
}

// The errors of an archive, beside those of its reader.
var (
	ErrEntries   = errors.New("archive has too many entries")
	ErrInflated  = errors.New("archive inflates to too much")
	ErrFormat    = errors.New("not a zip archive, or a broken one")
	ErrEncrypted = errors.New("entry is encrypted")
	ErrMethod    = errors.New("entry is compressed in a way that isn't read")
	// ErrDirectory comes after all entries were read.
	ErrDirectory = errors.New("the archive's directory names other entries than it has")
)

// Entry is what the header before a file's content says.
type Entry struct {
	// Name is as written, valid until the next entry. A folder's ends with a
	// slash.
	Name []byte
	// Size is of the content, -1 where the header doesn't say it.
	Size int64

	compressed int64 // -1 where the header doesn't say it
	method     uint16
	encrypted  bool
}

// Reader reads one archive.
type Reader struct {
	r      *bufio.Reader
	budget *Budget
	entry  Entry
	body   body
	began  bool

	seed  maphash.Seed
	names uint64 // of all entries: the sum of the hashes of their names
	count int

	inflater io.ReadCloser
	limited  io.LimitedReader
	pieces   piecewise
	buffered *bufio.Reader // over limited, for the inflater
}

// body says how the content at hand is left behind.
type body int

const (
	none     body = iota
	counted       // skip what is left of limited
	inflated      // inflate to the end; a descriptor follows
	searched      // search for the descriptor
)

// NewReader returns a reader of the archive r that draws on budget.
func NewReader(r io.Reader, budget *Budget) *Reader {
	return &Reader{r: bufio.NewReaderSize(r, bufferSize), budget: budget, seed: maphash.MakeSeed()}
}

// Next goes on to the next entry. The error is io.EOF after the last, and
// ErrDirectory if the directory that follows disagrees.
func (z *Reader) Next() (*Entry, error) {
	if err := z.leave(); err != nil {
		return nil, err
	}
	for {
		switch sig, err := z.signature(); {
		case err != nil:
			return nil, err
		case sig == sigLocal:
			z.began = true
			return z.header()
		case sig == sigCentral:
			return nil, z.directory()
		case sig == sigEnd && z.count == 0:
			return nil, io.EOF
		}
		if err := z.searchLocal(); err != nil {
			return nil, err
		}
	}
}

// The signatures, as little-endian numbers.
const (
	sigLocal      = 0x04034b50
	sigCentral    = 0x02014b50
	sigEnd        = 0x06054b50
	sigDescriptor = 0x08074b50
)

func (z *Reader) signature() (uint32, error) {
	b, err := z.r.Peek(4)
	if err != nil {
		return 0, early(err)
	}
	return binary.LittleEndian.Uint32(b), nil
}

// early makes an end that comes too soon say so.
func early(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// searchLocal skips to the next local header, or the directory.
func (z *Reader) searchLocal() error {
	for gap := 0; gap < maxGap; {
		b, err := z.r.Peek(bufferSize)
		if len(b) < 4 {
			if err == io.EOF {
				return ErrFormat
			}
			return err
		}
		n := len(b) - 3
		for i := 0; i < n; i++ {
			j := bytes.Index(b[i:], []byte("PK"))
			if j < 0 || i+j >= n {
				break
			}
			i += j
			if sig := binary.LittleEndian.Uint32(b[i:]); sig == sigLocal || sig == sigCentral && z.began {
				n = i
			}
		}
		gap += n
		z.discard(n)
		if n < len(b)-3 {
			return nil
		}
	}
	return ErrFormat
}

// discard skips bytes that are held.
func (z *Reader) discard(n int) { _, _ = z.r.Discard(n) }

const (
	localSize      = 30
	flagEncrypted  = 1 << 0
	flagDescriptor = 1 << 3
	zip64Size      = 0xffffffff
	zip64Extra     = 1
)

// header reads a local header (section 4.3.7).
func (z *Reader) header() (*Entry, error) {
	if z.budget.Entries--; z.budget.Entries < 0 {
		return nil, ErrEntries
	}
	h, err := z.r.Peek(localSize)
	if err != nil {
		return nil, early(err)
	}
	flags, name, extra := binary.LittleEndian.Uint16(h[6:]), binary.LittleEndian.Uint16(h[26:]), int(binary.LittleEndian.Uint16(h[28:]))
	e := &z.entry
	e.method, e.encrypted = binary.LittleEndian.Uint16(h[8:]), flags&flagEncrypted != 0
	e.compressed, e.Size = int64(binary.LittleEndian.Uint32(h[18:])), int64(binary.LittleEndian.Uint32(h[22:]))
	z.discard(localSize)
	if e.Name, err = z.take(e.Name, int(name)); err != nil {
		return nil, err
	}
	z.count++
	z.names += maphash.Bytes(z.seed, e.Name)
	if err := z.extra(extra); err != nil {
		return nil, err
	}
	if flags&flagDescriptor != 0 && e.compressed == 0 {
		e.compressed, e.Size = -1, -1
	}
	if e.compressed < 0 && bytes.HasSuffix(e.Name, []byte("/")) {
		// Some writers promise a descriptor of a folder and leave it out.
		if sig, err := z.signature(); err == nil && (sig == sigLocal || sig == sigCentral) {
			e.compressed, e.Size = 0, 0
		}
	}
	z.body = counted
	z.limited = io.LimitedReader{R: z.r, N: e.compressed}
	if e.compressed < 0 {
		z.body = searched
		z.pieces = piecewise{z: z}
	}
	return e, nil
}

// take reads n bytes into b.
func (z *Reader) take(b []byte, n int) ([]byte, error) {
	if cap(b) < n {
		b = make([]byte, n)
	}
	b = b[:n]
	_, err := io.ReadFull(z.r, b)
	return b, early(err)
}

// extra reads the extra field of a header for sizes of 64 bits.
func (z *Reader) extra(size int) error {
	e := &z.entry
	if e.compressed != zip64Size && e.Size != zip64Size {
		_, err := z.r.Discard(size)
		return early(err)
	}
	b, err := z.take(nil, size)
	if err != nil {
		return err
	}
	for len(b) >= 4 {
		id, n := binary.LittleEndian.Uint16(b), int(binary.LittleEndian.Uint16(b[2:]))
		b = b[4:]
		if n > len(b) {
			break
		}
		if id == zip64Extra && n >= 16 {
			size, compressed := binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:])
			if size >= 1<<62 || compressed >= 1<<62 {
				return ErrFormat
			}
			e.Size, e.compressed = int64(size), int64(compressed)
			return nil
		}
		b = b[n:]
	}
	return nil
}

// Open returns a reader of the content of the entry at hand. It is to be called
// at most once for an entry, and the reader is of no use after Next.
func (z *Reader) Open() (io.Reader, error) {
	e := &z.entry
	switch {
	case e.encrypted:
		return nil, ErrEncrypted
	case e.method == stored && e.compressed >= 0:
		return &content{z, &z.limited}, nil
	case e.method == stored:
		return &content{z, &z.pieces}, nil
	case e.method != deflated:
		return nil, fmt.Errorf("%w: method %d", ErrMethod, e.method)
	}
	from := z.r
	if e.compressed >= 0 {
		if z.buffered == nil {
			z.buffered = bufio.NewReaderSize(nil, 16<<10)
		}
		z.buffered.Reset(&z.limited)
		from = z.buffered
	} else {
		z.body = inflated
	}
	if z.inflater == nil {
		z.inflater = flate.NewReader(from)
	} else if err := z.inflater.(flate.Resetter).Reset(from, nil); err != nil {
		return nil, err
	}
	return &content{z, z.inflater}, nil
}

// content draws on the budget.
type content struct {
	z *Reader
	r io.Reader
}

func (c *content) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	if c.z.budget.Inflated -= int64(n); c.z.budget.Inflated < 0 {
		return n, ErrInflated
	}
	return n, err
}

// leave skips what is left of the content at hand.
func (z *Reader) leave() error {
	kind := z.body
	z.body = none
	switch kind {
	case counted:
		for z.limited.N > 0 {
			n, err := z.r.Discard(int(min(z.limited.N, 1<<30)))
			if z.limited.N -= int64(n); err != nil {
				return early(err)
			}
		}
	case inflated:
		if _, err := io.Copy(io.Discard, &content{z, z.inflater}); err != nil {
			return err
		}
		return z.descriptor()
	case searched:
		return z.pieces.skip()
	}
	return nil
}
