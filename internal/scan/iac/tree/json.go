package tree

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/scan/blueprint"
)

// JSON reads a document in JSON. file is named in places; first is where it
// begins, the zero value for the beginning of the file.
func JSON(b []byte, file string, first finding.Position) (*Node, error) {
	if len(b) > MaxBytes {
		return nil, fmt.Errorf("%d bytes, and at most %d are read", len(b), MaxBytes)
	}
	b = bytes.TrimPrefix(b, []byte("\xef\xbb\xbf"))
	if first.Line == 0 {
		first = finding.Position{Line: 1, Column: 1}
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	r := &jsonReader{b: b, d: d, file: file, line: first.Line, lineAt: 1 - first.Column}
	n, err := r.value(0)
	if err != nil {
		return nil, r.explain(err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("line %d: something follows the document", r.line)
	}
	return n, nil
}

// jsonReader turns tokens into nodes, and offsets into lines as it goes.
type jsonReader struct {
	budget
	b      []byte
	d      *json.Decoder
	file   string
	seen   int // offset up to which lines are counted
	line   int
	lineAt int // offset at which the line begins
}

// explain says in which line a mistake is.
func (r *jsonReader) explain(err error) error {
	var syntax *json.SyntaxError
	switch {
	case errors.As(err, &syntax):
		return fmt.Errorf("line %d: %w", r.at(int(syntax.Offset)).Line, err)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("line %d: the document is cut off", r.at(len(r.b)).Line)
	}
	return fmt.Errorf("line %d: %w", r.line, err)
}

// at is the position of an offset, which must not go back.
func (r *jsonReader) at(offset int) finding.Position {
	offset = min(max(offset, r.seen), len(r.b))
	for r.seen < offset {
		i := bytes.IndexByte(r.b[r.seen:offset], '\n')
		if i < 0 {
			break
		}
		r.seen += i + 1
		r.line++
		r.lineAt = r.seen
	}
	r.seen = offset
	return finding.Position{Line: r.line, Column: offset - r.lineAt + 1}
}

// token reads the next one with its place.
func (r *jsonReader) token() (json.Token, blueprint.Span, error) {
	from := int(r.d.InputOffset())
	for from < len(r.b) && bytes.IndexByte([]byte(" \t\r\n,:"), r.b[from]) >= 0 {
		from++
	}
	t, err := r.d.Token()
	if err != nil {
		return nil, blueprint.Span{}, err
	}
	at := blueprint.Span{File: r.file, Start: r.at(from)}
	at.End = r.at(int(r.d.InputOffset()))
	return t, at, nil
}

func (r *jsonReader) value(depth int) (*Node, error) {
	t, at, err := r.token()
	if err != nil {
		return nil, err
	}
	return r.of(t, at, depth)
}

func (r *jsonReader) of(t json.Token, at blueprint.Span, depth int) (*Node, error) {
	if err := r.take(depth); err != nil {
		return nil, err
	}
	n := &Node{At: at}
	switch t := t.(type) {
	case string:
		n.Kind, n.Text = Text, t
	case json.Number:
		n.Kind, n.Text = Number, t.String()
	case bool:
		n.Kind, n.Text = Bool, fmt.Sprint(t)
	case json.Delim:
		if t == '{' {
			n.Kind = Map
			return n, r.members(n, depth)
		}
		n.Kind = List
		return n, r.items(n, depth)
	}
	return n, nil
}

func (r *jsonReader) members(n *Node, depth int) error {
	for {
		t, at, err := r.token()
		if err != nil {
			return err
		}
		key, ok := t.(string)
		if !ok { // the closing brace
			n.At.End = at.End
			return nil
		}
		v, err := r.value(depth + 1)
		if err != nil {
			return err
		}
		n.Fields = append(n.Fields, Field{key, at, v})
	}
}

func (r *jsonReader) items(n *Node, depth int) error {
	for {
		t, at, err := r.token()
		if err != nil {
			return err
		}
		if t == json.Delim(']') {
			n.At.End = at.End
			return nil
		}
		v, err := r.of(t, at, depth+1)
		if err != nil {
			return err
		}
		n.Items = append(n.Items, v)
	}
}
