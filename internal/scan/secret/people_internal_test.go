package secret

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDocstrings(t *testing.T) {
	for _, tc := range []struct {
		name, text string
		want       []string
	}{
		{"of a function", "def f():\n    \"\"\"Says.\"\"\"\n    x = 1\n", []string{"Says."}},
		{"raw, of a module", "r'''Says'''\n", []string{"Says"}},
		{"named", "EXAMPLES = '''a'''\nSQL = '''b'''\n__doc__ = \"\"\"c\"\"\"\n", []string{"a", "c"}},
		{"argument", "f(\n  '''a''')\n", nil},
		{"within a text", "x = \"'''\"\n'''a'''\n", []string{"a"}},
		{"within a comment", "# it's '''not'''\n'''a'''\n", []string{"a"}},
		{"without an end", "'''a\nb", []string{"a\nb"}},
		{"escaped quote", "x = 'it\\'s'\n'''a'''\n", []string{"a"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var got []string
			for _, w := range docstrings([]byte(tc.text)) {
				got = append(got, tc.text[w.from:w.to])
			}
			if d := cmp.Diff(got, tc.want); d != "" {
				t.Errorf("differs (-got +want):\n%s", d)
			}
		})
	}
}

// FuzzDocstrings: whatever a program is, the texts stand in it, in their order.
func FuzzDocstrings(f *testing.F) {
	f.Add("def f():\n    \"\"\"a\"\"\"\n'\\")
	f.Add("'''" + strings.Repeat("(", 9))
	f.Fuzz(func(t *testing.T, text string) {
		end := 0
		for _, w := range docstrings([]byte(text)) {
			if w.from < end || w.to < w.from || w.to > len(text) {
				t.Fatalf("%v of %d bytes, after %d", w, len(text), end)
			}
			end = w.to
		}
	})
}
