package pull

import (
	"bytes"
	"fmt"
	"io"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// maxDepth bounds how deep objects and arrays are nested: lock files of the
// first npm format nest dependencies, in practice a dozen deep.
const maxDepth = 1000

// JSON reads one JSON document. Comments and commas before a closing bracket
// are taken too, as some tools write them, and a byte order mark.
//
// A value is read by one of Object, Array, Text, Begin, Bool and Skip; one of another
// kind than asked for is skipped.
type JSON struct {
	src     source
	depth   int
	unread  bool // the value of the member or element at hand
	text    []byte
	started bool
}

// NewJSON returns a reader of the document r, said to have size bytes (0
// unknown), of which at most limit are read.
func NewJSON(r io.Reader, size, limit int64) *JSON {
	return &JSON{src: newSource(r, size, limit)}
}

// Object calls member for each member of an object, with a key that is valid
// until the next value is read. A value that member doesn't read is skipped. Its
// error ends the reading and is returned.
func (j *JSON) Object(member func(key []byte) error) error {
	return j.each('{', '}', func(int) error {
		c, err := j.next()
		if err != nil {
			return err
		}
		if c != '"' {
			return j.unexpected(c, "a member's name")
		}
		if err := j.string(MaxText, true); err != nil {
			return err
		}
		key := j.text
		if c, err = j.next(); err != nil {
			return err
		}
		if c != ':' {
			return j.unexpected(c, "a colon")
		}
		j.src.pos++
		j.unread = true
		return member(key)
	})
}

// Array calls element for each element of an array, as Object does for members.
func (j *JSON) Array(element func(i int) error) error {
	return j.each('[', ']', func(i int) error {
		j.unread = true
		return element(i)
	})
}

// each reads an object or an array if the value at hand is one.
func (j *JSON) each(open, shut byte, one func(i int) error) error {
	c, err := j.next()
	if err != nil {
		return err
	}
	if c != open {
		return j.Skip()
	}
	j.src.pos++
	if j.depth++; j.depth > maxDepth {
		return fmt.Errorf("values nested more than %d deep", maxDepth)
	}
	for i := 0; ; i++ {
		if c, err = j.next(); err != nil {
			return err
		}
		if c == ',' && i > 0 {
			j.src.pos++
			if c, err = j.next(); err != nil {
				return err
			}
		} else if i > 0 && c != shut {
			return j.unexpected(c, "a comma")
		}
		if c == shut {
			j.src.pos++
			j.depth--
			j.unread = false
			return nil
		}
		if err := one(i); err != nil {
			return err
		}
		if j.unread {
			if err := j.Skip(); err != nil {
				return err
			}
		}
	}
}

// Text returns a string, or "" for another kind of value. One of more than
// MaxText bytes is an error.
func (j *JSON) Text() (string, error) { return j.textOf(MaxText, true) }

// Begin returns the first bytes of a string, most of them, and passes over the
// rest; "" for another kind of value.
func (j *JSON) Begin(most int) (string, error) { return j.textOf(most, false) }

func (j *JSON) textOf(most int, whole bool) (string, error) {
	c, err := j.next()
	if err != nil {
		return "", err
	}
	if c != '"' {
		return "", j.Skip()
	}
	j.unread = false
	if err := j.string(most, whole); err != nil {
		return "", err
	}
	return string(j.text), nil
}

// Bool says whether the value is the literal true.
func (j *JSON) Bool() (bool, error) {
	c, err := j.next()
	if err != nil {
		return false, err
	}
	return c == 't', j.Skip()
}

// Kind returns the first byte of the value at hand: {, [, ", t, f, n or that of
// a number.
func (j *JSON) Kind() (byte, error) { return j.next() }

// Skip passes over a value.
func (j *JSON) Skip() error {
	j.unread = false
	c, err := j.next()
	if err != nil {
		return err
	}
	switch c {
	case '{', '[':
		return j.skipNested()
	case '"':
		return j.string(0, false)
	}
	return j.literal()
}

// skipNested passes over an object or an array without looking at what is in
// it, but for strings and the balance of brackets.
func (j *JSON) skipNested() error {
	var open []byte
	for {
		c, err := j.next()
		if err != nil {
			return err
		}
		switch c {
		case '"':
			if err := j.string(0, false); err != nil {
				return err
			}
			continue
		case '{', '[':
			if len(open) >= maxDepth {
				return fmt.Errorf("values nested more than %d deep", maxDepth)
			}
			open = append(open, c)
		case '}', ']':
			if open[len(open)-1] != c-2 { // '[' and ']', '{' and '}' are two apart
				return j.unexpected(c, "another closing bracket")
			}
			if open = open[:len(open)-1]; len(open) == 0 {
				j.src.pos++
				return nil
			}
		}
		j.src.pos++
	}
}

// literal passes over a number, true, false or null.
func (j *JSON) literal() error {
	for n := 0; j.src.fill(); n++ {
		switch c := j.src.buf[j.src.pos]; {
		case n == 0 && c >= 'a' && c != 't' && c != 'f' && c != 'n':
			return j.unexpected(c, "a value")
		case c >= '0' && c <= '9', c >= 'a' && c <= 'z', c == '-', c == '+', c == '.', c == 'E':
			j.src.pos++
		case n == 0:
			return j.unexpected(c, "a value")
		default:
			return nil
		}
	}
	if j.src.err == io.EOF {
		return nil
	}
	return j.src.err
}

// next returns the next byte that is not blank, without taking it.
func (j *JSON) next() (byte, error) {
	for j.src.fill() {
		for ; j.src.pos < j.src.end; j.src.pos++ {
			c := j.src.buf[j.src.pos]
			switch {
			case c == ' ' || c == '\t' || c == '\n' || c == '\r':
			case c == '/':
				if err := j.comment(); err != nil {
					return 0, err
				}
				j.src.pos-- // the loop takes it again
			case c >= 0x80 && !j.started: // a byte order mark
			default:
				j.started = true
				return c, nil
			}
		}
	}
	return 0, j.src.failure()
}

// comment passes over // to the end of the line and /* to */.
func (j *JSON) comment() error {
	j.src.pos++
	if !j.src.fill() {
		return j.src.failure()
	}
	kind := j.src.buf[j.src.pos]
	if kind != '/' && kind != '*' {
		return j.unexpected('/', "a value")
	}
	j.src.pos++
	star := false
	for j.src.fill() {
		c := j.src.buf[j.src.pos]
		j.src.pos++
		if kind == '/' && c == '\n' || kind == '*' && star && c == '/' {
			if !j.src.fill() {
				return j.src.failure()
			}
			return nil
		}
		star = c == '*'
	}
	return j.src.failure()
}

// string takes a string and leaves its first bytes in j.text, most of them. One
// that has more is an error if it is wanted whole.
func (j *JSON) string(most int, whole bool) error {
	j.src.pos++
	j.text = j.text[:0]
	for j.src.fill() {
		piece := j.src.buf[j.src.pos:j.src.end]
		n := plain(piece)
		if whole && len(j.text)+n > most {
			return fmt.Errorf("string of more than %d bytes", most)
		}
		j.text = append(j.text, piece[:min(n, most-len(j.text))]...)
		j.src.pos += n
		if n == len(piece) {
			continue
		}
		j.src.pos++
		if piece[n] == '"' {
			return nil
		}
		if err := j.escape(); err != nil {
			return err
		}
		if len(j.text) > most {
			if whole {
				return fmt.Errorf("string of more than %d bytes", most)
			}
			j.text = j.text[:most]
		}
	}
	return j.src.failure()
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

// escape takes what follows a backslash.
func (j *JSON) escape() error {
	if !j.src.fill() {
		return j.src.failure()
	}
	c := j.src.buf[j.src.pos]
	j.src.pos++
	switch c {
	case 'b', 'f', 'n', 'r', 't':
		c = map[byte]byte{'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t'}[c]
	case 'u':
		r, err := j.hex4()
		if err != nil {
			return err
		}
		return j.unicode(r)
	}
	j.text = append(j.text, c)
	return nil
}

// unicode adds a code point; the second half of a pair must follow the first,
// or both become the replacement character.
func (j *JSON) unicode(r rune) error {
	if utf16.IsSurrogate(r) && j.src.fill() && j.src.buf[j.src.pos] == '\\' {
		j.src.pos++
		if !j.src.fill() {
			return j.src.failure()
		}
		if j.src.buf[j.src.pos] != 'u' {
			j.text = utf8.AppendRune(j.text, utf8.RuneError)
			return j.escape()
		}
		j.src.pos++
		second, err := j.hex4()
		if err != nil {
			return err
		}
		r = utf16.DecodeRune(r, second)
	}
	j.text = utf8.AppendRune(j.text, r)
	return nil
}

func (j *JSON) hex4() (rune, error) {
	var digits [4]byte
	for i := range digits {
		if !j.src.fill() {
			return 0, j.src.failure()
		}
		digits[i] = j.src.buf[j.src.pos]
		j.src.pos++
	}
	n, err := strconv.ParseUint(string(digits[:]), 16, 16)
	if err != nil {
		return 0, fmt.Errorf("escape \\u%q: want four hex digits", digits[:])
	}
	return rune(n), nil
}

func (j *JSON) unexpected(c byte, want string) error {
	at := j.src.limit - j.src.left - int64(j.src.end-j.src.pos)
	return fmt.Errorf("JSON at byte %d: %q, want %s", at, c, want)
}
