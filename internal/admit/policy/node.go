package policy

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/castellan-security/castellan/internal/admit/condition"
	"github.com/castellan-security/castellan/internal/written"
)

// Limits of the document as such.
const (
	maxDepth = 20 // a policy needs seven
	maxNodes = 100_000
)

// reader reads a policy and collects what is wrong with it.
type reader struct {
	written.Reader
	parsed written.Document // for places within texts
}

func at(n *yaml.Node) Position { return written.At(n) }

// document parses the text; nil if that is not possible.
func (r *reader) document(b []byte) *yaml.Node {
	d, broken := written.Parse(b, written.Limits{Depth: maxDepth, Values: maxNodes})
	r.parsed = d
	if broken != nil {
		r.WrongAt(broken.Position, cmp.Or(broken.Remedy, "a policy is one document of YAML or JSON; castellan admit init writes one"), "%s", broken.Text)
		return nil
	}
	return d.Root
}

// fields calls for each field of a map the function of that name. Unknown and
// repeated fields are problems, as are maps that are none and empty ones.
func (r *reader) fields(n *yaml.Node, what string, known map[string]func(*yaml.Node)) bool {
	names := slices.Sorted(maps.Keys(known))
	if n.Kind != yaml.MappingNode {
		r.Wrong(n, "it has fields: "+strings.Join(names, ", "), "%s is no map of fields", what)
		return false
	}
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		do, ok := known[k.Value]
		switch line := seen[k.Value]; {
		case !ok:
			r.Wrong(k, "it may have "+strings.Join(names, ", "), "%s has no field %q%s", what, k.Value, condition.Nearest(k.Value, names))
			continue
		case line > 0:
			r.Wrong(k, "keep one of both", "%s has %s twice: line %d has it already", what, k.Value, line)
			continue
		}
		seen[k.Value] = k.Line
		if v.Tag == "!!null" {
			r.Wrong(k, "give it a value or leave it out", "%s of %s is empty", k.Value, what)
			continue
		}
		do(v)
	}
	return true
}

// named calls do for each entry of a map from names.
func (r *reader) named(n *yaml.Node, what string, limit int, do func(name string, key, value *yaml.Node)) {
	if n.Kind != yaml.MappingNode {
		r.Wrong(n, "write a name, a colon, and its value", "%s is no map from names", what)
		return
	}
	if len(n.Content)/2 > limit {
		r.Wrong(n, "", "%s has %d entries: at most %d are read", what, len(n.Content)/2, limit)
		return
	}
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		if line := seen[k.Value]; line > 0 {
			r.Wrong(k, "keep one of both", "%s has %s twice: line %d has it already", what, k.Value, line)
			continue
		}
		seen[k.Value] = k.Line
		do(k.Value, k, v)
	}
}

// idLike says whether a text can be the id of a rule.
func idLike(s string) bool {
	if s == "" || len(s) > 100 {
		return false
	}
	return strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") == ""
}

// list is List for lists that are not empty.
func (r *reader) list(n *yaml.Node, what string, limit int, do func(*yaml.Node)) {
	if n.Kind == yaml.SequenceNode && len(n.Content) == 0 {
		r.Wrong(n, "leave it out, or name something", "%s is an empty list", what)
		return
	}
	r.List(n, what, limit, do)
}

// text returns a text; ok is false if it is none.
func (r *reader) text(n *yaml.Node, what string) (s string, ok bool) {
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

// short returns a text of one line of at most MaxText bytes.
func (r *reader) short(n *yaml.Node, what string) (string, bool) {
	s, ok := r.text(n, what)
	if ok && (len(s) > MaxText || strings.ContainsAny(s, "\n\r\x00")) {
		r.Wrong(n, "", "%s is longer than one line of %d bytes", what, MaxText)
		return "", false
	}
	return s, ok
}

// word returns a text that is one of some.
func word[T ~string](r *reader, n *yaml.Node, what string, all ...T) (T, bool) {
	s := T(n.Value)
	if n.Kind == yaml.ScalarNode && slices.Contains(all, s) {
		return s, true
	}
	var names []string
	for _, a := range all {
		names = append(names, string(a))
	}
	r.Wrong(n, "write one of "+strings.Join(names, ", "), "%s can't be %q%s", what, n.Value, condition.Nearest(n.Value, names))
	return "", false
}

func (r *reader) whole(n *yaml.Node, what string) int64 {
	v, err := strconv.ParseInt(n.Value, 10, 64)
	if n.Kind != yaml.ScalarNode || n.Tag != "!!int" || err != nil || v < 0 {
		r.Wrong(n, "", "%s is no number of 0 or more", what)
		return 0
	}
	return v
}

func (r *reader) fraction(n *yaml.Node, what string) float64 {
	v, err := strconv.ParseFloat(n.Value, 64)
	if n.Kind != yaml.ScalarNode || n.Tag != "!!int" && n.Tag != "!!float" || err != nil || !(v >= 0) || v > 1e12 {
		r.Wrong(n, "", "%s is no number of 0 or more", what)
		return 0
	}
	return v
}

// span reads a length of time: 500ms, 90m, 24h, 30d, 2w.
func (r *reader) span(n *yaml.Node, what string) time.Duration {
	const most = 100 * 365 * 24 * time.Hour
	if n.Kind == yaml.ScalarNode {
		if d, err := parseSpan(n.Value); err == nil && d >= 0 && d <= most {
			return d
		}
	}
	r.Wrong(n, "write 90m, 24h, 30d or 2w", "%s is no length of time: %.40q", what, n.Value)
	return 0
}

func parseSpan(s string) (time.Duration, error) {
	unit := time.Duration(0)
	switch {
	case strings.HasSuffix(s, "d"):
		unit = 24 * time.Hour
	case strings.HasSuffix(s, "w"):
		unit = 7 * 24 * time.Hour
	case s == "0":
		return 0, nil
	default:
		return time.ParseDuration(s)
	}
	v, err := strconv.ParseUint(s[:len(s)-1], 10, 16)
	return time.Duration(v) * unit, err
}

// pattern reads a pattern: "*" stands for any letters but "/", "**" for any.
func (r *reader) pattern(n *yaml.Node, what string) (string, bool) {
	s, ok := r.short(n, what)
	if ok && strings.Contains(s, "***") {
		r.Wrong(n, "", `%s: "***" means nothing: "*" stands for any letters but "/", "**" for any letters`, what)
		return "", false
	}
	return s, ok
}
