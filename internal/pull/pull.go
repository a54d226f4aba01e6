// Package pull reads JSON documents by being asked for the next value: nothing is
// built that the caller did not ask for, and what it does not know is skipped
// without being stored. It is several times as fast as encoding/json on the
// documents of advisory feeds, of which there are a million, and it bounds how
// deep a document nests.
//
//	if r.Object() {
//		for r.Next() {
//			switch string(r.Key()) {
//			case "id":
//				id = r.Text()
//			default:
//				r.Skip()
//			}
//		}
//	}
//	return r.End()
//
// The first error ends all loops and is kept; End returns it. It is not for
// writing JSON, and not for telling numbers apart: they are handed over as text.
//
// A document that is in memory is read strictly, without copying what it holds. One
// that passes (see NewStream) is read in bounded memory, and as the tools that write
// manifests and lock files write: with comments, commas at ends and escapes of
// their own.
package pull

import (
	"bytes"
	"fmt"
	"io"
	"unicode/utf8"
)

// MaxDepth is how deep a document may nest. The deepest of the feeds, the product
// tree of a CSAF document, has about fifteen levels; encoding/json allows 10,000.
const MaxDepth = 64

var (
	errShort = fmt.Errorf("the document ends too early: %w", io.ErrUnexpectedEOF)
	errDeep  = fmt.Errorf("the document nests deeper than %d levels", MaxDepth)
)

// Kind is what the next value is.
type Kind byte

// The kinds of value. None stands for the end of the document, and for what no
// value begins with.
const (
	None   Kind = 0
	Null   Kind = 'n'
	Bool   Kind = 't'
	Number Kind = '0'
	String Kind = '"'
	List   Kind = '['
	Struct Kind = '{'
)

// Reader reads one document after the other. The zero value is an empty
// document; Reset gives it another one, and NewStream makes one of a document that
// passes.
type Reader struct {
	data []byte // the document, or what is here of one that passes
	pos  int
	err  error
	in   *stream // nil: all of it is in data

	levels  []level // that the reader is in, the innermost last
	key     []byte
	scratch []byte // holds unescaped text
}

// level is an array or an object that the reader is in.
type level uint8

const (
	object  level = 1 << iota
	started       // has had an element
)

// Reset makes the reader read data from its beginning. The data is not changed,
// and must not be while it is read.
func (r *Reader) Reset(data []byte) {
	*r = Reader{data: data, scratch: r.scratch[:0], levels: r.levels[:0]}
	if bytes.HasPrefix(data, []byte("\xef\xbb\xbf")) { // some publishers' editors leave a byte order mark
		r.pos = 3
	}
}

// End returns the first error, or one if something follows the value.
func (r *Reader) End() error {
	if r.err == nil && len(r.levels) == 0 && r.space() {
		r.fail("something follows the document")
	}
	return r.err
}

// Err returns the first error so far.
func (r *Reader) Err() error { return r.err }

// Offset returns how many bytes were read of a document that does not pass.
func (r *Reader) Offset() int { return r.pos }

// Fail makes err the reader's error, unless it has one; all loops end.
func (r *Reader) Fail(err error) {
	if r.err == nil {
		r.err = err
	}
}

func (r *Reader) fail(format string, args ...any) {
	if r.err == nil {
		at := int64(r.pos)
		if r.in != nil {
			at += r.in.before
		}
		r.err = fmt.Errorf("JSON at byte %d: %w", at, fmt.Errorf(format, args...))
	}
}

// space skips white space and reports whether something follows.
func (r *Reader) space() bool {
	if r.in == nil && r.pos < len(r.data) && r.data[r.pos] > ' ' { // as a rule
		return true
	}
	return r.blanks()
}

func (r *Reader) blanks() bool {
	for {
		for r.pos < len(r.data) {
			switch c := r.data[r.pos]; c {
			case ' ', '\t', '\n', '\r':
				r.pos++
			default:
				if r.in == nil || !r.loose(c) {
					return r.err == nil
				}
			}
		}
		if !r.more() {
			return false
		}
	}
}

// Kind returns what the next value is, without reading it.
func (r *Reader) Kind() Kind {
	if r.err != nil || !r.space() {
		return None
	}
	switch c := r.data[r.pos]; c {
	case '"', '[', '{', 'n':
		return Kind(c)
	case 't', 'f':
		return Bool
	case '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
		return Number
	}
	return None
}

// Object enters an object and reports whether there is one: null is none. Any
// other value is an error.
func (r *Reader) Object() bool { return r.enter('{', "an object") }

// Array enters an array and reports whether there is one: null is none. Any other
// value is an error.
func (r *Reader) Array() bool { return r.enter('[', "an array") }

func (r *Reader) enter(open byte, what string) bool {
	if r.null() {
		return false
	}
	if r.err != nil {
		return false
	}
	if r.pos >= len(r.data) || r.data[r.pos] != open {
		r.fail("want %s", what)
		return false
	}
	if len(r.levels) >= MaxDepth && r.tooDeep() {
		return false
	}
	l := level(0)
	if open == '{' {
		l = object
	}
	r.levels = append(r.levels, l)
	r.pos++
	return true
}

// null reads a null, and reports whether there was one. It leaves pos at the next
// value if there was none.
func (r *Reader) null() bool {
	if r.err != nil {
		return false
	}
	if !r.space() {
		r.Fail(errShort)
		return false
	}
	if r.data[r.pos] != 'n' {
		return false
	}
	r.literal("null")
	return r.err == nil
}

func (r *Reader) literal(word string) {
	if r.in != nil {
		r.looseLiteral()
		return
	}
	if len(r.data)-r.pos < len(word) || string(r.data[r.pos:r.pos+len(word)]) != word {
		r.fail("want %s", word)
		return
	}
	r.pos += len(word)
}

// Next goes to the next element of the innermost array or object and reports
// whether there is one; in an object Key is its name. At the end it leaves the
// array or object. The element must be read or skipped before the next call.
func (r *Reader) Next() bool {
	if r.err != nil {
		return false
	}
	if !r.space() {
		r.Fail(errShort)
		return false
	}
	l := &r.levels[len(r.levels)-1]
	closing := byte(']')
	if *l&object != 0 {
		closing = '}'
	}
	if r.data[r.pos] == closing {
		return r.leave()
	}
	if *l&started != 0 {
		if r.data[r.pos] != ',' {
			r.fail("%q, want a comma or %c", r.data[r.pos], closing)
			return false
		}
		r.pos++
		if r.in != nil && r.space() && r.data[r.pos] == closing { // some write a comma there
			return r.leave()
		}
	}
	*l |= started
	return *l&object == 0 || r.name()
}

// leave leaves the innermost array or object.
func (r *Reader) leave() bool {
	r.pos++
	r.levels = r.levels[:len(r.levels)-1]
	return false
}

// name reads the name of an element, and the colon.
func (r *Reader) name() bool {
	if !r.space() {
		r.Fail(errShort)
		return false
	}
	if r.data[r.pos] != '"' {
		r.fail("%q, want a name", r.data[r.pos])
		return false
	}
	r.key = r.quoted()
	if r.in != nil { // what passes is overwritten by what follows
		r.in.key = append(r.in.key[:0], r.key...)
		r.key = r.in.key
	}
	if !r.space() {
		r.Fail(errShort)
		return false
	}
	if r.data[r.pos] != ':' {
		r.fail("%q, want a colon", r.data[r.pos])
		return false
	}
	r.pos++
	return r.err == nil
}

// Key returns the name of the element that Next went to. It is valid until the
// next call of any method.
func (r *Reader) Key() []byte { return r.key }

// Name is Key as a string of its own, with what is not UTF-8 replaced.
func (r *Reader) Name() string { return toString(r.key) }

// Text reads a string. Null is empty; any other value is an error. What is not
// UTF-8 in it is replaced.
func (r *Reader) Text() string { return toString(r.Bytes()) }

// Bytes is Text without a copy: valid until the next call of any method, and
// not checked to be UTF-8.
func (r *Reader) Bytes() []byte {
	if r.null() || r.err != nil {
		return nil
	}
	if r.data[r.pos] != '"' {
		r.fail("want a string")
		return nil
	}
	return r.quoted()
}

func toString(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	s := string(b)
	if !utf8.ValidString(s) {
		return string([]rune(s)) // one U+FFFD for each wrong byte
	}
	return s
}

// Scalar reads a string, a number or a truth value as text; null and whatever is
// an array or object is empty. It is for fields that publishers write now one
// way and now another.
func (r *Reader) Scalar() string {
	switch r.Kind() {
	case String:
		return r.Text()
	case Number, Bool:
		if r.in != nil {
			return r.looseLiteral()
		}
		start := r.pos
		r.Skip()
		return string(r.data[start:r.pos])
	}
	r.Skip()
	return ""
}

// True reads a value and reports whether it is the literal true.
func (r *Reader) True() bool {
	is := r.Kind() == Bool && r.data[r.pos] == 't'
	r.Skip()
	return is
}

// Strings reads an array of at most limit strings; null is none. A single string
// counts as an array of one.
func (r *Reader) Strings(limit int) []string {
	if r.Kind() == String {
		return []string{r.Text()}
	}
	var all []string
	if r.Array() {
		for r.Next() {
			if len(all) == limit {
				r.fail("more than %d elements", limit)
				break
			}
			all = append(all, r.Text())
		}
	}
	return all
}
