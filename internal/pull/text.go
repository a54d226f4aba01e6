package pull

import (
	"bytes"
	"fmt"
	"math"
	"unicode/utf16"
	"unicode/utf8"
)

// quoted reads the string that begins at pos. Without escapes it is a part of the
// document, else it is in scratch.
func (r *Reader) quoted() []byte {
	r.pos++
	most := math.MaxInt
	if r.in != nil {
		most = MaxText
	}
	rest := r.data[r.pos:]
	end := bytes.IndexByte(rest, '"')
	if end < 0 && r.in == nil {
		r.pos = len(r.data)
		r.Fail(errShort)
		return nil
	}
	if end >= 0 && end <= most && bytes.IndexByte(rest[:end], '\\') < 0 {
		r.pos += end + 1
		return rest[:end]
	}
	return r.pieces(most, true)
}

// pieces reads a string piece by piece, from its first byte on, and returns its first
// bytes, most of them. One that has more is an error if it is wanted whole.
func (r *Reader) pieces(most int, whole bool) []byte {
	r.scratch = r.scratch[:0]
	for r.pos < len(r.data) || r.more() {
		piece := r.data[r.pos:]
		n := plain(piece)
		if whole && len(r.scratch)+n > most {
			return r.tooLong(most)
		}
		r.scratch = append(r.scratch, piece[:min(n, most-len(r.scratch))]...)
		r.pos += n
		if n == len(piece) {
			continue
		}
		r.pos++
		if piece[n] == '"' {
			return r.scratch
		}
		if !r.escape() {
			return nil
		}
		if len(r.scratch) > most {
			if whole {
				return r.tooLong(most)
			}
			r.scratch = r.scratch[:most]
		}
	}
	r.Fail(errShort)
	return nil
}

func (r *Reader) tooLong(most int) []byte {
	r.Fail(fmt.Errorf("string of more than %d bytes", most))
	return nil
}

// plain counts the bytes before a quote or a backslash.
func plain(b []byte) int {
	if n := bytes.IndexByte(b, '"'); n >= 0 {
		b = b[:n]
	}
	if n := bytes.IndexByte(b, '\\'); n >= 0 {
		return n
	}
	return len(b)
}

// next takes the next byte.
func (r *Reader) next() (byte, bool) {
	if r.pos >= len(r.data) && !r.more() {
		r.Fail(errShort)
		return 0, false
	}
	c := r.data[r.pos]
	r.pos++
	return c, true
}

// escape reads what follows a backslash.
func (r *Reader) escape() bool {
	c, ok := r.next()
	return ok && r.escaped(c)
}

// escaped takes the first byte behind a backslash, and what belongs to it.
func (r *Reader) escaped(c byte) bool {
	switch c {
	case '"', '\\', '/':
	case 'n':
		c = '\n'
	case 't':
		c = '\t'
	case 'r':
		c = '\r'
	case 'b':
		c = '\b'
	case 'f':
		c = '\f'
	case 'u':
		return r.unicode()
	default:
		if r.in == nil {
			r.fail("unknown escape")
			return false
		}
	}
	r.scratch = append(r.scratch, c)
	return true
}

// unicode reads the digits of \uXXXX, and of the second half of a surrogate pair.
// Half a pair is the replacement character, and what follows it is of its own.
func (r *Reader) unicode() bool {
	first, ok := r.hex()
	for ok && utf16.IsSurrogate(first) {
		if r.pos >= len(r.data) && !r.more() || r.data[r.pos] != '\\' {
			break
		}
		r.pos++
		c, more := r.next()
		if !more {
			return false
		}
		if c != 'u' {
			r.scratch = utf8.AppendRune(r.scratch, utf8.RuneError)
			return r.escaped(c)
		}
		second, digits := r.hex()
		if !digits {
			return false
		}
		both := utf16.DecodeRune(first, second)
		r.scratch = utf8.AppendRune(r.scratch, both)
		if both != utf8.RuneError {
			return true
		}
		first = second
	}
	if !ok {
		return false
	}
	if utf16.IsSurrogate(first) {
		first = utf8.RuneError
	}
	r.scratch = utf8.AppendRune(r.scratch, first)
	return true
}

func (r *Reader) hex() (rune, bool) {
	var v rune
	for range 4 {
		c, ok := r.next()
		if !ok {
			return 0, false
		}
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			r.fail("want four hexadecimal digits")
			return 0, false
		}
		v = v<<4 | rune(c)
	}
	return v, true
}
