package written_test

import (
	"fmt"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/castellan-security/castellan/internal/fault"
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

// TestProblemsNameTheDocument: what is wrong is told in the word of whoever reads it.
func TestProblemsNameTheDocument(t *testing.T) {
	for _, tt := range []struct{ name, text, called, want string }{
		{"nothing", "", "profile", "the profile is empty"},
		{"nothing, of nothing named", "# x\n", "", "the document is empty"},
		{"an alias", "a: &x 1\nb: *x", "policy", "anchors and aliases are not read in a policy: each line must say what it means"},
		{"a tag", "a: !!binary aGk=", "document of rules", "tags (!!binary) are not read in a document of rules"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, broken := written.Parse([]byte(tt.text), written.Limits{Name: tt.called, Depth: 5, Values: 50})
			if broken == nil || broken.Text != tt.want {
				t.Errorf("got %+v, want %q", broken, tt.want)
			}
		})
	}
}

// TestFields: each field is read once, and what is none is told with what there is.
func TestFields(t *testing.T) {
	const text = "a: 1\nb:\na: 2\nab: 3\n"
	r := written.Reader{File: "f", Most: 10, Meant: func(wrote string, names []string) string { return fmt.Sprintf(": %s of %v?", wrote, names) }}
	root := r.Parse([]byte(text), written.Limits{Depth: 5, Values: 50}, "")
	var read []string
	if !r.Fields(root, "it", map[string]func(*yaml.Node){
		"a": func(n *yaml.Node) { read = append(read, n.Value) },
		"b": func(n *yaml.Node) { read = append(read, "b") },
	}) {
		t.Fatal("it is said to be no map")
	}
	if len(read) != 1 || read[0] != "1" {
		t.Errorf("read %q, want 1 alone", read)
	}
	const want = `f:2:1: b of it is empty (give it a value or leave it out)
f:3:1: it has a twice: line 1 has it already (keep one of both)
f:4:1: it has no field "ab": ab of [a b]? (it may have a, b)`
	if got := r.Problems.Error(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestErrTellsInOrder(t *testing.T) {
	r := &written.Reader{File: "p.yaml", Most: 10}
	if err := r.Err("policy"); err != nil {
		t.Fatalf("of nothing wrong: %v", err)
	}
	r.WrongAt(written.Position{Line: 7, Column: 2}, "leave it out", "b is wrong")
	r.WrongAt(written.Position{Line: 3, Column: 1}, "write it", "a is missing")
	r.WrongAt(written.Position{Line: 3, Column: 0}, "", "a is late")
	err := r.Err("policy")
	if want := "policy: p.yaml:3:1: a is missing (write it)\np.yaml:3:0: a is late\np.yaml:7:2: b is wrong (leave it out)"; err == nil || err.Error() != want {
		t.Errorf("Err = %v, want %s", err, want)
	}
	if !fault.Is(err, fault.Invalid) || fault.Remedy(err) != "write it" || len(written.ProblemsOf(err)) != 3 {
		t.Errorf("kind %v, remedy %q, problems %v", fault.Of(err), fault.Remedy(err), written.ProblemsOf(err))
	}
}
