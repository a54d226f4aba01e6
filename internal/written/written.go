// Package written has the words for documents that people write, such as
// policies: one document of YAML or JSON of which every part has its place, so that
// what is wrong with it is told where it stands.
//
// It is not for what a document means: that is for the room that reads it.
package written

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// maxRetried bounds the bytes that are parsed again to find where a document is
// broken: a quarter of a second's work.
const maxRetried = 4 << 20

// Limits are those of a document as such, and what it is called.
type Limits struct {
	Name   string // what problems call the document: "policy"; without one "document"
	Depth  int    // of values within values
	Values int
}

func (o Limits) name() string { return cmp.Or(o.Name, "document") }

// Document is what a text parses to. Its nodes have no anchors, aliases or tags.
type Document struct {
	Root  *yaml.Node
	Lines []string // of the text, for columns within blocks
}

// Parse parses a text. The Problem says why that is not possible, and where; it is
// nil if it is, and its remedy may be empty.
func Parse(b []byte, o Limits) (d Document, broken *Problem) {
	if trimmed := bytes.TrimSpace(b); len(trimmed) > 0 && trimmed[0] == '{' && json.Valid(trimmed) {
		b = bytes.ReplaceAll(b, []byte("\t"), []byte(" ")) // blanks to JSON, errors to YAML
	}
	d.Lines = strings.Split(string(b), "\n")
	n, err := parse(b)
	if errors.Is(err, errEmpty) {
		return d, &Problem{Text: "the " + o.name() + " is empty"}
	}
	if err != nil {
		p, said := Position{}, strings.TrimPrefix(err.Error(), "yaml: ")
		if isYAML(err) {
			p, said = located(d.Lines, said)
		}
		return d, &Problem{Position: p, Text: said}
	}
	if n.Kind == yaml.DocumentNode {
		n = n.Content[0]
	}
	left := o.Values
	if broken := plain(n, 0, o, &left); broken != nil {
		return d, broken
	}
	d.Root = n
	return d, nil
}

// At is the place of a node.
func At(n *yaml.Node) Position { return Position{n.Line, n.Column} }

// Within is where in the document a place in a node's text is, by line and column of
// that text, both from 1. A place that can't be told is the node's own.
func (d *Document) Within(n *yaml.Node, line, column int) Position {
	p := At(n)
	switch {
	case n.Style&yaml.LiteralStyle != 0:
		p.Line += line
		if p.Line-1 < len(d.Lines) {
			// The block's own indentation is what the line has in the document and not
			// in the text.
			p.Column = column + Blanks(d.Lines[p.Line-1]) - Blanks(nth(n.Value, line))
		}
	case n.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle) != 0 && line == 1:
		p.Column += column
	case n.Style == 0 && line == 1:
		p.Column += column - 1
	}
	return p
}

// nth returns a line of a text, counted from 1.
func nth(text string, line int) string {
	if all := strings.Split(text, "\n"); line <= len(all) {
		return all[line-1]
	}
	return ""
}

// Moment reads a date, which means its first second in UTC, or a time.
func Moment(n *yaml.Node) (time.Time, bool) {
	if n.Kind == yaml.ScalarNode {
		for _, form := range []string{time.RFC3339, time.DateOnly} {
			if t, err := time.Parse(form, n.Value); err == nil && t.Year() > 1970 && t.Year() < 9999 {
				return t.UTC(), true
			}
		}
	}
	return time.Time{}, false
}

// errEmpty is of a text without a value.
var errEmpty = errors.New("it is empty")

func parse(b []byte) (n *yaml.Node, err error) {
	defer func() {
		// The library is known to panic on some damaged documents.
		if p := recover(); p != nil {
			n, err = nil, fmt.Errorf("no YAML: %v", p)
		}
	}()
	d := yaml.NewDecoder(bytes.NewReader(b))
	n = &yaml.Node{}
	if err := d.Decode(n); errors.Is(err, io.EOF) || err == nil && len(n.Content) == 0 {
		return nil, errEmpty
	} else if err != nil {
		return nil, err
	}
	var second yaml.Node
	if err := d.Decode(&second); !errors.Is(err, io.EOF) {
		return nil, errors.New("there is more than one document")
	}
	return n, nil
}

// plain refuses what a document doesn't need and what makes documents grow when
// they are read: anchors, aliases, tags.
func plain(n *yaml.Node, depth int, o Limits, left *int) *Problem {
	*left--
	switch {
	case depth > o.Depth:
		return &Problem{Position: At(n), Text: fmt.Sprintf("values within values, more than %d deep", o.Depth)}
	case *left < 0:
		return &Problem{Position: At(n), Text: fmt.Sprintf("more than %d values", o.Values)}
	case n.Kind == yaml.AliasNode || n.Anchor != "" || n.Tag == "!!merge":
		return &Problem{Position: At(n), Text: "anchors and aliases are not read in a " + o.name() + ": each line must say what it means", Remedy: "write the value out where it is needed"}
	case n.Style&yaml.TaggedStyle != 0:
		return &Problem{Position: At(n), Text: fmt.Sprintf("tags (%s) are not read in a %s", n.Tag, o.name()), Remedy: "leave the tag out"}
	}
	for _, c := range n.Content {
		if broken := plain(c, depth+1, o, left); broken != nil {
			return broken
		}
	}
	return nil
}

// located says where YAML can't be gone on with. The parser tells no place, or where
// the list or map begins in which it gave up, which can be the first line of all. It
// is the line behind the longest beginning of the text that can be parsed.
func located(lines []string, said string) (Position, string) {
	if rest, ok := strings.CutPrefix(said, "line "); ok {
		if digits, rest, ok := strings.Cut(rest, ": "); ok && strings.Trim(digits, "0123456789") == "" {
			said = rest
		}
	}
	left := maxRetried
	good, bad := 0, len(lines) // so many lines parse, and so many don't
	for bad-good > 1 {
		mid := (good + bad) / 2
		switch n := parses(lines, mid, bad, &left); {
		case left < 0:
			return Position{}, said
		case n > 0:
			good = n
		default:
			bad = mid
		}
	}
	text := lines[min(good, len(lines)-1)]
	return Position{good + 1, min(Blanks(text)+1, max(1, len(text)))}, said
}

// parses returns how many lines can be parsed, n or hardly more and fewer than most:
// within brackets and quotes that go over several lines no beginning parses. It
// returns 0 if none of these does.
func parses(lines []string, n, most int, left *int) int {
	const brackets = 12 // lines
	for k := n; k < min(most, n+brackets); k++ {
		text := strings.Join(lines[:k], "\n")
		if *left -= len(text); *left < 0 {
			return 0
		}
		if _, err := parse([]byte(text)); err == nil || !isYAML(err) {
			return k
		}
	}
	return 0
}

// isYAML reports an error of the parser's.
func isYAML(err error) bool { return strings.HasPrefix(err.Error(), "yaml: ") }

// Blanks is how many blanks a line begins with.
func Blanks(line string) int { return len(line) - len(strings.TrimLeft(line, " ")) }
