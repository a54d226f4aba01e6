// Package inflate decompresses DEFLATE (RFC 1951) and gzip (RFC 1952) streams.
// Layers of images are nearly always gzip, and decompressing them is what a scan
// costs: this decoder spends about half of what general ones written in Go do.
//
// It is for streams that are read from one end to the other. It is not for
// compressing, zlib, or preset dictionaries. A damaged or hostile stream costs no
// more memory than a good one and ends with an error.
package inflate

import (
	"errors"
	"fmt"
	"io"
)

const (
	window  = 32 << 10 // how far back a match may reach (RFC 1951, 2)
	outSize = window + 192<<10
	// outSlack is how far one turn of the decoder may write behind the mark at
	// which it stops: literals, a match, and what a copy of eight bytes at once
	// writes too much.
	outSlack = 64 + maxMatch + 16
	inSize   = 64 << 10
	// inSlack is how much input one turn may take, and load ahead of it.
	inSlack  = 32
	maxMatch = 258
)

// CorruptError says that a stream is not what it should be, and after how many
// bytes of output that was seen.
type CorruptError struct {
	After int64
	What  string
}

// Error returns both in words.
func (e *CorruptError) Error() string {
	return fmt.Sprintf("compressed data is damaged after %d bytes of output: %s", e.After, e.What)
}

// Reader decompresses one DEFLATE stream. It reads its source in pieces of up to
// 64 KiB and may read behind the end of the stream; Rest has what it did not use.
// Not for concurrent use.
type Reader struct {
	src io.Reader
	// in[pos:end] is input that is not in bits yet; zeros follow it once the
	// source has ended, so that the decoder need not look at each byte.
	in       [inSize + inSlack]byte
	pos, end int
	ended    bool // the source has
	bits     uint64
	count    uint // of valid bits

	out      [outSize + outSlack]byte
	from, to int   // out[from:to] is decoded and not read yet
	total    int64 // bytes decoded before out[0]

	state func(*Reader) error
	final bool
	left  int // bytes of a stored block
	err   error

	lit  litTable
	dist distTable
	// lengths are of the block whose tables are being made.
	lengths [maxLitCodes + maxDistCodes]uint8
}

// NewReader returns a reader of the stream that src begins with.
func NewReader(src io.Reader) *Reader {
	r := &Reader{}
	r.Reset(src)
	return r
}

// Reset makes the reader begin anew with src.
func (r *Reader) Reset(src io.Reader) {
	r.src, r.pos, r.end, r.ended, r.bits, r.count = src, 0, 0, false, 0, 0
	r.next()
}

// next begins another stream behind the one that has ended.
func (r *Reader) next() {
	r.from, r.to, r.total, r.final, r.left, r.err = 0, 0, 0, false, 0, nil
	r.state = (*Reader).block
}

// Read is io.Reader.
func (r *Reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if r.from == r.to {
		if err := r.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(p, r.out[r.from:r.to])
	r.from += n
	return n, nil
}

// WriteTo is io.WriterTo: what is decoded is handed on without a copy.
func (r *Reader) WriteTo(w io.Writer) (int64, error) {
	var written int64
	for {
		if r.from == r.to {
			if err := r.fill(); err != nil {
				if err == io.EOF {
					err = nil
				}
				return written, err
			}
		}
		n, err := w.Write(r.out[r.from:r.to])
		r.from += n
		written += int64(n)
		if err != nil {
			return written, err
		}
		if r.from < r.to {
			return written, io.ErrShortWrite
		}
	}
}

// fill decodes until there is something to read. What was decoded before an
// error can be read before the error is returned.
func (r *Reader) fill() error {
	for r.from == r.to {
		if r.err != nil {
			return r.err
		}
		r.slide()
		for r.err == nil && r.to < outSize {
			r.err = r.state(r)
		}
	}
	return nil
}

// slide makes room behind the last window of output, which matches refer to.
func (r *Reader) slide() {
	if r.to < outSize {
		return
	}
	copy(r.out[:window], r.out[r.to-window:r.to])
	r.total += int64(r.to - window)
	r.from, r.to = window, window
}

// corrupt returns the error for a stream that is not what it should be; if the
// source has ended before, it is that the stream is cut off.
func (r *Reader) corrupt(what string) error {
	if r.overrun() {
		return io.ErrUnexpectedEOF
	}
	return &CorruptError{After: r.total + int64(r.to), What: what}
}

// overrun says that bits were used that the source didn't have.
func (r *Reader) overrun() bool { return r.ended && r.pos-int(r.count/8) > r.end }

// more reads from the source until there is enough for one turn of the decoder,
// or the source has ended.
func (r *Reader) more() error {
	// What is in bits may have to be given back: the eight bytes before stay.
	keep := min(r.pos, 8)
	at := r.pos - keep
	if at > 0 && at < r.end {
		copy(r.in[:], r.in[at:r.end])
	}
	r.pos, r.end = keep, r.end-at
	if r.end < 0 {
		return io.ErrUnexpectedEOF
	}
	for empty := 0; !r.ended && r.end-r.pos < inSlack; {
		n, err := r.src.Read(r.in[r.end:inSize])
		r.end += n
		switch {
		case err == io.EOF:
			r.ended = true
		case err != nil:
			return err
		case n == 0:
			if empty++; empty > 100 {
				return io.ErrNoProgress
			}
		}
	}
	if r.ended {
		clear(r.in[r.end : r.end+inSlack])
	}
	return nil
}

// need makes n bits ready, 32 at most.
func (r *Reader) need(n uint) error {
	for r.count < n {
		if r.pos >= r.end {
			if err := r.more(); err != nil {
				return err
			}
			if r.pos >= r.end {
				return io.ErrUnexpectedEOF
			}
		}
		// Bits above count are those of in[pos:] already, or zeros.
		r.bits &= 1<<r.count - 1
		r.bits |= uint64(r.in[r.pos]) << r.count
		r.pos++
		r.count += 8
	}
	return nil
}

// take returns and uses n bits that are ready.
func (r *Reader) take(n uint) uint32 {
	v := uint32(r.bits & (1<<n - 1))
	r.bits >>= n
	r.count -= n
	return v
}

// Rest returns what was read of the source and does not belong to the stream,
// after Read has returned io.EOF. It is valid until the reader is used again.
func (r *Reader) Rest() []byte {
	return r.in[min(max(r.pos-int(r.count/8), 0), r.end):r.end]
}

// block reads the head of a block.
func (r *Reader) block() error {
	if r.final {
		return io.EOF
	}
	if err := r.need(3); err != nil {
		return err
	}
	r.final = r.take(1) == 1
	switch r.take(2) {
	case 0:
		return r.stored()
	case 1:
		r.fixed()
	case 2:
		if err := r.dynamic(); err != nil {
			return err
		}
	default:
		return r.corrupt("a block of a kind that there isn't")
	}
	r.state = (*Reader).compressed
	return nil
}

// stored reads the head of a block of plain bytes.
func (r *Reader) stored() error {
	r.take(r.count % 8)
	if err := r.need(32); err != nil {
		return err
	}
	size, inverse := r.take(16), r.take(16)
	if size^0xffff != inverse {
		return r.corrupt("the length of a stored block and its inverse don't fit")
	}
	r.left = int(size)
	// What is in bits goes back: plain bytes are copied from in.
	r.pos -= int(r.count / 8)
	r.bits, r.count = 0, 0
	r.state = (*Reader).plain
	return nil
}

// plain copies bytes of a stored block.
func (r *Reader) plain() error {
	for r.left > 0 && r.to < outSize {
		if r.pos >= r.end {
			if err := r.more(); err != nil {
				return err
			}
			if r.pos >= r.end {
				return io.ErrUnexpectedEOF
			}
		}
		n := copy(r.out[r.to:outSize], r.in[r.pos:min(r.end, r.pos+r.left)])
		r.pos += n
		r.to += n
		r.left -= n
	}
	if r.left == 0 {
		r.state = (*Reader).block
	}
	return nil
}

var errTables = errors.New("code lengths make no code")
