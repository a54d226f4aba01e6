package terraform

import (
	"errors"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/castellan-security/castellan/internal/scan/blueprint"
	"github.com/castellan-security/castellan/internal/scan/iac/tree"
)

// jsonBlock is a resource, a data source or a module of the JSON form.
type jsonBlock struct {
	kind, typ, name string
	body            *tree.Node
}

// addJSON adds a file in the JSON form of the language.
func (m *module) addJSON(b []byte, name string) error {
	n, err := tree.JSON(b, name, noPosition)
	if err != nil {
		return err
	}
	if n.Kind != tree.Map {
		return errors.New("it is no object")
	}
	for _, kind := range []string{"resource", "data"} {
		for _, types := range n.Exact(kind).Each() {
			for _, typ := range types.Fields {
				for _, names := range typ.Value.Each() {
					for _, f := range names.Fields {
						m.addBlocks(kind, typ.Key, f)
					}
				}
			}
		}
	}
	for _, group := range n.Exact("module").Each() {
		for _, f := range group.Fields {
			m.addBlocks("module", "", f)
		}
	}
	for _, group := range n.Exact("locals").Each() {
		for _, f := range group.Fields {
			m.jsonLocal[f.Key] = f.Value
		}
	}
	for _, group := range n.Exact("variable").Each() {
		for _, f := range group.Fields {
			if v := f.Value.First().Exact("default"); v != nil {
				m.defaults[f.Key] = v
			}
		}
	}
	return nil
}

func (m *module) addBlocks(kind, typ string, f tree.Field) {
	for _, body := range f.Value.Each() {
		if body.Kind != tree.Map {
			continue
		}
		placed := *body
		placed.At.Start = f.KeyAt.Start
		m.json = append(m.json, jsonBlock{kind, typ, f.Key, &placed})
	}
}

// moved is a value with all of it at one place. Parts of a value may be the same
// ones many times over, so that each visit is paid for.
func (s *scope) moved(n *tree.Node, at blueprint.Span, depth int) *tree.Node {
	if !s.spend(1, depth) {
		return tree.UnknownAt(at, "")
	}
	out := *n
	out.At, out.Items, out.Fields = at, nil, nil
	for _, item := range n.Items {
		out.Items = append(out.Items, s.moved(item, at, depth+1))
	}
	for _, f := range n.Fields {
		out.Fields = append(out.Fields, tree.Field{Key: f.Key, KeyAt: at, Value: s.moved(f.Value, at, depth+1)})
	}
	return &out
}

// jsonValue works out the templates in texts of the JSON form.
func (s *scope) jsonValue(n *tree.Node, depth int) *tree.Node {
	if !s.spend(1, depth) {
		return tree.UnknownAt(n.At, "")
	}
	switch n.Kind {
	case tree.Text:
		if !strings.Contains(n.Text, "${") && !strings.Contains(n.Text, "%{") {
			return n
		}
		if !s.spend(len(n.Text)/2, depth) || tooDeep([]byte(n.Text)) {
			return tree.UnknownAt(n.At, "")
		}
		e, diags := hclsyntax.ParseTemplate([]byte(n.Text), n.At.File, hcl.InitialPos)
		if diags.HasErrors() {
			return tree.UnknownAt(n.At, "")
		}
		return s.moved(s.value(e, depth+1), n.At, depth)
	case tree.List:
		out := &tree.Node{Kind: tree.List, At: n.At}
		for _, item := range n.Items {
			out.Items = append(out.Items, s.jsonValue(item, depth+1))
		}
		return out
	case tree.Map:
		out := &tree.Node{Kind: tree.Map, At: n.At}
		for _, f := range n.Fields {
			out.Fields = append(out.Fields, tree.Field{Key: f.Key, KeyAt: f.KeyAt, Value: s.jsonValue(f.Value, depth+1)})
		}
		return out
	}
	return n
}
