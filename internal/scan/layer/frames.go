package layer

import (
	"encoding/binary"
	"io"
)

// frames follows the frames of a zstd stream (RFC 8878, 3.1) while it is read, as
// far as is needed to know where one ends: what a decoder says of a stream that is
// cut off and of odd bytes behind a whole one is the same.
type frames struct {
	r     io.Reader
	at    frameField
	field []byte // as far as it has come
	size  int    // of the field
	skip  int64  // bytes of no meaning before it
	sum   bool   // a checksum ends the frame
	ended bool   // r has
}

// frameField is what is read next.
type frameField uint8

const (
	frameMagic      frameField = iota
	frameSkipped               // how long a frame is that holds something else
	frameDescriptor            // what the header has
	frameHeader
	frameBlock // the header of a block
)

func newFrames(r io.Reader) *frames {
	f := &frames{r: r, field: make([]byte, 0, 16)} // the longest field is a header of 13 bytes
	f.want(frameMagic, 4)
	return f
}

func (f *frames) want(at frameField, size int) { f.at, f.field, f.size = at, f.field[:0], size }

// Read is io.Reader.
func (f *frames) Read(p []byte) (int, error) {
	n, err := f.r.Read(p)
	f.ended = f.ended || err == io.EOF
	for b := p[:n]; len(b) > 0; {
		if pass := min(f.skip, int64(len(b))); pass > 0 {
			f.skip -= pass
			b = b[pass:]
			continue
		}
		take := min(f.size-len(f.field), len(b))
		f.field = append(f.field, b[:take]...)
		b = b[take:]
		if len(f.field) == f.size {
			f.step()
		}
	}
	return n, err
}

// step takes the field that is there. What is wrong with one the decoder says.
func (f *frames) step() {
	b := f.field
	switch f.at {
	case frameMagic:
		if b[0]&0xf0 == 0x50 {
			f.want(frameSkipped, 4)
		} else {
			f.want(frameDescriptor, 1)
		}
	case frameSkipped:
		f.skip = int64(binary.LittleEndian.Uint32(b))
		f.want(frameMagic, 4)
	case frameDescriptor:
		f.sum = b[0]&4 != 0
		single := int(b[0] >> 5 & 1) // then it has no window, and always a size
		size := [...]int{single, 2, 4, 8}[b[0]>>6]
		f.want(frameHeader, 1-single+[...]int{0, 1, 2, 4}[b[0]&3]+size)
	case frameHeader:
		f.want(frameBlock, 3)
	case frameBlock:
		head := uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16
		const repeated = 1 // one byte, again and again
		if f.skip = int64(head >> 3); head>>1&3 == repeated {
			f.skip = 1
		}
		if last := head&1 != 0; !last {
			f.want(frameBlock, 3)
			return
		}
		if f.sum {
			f.skip += 4
		}
		f.want(frameMagic, 4)
	}
}

// trailing says that the stream has ended, all of its frames whole, and that fewer
// bytes follow them than begin another one.
func (f *frames) trailing() bool {
	return f.ended && f.at == frameMagic && f.skip == 0 && len(f.field) > 0
}
