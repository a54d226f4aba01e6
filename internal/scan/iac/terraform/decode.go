package terraform

import (
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/castellan-security/castellan/internal/scan/blueprint"
	"github.com/castellan-security/castellan/internal/scan/iac/tree"
)

// gap stands in a text for what is not known of it.
const gap = "${…}"

// Decoded is what a text in JSON says, in its place; a value that was never
// encoded is itself. Of a text that is not wholly known, the values with gaps are
// unknown, and the others are not.
func Decoded(n *tree.Node) *tree.Node {
	if n == nil || n.Kind != tree.Text && (n.Kind != tree.Unknown || n.Text == "") {
		return n
	}
	text := n.Text
	if n.Kind == tree.Unknown {
		text = quoteGaps(text)
	}
	v, err := tree.JSON([]byte(text), n.At.File, n.At.Start)
	if err != nil {
		return tree.UnknownAt(n.At, "")
	}
	if n.Kind == tree.Unknown {
		forget(v)
	}
	if n.At.Start.Line == n.At.End.Line { // within quotes nothing is where it seems to be
		place(v, n.At)
	}
	return v
}

// decoded is Decoded, paid for: two bytes may be a value.
func (s *scope) decoded(n *tree.Node, depth int) *tree.Node {
	if n != nil && !s.spend(len(n.Text)/2, depth) {
		return tree.UnknownAt(n.At, "")
	}
	return Decoded(n)
}

// quoteGaps makes texts of gaps where JSON has numbers and truths.
func quoteGaps(text string) string {
	var b strings.Builder
	within, escaped := false, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case !within && strings.HasPrefix(text[i:], gap):
			b.WriteString(`"` + gap + `"`)
			i += len(gap) - 1
			continue
		case escaped:
			escaped = false
		case c == '\\':
			escaped = within
		case c == '"':
			within = !within
		}
		b.WriteByte(text[i])
	}
	return b.String()
}

// forget makes texts with gaps unknown.
func forget(n *tree.Node) {
	if n.Kind == tree.Text && strings.Contains(n.Text, gap) {
		n.Kind = tree.Unknown
	}
	for _, item := range n.Items {
		forget(item)
	}
	for i := range n.Fields {
		if strings.Contains(n.Fields[i].Key, gap) {
			n.Open = true
		}
		forget(n.Fields[i].Value)
	}
}

// place puts all of a value at one place.
func place(n *tree.Node, at blueprint.Span) {
	n.At = at
	for _, item := range n.Items {
		place(item, at)
	}
	for i := range n.Fields {
		n.Fields[i].KeyAt = at
		place(n.Fields[i].Value, at)
	}
}

// rendered is a template with its variables put in.
func (s *scope) rendered(template, vars *tree.Node, depth int) *tree.Node {
	if template.Kind != tree.Text || !s.spend(len(template.Text)/2, depth) || tooDeep([]byte(template.Text)) {
		return tree.UnknownAt(template.At, "")
	}
	e, diags := hclsyntax.ParseTemplate([]byte(template.Text), template.At.File, hcl.InitialPos)
	if diags.HasErrors() {
		return tree.UnknownAt(template.At, "")
	}
	inner := *s
	inner.loop = map[string]*tree.Node{}
	for _, f := range vars.First().Each() {
		for _, v := range f.Fields {
			inner.loop[v.Key] = v.Value
		}
	}
	v := *inner.value(e, depth+1)
	v.At = template.At
	return &v
}

// templateFile is what a data source template_file, which templatefile has
// replaced, comes to; nil if there is none of that name.
func (s *scope) templateFile(name string, depth int) *tree.Node {
	for _, b := range s.m.blocks {
		if b.Type != "data" || b.Labels[0] != "template_file" || b.Labels[1] != name {
			continue
		}
		body := s.body(b.Body, spanOf(b.DefRange(), b.Range()), depth+1)
		template := body.Get("template")
		if template == nil {
			return nil
		}
		vars := body.Get("vars")
		if vars == nil {
			vars = &tree.Node{Kind: tree.Map}
		}
		return s.rendered(template, vars, depth+1)
	}
	return nil
}
