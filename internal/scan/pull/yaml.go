package pull

import (
	"bytes"
	"io"
	"strconv"
	"strings"
)

// YAML reads a document line by line: each key with its scalar, each item of a
// sequence. How keys are nested shows in how far they are indented.
type YAML struct {
	lines *Lines
	// block is how far the owner of a block scalar (| or >) is indented; lines
	// further in are its text. -1 outside of one.
	block int
}

// YAMLLine is a key, an item or an item that is a key.
type YAMLLine struct {
	// Indent counts the blanks before the line's first character, a dash
	// included.
	Indent int
	Item   bool // it has a dash before it
	// Key is without quotes; empty for an item that is a scalar.
	Key string
	// Value is a scalar without quotes, or a flow collection as it is written.
	Value string
}

// NewYAML returns a reader of the document r, said to have size bytes (0
// unknown), of which at most limit are read.
func NewYAML(r io.Reader, size, limit int64) *YAML {
	return &YAML{lines: NewLines(r, size, limit), block: -1}
}

// Next returns the next line that has something, io.EOF after the last.
func (y *YAML) Next() (YAMLLine, error) {
	for {
		b, err := y.lines.Next()
		if err != nil {
			return YAMLLine{}, err
		}
		text := bytes.TrimLeft(b, " ")
		indent := len(b) - len(text)
		if len(text) == 0 || y.block >= 0 && indent > y.block {
			continue
		}
		y.block = -1
		if text[0] == '#' || text[0] == '%' || indent == 0 && (bytes.HasPrefix(text, []byte("---")) || bytes.HasPrefix(text, []byte("..."))) {
			continue
		}
		line := YAMLLine{Indent: indent}
		y.parse(&line, string(text))
		return line, nil
	}
}

// parse takes a line apart.
func (y *YAML) parse(line *YAMLLine, s string) {
	inner := line.Indent
	if s == "-" {
		line.Item = true
		return
	}
	if rest, ok := strings.CutPrefix(s, "- "); ok {
		line.Item = true
		trimmed := strings.TrimLeft(rest, " ")
		inner += 2 + len(rest) - len(trimmed)
		s = trimmed
	}
	// A key of more than 1,024 characters stands alone after a question mark.
	s, long := strings.CutPrefix(s, "? ")
	key, value, ok := splitKey(s)
	switch {
	case ok:
		line.Key, line.Value = key, scalar(value)
	case long:
		line.Key = scalar(s)
	default:
		line.Value = scalar(s)
		return
	}
	if strings.HasPrefix(value, "|") || strings.HasPrefix(value, ">") {
		line.Value, y.block = "", inner
	}
}

// splitKey cuts "key: value", where the key may be quoted.
func splitKey(s string) (key, value string, ok bool) {
	if s == "" {
		return "", "", false
	}
	if s[0] == '"' || s[0] == '\'' {
		n := quotedLength(s)
		if n == 0 {
			return "", "", false
		}
		value, ok = strings.CutPrefix(strings.TrimLeft(s[n:], " "), ":")
		return unquote(s[:n]), strings.TrimLeft(value, " "), ok
	}
	if s[0] == '{' || s[0] == '[' {
		return "", "", false
	}
	for from := 0; ; {
		i := strings.IndexByte(s[from:], ':')
		if i < 0 {
			return "", "", false
		}
		i += from
		if i+1 == len(s) || s[i+1] == ' ' {
			return strings.TrimRight(s[:i], " "), strings.TrimLeft(s[i+1:], " "), true
		}
		from = i + 1
	}
}

// scalar is a value without quotes, comments and anchors.
func scalar(s string) string {
	if strings.HasPrefix(s, "&") || strings.HasPrefix(s, "!") {
		_, s, _ = strings.Cut(s, " ")
	}
	if s == "" {
		return ""
	}
	if s[0] == '"' || s[0] == '\'' {
		return unquote(s[:quotedLength(s)])
	}
	if s[0] == '#' {
		return ""
	}
	if i := strings.Index(s, " #"); i >= 0 && s[0] != '{' && s[0] != '[' {
		s = s[:i]
	}
	return strings.TrimRight(s, " \t")
}

// quotedLength is the length of the quoted text that s begins with, quotes
// included; 0 if it does not end on this line.
func quotedLength(s string) int {
	q := s[0]
	for i := 1; i < len(s); i++ {
		switch {
		case q == '"' && s[i] == '\\':
			i++
		case s[i] == q && q == '\'' && i+1 < len(s) && s[i+1] == q:
			i++
		case s[i] == q:
			return i + 1
		}
	}
	return 0
}

// unquote returns the text between quotes, "" if there are none.
func unquote(s string) string {
	if len(s) < 2 {
		return ""
	}
	body := s[1 : len(s)-1]
	if s[0] == '\'' {
		return strings.ReplaceAll(body, "''", "'")
	}
	if !strings.Contains(body, `\`) {
		return body
	}
	if u, err := strconv.Unquote(s); err == nil {
		return u
	}
	return body
}

// Each calls one for each line of a document, until its end or an error.
func (y *YAML) Each(one func(YAMLLine) error) error {
	for {
		line, err := y.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := one(line); err != nil {
			return err
		}
	}
}
