package pull

import (
	"bytes"
	"unicode/utf16"
	"unicode/utf8"
)

// quoted reads the string that begins at pos. Without escapes it is a part of the
// document, else it is in scratch.
func (r *Reader) quoted() []byte {
	r.pos++
	rest := r.data[r.pos:]
	end := bytes.IndexByte(rest, '"')
	if end < 0 {
		r.pos = len(r.data)
		r.Fail(errShort)
		return nil
	}
	if bytes.IndexByte(rest[:end], '\\') < 0 {
		r.pos += end + 1
		return rest[:end]
	}
	return r.escaped()
}

// escaped reads a string with escapes, from its first byte on.
func (r *Reader) escaped() []byte {
	r.scratch = r.scratch[:0]
	for r.pos < len(r.data) {
		rest := r.data[r.pos:]
		special := bytes.IndexAny(rest, "\"\\")
		if special < 0 {
			break
		}
		r.scratch = append(r.scratch, rest[:special]...)
		r.pos += special + 1
		if rest[special] == '"' {
			return r.scratch
		}
		if !r.escape() {
			return nil
		}
	}
	r.Fail(errShort)
	return nil
}

// escape reads what follows a backslash.
func (r *Reader) escape() bool {
	if r.pos >= len(r.data) {
		r.Fail(errShort)
		return false
	}
	c := r.data[r.pos]
	r.pos++
	switch c {
	case '"', '\\', '/':
		r.scratch = append(r.scratch, c)
	case 'n':
		r.scratch = append(r.scratch, '\n')
	case 't':
		r.scratch = append(r.scratch, '\t')
	case 'r':
		r.scratch = append(r.scratch, '\r')
	case 'b':
		r.scratch = append(r.scratch, '\b')
	case 'f':
		r.scratch = append(r.scratch, '\f')
	case 'u':
		return r.unicode()
	default:
		r.fail("unknown escape")
		return false
	}
	return true
}

// unicode reads the digits of \uXXXX, and of the second half of a surrogate pair.
func (r *Reader) unicode() bool {
	first, ok := r.hex()
	if !ok {
		return false
	}
	if utf16.IsSurrogate(first) {
		back := r.pos
		if len(r.data)-r.pos >= 6 && r.data[r.pos] == '\\' && r.data[r.pos+1] == 'u' {
			r.pos += 2
			second, ok := r.hex()
			if !ok {
				return false
			}
			if both := utf16.DecodeRune(first, second); both != utf8.RuneError {
				r.scratch = utf8.AppendRune(r.scratch, both)
				return true
			}
			r.pos = back // the second is one of its own
		}
		first = utf8.RuneError
	}
	r.scratch = utf8.AppendRune(r.scratch, first)
	return true
}

func (r *Reader) hex() (rune, bool) {
	if len(r.data)-r.pos < 4 {
		r.Fail(errShort)
		return 0, false
	}
	var v rune
	for _, c := range r.data[r.pos : r.pos+4] {
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
	r.pos += 4
	return v, true
}
