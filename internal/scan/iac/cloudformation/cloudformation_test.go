package cloudformation_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/castellan-security/castellan/internal/scan/iac/cloudformation"
	"github.com/castellan-security/castellan/internal/scan/iac/tree"
)

func all(string) bool { return true }

// show writes a value as a person would; ? is unknown, with its reference.
func show(n *tree.Node) string {
	switch {
	case n == nil:
		return "absent"
	case n.Kind == tree.Unknown:
		return strings.TrimSpace("?" + n.Text + " " + n.Ref)
	case n.Kind == tree.List:
		var parts []string
		for _, item := range n.Items {
			parts = append(parts, show(item))
		}
		return "[" + strings.Join(parts, " ") + "]"
	case n.Kind == tree.Map:
		var parts []string
		for _, f := range n.Fields {
			parts = append(parts, f.Key+"="+show(f.Value))
		}
		if n.Open {
			parts = append(parts, "…")
		}
		return "{" + strings.Join(parts, " ") + "}"
	}
	return n.Text
}

const around = `
Parameters:
  Known: {Type: String, Default: a}
  Given: {Type: String}
  Hidden: {Type: String, NoEcho: true, Default: hunter2}
  Stored: {Type: "AWS::SSM::Parameter::Value<String>", Default: /x}
  List: {Type: CommaDelimitedList, Default: "x, y"}
Mappings:
  M:
    a: {k: v, list: [1, 2]}
Conditions:
  Yes: !Equals [!Ref Known, a]
  No: !Not [!Condition Yes]
  Perhaps: !Equals [!Ref Given, a]
  Or: !Or [!Condition Perhaps, !Condition Yes]
  And: !And [!Condition Perhaps, !Condition Yes]
  Loop: !Not [!Condition Loop]
Resources:
  R:
    Type: AWS::X::Y
    Properties:
      V: %s
  Gone: {Type: AWS::X::Y, Condition: No}
  There: {Type: AWS::X::Y, Condition: Perhaps}
`

// What functions come to, in both spellings, and what is left open.
func TestFunctions(t *testing.T) {
	for _, tc := range []struct{ value, want string }{
		{`!Ref Known`, "a"}, {`{Ref: Known}`, "a"}, {`!Ref Given`, "?"}, {`!Ref Hidden`, "?"}, {`!Ref Stored`, "?"}, {`!Ref List`, "[x y]"},
		{`!Ref R`, "? R"}, {`!Ref Nothing`, "?"}, {`!Ref "AWS::Region"`, "?"}, {`!Ref "AWS::NoValue"`, "absent"}, {`[1, !Ref "AWS::NoValue", 2]`, "[1 2]"},
		{`!GetAtt R.Arn`, "? R"}, {`{"Fn::GetAtt": [R, Arn]}`, "? R"}, {`!ImportValue x`, "?"},
		{`!Sub "${Known}-x"`, "a-x"}, {`!Sub "${AWS::Region}/${Known}:latest"`, "?${AWS::Region}/a:latest"}, {`!Sub ["${A}${!B}", {A: !Ref Known}]`, "a${B}"}, {`!Sub "${R.Arn}"`, "?${R.Arn}"}, {`!Sub "${open"`, "?"},
		{`!Join ["-", [!Ref Known, b]]`, "a-b"}, {`!Join ["-", [!Ref Given, b]]`, "?${…}-b"}, {`!Join ["", !Ref List]`, "xy"}, {`!Join [x]`, "?"},
		{`!If [Yes, 1, 2]`, "1"}, {`!If [No, 1, 2]`, "2"}, {`!If [Perhaps, 1, 2]`, "?"}, {`!If [Or, 1, 2]`, "1"}, {`!If [And, 1, 2]`, "?"}, {`!If [Loop, 1, 2]`, "?"}, {`!If [Yes, !Ref "AWS::NoValue", 2]`, "absent"},
		{`!FindInMap [M, !Ref Known, k]`, "v"}, {`!FindInMap [M, !Ref Given, k]`, "?"}, {`!FindInMap [M, b, k]`, "?"}, {`!Select [1, !FindInMap [M, a, list]]`, "2"},
		{`!Select [0, !Split ["/", "a/b"]]`, "a"}, {`!Select [9, [a]]`, "?"}, {`!Base64 x`, "x"}, {`{"Fn::Transform": {Name: x}}`, "?"}, {`{A: 1, "Fn::Transform": {Name: x}}`, "{A=1 …}"},
		{`{A: {Ref: Known}, B: [!Ref Known]}`, "{A=a B=[a]}"},
	} {
		t.Run(tc.value, func(t *testing.T) {
			docs, err := tree.YAML([]byte(fmt.Sprintf(around, tc.value)), "f")
			if err != nil || !cloudformation.Is(docs[0]) {
				t.Fatal(err, "no template")
			}
			resources, whole := cloudformation.Read(docs[0], all)
			if !whole || len(resources) != 2 || resources[1].Name != "There" {
				t.Fatalf("resources %v: what is known not to be is there", resources)
			}
			if got := show(resources[0].Properties.Get("V")); got != tc.want {
				t.Errorf("got %s, want %s", got, tc.want)
			}
			if at := resources[0].Properties.At.Start.Line; at != 19 {
				t.Errorf("the resource begins in line %d", at)
			}
		})
	}
}

// A template in which functions multiply ends with what is known.
func TestLimits(t *testing.T) {
	text := "Mappings:\n  M:\n    a:\n      k0: [x, x]\n"
	for i := 1; i < 40; i++ {
		text += fmt.Sprintf("      k%d: [!FindInMap [M, a, k%d], !FindInMap [M, a, k%d]]\n", i, i-1, i-1)
	}
	text += "Resources:\n  R:\n    Type: AWS::X::Y\n    Properties: {V: !FindInMap [M, a, k39]}\n"
	docs, err := tree.YAML([]byte(text), "f")
	if err != nil {
		t.Fatal(err)
	}
	if got, whole := cloudformation.Read(docs[0], all); len(got) != 1 || whole {
		t.Errorf("%d resources, whole: %v", len(got), whole)
	}
}

// FuzzRead reads whatever comes: it ends, without a panic.
func FuzzRead(f *testing.F) {
	f.Add([]byte(fmt.Sprintf(around, "!Sub [\"${A}\", {A: !Join [\",\", !Ref List]}]")))
	f.Add([]byte("Resources: {R: {Type: 'A::B', Condition: C, Properties: !If [C, {}, []]}}\nConditions: {C: !Or []}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		docs, err := tree.YAML(b, "f")
		if err != nil {
			return
		}
		for _, d := range docs {
			if !cloudformation.Is(d) {
				continue
			}
			resources, _ := cloudformation.Read(d, all)
			for _, r := range resources {
				if r.Properties == nil || r.Properties.Kind != tree.Map {
					t.Fatalf("%s has no properties", r.Name)
				}
			}
		}
	})
}
