package terraform

import (
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/scan/blueprint"
	"github.com/castellan-security/castellan/internal/scan/iac/tree"
)

// noPosition is the beginning of a file.
var noPosition finding.Position

// maxModules bounds how deep modules nest in a plan.
const maxModules = 50

// IsPlan says whether a document is a plan, or a state, as `terraform show -json`
// writes them.
func IsPlan(n *tree.Node) bool {
	return n.Exact("format_version") != nil && (n.Exact("planned_values") != nil || n.Exact("values") != nil)
}

// Plan returns the resources of a plan that are of the types that are wanted.
// What is known only after it is applied is unknown.
func Plan(n *tree.Node, wanted func(typ string) bool) []Resource {
	values := n.Exact("planned_values")
	if values == nil {
		values = n.Exact("values")
	}
	later := map[string]*tree.Node{}
	for _, change := range n.Exact("resource_changes").Each() {
		later[change.Exact("address").AsText().V] = change.Exact("change").Exact("after_unknown")
	}
	var out []Resource
	planned(values.Exact("root_module"), configured(n.Exact("configuration").Exact("root_module"), "", 0, map[string]*tree.Node{}), later, wanted, &out, 0)
	return out
}

// configured finds the configuration of each resource by its address.
func configured(m *tree.Node, prefix string, depth int, into map[string]*tree.Node) map[string]*tree.Node {
	if m == nil || depth > maxModules {
		return into
	}
	for _, r := range m.Exact("resources").Each() {
		into[prefix+r.Exact("address").AsText().V] = r.Exact("expressions")
	}
	if calls := m.Exact("module_calls"); calls != nil {
		for _, c := range calls.Fields {
			configured(c.Value.Exact("module"), prefix+"module."+c.Key+".", depth+1, into)
		}
	}
	return into
}

func planned(m *tree.Node, config, later map[string]*tree.Node, wanted func(string) bool, out *[]Resource, depth int) {
	if m == nil || depth > maxModules {
		return
	}
	module := m.Exact("address").AsText().V
	if module != "" {
		module += "."
	}
	for _, r := range m.Exact("resources").Each() {
		typ := r.Exact("type").AsText().V
		values := r.Exact("values")
		if !wanted(typ) || values == nil || values.Kind != tree.Map {
			continue
		}
		address := r.Exact("address").AsText().V
		body := withUnknown(values, later[address], 0)
		body.At = r.At
		refer(body, config[plainAddress(address)])
		key := typ + "." + r.Exact("name").AsText().V
		if r.Exact("mode").AsText().V == "data" {
			key = "data." + key
		}
		*out = append(*out, Resource{Type: typ, Name: r.Exact("name").AsText().V, Key: key, Address: address, Module: module, Body: body})
	}
	for _, c := range m.Exact("child_modules").Each() {
		planned(c, config, later, wanted, out, depth+1)
	}
}

// plainAddress is an address without the keys of count and for_each.
func plainAddress(a string) string {
	var b strings.Builder
	for {
		before, after, ok := strings.Cut(a, "[")
		b.WriteString(before)
		if !ok {
			return b.String()
		}
		_, a, ok = strings.Cut(after, "]")
		if !ok {
			return b.String()
		}
	}
}

// withUnknown puts what is known only later into values, where it is unknown.
func withUnknown(n, later *tree.Node, depth int) *tree.Node {
	if later == nil || depth > tree.MaxDepth {
		copied := *n
		return &copied
	}
	out := *n
	switch {
	case later.Kind == tree.Bool && later.Text == "true":
		return tree.UnknownAt(n.At, "")
	case n.Kind == tree.Map && later.Kind == tree.Map:
		out.Fields = nil
		have := map[string]bool{}
		told := map[string]*tree.Node{}
		for _, f := range later.Fields {
			told[f.Key] = f.Value
		}
		for _, f := range n.Fields {
			have[f.Key] = true
			out.Fields = append(out.Fields, tree.Field{Key: f.Key, KeyAt: f.KeyAt, Value: withUnknown(f.Value, told[f.Key], depth+1)})
		}
		for _, f := range later.Fields {
			if !have[f.Key] && f.Value.Kind == tree.Bool && f.Value.Text == "true" {
				out.Fields = append(out.Fields, tree.Field{Key: f.Key, KeyAt: n.At, Value: tree.UnknownAt(n.At, "")})
			}
		}
	case n.Kind == tree.List && later.Kind == tree.List:
		out.Items = nil
		for i, item := range n.Items {
			var of *tree.Node
			if i < len(later.Items) {
				of = later.Items[i]
			}
			out.Items = append(out.Items, withUnknown(item, of, depth+1))
		}
	}
	return &out
}

// refer says of values that are not known yet which resource they are of, as far
// as the configuration tells.
func refer(body, expressions *tree.Node) {
	if expressions == nil {
		return
	}
	for i := range body.Fields {
		f := &body.Fields[i]
		if f.Value.Kind != tree.Unknown {
			continue
		}
		if n := referred(expressions.Exact(f.Key).Exact("references").Each(), f.Value.At); n != nil {
			f.Value = n
		}
	}
}

// referred is what an expression's references name, the longest first. If they
// name several things, which one the value is of is not known.
func referred(references []*tree.Node, at blueprint.Span) *tree.Node {
	if len(references) == 0 {
		return nil
	}
	first := references[0].AsText().V
	if len(first) > maxText {
		return nil
	}
	t, diags := hclsyntax.ParseTraversalAbs([]byte(first), at.File, hcl.InitialPos)
	if diags.HasErrors() || t.IsRelative() {
		return nil
	}
	names := 2
	if t.RootName() == "data" {
		names = 3
	}
	if len(t) < names {
		return nil
	}
	ref := t.RootName()
	for _, step := range t[1:names] {
		name, ok := step.(hcl.TraverseAttr)
		if !ok {
			return nil
		}
		ref += "." + name.Name
	}
	n := follow(tree.ReferenceAt(at, ref, tree.Self), t[names:], at)
	for _, other := range references[1:] {
		if !strings.HasPrefix(first, other.AsText().V) {
			n.Attr = ""
		}
	}
	return n
}
