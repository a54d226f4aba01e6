package report

import (
	"bytes"
	"encoding/json"
	"io"
)

// encode writes v as JSON for people and programs: indented, with texts as they
// are.
func encode(w io.Writer, v any) error {
	in := &indenter{w: w, out: make([]byte, 0, 2*indentFlush)}
	e := json.NewEncoder(in)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return err
	}
	return in.flush()
}

// indentFlush is how much is written at once.
const indentFlush = 32 << 10

// indenter writes what an Encoder writes, which has no blanks between tokens, as
// json.Indent would. That one checks again what is written, which takes longer
// than all else that is left to do when an image is scanned again.
type indenter struct {
	w      io.Writer
	out    []byte
	depth  int
	text   bool // it is within a string
	escape bool // behind a backslash in one
	opened bool // a bracket is open with nothing in it
}

// Write is io.Writer.
func (in *indenter) Write(b []byte) (int, error) {
	for at := 0; at < len(b); {
		if in.text {
			n := in.ends(b[at:])
			in.out = append(in.out, b[at:at+n]...)
			at += n
		} else {
			in.token(b[at])
			at++
		}
		if len(in.out) >= indentFlush {
			if err := in.flush(); err != nil {
				return at, err
			}
		}
	}
	return len(b), nil
}

func (in *indenter) flush() error {
	_, err := in.w.Write(in.out)
	in.out = in.out[:0]
	return err
}

// ends returns how much of b belongs to the string that is being written.
func (in *indenter) ends(b []byte) int {
	// Most strings have nothing escaped in them.
	if i := bytes.IndexByte(b, '"'); i >= 0 && !in.escape && bytes.IndexByte(b[:i], '\\') < 0 {
		in.text = false
		return i + 1
	}
	for i, c := range b {
		switch {
		case in.escape:
			in.escape = false
		case c == '\\':
			in.escape = true
		case c == '"':
			in.text = false
			return i + 1
		}
	}
	return len(b)
}

// token writes a byte that is in no string.
func (in *indenter) token(c byte) {
	if c == '}' || c == ']' {
		in.depth--
		if !in.opened {
			in.newline()
		}
		in.opened = false
		in.out = append(in.out, c)
		return
	}
	if in.opened {
		in.opened = false
		in.newline()
	}
	in.out = append(in.out, c)
	switch c {
	case '"':
		in.text = true
	case '{', '[':
		in.depth++
		in.opened = true
	case ',':
		in.newline()
	case ':':
		in.out = append(in.out, ' ')
	}
}

func (in *indenter) newline() {
	const line = "\n                                " // most are not deeper
	in.out = append(in.out, line[:min(len(line), 1+2*in.depth)]...)
	for range in.depth - len(line)/2 {
		in.out = append(in.out, "  "...)
	}
}

// writeJSON writes everything that is known, in the product's own form: fields
// are only ever added to it.
func writeJSON(w io.Writer, reports []Report, o Options) error {
	return encode(w, struct {
		Tool    string   `json:"tool"`
		Version string   `json:"version"`
		Reports []Report `json:"reports"`
	}{o.Tool, o.Version, reports})
}

// one writes the one document, or several as an array.
func one[T any](w io.Writer, documents []T) error {
	if len(documents) == 1 {
		return encode(w, documents[0])
	}
	return encode(w, documents)
}
