package rule

import (
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
type reader struct{ written.Reader }

func (r *reader) document(b []byte) *yaml.Node {
	if len(b) > MaxBytes {
		r.WrongAt(written.Position{}, "make it several documents", "a document of %d bytes: at most %d are read", len(b), MaxBytes)
		return nil
	}
	return r.Parse(b, written.Limits{Name: "document of rules", Depth: maxDepth, Values: maxValues}, "rules are one document of YAML or JSON")
}

func (r *reader) text(n *yaml.Node, what string) string {
	s, ok := r.Text(n, what)
	if ok && (len(s) > threat.MaxText || strings.ContainsAny(s, "\x00\r")) {
		r.Wrong(n, "", "%s is longer than %d bytes", what, threat.MaxText)
		return ""
	}
	return strings.TrimSpace(s)
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

// word returns a text that is one of some, and nothing where it is none.
func word[T ~string](r *reader, n *yaml.Node, what string, all ...T) T {
	w, _ := written.Word(&r.Reader, n, what, all...)
	return w
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
