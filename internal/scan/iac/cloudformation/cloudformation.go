// Package cloudformation reads templates of CloudFormation, those that SAM and
// the CDK make among them, and works out of their functions what the template
// itself tells: Ref to a parameter with a default, Sub, Join, If, FindInMap,
// Select and Split. What a deployment decides stays unknown.
//
// It is not for what a resource means (see iac).
package cloudformation

import (
	"strings"

	"github.com/castellan-security/castellan/internal/scan/iac/tree"
)

// Limits on a template; CloudFormation permits 500 resources.
const (
	// maxDepth bounds how deep functions refer to functions.
	maxDepth = 50
	// maxWork bounds the values that are worked out of one template.
	maxWork = 1_000_000
	// maxText bounds a text that is put together.
	maxText = 64 << 10
)

// Resource is one resource of a template, its properties worked out.
type Resource struct {
	Name, Type string
	Properties *tree.Node // its place begins at the resource's name
}

// Is says whether a document is a template: it has resources with types as AWS's.
func Is(n *tree.Node) bool {
	resources := n.Exact("Resources")
	if resources == nil || resources.Kind != tree.Map {
		return false
	}
	for _, f := range resources.Fields {
		if t := f.Value.Exact("Type"); t != nil && t.Kind == tree.Text && strings.Contains(t.Text, "::") {
			return true
		}
	}
	return false
}

// Read returns the resources of the types that are wanted, in the order of the
// template. Those whose condition is known to be false are left out. whole is false
// if the template came to more than is worked out, and the rest is unknown.
func Read(n *tree.Node, wanted func(typ string) bool) (out []Resource, whole bool) {
	r := &resolver{parameters: index(n.Exact("Parameters")), resources: index(n.Exact("Resources")),
		mappings: n.Exact("Mappings"), conditions: index(n.Exact("Conditions"))}
	for _, f := range n.Exact("Resources").Fields {
		typ := f.Value.Exact("Type").AsText().V
		if !wanted(typ) {
			continue
		}
		if c := f.Value.Exact("Condition"); c.There() && r.named(c.Text, 0) == no {
			continue
		}
		p := r.value(f.Value.Exact("Properties"), 0)
		switch {
		case p == nil || p.Kind == tree.Null:
			p = &tree.Node{Kind: tree.Map}
		case p.Kind != tree.Map:
			continue
		}
		properties := *p
		properties.At = f.KeyAt
		properties.At.End = f.Value.At.End
		out = append(out, Resource{Name: f.Key, Type: typ, Properties: &properties})
	}
	return out, r.work <= maxWork
}

// index makes the members of a map quick to find.
func index(n *tree.Node) map[string]*tree.Node {
	m := map[string]*tree.Node{}
	if n != nil {
		for _, f := range n.Fields {
			m[f.Key] = f.Value
		}
	}
	return m
}

type resolver struct {
	parameters, resources, conditions map[string]*tree.Node
	mappings                          *tree.Node
	work                              int
}

// value works out a value. A nil node is one that the template takes away
// (AWS::NoValue).
func (r *resolver) value(n *tree.Node, depth int) *tree.Node {
	if n == nil {
		return nil
	}
	if r.work++; r.work > maxWork || depth > maxDepth {
		return tree.UnknownAt(n.At, "")
	}
	if name, args := function(n); name != "" {
		v := r.call(name, args, n, depth+1)
		if v != nil { // it stands where the function does
			moved := *v
			moved.At = n.At
			return &moved
		}
		return nil
	}
	switch n.Kind {
	case tree.List:
		out := &tree.Node{Kind: tree.List, At: n.At}
		for _, item := range n.Items {
			if v := r.value(item, depth+1); v != nil {
				out.Items = append(out.Items, v)
			}
		}
		return out
	case tree.Map:
		out := &tree.Node{Kind: tree.Map, At: n.At}
		for _, f := range n.Fields {
			if strings.HasPrefix(f.Key, "Fn::") { // a transformation adds what is not known
				out.Open = true
				continue
			}
			if v := r.value(f.Value, depth+1); v != nil {
				out.Fields = append(out.Fields, tree.Field{Key: f.Key, KeyAt: f.KeyAt, Value: v})
			}
		}
		return out
	}
	return n
}

// function returns the name of the function that a value is, without its prefix,
// and what it is given; "" if it is none.
func function(n *tree.Node) (string, *tree.Node) {
	if n.Tag != "" {
		plain := *n
		plain.Tag = ""
		return strings.TrimPrefix(n.Tag, "!"), &plain
	}
	if n.Kind != tree.Map || len(n.Fields) != 1 {
		return "", nil
	}
	f := n.Fields[0]
	if f.Key == "Ref" {
		return f.Key, f.Value
	}
	if name, ok := strings.CutPrefix(f.Key, "Fn::"); ok {
		return name, f.Value
	}
	return "", nil
}

func (r *resolver) call(name string, args, n *tree.Node, depth int) *tree.Node {
	switch name {
	case "Ref":
		return r.ref(args.AsText().V, n)
	case "GetAtt":
		return attributeOf(args, n)
	case "Base64": // kept as what it encodes
		return r.value(args, depth)
	case "Sub":
		return r.sub(args, n, depth)
	case "Join":
		return r.join(args, n, depth)
	case "If":
		if args.Kind == tree.List && len(args.Items) == 3 {
			switch r.named(args.Items[0].AsText().V, depth) {
			case yes:
				return r.value(args.Items[1], depth)
			case no:
				return r.value(args.Items[2], depth)
			}
		}
	case "FindInMap":
		return r.find(args, n, depth)
	case "Select":
		return r.pick(args, n, depth)
	case "Split":
		if parts := r.list(args, depth); len(parts) == 2 && parts[0].Kind == tree.Text && parts[1].Kind == tree.Text && parts[0].Text != "" {
			r.work += len(parts[1].Text) / 8
			out := &tree.Node{Kind: tree.List, At: n.At}
			for s := range strings.SplitSeq(parts[1].Text, parts[0].Text) {
				out.Items = append(out.Items, tree.TextAt(s, n.At))
			}
			return out
		}
	}
	return tree.UnknownAt(n.At, "")
}

// attributeOf is what a GetAtt names, which is given a list or a text.
func attributeOf(args, n *tree.Node) *tree.Node {
	name, attribute, _ := strings.Cut(args.First().AsText().V, ".")
	if args.Kind == tree.List && len(args.Items) == 2 {
		attribute = ""
		if second := args.Items[1]; second.Kind == tree.Text && second.Tag == "" {
			attribute = second.Text
		}
	}
	if attribute == "" {
		return tree.UnknownAt(n.At, name)
	}
	return tree.ReferenceAt(n.At, name, tree.Within(tree.Self, attribute))
}

func (r *resolver) ref(name string, n *tree.Node) *tree.Node {
	if name == "AWS::NoValue" {
		return nil
	}
	p := r.parameters[name]
	if p == nil {
		if r.resources[name] != nil {
			return tree.ReferenceAt(n.At, name, tree.Self)
		}
		return tree.UnknownAt(n.At, "")
	}
	typ := p.Exact("Type").AsText().V
	value := p.Exact("Default")
	// What is looked up or typed in when it is deployed is not in the template.
	if !value.There() || strings.HasPrefix(typ, "AWS::SSM::") || strings.EqualFold(p.Exact("NoEcho").AsText().V, "true") {
		return tree.UnknownAt(n.At, "")
	}
	r.work += len(value.Text) / 8
	if typ == "CommaDelimitedList" || strings.HasPrefix(typ, "List<") {
		out := &tree.Node{Kind: tree.List, At: n.At}
		for s := range strings.SplitSeq(value.Text, ",") {
			out.Items = append(out.Items, tree.TextAt(strings.TrimSpace(s), n.At))
		}
		return out
	}
	return value
}

// list works out a list of arguments.
func (r *resolver) list(args *tree.Node, depth int) []*tree.Node {
	v := r.value(args, depth)
	if v == nil || v.Kind != tree.List {
		return nil
	}
	return v.Items
}

// text puts parts together. If one is unknown, so is the whole, but for what is
// known of it.
type text struct {
	strings.Builder
	unknown bool
}

func (t *text) add(n *tree.Node, name string) {
	switch {
	case t.Len() > maxText:
		t.unknown = true
	case n == nil:
	case n.Kind == tree.Text || n.Kind == tree.Number || n.Kind == tree.Bool:
		t.WriteString(n.Text)
	default:
		t.unknown = true
		t.WriteString("${" + name + "}")
	}
}

func (t *text) node(n *tree.Node) *tree.Node {
	out := tree.TextAt(t.String(), n.At)
	if t.unknown {
		out.Kind = tree.Unknown
	}
	return out
}

func (r *resolver) sub(args, n *tree.Node, depth int) *tree.Node {
	format, own := args, map[string]*tree.Node{}
	if args.Kind == tree.List {
		if len(args.Items) == 0 {
			return tree.UnknownAt(n.At, "")
		}
		format = args.Items[0]
		if len(args.Items) > 1 {
			own = index(args.Items[1])
		}
	}
	if format.Kind != tree.Text {
		return tree.UnknownAt(n.At, "")
	}
	var t text
	rest := format.Text
	r.work += len(rest) / 8
	for {
		before, after, ok := strings.Cut(rest, "${")
		t.WriteString(before)
		if !ok {
			return t.node(n)
		}
		name, after, ok := strings.Cut(after, "}")
		if !ok {
			return tree.UnknownAt(n.At, "")
		}
		rest = after
		switch given := own[strings.TrimSpace(name)]; {
		case strings.HasPrefix(name, "!"):
			t.WriteString("${" + name[1:] + "}")
		case given != nil:
			t.add(r.value(given, depth), name)
		default:
			t.add(r.ref(strings.TrimSpace(name), n), name)
		}
	}
}

func (r *resolver) join(args, n *tree.Node, depth int) *tree.Node {
	if args.Kind != tree.List || len(args.Items) != 2 {
		return tree.UnknownAt(n.At, "")
	}
	with := args.Items[0].AsText().V
	list := r.value(args.Items[1], depth)
	if list == nil || list.Kind != tree.List {
		return tree.UnknownAt(n.At, "")
	}
	var t text
	for i, item := range list.Items {
		if i > 0 {
			t.WriteString(with)
		}
		t.add(item, "…")
	}
	return t.node(n)
}

func (r *resolver) find(args, n *tree.Node, depth int) *tree.Node {
	parts := r.list(args, depth)
	if len(parts) < 3 {
		return tree.UnknownAt(n.At, "")
	}
	at := r.mappings
	for _, p := range parts[:3] {
		if p.Kind == tree.Unknown {
			return tree.UnknownAt(n.At, "")
		}
		if at != nil {
			r.work += len(at.Fields)
		}
		at = at.Exact(p.AsText().V)
	}
	if at == nil {
		return tree.UnknownAt(n.At, "")
	}
	return r.value(at, depth)
}

func (r *resolver) pick(args, n *tree.Node, depth int) *tree.Node {
	if args.Kind == tree.List && len(args.Items) == 2 {
		i := r.value(args.Items[0], depth).AsNumber()
		if list := r.list(args.Items[1], depth); i.Known() && i.V >= 0 && i.V < int64(len(list)) {
			return list[i.V]
		}
	}
	return tree.UnknownAt(n.At, "")
}
