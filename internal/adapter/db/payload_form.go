package db

import (
	"encoding/binary"
	"math"
	"net/netip"
	"strings"
)

// How the fields of a payload are written and read, one after the other.

func flag(on bool, bit byte) byte {
	if on {
		return bit
	}
	return 0
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// appendCount keeps nil apart from empty, as JSON does.
func appendCount(b []byte, n int, isNil bool) []byte {
	if isNil {
		return append(b, 0)
	}
	return binary.AppendUvarint(b, uint64(n)+1)
}

// appendTexts keeps nil apart from empty.
func appendTexts(b []byte, texts []string) []byte {
	b = appendCount(b, len(texts), texts == nil)
	for _, t := range texts {
		b = appendText(b, t)
	}
	return b
}

// appendAddrPort writes a zero address as no bytes before the port.
func appendAddrPort(b []byte, a netip.AddrPort) []byte {
	bytes, err := a.MarshalBinary()
	if err != nil { // it has none to return
		bytes = nil
	}
	return appendText(b, string(bytes))
}

// appendLength stands for a text that is among the words.
func appendLength(b []byte, s string) []byte { return binary.AppendUvarint(b, uint64(len(s))) }

// payloadReader reads the fields in order; after the first that is damaged
// every further one is zero and bad is true.
type payloadReader struct {
	b     []byte
	words string
	bad   bool
}

func (r *payloadReader) fail() { r.bad, r.b = true, nil }

func (r *payloadReader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *payloadReader) varint() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *payloadReader) small() uint64 {
	v := r.uvarint()
	if v > math.MaxInt32 {
		r.fail()
		return 0
	}
	return v
}

func (r *payloadReader) uint32() uint32 {
	v := r.uvarint()
	if v > math.MaxUint32 {
		r.fail()
		return 0
	}
	return uint32(v)
}

func (r *payloadReader) byte() byte {
	if len(r.b) == 0 {
		r.fail()
		return 0
	}
	v := r.b[0]
	r.b = r.b[1:]
	return v
}

func (r *payloadReader) text() string {
	n := r.uvarint()
	if n > uint64(len(r.b)) {
		r.fail()
		return ""
	}
	s := string(r.b[:n])
	r.b = r.b[n:]
	return s
}

// count reads a length that cannot be more than the bytes that are left,
// because every element takes at least one.
func (r *payloadReader) count() (int, bool) {
	n := r.uvarint()
	if n == 0 {
		return 0, false
	}
	if n-1 > uint64(len(r.b)) {
		r.fail()
		return 0, false
	}
	return int(n - 1), true
}

func (r *payloadReader) word(n uint64) string {
	if n > uint64(len(r.words)) {
		r.fail()
		return ""
	}
	s := r.words[:n]
	r.words = r.words[n:]
	return s
}

func (r *payloadReader) nextWord(n uint64) string {
	rest, ok := strings.CutPrefix(r.words, wordBreak)
	if !ok {
		r.fail()
		return ""
	}
	r.words = rest
	return r.word(n)
}

// nextText reads what appendLength stands for: empty texts are not among the
// words.
func (r *payloadReader) nextText() string {
	n := r.uvarint()
	if n == 0 {
		return ""
	}
	return r.nextWord(n)
}

func (r *payloadReader) texts() []string {
	n, ok := r.count()
	if !ok {
		return nil
	}
	texts := make([]string, n)
	for i := range texts {
		texts[i] = r.text()
	}
	return texts
}

func (r *payloadReader) addrPort() netip.AddrPort {
	var a netip.AddrPort
	if err := a.UnmarshalBinary([]byte(r.text())); err != nil {
		r.fail()
		return netip.AddrPort{}
	}
	return a
}

func (r *payloadReader) uint16() uint16 {
	v := r.uvarint()
	if v > math.MaxUint16 {
		r.fail()
		return 0
	}
	return uint16(v)
}
