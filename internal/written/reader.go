package written

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/castellan-security/castellan/internal/fault"
)

// Reader is what readers of documents have in common: it collects what is wrong with
// one, and reads its plain parts.
type Reader struct {
	File     string
	Most     int // problems that are collected; those after them are left out
	Problems Problems
	// Meant proposes what somebody may have meant who wrote a name that is none of
	// some, in words that follow the problem's. Nil proposes nothing.
	Meant func(wrote string, names []string) string

	document Document
}

// Parse parses the document's text. It returns nil where that is not possible, which
// is noted with the remedy, unless a better one is known.
func (r *Reader) Parse(b []byte, o Limits, remedy string) *yaml.Node {
	d, broken := Parse(b, o)
	r.document = d
	if broken != nil {
		r.WrongAt(broken.Position, cmp.Or(broken.Remedy, remedy), "%s", broken.Text)
		return nil
	}
	return d.Root
}

// Err returns what is wrong, in the order of the document, as one Invalid error that
// begins with what the document is and has the remedy of the first; nil if nothing is.
// ProblemsOf finds it there again.
func (r *Reader) Err(what string) error {
	if len(r.Problems) == 0 {
		return nil
	}
	slices.SortStableFunc(r.Problems, func(a, b Problem) int { return a.Line - b.Line })
	return fault.New(fault.Invalid, "%s: %w", what, r.Problems).With(r.Problems[0].Remedy)
}

// Within is Document.Within of the document that was parsed.
func (r *Reader) Within(n *yaml.Node, line, column int) Position {
	return r.document.Within(n, line, column)
}

// meant is what Meant proposes.
func (r *Reader) meant(wrote string, names []string) string {
	if r.Meant == nil {
		return ""
	}
	return r.Meant(wrote, names)
}

// Wrong notes what is wrong with a node.
func (r *Reader) Wrong(n *yaml.Node, remedy, format string, args ...any) {
	r.WrongAt(At(n), remedy, format, args...)
}

// WrongAt notes what is wrong at a place.
func (r *Reader) WrongAt(p Position, remedy, format string, args ...any) {
	if len(r.Problems) < r.Most {
		r.Problems = append(r.Problems, Problem{File: r.File, Position: p, Text: fmt.Sprintf(format, args...), Remedy: remedy})
	}
}

// Fields calls for each field of a map the function of that name. Unknown and
// repeated fields are problems, as are maps that are none and fields without a value.
// It returns false for what is no map.
func (r *Reader) Fields(n *yaml.Node, what string, known map[string]func(*yaml.Node)) bool {
	names := slices.Sorted(maps.Keys(known))
	if n.Kind != yaml.MappingNode {
		r.Wrong(n, "it has fields: "+strings.Join(names, ", "), "%s is no map of fields", what)
		return false
	}
	r.entries(n, what, func(k, v *yaml.Node) {
		do, ok := known[k.Value]
		switch {
		case !ok:
			r.Wrong(k, "it may have "+strings.Join(names, ", "), "%s has no field %.80q%s", what, k.Value, r.meant(k.Value, names))
		case v.Tag == "!!null":
			r.Wrong(k, "give it a value or leave it out", "%s of %s is empty", k.Value, what)
		default:
			do(v)
		}
	})
	return true
}

// Named calls do for each entry of a map from names that whoever wrote it chose.
func (r *Reader) Named(n *yaml.Node, what string, limit int, do func(name string, key, value *yaml.Node)) {
	if n.Kind != yaml.MappingNode {
		r.Wrong(n, "write a name, a colon, and its value", "%s is no map from names", what)
		return
	}
	if len(n.Content)/2 > limit {
		r.Wrong(n, "", "%s has %d entries: at most %d are read", what, len(n.Content)/2, limit)
		return
	}
	r.entries(n, what, func(k, v *yaml.Node) { do(k.Value, k, v) })
}

// entries calls do for each entry of a map whose key is there the first time.
func (r *Reader) entries(n *yaml.Node, what string, do func(key, value *yaml.Node)) {
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		if line := seen[k.Value]; line > 0 {
			r.Wrong(k, "keep one of both", "%s has %s twice: line %d has it already", what, k.Value, line)
			continue
		}
		seen[k.Value] = k.Line
		do(k, v)
	}
}

// IsName says whether a text can be a name that people choose: letters, digits and
// . _ - only, at most 100.
func IsName(s string) bool {
	if s == "" || len(s) > 100 {
		return false
	}
	return strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") == ""
}

// Some is List for lists that are not empty.
func (r *Reader) Some(n *yaml.Node, what string, limit int, do func(*yaml.Node)) {
	if n.Kind == yaml.SequenceNode && len(n.Content) == 0 {
		r.Wrong(n, "leave it out, or name something", "%s is an empty list", what)
		return
	}
	r.List(n, what, limit, do)
}

// Text returns a text that is not empty; ok is false if it is none, which is noted.
func (r *Reader) Text(n *yaml.Node, what string) (s string, ok bool) {
	switch {
	case n.Kind != yaml.ScalarNode:
		r.Wrong(n, textRemedy(n), "%s is no text", what)
	case n.Tag == "!!int" || n.Tag == "!!float" || n.Tag == "!!bool":
		r.Wrong(n, "put it between quotes", "%s is no text", what)
	case strings.TrimSpace(n.Value) == "" || n.Tag == "!!null":
		r.Wrong(n, "", "%s is empty", what)
	default:
		return n.Value, true
	}
	return "", false
}

// textRemedy knows the trap of a text that begins with a brace.
func textRemedy(n *yaml.Node) string {
	if n.Kind == yaml.MappingNode && n.Style&yaml.FlowStyle != 0 {
		return "put a text that begins with { between quotes"
	}
	return ""
}

// Short is Text of one line of so many bytes at most.
func (r *Reader) Short(n *yaml.Node, what string, most int) (string, bool) {
	s, ok := r.Text(n, what)
	if ok && (len(s) > most || strings.ContainsAny(s, "\n\r\x00")) {
		r.Wrong(n, "", "%s is longer than one line of %d bytes", what, most)
		return "", false
	}
	return s, ok
}

// Word returns a text that is one of some; ok is false if it is none, which is noted.
func Word[T ~string](r *Reader, n *yaml.Node, what string, all ...T) (word T, ok bool) {
	if n.Kind == yaml.ScalarNode && slices.Contains(all, T(n.Value)) {
		return T(n.Value), true
	}
	var names []string
	for _, a := range all {
		names = append(names, string(a))
	}
	r.Wrong(n, "write one of "+strings.Join(names, ", "), "%s can't be %.80q%s", what, n.Value, r.meant(n.Value, names))
	return "", false
}

// Span reads a length of time up to a hundred years, such as 500ms, 90m, 24h, 30d or
// 2w; 0 where it is none or less than the least, which is noted.
func (r *Reader) Span(n *yaml.Node, what string, least time.Duration) time.Duration {
	const most = 100 * 365 * 24 * time.Hour
	if n.Kind == yaml.ScalarNode {
		if d, err := parseSpan(n.Value); err == nil && d >= least && d <= most {
			return d
		}
	}
	r.Wrong(n, "write 90m, 24h, 30d or 2w", "%s is no length of time: %.40q", what, n.Value)
	return 0
}

// parseSpan is time.ParseDuration that knows days and weeks as well.
func parseSpan(s string) (time.Duration, error) {
	unit := time.Duration(0)
	switch {
	case strings.HasSuffix(s, "d"):
		unit = 24 * time.Hour
	case strings.HasSuffix(s, "w"):
		unit = 7 * 24 * time.Hour
	default:
		return time.ParseDuration(s)
	}
	v, err := strconv.ParseUint(s[:len(s)-1], 10, 16)
	return time.Duration(v) * unit, err
}

// List calls do for each item; a single value is a list of one.
func (r *Reader) List(n *yaml.Node, what string, limit int, do func(*yaml.Node)) {
	items := []*yaml.Node{n}
	if n.Kind == yaml.SequenceNode {
		items = n.Content
	}
	if len(items) > limit {
		r.Wrong(n, "", "%s has %d items: at most %d are read", what, len(items), limit)
		return
	}
	for _, item := range items {
		do(item)
	}
}

// Bool reads true or false; false where it is neither, which is noted.
func (r *Reader) Bool(n *yaml.Node, what string) bool {
	b, err := strconv.ParseBool(n.Value)
	if n.Kind != yaml.ScalarNode || n.Tag != "!!bool" || err != nil {
		r.Wrong(n, "write true or false", "%s is neither true nor false", what)
		return false
	}
	return b
}

// Moment reads a date, which means its first second in UTC, or a time; the zero time
// where it is neither, which is noted.
func (r *Reader) Moment(n *yaml.Node, what string) time.Time {
	t, ok := Moment(n)
	if !ok {
		r.Wrong(n, "write 2026-12-31, or 2026-12-31T23:59:59Z", "%s is no date", what)
	}
	return t
}
