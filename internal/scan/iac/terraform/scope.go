package terraform

import (
	"cmp"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"github.com/castellan-security/castellan/internal/scan/blueprint"
	"github.com/castellan-security/castellan/internal/scan/iac/tree"
)

// Limits on what expressions may cost.
const (
	// maxDepth bounds how deep values refer to values.
	maxDepth = 60
	// maxWork bounds the values that one configuration comes to, with the modules
	// that it calls: real ones are below 100,000.
	maxWork = 2_000_000
	// maxTotal bounds those of all configurations of one scan.
	maxTotal = 100_000_000
	// maxText bounds a text that is put together.
	maxText = 64 << 10
)

// scope is a module as it is called once.
type scope struct {
	r         *Reader
	m         *module
	arguments map[string]argument   // nil: the root module
	loop      map[string]*tree.Node // variables of for expressions around
}

// argument is what a module is called with: an expression of who calls, or a
// value.
type argument struct {
	expr  hclsyntax.Expression
	scope *scope
	node  *tree.Node
}

// spend says that there is work left.
func (s *scope) spend(n, depth int) bool {
	s.r.work += n
	return s.r.work <= maxWork && depth <= maxDepth
}

// body makes a map of a block: attributes, and lists of the blocks in it.
func (s *scope) body(b *hclsyntax.Body, at blueprint.Span, depth int) *tree.Node {
	n := &tree.Node{Kind: tree.Map, At: at}
	if !s.spend(1+len(b.Attributes), depth) {
		return tree.UnknownAt(at, "")
	}
	for _, a := range inOrder(b.Attributes) {
		n.Fields = append(n.Fields, tree.Field{Key: a.Name, KeyAt: spanAt(a.NameRange), Value: s.attribute(a, depth+1)})
	}
	for _, block := range b.Blocks {
		name, body := block.Type, block.Body
		if name == "dynamic" && len(block.Labels) == 1 {
			// It stands for one block, if it stands for any.
			name = block.Labels[0]
			for _, content := range block.Body.Blocks {
				if content.Type == "content" {
					body = content.Body
				}
			}
		}
		list := n.Exact(name)
		if list == nil {
			list = &tree.Node{Kind: tree.List, At: spanOf(block.DefRange(), block.Range())}
			n.Fields = append(n.Fields, tree.Field{Key: name, KeyAt: list.At, Value: list})
		}
		list.Items = append(list.Items, s.body(body, spanOf(block.DefRange(), block.Range()), depth+1))
	}
	return n
}

// inOrder are attributes in the order of the file: their map has none.
func inOrder(m hclsyntax.Attributes) []*hclsyntax.Attribute {
	return slices.SortedFunc(maps.Values(m), func(a, b *hclsyntax.Attribute) int { return cmp.Compare(a.SrcRange.Start.Byte, b.SrcRange.Start.Byte) })
}

// attribute is the value of an attribute.
func (s *scope) attribute(a *hclsyntax.Attribute, depth int) *tree.Node {
	return s.placed(s.value(a.Expr, depth), spanAt(a.SrcRange))
}

// placed puts a scalar where it is used, whatever variable it came from: that is
// where a person looks. Texts of several lines are documents with places of their
// own. Who asks where values stand has them where they are.
func (s *scope) placed(v *tree.Node, at blueprint.Span) *tree.Node {
	if s.r.stand && v.Kind == tree.Text {
		return v
	}
	if v.Kind == tree.Map || v.Kind == tree.List || v.At.Start.Line != v.At.End.Line {
		return v
	}
	moved := *v
	moved.At = at
	return &moved
}

// value works an expression out.
func (s *scope) value(e hclsyntax.Expression, depth int) *tree.Node {
	at := spanAt(e.Range())
	if !s.spend(1, depth) {
		return tree.UnknownAt(at, "")
	}
	switch e := e.(type) {
	case *hclsyntax.LiteralValueExpr:
		return s.plain(e.Val, at)
	case *hclsyntax.ParenthesesExpr:
		return s.value(e.Expression, depth+1)
	case *hclsyntax.TemplateWrapExpr:
		return s.value(e.Wrapped, depth+1)
	case *hclsyntax.TemplateExpr:
		return s.template(e, depth)
	case *hclsyntax.ObjectConsExpr:
		return s.object(e, depth)
	case *hclsyntax.TupleConsExpr:
		n := &tree.Node{Kind: tree.List, At: at}
		for _, x := range e.Exprs {
			n.Items = append(n.Items, s.value(x, depth+1))
		}
		return n
	case *hclsyntax.ConditionalExpr:
		switch c := s.value(e.Condition, depth+1).AsBool(); {
		case blueprint.IsTrue(c):
			return s.value(e.TrueResult, depth+1)
		case blueprint.IsFalse(c):
			return s.value(e.FalseResult, depth+1)
		}
		return tree.UnknownAt(at, "")
	case *hclsyntax.ScopeTraversalExpr:
		return s.traversal(e.Traversal, at, depth)
	case *hclsyntax.FunctionCallExpr:
		return s.call(e, at, depth)
	case *hclsyntax.BinaryOpExpr, *hclsyntax.UnaryOpExpr:
		return s.operation(e, at, depth)
	case *hclsyntax.IndexExpr:
		return index(s.value(e.Collection, depth+1), s.value(e.Key, depth+1).AsText(), at)
	case *hclsyntax.RelativeTraversalExpr:
		return follow(s.value(e.Source, depth+1), e.Traversal, at)
	}
	return s.many(e, at, depth)
}

// many works out for and splat expressions.
func (s *scope) many(e hclsyntax.Expression, at blueprint.Span, depth int) *tree.Node {
	switch e := e.(type) {
	case *hclsyntax.SplatExpr:
		return tree.UnknownAt(at, s.value(e.Source, depth+1).Ref)
	case *hclsyntax.ForExpr:
		over := s.value(e.CollExpr, depth+1)
		if over.Kind != tree.List && over.Kind != tree.Map || e.Group {
			return tree.UnknownAt(at, "")
		}
		out := &tree.Node{Kind: tree.List, At: at, Open: over.Open}
		if e.KeyExpr != nil {
			out.Kind = tree.Map
		}
		for i, item := range over.Items {
			s.iterate(e, out, &tree.Node{Kind: tree.Number, Text: strconv.Itoa(i), At: item.At}, item, depth)
		}
		for _, f := range over.Fields {
			s.iterate(e, out, tree.TextAt(f.Key, f.KeyAt), f.Value, depth)
		}
		return out
	}
	return tree.UnknownAt(at, "")
}

// iterate adds what a for expression makes of one element.
func (s *scope) iterate(e *hclsyntax.ForExpr, out, key, value *tree.Node, depth int) {
	inner := *s
	inner.loop = maps.Clone(s.loop)
	if inner.loop == nil {
		inner.loop = map[string]*tree.Node{}
	}
	inner.loop[e.ValVar] = value
	if e.KeyVar != "" {
		inner.loop[e.KeyVar] = key
	}
	if !s.spend(1+len(s.loop), depth) {
		return
	}
	if e.CondExpr != nil {
		c := inner.value(e.CondExpr, depth+1).AsBool()
		out.Open = out.Open || !c.Known()
		if !blueprint.IsTrue(c) {
			return // what may be there is not known to be
		}
	}
	v := inner.value(e.ValExpr, depth+1)
	if e.KeyExpr == nil {
		out.Items = append(out.Items, v)
		return
	}
	name := inner.value(e.KeyExpr, depth+1).AsText()
	if !name.Known() {
		out.Open = true
		return
	}
	out.Fields = append(out.Fields, tree.Field{Key: name.V, KeyAt: name.At, Value: v})
}

// plain is a value that needs nothing else.
func (s *scope) plain(v cty.Value, at blueprint.Span) *tree.Node {
	n := &tree.Node{At: at}
	switch {
	case !v.IsKnown():
		n.Kind = tree.Unknown
	case v.IsNull():
	case v.Type() == cty.String:
		n.Kind, n.Text = tree.Text, v.AsString()
	case v.Type() == cty.Number:
		n.Kind, n.Text = tree.Number, v.AsBigFloat().Text('f', -1)
	case v.Type() == cty.Bool:
		n.Kind, n.Text = tree.Bool, "false"
		if v.True() {
			n.Text = "true"
		}
	default:
		n.Kind = tree.Unknown
	}
	return n
}

func (s *scope) template(e *hclsyntax.TemplateExpr, depth int) *tree.Node {
	at := spanAt(e.Range())
	var b strings.Builder
	kind := tree.Text
	for _, part := range e.Parts {
		v := s.value(part, depth+1)
		switch {
		case b.Len() > maxText:
			return tree.UnknownAt(at, "")
		case v.Kind == tree.Text || v.Kind == tree.Number || v.Kind == tree.Bool:
			b.WriteString(v.Text)
		default:
			kind = tree.Unknown
			b.WriteString(gap)
		}
	}
	s.spend(b.Len()/8, depth)
	n := &tree.Node{Kind: kind, Text: b.String(), At: at}
	if len(e.Parts) > 0 {
		// A heredoc's text begins in the line after the one with its mark.
		n.At.Start.Line = e.Parts[0].Range().Start.Line
		if n.At.Start.Line > at.Start.Line {
			n.At.Start.Column = 1
		}
	}
	return n
}

func (s *scope) object(e *hclsyntax.ObjectConsExpr, depth int) *tree.Node {
	n := &tree.Node{Kind: tree.Map, At: spanAt(e.Range())}
	for _, item := range e.Items {
		key := s.key(item.KeyExpr, depth)
		if !key.Known() {
			n.Open = true
			continue
		}
		v := s.placed(s.value(item.ValueExpr, depth+1), spanOf(item.KeyExpr.Range(), item.ValueExpr.Range()))
		n.Fields = append(n.Fields, tree.Field{Key: key.V, KeyAt: spanAt(item.KeyExpr.Range()), Value: v})
	}
	return n
}

// key is the name of a member: a bare word is one, unless it is in brackets.
func (s *scope) key(e hclsyntax.Expression, depth int) blueprint.Text {
	if k, ok := e.(*hclsyntax.ObjectConsKeyExpr); ok {
		if word := hcl.ExprAsKeyword(k.Wrapped); word != "" && !k.ForceNonLiteral {
			return blueprint.KnownText(word, spanAt(k.Range()))
		}
		e = k.Wrapped
	}
	return s.value(e, depth+1).AsText()
}

// traversal works out a reference.
func (s *scope) traversal(t hcl.Traversal, at blueprint.Span, depth int) *tree.Node {
	root := t.RootName()
	if v := s.loop[root]; v != nil {
		return follow(v, t[1:], at)
	}
	name := ""
	if len(t) > 1 {
		if step, ok := t[1].(hcl.TraverseAttr); ok {
			name = step.Name
		}
	}
	switch root {
	case "local":
		if e := s.m.locals[name]; e != nil {
			return follow(s.value(e, depth+1), t[2:], at)
		}
		if n := s.m.jsonLocal[name]; n != nil {
			return follow(s.jsonValue(n, depth+1), t[2:], at)
		}
	case "var":
		if len(t) > 1 {
			return follow(s.variable(name, at, depth+1), t[2:], at)
		}
	case "path":
		switch name {
		case "module":
			return tree.TextAt(".", at) // files are looked up from the module's folder
		case "root", "cwd":
			if dir, err := filepath.Rel(s.m.dir, s.r.rootDir); err == nil {
				return tree.TextAt(filepath.ToSlash(dir), at)
			}
		}
	case "each", "count", "self", "terraform":
	case "data":
		if len(t) > 2 {
			if step, ok := t[2].(hcl.TraverseAttr); ok {
				if v := s.data(name, step.Name, depth); v != nil {
					return v
				}
				return follow(tree.ReferenceAt(at, "data."+name+"."+step.Name, tree.Self), t[3:], at)
			}
		}
	default:
		if name != "" {
			return follow(tree.ReferenceAt(at, root+"."+name, tree.Self), t[2:], at)
		}
	}
	return tree.UnknownAt(at, "")
}

// data is what a data source comes to that needs nobody to be asked; nil for all
// others.
func (s *scope) data(typ, name string, depth int) *tree.Node {
	if typ != "template_file" || !s.spend(len(s.m.blocks), depth) {
		return nil
	}
	return s.templateFile(name, depth)
}

// variable is what a variable has when this module is read.
func (s *scope) variable(name string, at blueprint.Span, depth int) *tree.Node {
	if s.arguments != nil {
		if a, ok := s.arguments[name]; ok {
			if a.node != nil {
				return a.node
			}
			return a.scope.value(a.expr, depth)
		}
	} else if e := s.m.given[name]; e != nil {
		return s.value(e, depth)
	}
	if b := s.m.variables[name]; b != nil {
		if a := b.Body.Attributes["default"]; a != nil && (s.r.stand || !s.sensitive(b)) {
			return s.value(a.Expr, depth)
		}
	}
	if n := s.m.defaults[name]; n != nil {
		return n
	}
	return tree.UnknownAt(at, "")
}

// sensitive says that a variable's default is a stand-in for what is given when
// it is applied.
func (s *scope) sensitive(b *hclsyntax.Block) bool {
	a := b.Body.Attributes["sensitive"]
	if a == nil {
		return false
	}
	v, ok := a.Expr.(*hclsyntax.LiteralValueExpr)
	return ok && v.Val.Type() == cty.Bool && v.Val.True()
}

// follow takes the rest of a reference.
func follow(n *tree.Node, steps hcl.Traversal, at blueprint.Span) *tree.Node {
	for _, step := range steps {
		switch step := step.(type) {
		case hcl.TraverseAttr:
			n = member(n, step.Name, at)
		case hcl.TraverseIndex:
			key := blueprint.Text{}
			if step.Key.IsKnown() && !step.Key.IsNull() {
				switch step.Key.Type() {
				case cty.String:
					key = blueprint.KnownText(step.Key.AsString(), at)
				case cty.Number:
					key = blueprint.KnownText(step.Key.AsBigFloat().Text('f', -1), at)
				}
			}
			n = index(n, key, at)
		default:
			return tree.UnknownAt(at, "")
		}
	}
	return n
}

func member(n *tree.Node, name string, at blueprint.Span) *tree.Node {
	if n.Kind == tree.Map {
		if v := n.Exact(name); v != nil {
			return v
		}
	}
	return tree.ReferenceAt(at, n.Ref, tree.Within(n.Attr, name))
}

func index(n *tree.Node, key blueprint.Text, at blueprint.Span) *tree.Node {
	if !key.Known() {
		return tree.UnknownAt(at, n.Ref)
	}
	if n.Kind == tree.List {
		i := tree.TextAt(key.V, at).AsNumber()
		if i.Known() && i.V >= 0 && i.V < int64(len(n.Items)) {
			return n.Items[i.V]
		}
		return tree.ReferenceAt(at, n.Ref, tree.Within(n.Attr, key.V))
	}
	return member(n, key.V, at)
}

// literal is the text of an expression that is nothing else.
func literal(e hclsyntax.Expression) (string, bool) {
	t, ok := e.(*hclsyntax.TemplateExpr)
	if !ok || !t.IsStringLiteral() {
		return "", false
	}
	v, diags := t.Value(nil)
	if diags.HasErrors() {
		return "", false
	}
	return v.AsString(), true
}
