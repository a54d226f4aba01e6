package policy

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/castellan-security/castellan/internal/written"
)

// Limits of the document as such.
const (
	maxDepth = 20 // a policy needs eight
	maxNodes = 200_000
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
		r.WrongAt(broken.Position, cmp.Or(broken.Remedy, "a policy is one document of YAML or JSON; docs/trust.md shows one"), "%s", broken.Text)
		return nil
	}
	return d.Root
}

// fields calls for each field of a map the function of that name. Unknown and
// repeated fields are problems, as are maps that are none and empty ones.
func (r *reader) fields(n *yaml.Node, what string, known map[string]func(*yaml.Node)) bool {
	if n.Kind != yaml.MappingNode {
		r.Wrong(n, "it has fields: "+names(known), "%s is no map of fields", what)
		return false
	}
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		do, ok := known[k.Value]
		switch line := seen[k.Value]; {
		case !ok:
			r.Wrong(k, "it may have "+names(known), "%s has no field %q", what, k.Value)
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

func names(known map[string]func(*yaml.Node)) string {
	var out []string
	for k := range known {
		out = append(out, k)
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

// named calls do for each entry of a map from names that the user chose.
func (r *reader) named(n *yaml.Node, what string, limit int, do func(name string, key, value *yaml.Node)) {
	if n.Kind != yaml.MappingNode {
		r.Wrong(n, "write a name, a colon, and below it what it has", "%s is no map from names", what)
		return
	}
	if len(n.Content)/2 > limit {
		r.Wrong(n, "", "%s has %d entries: at most %d are read", what, len(n.Content)/2, limit)
		return
	}
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		if !nameLike(k.Value) {
			r.Wrong(k, "", "%q can't be a name: letters, digits and . _ - only, at most 100", k.Value)
			continue
		}
		if line := seen[k.Value]; line > 0 {
			r.Wrong(k, "give one of both another name", "%s has %q twice: line %d has it already", what, k.Value, line)
			continue
		}
		seen[k.Value] = k.Line
		do(k.Value, k, v)
	}
}

func nameLike(s string) bool {
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
		r.Wrong(n, "", "%s is no text", what)
	case n.Tag == "!!int" || n.Tag == "!!float" || n.Tag == "!!bool":
		r.Wrong(n, "put it between quotes", "%s is no text", what)
	case strings.TrimSpace(n.Value) == "" || n.Tag == "!!null":
		r.Wrong(n, "", "%s is empty", what)
	default:
		return n.Value, true
	}
	return "", false
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

func (r *reader) count(n *yaml.Node, what string) int {
	v, err := strconv.Atoi(n.Value)
	if n.Kind != yaml.ScalarNode || n.Tag != "!!int" || err != nil || v < 1 {
		r.Wrong(n, "", "%s is no number of 1 or more", what)
		return 0
	}
	return v
}

// span reads a length of time: 90m, 24h, 30d, 2w.
func (r *reader) span(n *yaml.Node, what string) time.Duration {
	const most = 100 * 365 * 24 * time.Hour
	if n.Kind == yaml.ScalarNode {
		if d, err := parseSpan(n.Value); err == nil && d > 0 && d <= most {
			return d
		}
	}
	r.Wrong(n, "write 90m, 24h, 30d or 2w", "%s is no length of time", what)
	return 0
}

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

// pattern reads a Text: a glob, or a map with exact or regexp.
func (r *reader) pattern(n *yaml.Node, what string) Text {
	var t Text
	use := func(n *yaml.Node, form func(string) (Text, error)) {
		s, ok := r.short(n, what)
		if !ok {
			return
		}
		var err error
		if t, err = form(s); err != nil {
			r.Wrong(n, "", "%s: %v", what, err)
		}
	}
	if n.Kind != yaml.MappingNode {
		use(n, Glob)
		return t
	}
	if len(n.Content) != 2 {
		r.Wrong(n, `write the value itself, or {exact: "…"}, or {regexp: "…"}`, "%s has more than one form", what)
		return t
	}
	r.fields(n, what, map[string]func(*yaml.Node){
		"exact":  func(v *yaml.Node) { use(v, func(s string) (Text, error) { return Exactly(s), nil }) },
		"regexp": func(v *yaml.Node) { use(v, Regexp) },
	})
	return t
}
