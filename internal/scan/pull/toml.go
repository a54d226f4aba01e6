package pull

import (
	"bytes"
	"io"
	"strconv"
	"strings"
)

// TOML reads a document line by line: headers of tables, and keys with their
// values as they are written, over several lines if they are. TOMLText,
// TOMLTexts and TOMLField read what a value says.
type TOML struct {
	lines *Lines
	table string
	value []byte
}

// TOMLLine is the header of a table or a key with its value.
type TOMLLine struct {
	// Table is the name of the table that the line is or is in, as written
	// without blanks and brackets: package, package.dependencies.
	Table  string
	Header bool
	// Key is without quotes; dotted keys keep their dots. Value is as written,
	// without comments, and cut at 64 KiB.
	Key, Value string
}

// NewTOML returns a reader of the document r, said to have size bytes (0
// unknown), of which at most limit are read.
func NewTOML(r io.Reader, size, limit int64) *TOML {
	return &TOML{lines: NewLines(r, size, limit)}
}

// Each calls one for each line of the document, until its end or an error.
func (t *TOML) Each(one func(TOMLLine) error) error {
	for {
		b, err := t.lines.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		b = bytes.TrimLeft(b, " \t")
		if len(b) == 0 || b[0] == '#' {
			continue
		}
		line := TOMLLine{Table: t.table}
		if b[0] == '[' {
			t.table = tableName(string(b))
			line.Table, line.Header = t.table, true
		} else if line.Key, line.Value, err = t.member(b); err != nil {
			return err
		}
		if err := one(line); err != nil {
			return err
		}
	}
}

func tableName(s string) string {
	s, _, _ = strings.Cut(s, "#")
	s = strings.Trim(strings.TrimSpace(s), "[]")
	return strings.NewReplacer(" ", "", `"`, "", `'`, "").Replace(s)
}

// member reads "key = value", with the lines that the value goes on over.
func (t *TOML) member(b []byte) (key, value string, err error) {
	s := string(b)
	if n := len(s); n > 0 && (s[0] == '"' || s[0] == '\'') {
		if n = quotedLength(s); n > 0 {
			key, s = unquote(s[:n]), s[n:]
		}
	}
	before, rest, ok := strings.Cut(s, "=")
	if !ok {
		return "", "", nil // not a key; a line that is not understood
	}
	key += strings.TrimSpace(before)
	t.value = t.value[:0]
	var open nesting
	rest = strings.TrimLeft(rest, " \t")
	t.keep(open.take(rest))
	for open.open() {
		b, err := t.lines.Next()
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return "", "", err
		}
		t.keep("\n")
		t.keep(open.take(string(b)))
	}
	return key, strings.TrimSpace(string(t.value)), nil
}

func (t *TOML) keep(s string) {
	if room := bufferSize - len(t.value); len(s) > room {
		s = s[:room]
	}
	t.value = append(t.value, s...)
}

// nesting follows brackets and strings over the lines of a value.
type nesting struct {
	depth int
	long  string // the quotes that end a string of several lines
}

func (n *nesting) open() bool { return n.depth > 0 || n.long != "" }

// take follows one line and returns it without its comment.
func (n *nesting) take(s string) string {
	for i := 0; i < len(s); {
		if n.long != "" {
			end := strings.Index(s[i:], n.long)
			if end < 0 {
				return s
			}
			i, n.long = i+end+3, ""
			continue
		}
		switch c := s[i]; c {
		case '"', '\'':
			if q := strings.Repeat(string(c), 3); strings.HasPrefix(s[i:], q) {
				n.long = q
				i += 3
				continue
			}
			length := quotedTOML(s[i:])
			if length == 0 {
				return s
			}
			i += length
			continue
		case '[', '{':
			n.depth++
		case ']', '}':
			n.depth--
		case '#':
			return s[:i]
		}
		i++
	}
	return s
}

// quotedTOML is the length of a quoted text of one line; in single quotes
// nothing is escaped. 0 if it does not end.
func quotedTOML(s string) int {
	if s[0] == '"' {
		return quotedLength(s)
	}
	if i := strings.IndexByte(s[1:], '\''); i >= 0 {
		return i + 2
	}
	return 0
}

// TOMLText returns the string that a value is, "" for another kind.
func TOMLText(value string) string {
	if value == "" {
		return ""
	}
	n := 0
	if value[0] == '"' || value[0] == '\'' {
		n = quotedTOML(value)
	}
	if n < 2 {
		return ""
	}
	if value[0] == '"' {
		if u, err := strconv.Unquote(value[:n]); err == nil {
			return u
		}
	}
	return value[1 : n-1]
}

// TOMLTexts returns the strings of an array, those of arrays and tables within
// it included.
func TOMLTexts(value string) []string {
	var texts []string
	for i := 0; i < len(value); {
		if value[i] != '"' && value[i] != '\'' {
			i++
			continue
		}
		n := quotedTOML(value[i:])
		if n == 0 {
			break
		}
		texts = append(texts, TOMLText(value[i:]))
		i += n
	}
	return texts
}

// TOMLField returns the value of a key of an inline table, as it is written.
func TOMLField(value, key string) (string, bool) {
	body, ok := strings.CutPrefix(value, "{")
	if !ok {
		return "", false
	}
	for body != "" {
		body = strings.TrimLeft(body, " \t\n,")
		name, rest, ok := strings.Cut(body, "=")
		if !ok {
			return "", false
		}
		rest = strings.TrimLeft(rest, " \t")
		n := valueLength(rest)
		if strings.Trim(strings.TrimSpace(name), `"'`) == key {
			return strings.TrimSpace(rest[:n]), true
		}
		body = rest[n:]
	}
	return "", false
}

// valueLength is how far a value goes before a comma or a closing bracket.
func valueLength(s string) int {
	depth := 0
	for i := 0; i < len(s); {
		switch s[i] {
		case '"', '\'':
			n := quotedTOML(s[i:])
			if n == 0 {
				return len(s)
			}
			i += n
			continue
		case '[', '{':
			depth++
		case ']', '}':
			if depth == 0 {
				return i
			}
			depth--
		case ',':
			if depth == 0 {
				return i
			}
		}
		i++
	}
	return len(s)
}

// maxMembers bounds the keys that are kept of one table; lock files have a dozen.
const maxMembers = 256

// Tables calls one for each table of an array of tables ([[name]]), with its
// keys and values as they are written. Keys of tables below it carry their name
// in front: source.type. The map is valid until the next table.
func (t *TOML) Tables(name string, one func(members map[string]string) error) error {
	members := map[string]string{}
	open := false
	flush := func() error {
		if !open {
			return nil
		}
		err := one(members)
		clear(members)
		return err
	}
	err := t.Each(func(line TOMLLine) error {
		below, ok := strings.CutPrefix(line.Table, name+".")
		switch {
		case line.Header && line.Table == name:
			err := flush()
			open = true
			return err
		case line.Header && !ok:
			err := flush()
			open = false
			return err
		case line.Header || !open || line.Key == "" || len(members) >= maxMembers:
		case line.Table == name:
			members[line.Key] = line.Value
		case ok:
			members[below+"."+line.Key] = line.Value
		}
		return nil
	})
	if err != nil {
		return err
	}
	return flush()
}
