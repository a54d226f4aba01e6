package rule

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/castellan-security/castellan/internal/threat"
	"github.com/castellan-security/castellan/internal/written"
)

// Limits of a document, which anybody who may set rules writes.
const (
	MaxBytes    = 1 << 20
	MaxProblems = 100 // told of one document
	maxDepth    = 12  // a document of rules needs seven
	maxValues   = 100_000
	maxRules    = 2000
	maxParams   = 50
	maxItems    = 1000 // of a list
	maxSteps    = 8
	maxWithin   = 24 * time.Hour // state is in memory
	maxReaches  = 10_000         // counted
	maxDistinct = 1000           // told apart: each is remembered
)

// reader reads a document and collects what is wrong with it.
type reader struct {
	written.Reader
	parsed written.Document // for places within texts
}

func (r *reader) document(b []byte) *yaml.Node {
	if len(b) > MaxBytes {
		r.WrongAt(written.Position{}, "make it several documents", "a document of %d bytes: at most %d are read", len(b), MaxBytes)
		return nil
	}
	d, broken := written.Parse(b, written.Limits{Depth: maxDepth, Values: maxValues})
	r.parsed = d
	if broken != nil {
		r.WrongAt(broken.Position, cmp.Or(broken.Remedy, "rules are one document of YAML or JSON"), "%s", broken.Text)
		return nil
	}
	return d.Root
}

// fields calls for each field of a map the function of that name.
func (r *reader) fields(n *yaml.Node, what string, known map[string]func(*yaml.Node)) {
	names := slices.Sorted(maps.Keys(known))
	r.named(n, what, func(name string, k, v *yaml.Node) {
		do := known[name]
		switch {
		case do == nil:
			r.Wrong(k, "it may have "+strings.Join(names, ", "), "%s has no field %q", what, name)
		case v.Tag == "!!null":
			r.Wrong(k, "give it a value or leave it out", "%s of %s is empty", name, what)
		default:
			do(v)
		}
	})
}

// named calls do for each entry of a map from names.
func (r *reader) named(n *yaml.Node, what string, do func(name string, key, value *yaml.Node)) {
	if n.Kind != yaml.MappingNode {
		r.Wrong(n, "write a name, a colon, and its value", "%s is no map from names", what)
		return
	}
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k := n.Content[i]
		if line := seen[k.Value]; line > 0 {
			r.Wrong(k, "keep one of both", "%s has %s twice: line %d has it already", what, k.Value, line)
			continue
		}
		seen[k.Value] = k.Line
		do(k.Value, k, n.Content[i+1])
	}
}

func (r *reader) text(n *yaml.Node, what string) string {
	switch {
	case n.Kind != yaml.ScalarNode:
		r.Wrong(n, "put a text that begins with { between quotes", "%s is no text", what)
	case n.Tag == "!!int" || n.Tag == "!!float" || n.Tag == "!!bool":
		r.Wrong(n, "put it between quotes", "%s is no text", what)
	case strings.TrimSpace(n.Value) == "" || n.Tag == "!!null":
		r.Wrong(n, "", "%s is empty", what)
	case len(n.Value) > threat.MaxText || strings.ContainsAny(n.Value, "\x00\r"):
		r.Wrong(n, "", "%s is longer than %d bytes", what, threat.MaxText)
	default:
		return strings.TrimSpace(n.Value)
	}
	return ""
}

func (r *reader) texts(n *yaml.Node, what string) []string {
	var out []string
	r.List(n, what, maxItems, func(n *yaml.Node) {
		if s := r.text(n, what); s != "" {
			out = append(out, s)
		}
	})
	return out
}

// word returns a text that is one of some.
func word[T ~string](r *reader, n *yaml.Node, what string, all ...T) T {
	if n.Kind == yaml.ScalarNode && slices.Contains(all, T(n.Value)) {
		return T(n.Value)
	}
	var names []string
	for _, a := range all {
		names = append(names, string(a))
	}
	r.Wrong(n, "write one of "+strings.Join(names, ", "), "%s can't be %.80q", what, n.Value)
	return ""
}

func (r *reader) whole(n *yaml.Node, what string, least, most int64) int64 {
	v, err := strconv.ParseInt(n.Value, 10, 64)
	if n.Kind != yaml.ScalarNode || n.Tag != "!!int" || err != nil || v < least || v > most {
		r.Wrong(n, "", "%s is no number of %d to %d", what, least, most)
		return least
	}
	return v
}

// span reads a length of time: 500ms, 90s, 5m, 24h.
func (r *reader) span(n *yaml.Node, what string, most time.Duration) time.Duration {
	d, err := time.ParseDuration(n.Value)
	if n.Kind != yaml.ScalarNode || err != nil || d <= 0 || d > most {
		r.Wrong(n, "write 500ms, 90s, 5m or 1h", "%s is no length of time up to %s: %.40q", what, most, n.Value)
		return most
	}
	return d
}
