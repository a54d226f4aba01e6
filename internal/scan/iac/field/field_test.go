package field_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/scan/iac/field"
)

// Names and values come from wherever the language has them, with the part that
// they are of.
func TestRead(t *testing.T) {
	f, err := field.Read([]byte(`{"containerDefinitions": [{"name": "web", "environment": [{"name": "A", "value": "x"}], "command": ["serve", "--a", "b"], "dockerLabels": {"l": "m"}}],
"Variables": {"B": "y"}, "p": {"Default": "z"}, "n": {"Ref": "q"}}`), "task.json")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, one := range f.Fields {
		got = append(got, fmt.Sprintf("%d %s=%s %d", one.At.Start.Line, one.Name, one.Value, one.Part))
	}
	for _, c := range f.Commands {
		got = append(got, fmt.Sprintf("%v %d", c.Texts, c.Part))
	}
	want := []string{"1 name=web 0", "1 A=x 2", "1 name=A 2", "1 value=x 2", "1 l=m 0", "2 B=y 1", "2 p=z 0", "2 Default=z 0", "2 Ref=q 0", "[serve --a b] 4"}
	if d := cmp.Diff(got, want); d != "" {
		t.Errorf("differs (-got +want):\n%s", d)
	}
}

// What costs too much ends with an error, and what was read until then is there.
func TestLimits(t *testing.T) {
	bomb := "a: &a \"" + strings.Repeat("x=1 ", 25<<10) + "\"\nb: [" + strings.TrimSuffix(strings.Repeat("*a,", 300), ",") + "]\n"
	if _, err := field.Read([]byte(bomb), "a.yaml"); err == nil || !strings.Contains(err.Error(), "that aliases repeat") {
		t.Errorf("aliases: %v", err)
	}
	f, err := field.Read([]byte("["+strings.TrimSuffix(strings.Repeat(`{"a": "b"},`, 60_000), ",")+"]"), "a.json")
	if !errors.Is(err, field.ErrMany) || len(f.Fields) == 0 {
		t.Errorf("many: %d fields, %v", len(f.Fields), err)
	}
	if _, err := field.Read(make([]byte, field.MaxBytes+1), "a.json"); !errors.Is(err, field.ErrLong) {
		t.Errorf("large: %v", err)
	}
	nested := `"x"`
	for range 5 {
		nested = fmt.Sprintf("%q", `{"k": `+nested+`}`)
	}
	if _, err := field.Read([]byte(`{"a": `+nested+`}`), "a.json"); err != nil {
		t.Errorf("nested: %v", err)
	}
}

// FuzzRead: it ends, without a panic, within its limits.
func FuzzRead(f *testing.F) {
	f.Add("a.yaml", "a: &a [*a]\nb: |\n  x=1\n")
	f.Add("a.tf", "variable \"a\" {\n default = \"b\"\n}\nlocals { x = [for a in local.x : a] }\n")
	f.Add("a.json", `{"Resources": {"A": {"Type": "AWS::X", "Properties": {"P": {"Fn::Join": ["", ["a", {"Ref": "B"}]]}}}}, "Parameters": {"B": {"Default": "c"}}}`)
	f.Add("a.template", "{")
	f.Fuzz(func(t *testing.T, name, text string) {
		fields, err := field.Read([]byte(text), name)
		if len(fields.Fields) > 60_000 {
			t.Errorf("%d fields, %v", len(fields.Fields), err)
		}
	})
}
