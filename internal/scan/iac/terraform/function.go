package terraform

import (
	"path"
	"strings"

	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/scan/blueprint"
	"github.com/castellan-security/castellan/internal/scan/iac/tree"
)

// call works a function out where it needs nothing but what is given to it. What
// a function returns that is not here is unknown.
func (s *scope) call(e *hclsyntax.FunctionCallExpr, at blueprint.Span, depth int) *tree.Node {
	unknown := tree.UnknownAt(at, "")
	if len(e.Args) == 0 || e.ExpandFinal {
		return unknown
	}
	switch e.Name {
	case "jsonencode", "yamlencode", "tolist", "toset", "tomap", "tostring", "tonumber", "tobool", "sensitive", "nonsensitive", "compact", "distinct", "sort":
		// The encoded form is kept as what it encodes, with its places.
		return s.value(e.Args[0], depth+1)
	case "jsondecode", "yamldecode":
		return s.decoded(s.value(e.Args[0], depth+1), depth)
	case "templatefile":
		if len(e.Args) == 2 {
			return s.rendered(s.file(s.value(e.Args[0], depth+1).AsText(), at), s.value(e.Args[1], depth+1), depth)
		}
	case "file":
		return s.file(s.value(e.Args[0], depth+1).AsText(), at)
	case "merge":
		return s.merge(e.Args, at, depth)
	case "concat", "flatten":
		return s.concat(e, at, depth)
	case "coalesce", "try":
		for _, a := range e.Args {
			if v := s.value(a, depth+1); v.Kind != tree.Null && (v.Kind != tree.Text || v.Text != "" || e.Name == "try") {
				return v
			}
		}
	case "lower", "upper", "trimspace", "chomp":
		return s.text(e, at, depth)
	case "join":
		if len(e.Args) == 2 {
			return s.join(e, at, depth)
		}
	case "format":
		return s.format(e, at, depth)
	case "lookup":
		v := s.value(e.Args[0], depth+1)
		if len(e.Args) > 1 && v.Kind == tree.Map {
			if f := v.Exact(s.value(e.Args[1], depth+1).AsText().V); f != nil {
				return f
			}
			if len(e.Args) > 2 && !v.Open {
				return s.value(e.Args[2], depth+1)
			}
		}
	case "element":
		if len(e.Args) == 2 {
			return index(s.value(e.Args[0], depth+1), s.value(e.Args[1], depth+1).AsText(), at)
		}
	}
	return unknown
}

// file reads a file beside the configuration, and never one outside of what is
// scanned.
func (s *scope) file(name blueprint.Text, at blueprint.Span) *tree.Node {
	if !name.Known() || path.IsAbs(name.V) {
		return tree.UnknownAt(at, "")
	}
	p := path.Join(s.m.dir, name.V)
	if p == ".." || strings.HasPrefix(p, "../") {
		return tree.UnknownAt(at, "")
	}
	b, err := s.r.read(p)
	if err != nil || !s.spend(len(b)/8, 0) {
		return tree.UnknownAt(at, "")
	}
	whole := blueprint.Span{File: p, Start: finding.Position{Line: 1, Column: 1}}
	whole.End = finding.Position{Line: 1 + strings.Count(string(b), "\n"), Column: 1}
	return tree.TextAt(string(b), whole)
}

// merge puts maps together, the last first. If one is unknown, what is not in the
// ones after it may be anything.
func (s *scope) merge(args []hclsyntax.Expression, at blueprint.Span, depth int) *tree.Node {
	out := &tree.Node{Kind: tree.Map, At: at}
	for _, a := range args {
		v := s.value(a, depth+1)
		switch v.Kind {
		case tree.Map:
			if !s.spend(len(v.Fields)*(1+len(out.Fields)), depth) {
				return tree.UnknownAt(at, "")
			}
			out.Open = out.Open || v.Open
			for _, f := range v.Fields {
				out.Set(f.Key, f.Value)
			}
		case tree.Null:
		default:
			out.Open, out.Fields = true, nil
		}
	}
	return out
}

func (s *scope) concat(e *hclsyntax.FunctionCallExpr, at blueprint.Span, depth int) *tree.Node {
	out := &tree.Node{Kind: tree.List, At: at}
	for _, a := range e.Args {
		list := s.value(a, depth+1)
		out.Open = out.Open || list.Open
		for _, item := range list.Each() {
			if e.Name == "flatten" && item.Kind == tree.List {
				out.Open = out.Open || item.Open
				out.Items = append(out.Items, item.Items...)
				s.spend(len(item.Items), depth)
				continue
			}
			out.Items = append(out.Items, item)
			if !s.spend(1, depth) {
				return tree.UnknownAt(at, "")
			}
		}
	}
	return out
}

func (s *scope) text(e *hclsyntax.FunctionCallExpr, at blueprint.Span, depth int) *tree.Node {
	v := s.value(e.Args[0], depth+1)
	if v.Kind != tree.Text {
		return tree.UnknownAt(at, v.Ref)
	}
	text := v.Text
	if !s.spend(len(text)/8, depth) {
		return tree.UnknownAt(at, "")
	}
	switch e.Name {
	case "lower":
		text = strings.ToLower(text)
	case "upper":
		text = strings.ToUpper(text)
	default:
		text = strings.TrimSpace(text)
	}
	return tree.TextAt(text, at)
}

func (s *scope) join(e *hclsyntax.FunctionCallExpr, at blueprint.Span, depth int) *tree.Node {
	with, list := s.value(e.Args[0], depth+1), s.value(e.Args[1], depth+1)
	if with.Kind != tree.Text || list.Kind != tree.List {
		return tree.UnknownAt(at, "")
	}
	var b strings.Builder
	kind := tree.Text
	for i, item := range list.Items {
		if i > 0 {
			b.WriteString(with.Text)
		}
		t := item.AsText()
		if !t.Known() {
			kind, t.V = tree.Unknown, gap
		}
		if b.WriteString(t.V); b.Len() > maxText || !s.spend(1+len(t.V)/8, depth) {
			return tree.UnknownAt(at, "")
		}
	}
	return &tree.Node{Kind: kind, Text: b.String(), At: at}
}

// format knows %s, %d and %v.
func (s *scope) format(e *hclsyntax.FunctionCallExpr, at blueprint.Span, depth int) *tree.Node {
	f := s.value(e.Args[0], depth+1)
	if f.Kind != tree.Text {
		return tree.UnknownAt(at, "")
	}
	var b strings.Builder
	kind, rest, next := tree.Text, f.Text, 1
	for {
		before, after, ok := strings.Cut(rest, "%")
		b.WriteString(before)
		if !ok {
			s.spend(b.Len()/8, depth)
			return &tree.Node{Kind: kind, Text: b.String(), At: at}
		}
		if after == "" || !strings.ContainsRune("sdv%", rune(after[0])) || b.Len() > maxText {
			return tree.UnknownAt(at, "")
		}
		rest = after[1:]
		if after[0] == '%' {
			b.WriteByte('%')
			continue
		}
		if next >= len(e.Args) {
			return tree.UnknownAt(at, "")
		}
		t := s.value(e.Args[next], depth+1).AsText()
		if next++; !t.Known() {
			kind, t.V = tree.Unknown, gap
		}
		b.WriteString(t.V)
	}
}

// operation works out comparisons and logic: what conditions are made of.
func (s *scope) operation(e hclsyntax.Expression, at blueprint.Span, depth int) *tree.Node {
	unknown := tree.UnknownAt(at, "")
	if u, ok := e.(*hclsyntax.UnaryOpExpr); ok {
		v := s.value(u.Val, depth+1).AsBool()
		if u.Op != hclsyntax.OpLogicalNot || !v.Known() {
			return unknown
		}
		return s.plain(cty.BoolVal(!v.V), at)
	}
	b, ok := e.(*hclsyntax.BinaryOpExpr)
	if !ok {
		return unknown
	}
	l, r := s.value(b.LHS, depth+1), s.value(b.RHS, depth+1)
	switch b.Op {
	case hclsyntax.OpEqual, hclsyntax.OpNotEqual:
		if same, known := equal(l, r); known {
			return s.plain(cty.BoolVal(same == (b.Op == hclsyntax.OpEqual)), at)
		}
	case hclsyntax.OpLogicalAnd, hclsyntax.OpLogicalOr:
		decides := b.Op == hclsyntax.OpLogicalOr
		lb, rb := l.AsBool(), r.AsBool()
		switch {
		case lb.Known() && lb.V == decides, rb.Known() && rb.V == decides:
			return s.plain(cty.BoolVal(decides), at)
		case lb.Known() && rb.Known():
			return s.plain(cty.BoolVal(!decides), at)
		}
	}
	return unknown
}

func equal(a, b *tree.Node) (same, known bool) {
	scalar := func(n *tree.Node) bool {
		return n.Kind == tree.Null || n.Kind == tree.Text || n.Kind == tree.Number || n.Kind == tree.Bool
	}
	if !scalar(a) || !scalar(b) {
		return false, false
	}
	return a.Kind == b.Kind && a.Text == b.Text, true
}
