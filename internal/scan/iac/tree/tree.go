// Package tree holds documents as trees of values that know where they stand:
// JSON, YAML and what Terraform's language comes to all become these. A value may
// be unknown.
//
// It is not for what a document means (see iac).
package tree

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/castellan-security/castellan/internal/scan/blueprint"
)

// Limits on one document. They are far above what people write, and low enough
// that a hostile document costs little.
const (
	// MaxBytes bounds a document. CloudFormation takes 1 MB and ECS 64 KiB; a plan
	// of Terraform may be tens of MB.
	MaxBytes = 32 << 20
	// MaxYAML bounds a document in YAML, of which the reader holds ten times as
	// much.
	MaxYAML = 4 << 20
	// MaxDepth bounds nesting: that of the deepest templates is about 30.
	MaxDepth = 100
	// MaxTexts bounds the texts of a document in YAML, those that aliases repeat
	// counted each time.
	MaxTexts = 16 << 20
	// MaxNodes bounds the values of a document, those that aliases repeat counted
	// each time.
	MaxNodes = 500_000
)

// Kind says what a value is.
type Kind uint8

// The kinds of value. The zero value is null.
const (
	Null Kind = iota
	Unknown
	Text
	Number
	Bool
	List
	Map
)

// Node is one value. A nil node is one that is not there; all methods take it.
type Node struct {
	Kind Kind
	// Text is a text, a number or a bool as it is written; of an unknown text what
	// is known of it, with ${…} for the rest.
	Text   string
	Items  []*Node // of a list
	Fields []Field // of a map, in the order of the document
	Open   bool    // of a map: there may be more fields than are known
	Tag    string  // of YAML, as !Ref; empty for the usual ones
	Ref    string  // of an unknown value: the resource whose property it is
	Attr   string  // which property, as blueprint.Value has it
	At     blueprint.Span
}

// Field is a member of a map.
type Field struct {
	Key   string
	KeyAt blueprint.Span
	Value *Node
}

// UnknownAt is a value of which only the place is known.
func UnknownAt(at blueprint.Span, ref string) *Node { return &Node{Kind: Unknown, At: at, Ref: ref} }

// Self is the Attr of a resource itself; each step into it adds to that.
const Self = "."

// ReferenceAt is an unknown value of which it is known what it is a property of.
func ReferenceAt(at blueprint.Span, ref, attr string) *Node {
	return &Node{Kind: Unknown, At: at, Ref: ref, Attr: attr}
}

// Within is the Attr of a member of what has one, "" if that is not known.
func Within(attr, member string) string {
	if attr == "" {
		return ""
	}
	return attr + "/" + member
}

// TextAt is a text with its place.
func TextAt(s string, at blueprint.Span) *Node { return &Node{Kind: Text, Text: s, At: at} }

// There says whether there is a value that is not null.
func (n *Node) There() bool { return n != nil && n.Kind != Null }

// IsUnknown says whether there is a value and it is unknown.
func (n *Node) IsUnknown() bool { return n != nil && n.Kind == Unknown }

// Get returns the member whose name is one of these, but for case and
// underscores: the interface of ECS writes networkMode, CloudFormation
// NetworkMode and Terraform network_mode. Of an unknown value members are unknown.
func (n *Node) Get(names ...string) *Node {
	if n == nil {
		return nil
	}
	if n.Kind == Unknown {
		return UnknownAt(n.At, "")
	}
	for i := range n.Fields {
		for _, name := range names {
			if alike(n.Fields[i].Key, name) {
				return n.Fields[i].Value
			}
		}
	}
	if n.Open {
		return UnknownAt(n.At, "")
	}
	return nil
}

// Exact returns the member of that very name.
func (n *Node) Exact(name string) *Node {
	if f := n.Field(name); f != nil {
		return f.Value
	}
	return nil
}

// Field returns the member of that very name with its place.
func (n *Node) Field(name string) *Field {
	if n == nil {
		return nil
	}
	for i := range n.Fields {
		if n.Fields[i].Key == name {
			return &n.Fields[i]
		}
	}
	return nil
}

// Path follows members, as Get does.
func (n *Node) Path(names ...string) *Node {
	for _, name := range names {
		n = n.First().Get(name)
	}
	return n
}

// First returns the first of a list, and what is no list itself: Terraform's
// blocks are lists where other documents have a map.
func (n *Node) First() *Node {
	if n != nil && n.Kind == List {
		if len(n.Items) == 0 {
			return nil
		}
		return n.Items[0]
	}
	return n
}

// Each returns the items of a list; what is no list is one of its own.
func (n *Node) Each() []*Node {
	switch {
	case !n.There():
		return nil
	case n.Kind == List:
		return n.Items
	}
	return []*Node{n}
}

// Set replaces a member, or adds it.
func (n *Node) Set(key string, v *Node) {
	for i := range n.Fields {
		if n.Fields[i].Key == key {
			n.Fields[i].Value = v
			return
		}
	}
	n.Fields = append(n.Fields, Field{Key: key, KeyAt: v.At, Value: v})
}

// alike compares names without case, underscores and dashes.
func alike(a, b string) bool {
	i, j := 0, 0
	for {
		for i < len(a) && (a[i] == '_' || a[i] == '-') {
			i++
		}
		for j < len(b) && (b[j] == '_' || b[j] == '-') {
			j++
		}
		if i == len(a) || j == len(b) {
			return i == len(a) && j == len(b)
		}
		if lower(a[i]) != lower(b[j]) {
			return false
		}
		i, j = i+1, j+1
	}
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

// AsText returns a scalar as a text.
func (n *Node) AsText() blueprint.Text {
	if n == nil {
		return blueprint.Text{}
	}
	t := blueprint.Text{At: n.At, Ref: n.Ref, Attr: n.Attr}
	switch n.Kind {
	case Null:
		return blueprint.Text{}
	case Text, Number, Bool:
		t.V, t.Is = n.Text, blueprint.Known
	default:
		t.V, t.Is = n.Text, blueprint.Unknown
	}
	return t
}

// AsBool returns a truth; texts that say true or false, as CloudFormation takes
// them, are one.
func (n *Node) AsBool() blueprint.Bool {
	t := n.AsText()
	b := blueprint.Bool{Is: t.Is, At: t.At, Ref: t.Ref, Attr: t.Attr}
	if !t.Known() {
		return b
	}
	switch strings.ToLower(t.V) {
	case "true", "yes", "on":
		b.V = true
	case "false", "no", "off":
	default:
		b.Is = blueprint.Unknown
	}
	return b
}

// AsNumber returns a whole number.
func (n *Node) AsNumber() blueprint.Number {
	t := n.AsText()
	v := blueprint.Number{Is: t.Is, At: t.At, Ref: t.Ref, Attr: t.Attr}
	if !t.Known() {
		return v
	}
	f, err := strconv.ParseFloat(strings.TrimSpace(t.V), 64)
	if err != nil || f != float64(int64(f)) {
		v.Is = blueprint.Unknown
		return v
	}
	v.V = int64(f)
	return v
}

// AsTexts returns a list of texts.
func (n *Node) AsTexts() blueprint.Texts {
	if !n.There() {
		return blueprint.Texts{}
	}
	list := blueprint.Texts{At: n.At, Ref: n.Ref, Attr: n.Attr}
	if n.Kind == Unknown && n.Text == "" || n.Kind == Map {
		list.Is = blueprint.Unknown
		return list
	} // of what something is known it is known to be a text
	list.Is = blueprint.Known
	for _, item := range n.Each() {
		if t := item.AsText(); !t.Absent() {
			list.V = append(list.V, t)
		}
	}
	return list
}

// budget is what a document may still cost.
type budget struct{ nodes, texts int }

func (b *budget) take(depth int) error {
	b.nodes++
	switch {
	case b.nodes > MaxNodes:
		return fmt.Errorf("more than %d values", MaxNodes)
	case depth > MaxDepth:
		return fmt.Errorf("nested deeper than %d", MaxDepth)
	}
	return nil
}
