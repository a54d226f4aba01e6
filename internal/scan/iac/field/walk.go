package field

import (
	"encoding/base64"
	"strings"

	"github.com/castellan-security/castellan/internal/scan/blueprint"
	"github.com/castellan-security/castellan/internal/scan/iac/terraform"
	"github.com/castellan-security/castellan/internal/scan/iac/tree"
)

// walker goes through a tree.
type walker struct {
	out      Fields
	bytes    int // of texts that were told
	many     bool
	resolved bool // the tree is a template as it is worked out
	// block is how many lines after its place a text of several lines begins: in
	// YAML its mark stands in a line of its own.
	block int
}

// where is what is known of a value by what it is in.
type where struct {
	container bool // within the definition of a container of ECS
	service   bool // within a service of a compose file
	part      Part
	within    int // documents that it is in
}

// names and values are fields of one map that are a name and its value, without
// case and signs.
var (
	names  = []string{"name", "key", "parameterkey", "parametername", "optionname", "variable"}
	values = []string{"value", "parametervalue", "optionvalue", "stringvalue", "defaultvalue", "default"}
)

func (w *walker) value(n *tree.Node, in where, depth int) {
	if n == nil || w.many {
		return
	}
	if depth > maxDepth {
		w.many = true
		return
	}
	switch n.Kind {
	case tree.Map:
		w.members(n, in, depth)
	case tree.List:
		w.items(n, in, depth)
	case tree.Text, tree.Unknown:
		w.text(n, in, depth)
	}
}

func (w *walker) members(n *tree.Node, in where, depth int) {
	w.joined(n, in)
	for i := range n.Fields {
		f := &n.Fields[i]
		inner := in.at(f.Key, f.Value)
		if v, ok := scalar(f.Value); ok {
			w.add(f.Key, v, f.Value.At, inner.part)
			if inner.part == Command {
				w.line(f.Value, inner)
			}
		} else if d := defaultOf(f.Value); d != nil {
			if v, ok := scalar(d); ok {
				w.add(f.Key, v, d.At, inner.part)
			}
		}
		for _, v := range alternatives(f.Value) {
			w.add(f.Key, v.Text, v.At, inner.part)
		}
		w.value(f.Value, inner, depth+1)
	}
}

// at is what is known of the value of a member.
func (in where) at(key string, v *tree.Node) where {
	plain := plainName(key)
	out := in
	switch plain {
	case "containerdefinitions", "containerdefinition", "containerdefinitionjson":
		out.container = true
	case "services":
		out.service = true
	case "environment", "env", "environmentvariables", "buildargs", "variables", "environmentvariable":
		switch {
		case in.container:
			out.part = Environment
		case in.service:
			out.part = Service
		default:
			out.part = Variables
		}
	case "args":
		if v.Kind == tree.Map { // of a build
			out.part = Variables
			break
		}
		out.part = Command
	case "command", "entrypoint", "cmd":
		out.part = Command
	case "secrets", "environmentfiles", "healthcheck", "logconfiguration", "labels", "dockerlabels":
		out.part = Elsewhere
	}
	return out
}

// joined adds a name and a value that stand in fields of their own.
func (w *walker) joined(n *tree.Node, in where) {
	name, value := (*tree.Node)(nil), (*tree.Node)(nil)
	for i := range n.Fields {
		switch key := plainName(n.Fields[i].Key); {
		case name == nil && has(names, key):
			name = n.Fields[i].Value
		case value == nil && has(values, key):
			value = n.Fields[i].Value
		}
	}
	if name == nil || value == nil {
		return
	}
	called, named := scalar(name)
	if !named {
		return
	}
	if text, ok := scalar(value); ok {
		w.add(called, text, value.At, in.part)
	}
	for _, v := range alternatives(value) {
		w.add(called, v.Text, v.At, in.part)
	}
}

// alternatives are the texts that a condition of CloudFormation chooses from.
func alternatives(n *tree.Node) (texts []*tree.Node) {
	if n == nil {
		return nil
	}
	list := n
	if n.Kind == tree.Map && len(n.Fields) == 1 && n.Fields[0].Key == "Fn::If" {
		list = n.Fields[0].Value
	} else if n.Tag != "!If" {
		return nil
	}
	const parts = 3 // the condition, and what it chooses from
	if len(list.Items) != parts {
		return nil
	}
	for _, item := range list.Items[1:] {
		if _, ok := scalar(item); ok {
			texts = append(texts, item)
		}
	}
	return texts
}

func has(list []string, s string) bool {
	for _, l := range list {
		if l == s {
			return true
		}
	}
	return false
}

// defaultOf is what a parameter or variable has if nobody gives it a value.
func defaultOf(n *tree.Node) *tree.Node {
	if n == nil || n.Kind != tree.Map {
		return nil
	}
	if d := n.Exact("Default"); d != nil {
		return d
	}
	return n.Exact("default")
}

// scalar is the text of a value that is known and no function.
func scalar(n *tree.Node) (string, bool) {
	if n == nil || n.Tag != "" {
		return "", false
	}
	switch n.Kind {
	case tree.Text, tree.Number:
		return n.Text, n.Text != ""
	}
	return "", false
}

func (w *walker) add(name, value string, at blueprint.Span, part Part) {
	if w.bytes += len(value) + len(name); len(w.out.Fields) >= maxFields || w.bytes > maxText {
		w.many = true
		return
	}
	if part == Command {
		part = Elsewhere // it is a member within a command, which is none of its words
	}
	w.out.Fields = append(w.out.Fields, Field{name, value, at, part})
}

func (w *walker) items(n *tree.Node, in where, depth int) {
	if in.part == Command && len(n.Items) > 0 {
		w.command(n, in)
	}
	for _, item := range n.Items {
		if text, ok := scalar(item); ok && (in.part == Variables || in.part == Environment || in.part == Service) {
			if name, value, assigned := strings.Cut(text, "="); assigned {
				w.add(name, value, item.At, in.part)
			}
		}
		w.value(item, in, depth+1)
	}
}

// line adds a command that is one text.
func (w *walker) line(n *tree.Node, in where) {
	list := &tree.Node{Kind: tree.List, At: n.At}
	for word := range strings.FieldsSeq(n.Text) {
		list.Items = append(list.Items, tree.TextAt(word, n.At))
	}
	w.command(list, in)
}

// command adds the words of a command.
func (w *walker) command(n *tree.Node, in where) {
	words := Words{Part: Elsewhere}
	switch {
	case in.container:
		words.Part = Command
	case in.service:
		words.Part = Service
	}
	for _, item := range n.Items {
		text, _ := scalar(item)
		w.bytes += len(text)
		words.Texts, words.At = append(words.Texts, text), append(words.At, item.At)
	}
	if len(w.out.Commands) >= maxFields || w.bytes > maxText {
		w.many = true
		return
	}
	w.out.Commands = append(w.out.Commands, words)
}

// leastScript is the length of the shortest text in which a name and a value may
// stand.
const leastScript = 12

// text looks into a text: it may be a document, a script, or encoded.
func (w *walker) text(n *tree.Node, in where, depth int) {
	text := strings.TrimSpace(n.Text)
	if len(text) < leastScript || n.Tag != "" && n.Tag != "!Base64" {
		return
	}
	at := n.At
	if at.End.Line > at.Start.Line {
		at.Start.Line, at.Start.Column = at.Start.Line+w.block, 1
	}
	if c := text[0]; (c == '{' || c == '[') && in.within < maxWithin && n.Kind == tree.Text {
		placed := *n
		placed.At = at
		if inner := terraform.Decoded(&placed); inner.Kind == tree.Map || inner.Kind == tree.List {
			if w.bytes += len(text); w.bytes > maxText {
				w.many = true
				return
			}
			in.within++
			w.value(inner, in, depth+1)
			return
		}
	}
	if decoded, ok := unwrapped(text); ok {
		text = decoded
	} else if !strings.ContainsAny(text, "\n=") && !strings.Contains(text, "://") && !strings.Contains(text, " -") {
		return
	}
	if w.bytes += len(text); w.bytes > maxText {
		w.many = true
		return
	}
	w.out.Texts = append(w.out.Texts, Text{text, at})
}

// unwrapped decodes base64 that is in several lines, as tools write it; what is in
// one is found where it stands.
func unwrapped(text string) (string, bool) {
	if !strings.Contains(text, "\n") && !strings.Contains(text, " ") {
		return "", false
	}
	joined := strings.Map(func(r rune) rune {
		if r == '\n' || r == '\r' || r == ' ' || r == '\t' {
			return -1
		}
		return r
	}, text)
	b, err := base64.StdEncoding.DecodeString(joined)
	if err != nil {
		return "", false
	}
	for _, c := range b {
		if c < ' ' && c != '\n' && c != '\t' && c != '\r' {
			return "", false
		}
	}
	return string(b), true
}

// plainName is a name in lower case without what joins its words.
func plainName(s string) string {
	const longest = 64
	if len(s) > longest {
		return ""
	}
	return strings.ToLower(joiners.Replace(s))
}

// joiners are what joins the words of a name.
var joiners = strings.NewReplacer("_", "", "-", "", ".", "")
