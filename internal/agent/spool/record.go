package spool

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"hash/crc32"
	"io"
)

// A segment is records one after the other, nothing else. A record is
//
//	mark      4 bytes, the same for all records of a segment
//	length    4 bytes, of the body
//	ordinal   8 bytes, counts the records of one series of one start, from 0
//	seq       8 bytes, of the event
//	body sum  4 bytes, CRC-32C of the body
//	head sum  4 bytes, CRC-32C of length to body sum
//	body      the event as link.AppendEvent writes it
//
// all numbers little-endian. Mark and the seed of the sums are random and stand
// in the segment's name: an argument list that contains bytes like a record
// cannot become one when the bytes before it are damaged.
const (
	headSize = 32
	// maxBody bounds one event. Sensors send a few KiB; the store takes 256 KiB.
	maxBody = 1 << 20
	// maxEvent bounds, as size tells it, what is taken: text that is not valid
	// UTF-8 grows to three times its length at most when it is written.
	maxEvent = maxBody / 3
	// readSize is how much is read from a segment at once.
	readSize = 64 << 10
	keySize  = 8
)

// key is what tells the records of one segment from other bytes.
type key [keySize]byte

func (k key) mark() []byte { return k[:4] }

func (k key) sum(b []byte) uint32 {
	return crc32.Update(binary.LittleEndian.Uint32(k[4:]), castagnoli(), b)
}

// castagnoli is made once by the library and supported by the processor.
func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

func (k key) String() string { return hex.EncodeToString(k[:]) }

// begin makes room for a record's head at the end of b.
func begin(b []byte) []byte { return append(b, make([]byte, headSize)...) }

// finish completes the record that begins at b[at:] and whose body follows its
// head up to the end of b.
func (k key) finish(b []byte, at int, ordinal, seq uint64) {
	head, body := b[at:at+headSize], b[at+headSize:]
	copy(head, k.mark())
	binary.LittleEndian.PutUint32(head[4:], uint32(len(body)))
	binary.LittleEndian.PutUint64(head[8:], ordinal)
	binary.LittleEndian.PutUint64(head[16:], seq)
	binary.LittleEndian.PutUint32(head[24:], k.sum(body))
	binary.LittleEndian.PutUint32(head[28:], k.sum(head[4:28]))
}

// record is one record as it was written.
type record struct {
	ordinal, seq uint64
	body         []byte // valid until the scanner moves on
}

// scanner reads the records of one segment and steps over what is damaged. At
// the end it may be asked again: the segment may have grown.
type scanner struct {
	r   io.Reader
	key key
	buf []byte // what is read and not yet looked at
	raw []byte // the memory that buf is in

	next   uint64 // ordinal after the newest one seen, its body damaged or not
	broken bool   // bytes after that were no record and not the begin of one
	failed error  // of reading; the end of the file is none
}

func newScanner(r io.Reader, k key) *scanner { return &scanner{r: r, key: k} }

// scan returns the next whole record; false at the end.
func (s *scanner) scan() (record, bool) {
	for {
		if !s.fill(headSize) {
			if n := min(len(s.buf), 4); !bytes.Equal(s.buf[:n], s.key.mark()[:n]) {
				s.broken = true
			}
			return record{}, false
		}
		head := s.buf[:headSize]
		n := int(binary.LittleEndian.Uint32(head[4:]))
		if !bytes.Equal(head[:4], s.key.mark()) || s.key.sum(head[4:28]) != binary.LittleEndian.Uint32(head[28:]) || n > maxBody {
			s.broken = true
			s.resync()
			continue
		}
		if !s.fill(headSize + n) {
			return record{}, false // torn: it was being written, and never counted as held
		}
		head, body := s.buf[:headSize], s.buf[headSize:headSize+n]
		s.buf = s.buf[headSize+n:]
		ordinal := binary.LittleEndian.Uint64(head[8:])
		if ordinal >= s.next {
			s.next, s.broken = ordinal+1, false
		}
		if s.key.sum(body) == binary.LittleEndian.Uint32(head[24:]) {
			return record{ordinal: ordinal, seq: binary.LittleEndian.Uint64(head[16:]), body: body}, true
		}
	}
}

// resync steps to the next place where a record may begin; at least one byte.
func (s *scanner) resync() {
	s.buf = s.buf[1:]
	for {
		if i := bytes.Index(s.buf, s.key.mark()); i >= 0 {
			s.buf = s.buf[i:]
			return
		}
		// The mark may be cut by the end of what is read.
		s.buf = s.buf[max(0, len(s.buf)-3):]
		if had := len(s.buf); !s.fill(had + 1) {
			return
		}
	}
}

// fill reads until n bytes are there, and says whether they are.
func (s *scanner) fill(n int) bool {
	for len(s.buf) < n {
		if s.failed != nil {
			return false
		}
		if cap(s.buf)-len(s.buf) < max(n-len(s.buf), readSize/4) {
			if want := max(n, readSize); len(s.raw) < want {
				s.raw = make([]byte, want+readSize/2)
			}
			s.buf = s.raw[:copy(s.raw, s.buf)]
		}
		got, err := s.r.Read(s.buf[len(s.buf):cap(s.buf)])
		s.buf = s.buf[:len(s.buf)+got]
		switch {
		case got == 0 && (err == nil || errors.Is(err, io.EOF)):
			return false
		case err != nil && !errors.Is(err, io.EOF):
			s.failed, s.broken = err, true
		}
	}
	return true
}
