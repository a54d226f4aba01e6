package tree_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/scan/iac/tree"
)

// Values know where they stand, in both formats.
func TestPlaces(t *testing.T) {
	n, err := tree.JSON([]byte("{\n  \"a\": [1, {\"b\":\n    true}],\n  \"c\": null\n}"), "f", finding.Position{})
	if err != nil {
		t.Fatal(err)
	}
	list := n.Get("A")
	for _, tc := range []struct {
		name string
		n    *tree.Node
		want string
	}{
		{"object", n, "1:1-5:2"}, {"list", list, "2:8-3:11"}, {"number", list.Items[0], "2:9-2:10"}, {"truth", list.Items[1].Get("b"), "3:5-3:9"},
	} {
		if got := at(tc.n); got != tc.want {
			t.Errorf("%s at %s, want %s", tc.name, got, tc.want)
		}
	}
	docs, err := tree.YAML([]byte("a: &x\n  - one\n  - b: |\n      two\n      three\nc: *x\n"), "f")
	if err != nil {
		t.Fatal(err)
	}
	a := docs[0].Get("a")
	for _, tc := range []struct {
		name string
		n    *tree.Node
		want string
	}{
		{"text", a.Items[0], "2:5-2:8"}, {"block", a.Items[1].Get("b"), "3:8-5:8"}, {"alias is where its anchor is", docs[0].Get("c").Items[0], "2:5-2:8"},
	} {
		if got := at(tc.n); got != tc.want {
			t.Errorf("%s at %s, want %s", tc.name, got, tc.want)
		}
	}
}

func at(n *tree.Node) string {
	return fmt.Sprintf("%d:%d-%d:%d", n.At.Start.Line, n.At.Start.Column, n.At.End.Line, n.At.End.Column)
}

func TestGet(t *testing.T) {
	n, err := tree.JSON([]byte(`{"network_mode": "host", "Volumes": [{"x": 1}], "n": "12", "f": 1.5}`), "f", finding.Position{Line: 7, Column: 3})
	if err != nil {
		t.Fatal(err)
	}
	if v := n.Get("networkMode").AsText(); v.V != "host" || v.At.Start.Line != 7 || v.At.Start.Column != 20 {
		t.Errorf("networkMode = %+v", v)
	}
	if v := n.Path("volumes", "x").AsNumber(); !v.Known() || v.V != 1 {
		t.Errorf("volumes x = %+v", v)
	}
	if v := n.Get("nothing").Get("at").First().AsText(); !v.Absent() {
		t.Errorf("nothing = %+v", v)
	}
	if v := n.Get("f").AsNumber(); v.Known() {
		t.Errorf("1.5 = %+v, want unknown", v)
	}
	n.Open = true
	if v := n.Get("nothing").AsBool(); v.Absent() || v.Known() {
		t.Errorf("what an open map does not have = %+v, want unknown", v)
	}
}

// What costs too much ends with an error, whatever the format.
func TestLimits(t *testing.T) {
	bomb := "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
	for c := 'b'; c < 'j'; c++ {
		bomb += fmt.Sprintf("%c: &%c [%s]\n", c, c, strings.TrimSuffix(strings.Repeat("*"+string(c-1)+",", 10), ","))
	}
	for name, tc := range map[string]struct {
		read func() error
		want string
	}{
		"deep JSON": {func() error {
			_, err := tree.JSON([]byte(strings.Repeat("[", 5000)), "f", finding.Position{})
			return err
		}, "deeper than"},
		"deep YAML": {func() error { _, err := tree.YAML([]byte(strings.Repeat("[", 5000)), "f"); return err }, ""},
		"many values": {func() error {
			_, err := tree.JSON([]byte("["+strings.Repeat("1,", tree.MaxNodes)+"1]"), "f", finding.Position{})
			return err
		}, "more than"},
		"aliases":      {func() error { _, err := tree.YAML([]byte(bomb), "f"); return err }, "more than"},
		"alias itself": {func() error { _, err := tree.YAML([]byte("a: &a [*a]"), "f"); return err }, ""},
		"large YAML":   {func() error { _, err := tree.YAML(make([]byte, tree.MaxYAML+1), "f"); return err }, "at most"},
		"more JSON":    {func() error { _, err := tree.JSON([]byte("{} {}"), "f", finding.Position{}); return err }, "follows"},
		"cut off":      {func() error { _, err := tree.JSON([]byte("{\"a\":\n"), "f", finding.Position{}); return err }, "line 2: the document is cut off"},
	} {
		if err := tc.read(); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
}

// FuzzJSON: what encoding/json takes is taken, and what is taken has places that
// do not go back.
func FuzzJSON(f *testing.F) {
	for _, s := range []string{`{"a": [1, "b", {"c": null}]}`, "[\n1,\n\ttrue]", "{", "\ufeff{}", `"\ud800"`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		n, err := tree.JSON(b, "f", finding.Position{})
		if err == nil && !json.Valid([]byte(strings.TrimPrefix(string(b), "\ufeff"))) {
			t.Fatal("what is no JSON was read")
		}
		if err == nil {
			ordered(t, n, 0)
		}
	})
}

// FuzzYAML: it ends, without a panic.
func FuzzYAML(f *testing.F) {
	for _, s := range []string{"a: [1, b]\nc: |\n  x\n", "a: &a [*a]", "<<: {a: 1}\n", "!Ref x", "? [a]\n: b", "--- a\n--- b"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		docs, err := tree.YAML(b, "f")
		for _, n := range docs {
			if err == nil {
				ordered(t, n, 0)
			}
		}
	})
}

func ordered(t *testing.T, n *tree.Node, depth int) {
	if n.At.End.Line < n.At.Start.Line || depth > tree.MaxDepth+2 {
		t.Fatalf("ends before it begins: %s", at(n))
	}
	for _, item := range n.Items {
		ordered(t, item, depth+1)
	}
	for _, field := range n.Fields {
		ordered(t, field.Value, depth+1)
	}
}
