package pull

import (
	"errors"
	"fmt"
	"io"
)

const (
	// MaxText bounds one string that is kept of a document that passes; names,
	// versions and licences are far shorter. Strings that are skipped may have any
	// length.
	MaxText = 64 << 10
	// MaxStreamDepth is how deep one may nest: lock files of the first npm format
	// nest dependencies, in practice a dozen deep.
	MaxStreamDepth = 1000
	// bufferSize is how much of a document is held at once, for large ones.
	bufferSize = 64 << 10
)

// ErrTooLarge says that a document is longer than its reader was told to read.
var ErrTooLarge = errors.New("document is too large")

// stream is a document that passes.
type stream struct {
	r       io.Reader
	buf     []byte
	limit   int64
	left    int64
	before  int64 // bytes that have passed and are no longer here
	err     error // why there is no more
	started bool
	key     []byte
}

// NewStream returns a reader of the document r, said to have size bytes (0
// unknown), of which at most limit are read. It is bounded in memory, and more
// lenient than one of a document that is there; what it hands over as bytes is
// valid until the next call of any method but Err.
func NewStream(r io.Reader, size, limit int64) *Reader {
	n := int64(bufferSize)
	if size > 0 && size < n {
		n = max(size+1, 64)
	}
	return &Reader{in: &stream{r: r, buf: make([]byte, n), limit: limit, left: limit}}
}

// more reads on when everything that is here was taken, and reports whether there
// is more.
func (r *Reader) more() bool {
	if r.in == nil || r.err != nil {
		return false
	}
	in := r.in
	const tries = 100
	for i := 0; in.err == nil; i++ {
		var n int
		n, in.err = in.r.Read(in.buf)
		if in.left -= int64(n); in.left < 0 {
			in.err = fmt.Errorf("%w: more than %d bytes", ErrTooLarge, in.limit)
			break
		}
		if n > 0 {
			in.before += int64(len(r.data))
			r.data, r.pos = in.buf[:n], 0
			return true
		}
		if i == tries && in.err == nil {
			in.err = io.ErrNoProgress
		}
	}
	if !errors.Is(in.err, io.EOF) {
		r.Fail(in.err)
	}
	return false
}

// Begin returns the first bytes of a string, most of them, and passes over the
// rest; "" for another kind of value.
func (r *Reader) Begin(most int) string {
	if r.Kind() != String {
		r.Skip()
		return ""
	}
	r.pos++
	return string(r.pieces(most, false))
}

// loose passes over what stands between values of a document that passes: a comment
// or a byte order mark. It reports whether there was one.
func (r *Reader) loose(c byte) bool {
	switch {
	case c == '/':
		return r.comment()
	case c >= 0x80 && !r.in.started:
		r.pos++
		return true
	}
	r.in.started = true
	return false
}

// comment passes over // to the end of the line and /* to */.
func (r *Reader) comment() bool {
	r.pos++
	kind, ok := r.next()
	if !ok {
		return false
	}
	if kind != '/' && kind != '*' {
		r.fail("'/', want a value")
		return false
	}
	for star := false; ; {
		c, ok := r.next()
		if !ok {
			return false
		}
		if kind == '/' && c == '\n' || kind == '*' && star && c == '/' {
			return true
		}
		star = c == '*'
	}
}

// tooDeep fails if the document may not nest deeper than it does.
func (r *Reader) tooDeep() bool {
	if r.in == nil {
		r.Fail(errDeep)
		return true
	}
	if len(r.levels) >= MaxStreamDepth {
		r.Fail(errStreamDeep)
		return true
	}
	return false
}

var errStreamDeep = fmt.Errorf("values nested more than %d deep", MaxStreamDepth)

// looseNested passes over an object or an array without looking at what is in
// it, but for strings and the balance of brackets.
func (r *Reader) looseNested() {
	var open []byte
	for r.space() {
		switch c := r.data[r.pos]; c {
		case '"':
			r.pos++
			if r.pieces(0, false); r.err != nil {
				return
			}
			continue
		case '{', '[':
			if len(open) >= MaxStreamDepth {
				r.Fail(errStreamDeep)
				return
			}
			open = append(open, c)
		case '}', ']':
			if open[len(open)-1] != c-2 { // '[' and ']', '{' and '}' are two apart
				r.fail("%q, want another closing bracket", c)
				return
			}
			if open = open[:len(open)-1]; len(open) == 0 {
				r.pos++
				return
			}
		}
		r.pos++
	}
	r.Fail(errShort)
}

// looseLiteral takes a number, true, false or null.
func (r *Reader) looseLiteral() string {
	r.scratch = r.scratch[:0]
	for n := 0; r.pos < len(r.data) || r.more(); n++ {
		switch c := r.data[r.pos]; {
		case n == 0 && c >= 'a' && c != 't' && c != 'f' && c != 'n':
			r.fail("%q, want a value", c)
			return ""
		case c >= '0' && c <= '9', c >= 'a' && c <= 'z', c == '-', c == '+', c == '.', c == 'E':
			r.pos++
			if len(r.scratch) < MaxText {
				r.scratch = append(r.scratch, c)
			}
		case n == 0:
			r.fail("%q, want a value", c)
			return ""
		default:
			return string(r.scratch)
		}
	}
	return string(r.scratch)
}
