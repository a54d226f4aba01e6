package policy

import (
	"strconv"

	"go.yaml.in/yaml/v3"

	"github.com/castellan-security/castellan/internal/written"
)

// Limits of the document as such.
const (
	maxDepth = 20 // a policy needs eight
	maxNodes = 200_000
)

// reader reads a policy and collects what is wrong with it.
type reader struct{ written.Reader }

func at(n *yaml.Node) Position { return written.At(n) }

// document parses the text; nil if that is not possible.
func (r *reader) document(b []byte) *yaml.Node {
	return r.Parse(b, written.Limits{Name: "policy", Depth: maxDepth, Values: maxNodes}, "a policy is one document of YAML or JSON; docs/trust.md shows one")
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
		if !written.IsName(k.Value) {
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

// short returns a text of one line of at most MaxText bytes.
func (r *reader) short(n *yaml.Node, what string) (string, bool) { return r.Short(n, what, MaxText) }

func (r *reader) count(n *yaml.Node, what string) int {
	v, err := strconv.Atoi(n.Value)
	if n.Kind != yaml.ScalarNode || n.Tag != "!!int" || err != nil || v < 1 {
		r.Wrong(n, "", "%s is no number of 1 or more", what)
		return 0
	}
	return v
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
	r.Fields(n, what, map[string]func(*yaml.Node){
		"exact":  func(v *yaml.Node) { use(v, func(s string) (Text, error) { return Exactly(s), nil }) },
		"regexp": func(v *yaml.Node) { use(v, Regexp) },
	})
	return t
}
