package rpm

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
)

// Limits of what is held of databases, whose pages are read in any order.
const (
	// maxRaw bounds a database: that of a workstation with 5,000 packages has some
	// 250 MB, an image's seldom 60.
	maxRaw = 512 << 20
	// maxHeld bounds what is held of one. What is larger than maxPlain is held
	// compressed, which real databases are to a sixth; smaller ones are not worth
	// the time.
	maxHeld  = 24 << 20
	maxPlain = 16 << 20
	// maxHeader bounds the header of one package; one of 80,000 files, the source
	// of a kernel, has 14 MB.
	maxHeader = 16 << 20
	// maxMemory is what all databases that are read at a time may take: those of
	// all layers of a scan wait for one another. Each may need a slab beside what
	// is held of it, for where a header's parts lie and for the chunks at hand.
	maxMemory = maxHeld + slabSize

	// chunkSize is what is compressed at a time: as large as the largest page of
	// any form, whose pages begin at multiples of their size.
	chunkSize = 64 << 10
	// slabSize is what is reserved at a time.
	slabSize = 1 << 20
	// opened is how many chunks are held decompressed. A package's pages follow
	// one another, as a rule.
	opened = 8
)

// weightOf is how many slabs of maxMemory a database of that many bytes takes.
func weightOf(size int64) int {
	return int((min(size, maxHeld)+slabSize-1)/slabSize) + 1
}

// memory is what databases are held in. It is used again and again: the garbage
// of one would be there while the next one is read.
type memory struct {
	turn  chan struct{} // who has it reserves; one at a time, so that nobody waits for another's half
	taken chan struct{} // as many as slabs are reserved
	spare chan *[slabSize]byte
}

func newMemory() *memory {
	const slabs = maxMemory / slabSize
	return &memory{turn: make(chan struct{}, 1), taken: make(chan struct{}, slabs), spare: make(chan *[slabSize]byte, slabs)}
}

// slab returns one that is free.
func (m *memory) slab() *[slabSize]byte {
	select {
	case s := <-m.spare:
		return s
	default:
		return new([slabSize]byte)
	}
}

// reserve waits until so many slabs are free, and takes them. The error is the
// context's.
func (m *memory) reserve(ctx context.Context, slabs int) error {
	select {
	case m.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-m.turn }()
	for n := range slabs {
		select {
		case m.taken <- struct{}{}:
		case <-ctx.Done():
			m.release(n)
			return ctx.Err()
		}
	}
	return nil
}

// release gives slabs back.
func (m *memory) release(slabs int) {
	for range slabs {
		<-m.taken
	}
}

// held is a database whose bytes can be read in any order.
type held struct {
	memory *memory
	size   int
	slabs  []*[slabSize]byte
	full   int // bytes of the last slab that are taken
	chunks []piece
	row    scattered // the one at hand

	decoder *zstd.Decoder // nil: nothing is compressed
	recent  [opened]decompressed
	clock   int
}

// piece is a chunk as it is held.
type piece struct {
	data   []byte
	packed bool
}

type decompressed struct {
	chunk, used int // used 0: nothing is held here
	data        []byte
}

// hold reads a database that is said to have size bytes to its end. The caller
// closes it.
func (m *memory) hold(r io.Reader, size int64) (*held, error) {
	if size > maxRaw {
		return nil, fmt.Errorf("it has %d bytes, and at most %d are read", size, int64(maxRaw))
	}
	h := &held{memory: m}
	err := h.keep(io.LimitReader(r, size+1), size > maxPlain)
	if err == nil && int64(h.size) > size {
		err = fmt.Errorf("it has more than the %d bytes that were told", size)
	}
	if err != nil {
		h.close()
		return nil, err
	}
	return h, nil
}

// keep reads to the end and keeps what it reads.
func (h *held) keep(r io.Reader, compress bool) error {
	pack := func(b []byte) []byte { return nil }
	if compress {
		e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(chunkSize), zstd.WithEncoderCRC(false))
		if err != nil {
			return err
		}
		defer func() { _ = e.Close() }() // it holds nothing back
		if h.decoder, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(2*chunkSize)); err != nil {
			return err
		}
		packed := make([]byte, 0, 2*chunkSize)
		pack = func(b []byte) []byte {
			// Digests are most of what does not compress, and nobody asks for them.
			blankDigests(b)
			packed = e.EncodeAll(b, packed[:0])
			return packed
		}
	}
	buf := make([]byte, chunkSize)
	for {
		n, err := io.ReadFull(r, buf)
		if n > 0 {
			p := piece{data: buf[:n]}
			if packed := pack(buf[:n]); packed != nil && len(packed) < n {
				p = piece{packed, true}
			}
			if err := h.add(p); err != nil {
				return err
			}
			h.size += n
		}
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return nil
		case err != nil:
			return err
		}
	}
}

// add copies a piece to where it is held.
func (h *held) add(p piece) error {
	if len(h.slabs) == 0 || slabSize-h.full < len(p.data) {
		if len(h.slabs) == maxHeld/slabSize {
			return fmt.Errorf("more than %d bytes of it would have to be held", maxHeld)
		}
		h.slabs, h.full = append(h.slabs, h.memory.slab()), 0
	}
	to := h.slabs[len(h.slabs)-1][h.full:][:len(p.data)]
	h.full += copy(to, p.data)
	h.chunks = append(h.chunks, piece{to, p.packed})
	return nil
}

// spared is how much of a run of digits is left as it is at either end: as long
// as the number of a page, which may stand there and look like digits.
const spared = 4

// blankDigests overwrites what is nothing but 64 hex digits or more in a row, the
// SHA-256 digests of files, by zeros that are digits too: where texts end stays
// as it was.
func blankDigests(b []byte) {
	const digits = 64
	run := 0
	blank := func(end int) {
		if run < digits {
			return
		}
		for i := end - run + spared; i < end-spared; i++ {
			b[i] = '0'
		}
	}
	for i, c := range b {
		if c >= '0' && c <= '9' || c >= 'a' && c <= 'f' {
			run++
			continue
		}
		blank(i)
		run = 0
	}
	blank(len(b))
}

// close gives back what the database was held in.
func (h *held) close() {
	if h.decoder != nil {
		h.decoder.Close()
	}
	for _, s := range h.slabs {
		select {
		case h.memory.spare <- s:
		default: // there are as many as may be reserved
		}
	}
	*h = held{}
}

// copy fills buf with the bytes from a place on, which must be there.
func (h *held) copy(buf []byte, at int) error {
	if at < 0 || at > h.size || len(buf) > h.size-at {
		return fmt.Errorf("%d bytes at %d of %d", len(buf), at, h.size)
	}
	for len(buf) > 0 {
		data, err := h.chunk(at / chunkSize)
		if err != nil {
			return err
		}
		n := copy(buf, data[at%chunkSize:])
		buf, at = buf[n:], at+n
	}
	return nil
}

// chunk returns a chunk as it was, until the next call.
func (h *held) chunk(n int) ([]byte, error) {
	if p := h.chunks[n]; !p.packed {
		return p.data, nil
	}
	h.clock++
	oldest := &h.recent[0]
	for i := range h.recent {
		r := &h.recent[i]
		if r.used > 0 && r.chunk == n {
			r.used = h.clock
			return r.data, nil
		}
		if r.used < oldest.used {
			oldest = r
		}
	}
	data, err := h.decoder.DecodeAll(h.chunks[n].data, oldest.data[:0])
	if err != nil {
		return nil, fmt.Errorf("decompress what was held: %w", err)
	}
	*oldest = decompressed{n, h.clock, data}
	return data, nil
}

// scatter begins a row, which is valid until the next one.
func (h *held) scatter() *scattered {
	h.row = scattered{db: h, parts: h.row.parts[:0]}
	return &h.row
}
