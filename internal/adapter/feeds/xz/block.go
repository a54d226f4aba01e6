package xz

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"hash/crc32"
	"hash/crc64"
	"slices"
)

// block is one block of a stream.
type block struct {
	at       int64 // where it begins in the file
	unpacked int64
	check    hash.Hash
	// What its header says of its sizes, -1 for nothing.
	wantPacked, wantUnpacked int64
	header                   int64 // how long that is
}

// newCheck returns what sums up the content of blocks, nil for a kind that is not
// known.
func newCheck(kind byte) hash.Hash {
	switch kind {
	case 0:
		return none{}
	case 1:
		return crc32.NewIEEE()
	case 4:
		return crc64.New(crc64.MakeTable(crc64.ECMA))
	case 10:
		return sha256.New()
	}
	return nil
}

// none is a checksum of no bytes.
type none struct{}

func (none) Write(p []byte) (int, error) { return len(p), nil }
func (none) Sum(b []byte) []byte         { return b }
func (none) Reset()                      {}
func (none) Size() int                   { return 0 }
func (none) BlockSize() int              { return 1 }

// begin reads the header of a block and reports whether there is one. If there is
// none the stream is over, and its index and its end have been read.
func (x *Reader) begin() (bool, error) {
	at := x.in.n
	size, err := x.in.byte()
	if err != nil {
		return false, err
	}
	if size == 0 {
		return false, x.index(at)
	}
	b := make([]byte, (int(size)+1)*4)
	b[0] = size
	if err := x.in.full(b[1:]); err != nil {
		return false, err
	}
	body, sum := b[:len(b)-4], b[len(b)-4:]
	if crc32.ChecksumIEEE(body) != binary.LittleEndian.Uint32(sum) {
		return false, damaged("the checksum of a block's header is another")
	}
	x.block = block{at: at, wantPacked: -1, wantUnpacked: -1, check: newCheck(x.flags[1]), header: int64(len(b))}
	dictionary, err := x.block.filters(body[1:])
	if err != nil {
		return false, err
	}
	x.open = true
	return true, x.chunks.begin(dictionary)
}

// filters reads what a block's header holds behind its size, and returns how large
// a dictionary it needs.
func (b *block) filters(body []byte) (dictionary int64, err error) {
	flags, body := body[0], body[1:]
	if flags&0x3f != 0 {
		return 0, damaged("a block has flags %x or filters that this version does not know", flags)
	}
	v := varints{rest: body}
	if flags&0x40 != 0 {
		b.wantPacked = v.next()
	}
	if flags&0x80 != 0 {
		b.wantUnpacked = v.next()
	}
	id, properties := v.next(), v.next()
	if v.failed || len(v.rest) == 0 {
		return 0, damaged("a block's header is too short")
	}
	const lzma2 = 0x21
	if id != lzma2 || properties != 1 {
		return 0, damaged("a block is packed with filter %x, which this version does not know", id)
	}
	bits, padding := v.rest[0], v.rest[1:]
	if bits > 40 || len(bytes.Trim(padding, "\x00")) > 0 {
		return 0, damaged("a block's header holds what it may not")
	}
	if bits == 40 {
		return 1<<32 - 1, nil
	}
	return int64(2|bits&1) << (bits/2 + 11), nil
}

// end reads what follows a block's content, and holds the block against it.
func (x *Reader) end() error {
	b := &x.block
	packed := x.in.n - b.at - b.header
	if b.wantPacked >= 0 && b.wantPacked != packed || b.wantUnpacked >= 0 && b.wantUnpacked != b.unpacked {
		return damaged("a block has another size than its header says")
	}
	if err := x.padding(b.at); err != nil {
		return err
	}
	want := make([]byte, b.check.Size())
	if err := x.in.full(want); err != nil {
		return err
	}
	got := b.check.Sum(nil)
	if len(got) <= crc64.Size { // a number, of which the lowest byte comes first
		slices.Reverse(got)
	}
	if !bytes.Equal(got, want) {
		return damaged("the checksum of a block is another")
	}
	x.blocks.add(b.header+packed+int64(len(want)), b.unpacked)
	return nil
}

// padding reads the zeros that make what began at a place a multiple of four.
func (x *Reader) padding(at int64) error {
	for (x.in.n-at)%4 != 0 {
		if b, err := x.in.byte(); err != nil || b != 0 {
			return orElse(err, damaged("padding that is not empty"))
		}
	}
	return nil
}

func orElse(err, other error) error {
	if err != nil {
		return err
	}
	return other
}

// sizes sums up the sizes of blocks, so that two lists of them can be compared
// without keeping either.
type sizes struct {
	count int64
	sum   uint32
}

func (s *sizes) add(packed, unpacked int64) {
	var b [16]byte
	binary.LittleEndian.PutUint64(b[:], uint64(packed))
	binary.LittleEndian.PutUint64(b[8:], uint64(unpacked))
	s.sum = crc32.Update(s.sum, crc32.IEEETable, b[:])
	s.count++
}

// varints takes numbers of seven bits a byte, the lowest first.
type varints struct {
	rest   []byte
	failed bool
}

const longestVarint = 9

func (v *varints) next() (n int64) {
	for i := range min(len(v.rest), longestVarint) {
		n |= int64(v.rest[i]&0x7f) << (7 * i)
		if v.rest[i] < 0x80 {
			v.failed = v.failed || i > 0 && v.rest[i] == 0
			v.rest = v.rest[i+1:]
			return n
		}
	}
	v.failed, v.rest = true, nil
	return 0
}
