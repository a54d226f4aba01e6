package terraform

import (
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/castellan-security/castellan/internal/scan/blueprint"
	"github.com/castellan-security/castellan/internal/scan/iac/tree"
)

// taskType is the type of task definitions.
const taskType = "aws_ecs_task_definition"

// definitionArguments are what modules of registries call the containers that they
// are given; in services each member has its own.
func definitionArguments() []string {
	return []string{"container_definitions", "container_definition_json", "container_definitions_json"}
}

// farModule is what can be said of a module that is not here: containers that are
// handed to it become a task definition of which only what is given is known, since
// the module has defaults of its own.
func (s *scope) farModule(body *hclsyntax.Body, at blueprint.Span, name, module string) []Resource {
	n := s.body(body, at, 0)
	var out []Resource
	add := func(of *tree.Node, key string) {
		containers := s.decoded(of.Get(definitionArguments()...), 0)
		if containers == nil || containers.Kind != tree.List && containers.Kind != tree.Map {
			return
		}
		list := &tree.Node{Kind: tree.List, At: containers.At}
		for _, c := range containers.Items {
			list.Items = append(list.Items, s.opened(c, 0))
		}
		for _, f := range containers.Fields { // by their names
			c := s.opened(f.Value, 0)
			c.At.Start = f.KeyAt.Start
			if c.Kind == tree.Map && c.Exact("name").AsText().Is != blueprint.Known {
				c.Set("name", tree.TextAt(f.Key, f.KeyAt))
			}
			list.Items = append(list.Items, c)
		}
		task := &tree.Node{Kind: tree.Map, Open: true, At: of.At, Fields: []tree.Field{{Key: "container_definitions", KeyAt: list.At, Value: list}}}
		out = append(out, Resource{Type: taskType, Name: key, Address: module + key, Key: key, Module: module, Body: task})
	}
	add(n, "module."+name)
	if services := n.Exact("services"); services != nil {
		for _, f := range services.Fields {
			add(f.Value, "module."+name+".services."+f.Key)
		}
	}
	return out
}

// opened is a value of whose maps there may be more than is known. Parts of a value
// may be the same ones many times over, so that each visit is paid for.
func (s *scope) opened(n *tree.Node, depth int) *tree.Node {
	if !s.spend(1, depth) {
		return tree.UnknownAt(n.At, "")
	}
	out := *n
	out.Open = out.Open || n.Kind == tree.Map
	out.Items, out.Fields = nil, nil
	for _, item := range n.Items {
		out.Items = append(out.Items, s.opened(item, depth+1))
	}
	for _, f := range n.Fields {
		out.Fields = append(out.Fields, tree.Field{Key: f.Key, KeyAt: f.KeyAt, Value: s.opened(f.Value, depth+1)})
	}
	return &out
}
