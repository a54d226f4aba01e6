package policy

import (
	"strconv"
	"strings"

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
type reader struct{ written.Reader }

func newReader(file string) reader {
	return reader{written.Reader{File: file, Most: MaxProblems, Meant: condition.Nearest}}
}

func at(n *yaml.Node) Position { return written.At(n) }

// document parses the text; nil if that is not possible.
func (r *reader) document(b []byte) *yaml.Node {
	return r.Parse(b, written.Limits{Name: "policy", Depth: maxDepth, Values: maxNodes}, "a policy is one document of YAML or JSON; castellan admit init writes one")
}

// short returns a text of one line of at most MaxText bytes.
func (r *reader) short(n *yaml.Node, what string) (string, bool) { return r.Short(n, what, MaxText) }

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

// pattern reads a pattern: "*" stands for any letters but "/", "**" for any.
func (r *reader) pattern(n *yaml.Node, what string) (string, bool) {
	s, ok := r.short(n, what)
	if ok && strings.Contains(s, "***") {
		r.Wrong(n, "", `%s: "***" means nothing: "*" stands for any letters but "/", "**" for any letters`, what)
		return "", false
	}
	return s, ok
}
