package xz

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
)

// index reads the index and the footer of a stream, of which the first byte was
// taken at a place, and holds what was unpacked against them.
func (x *Reader) index(at int64) error {
	r := indexReader{in: x.in, sum: crc32.Update(0, crc32.IEEETable, []byte{0})}
	var listed sizes
	for n := r.varint(); r.err == nil && listed.count < n; {
		listed.add(r.varint(), r.varint())
		if listed.count > x.blocks.count {
			break
		}
	}
	for r.err == nil && (x.in.n-at)%4 != 0 {
		if r.byte() != 0 {
			return damaged("padding that is not empty")
		}
	}
	switch {
	case r.err != nil:
		return r.err
	case listed != x.blocks:
		return damaged("the index lists other blocks than there are")
	}
	size := x.in.n - at
	var b [4 + 12]byte
	if err := x.in.full(b[:]); err != nil {
		return err
	}
	if binary.LittleEndian.Uint32(b[:]) != r.sum {
		return damaged("the checksum of the index is another")
	}
	return x.footer(b[4:], size+4)
}

// footer checks the last bytes of a stream.
func (x *Reader) footer(b []byte, index int64) error {
	switch {
	case crc32.ChecksumIEEE(b[4:10]) != binary.LittleEndian.Uint32(b):
		return damaged("the checksum of its end is another")
	case (int64(binary.LittleEndian.Uint32(b[4:]))+1)*4 != index, !bytes.Equal(b[8:10], x.flags[:]), !bytes.Equal(b[10:], footerMagic):
		return damaged("its end is none")
	}
	return nil
}

// indexReader reads an index byte by byte.
type indexReader struct {
	in  *counter
	sum uint32
	err error
}

func (r *indexReader) byte() byte {
	if r.err != nil {
		return 0
	}
	b, err := r.in.byte()
	r.err = err
	r.sum = crc32.Update(r.sum, crc32.IEEETable, []byte{b})
	return b
}

func (r *indexReader) varint() int64 {
	var b [longestVarint]byte
	for i := range b {
		b[i] = r.byte()
		if b[i] < 0x80 {
			break
		}
	}
	v := varints{rest: b[:]}
	n := v.next()
	if v.failed && r.err == nil {
		r.err = damaged("the index holds what is no number")
	}
	return n
}
