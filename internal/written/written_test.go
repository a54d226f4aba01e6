package written_test

import (
	"testing"

	"github.com/castellan-security/castellan/internal/written"
)

// TestWithin: places in texts are those that an editor shows.
func TestWithin(t *testing.T) {
	const text = `plain: abc
quoted: "abc"
block: |
  first
    second
`
	d, broken := written.Parse([]byte(text), written.Limits{Depth: 5, Values: 50})
	if broken != nil {
		t.Fatal(broken)
	}
	for _, tt := range []struct {
		value, line, column int
		want                written.Position
	}{
		{1, 1, 2, written.Position{Line: 1, Column: 9}},
		{3, 1, 2, written.Position{Line: 2, Column: 11}},
		{5, 1, 1, written.Position{Line: 4, Column: 3}},
		{5, 2, 3, written.Position{Line: 5, Column: 5}}, // indented within the block
	} {
		if got := d.Within(d.Root.Content[tt.value], tt.line, tt.column); got != tt.want {
			t.Errorf("%q, %d:%d: got %v, want %v", d.Root.Content[tt.value].Value, tt.line, tt.column, got, tt.want)
		}
	}
}
