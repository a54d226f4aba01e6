// Package template reads templates of CloudFormation as they are written, so that tests
// hold them against what they are for. It is not for working them out.
package template

import (
	"fmt"
	"os"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Template is what of a template is looked at. Functions of CloudFormation stay as they
// are written.
type Template struct {
	Parameters map[string]yaml.Node `yaml:"Parameters"`
	Conditions map[string]yaml.Node `yaml:"Conditions"`
	Rules      map[string]struct {
		RuleCondition yaml.Node `yaml:"RuleCondition"`
		Assertions    []struct {
			Assert yaml.Node `yaml:"Assert"`
		} `yaml:"Assertions"`
	} `yaml:"Rules"`
	Outputs   map[string]yaml.Node `yaml:"Outputs"`
	Resources map[string]struct {
		Type       string    `yaml:"Type"`
		Condition  string    `yaml:"Condition"`
		Properties yaml.Node `yaml:"Properties"`
	} `yaml:"Resources"`
}

// Read reads a template from a file.
func Read(file string) (out Template, err error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return out, fmt.Errorf("read template: %w", err)
	}
	if err := yaml.Unmarshal(b, &out); err != nil {
		return out, fmt.Errorf("read template %s: %w", file, err)
	}
	return out, nil
}

// Field returns a member of a map.
func Field(n *yaml.Node, path ...string) *yaml.Node {
	for _, name := range path {
		var next *yaml.Node
		for i := 0; n != nil && i+1 < len(n.Content) && n.Kind == yaml.MappingNode; i += 2 {
			if n.Content[i].Value == name {
				next = n.Content[i+1]
			}
		}
		n = next
	}
	return n
}

// Statements are those of a policy's document, of all branches.
func Statements(n *yaml.Node) []*yaml.Node {
	var all []*yaml.Node
	if n == nil {
		return nil
	}
	if Field(n, "Effect") != nil && Field(n, "Action") != nil {
		return []*yaml.Node{n}
	}
	for _, c := range n.Content {
		all = append(all, Statements(c)...)
	}
	return all
}

// Texts are the texts of a value, of all branches of its conditions.
func Texts(n *yaml.Node) []string {
	switch {
	case n == nil:
		return nil
	case n.Kind == yaml.ScalarNode:
		return []string{n.Value}
	case n.Tag == "!If":
		return append(Texts(n.Content[1]), Texts(n.Content[2])...)
	}
	var all []string
	for _, c := range n.Content {
		all = append(all, Texts(c)...)
	}
	return all
}

// References are the names that a value refers to by Ref, GetAtt and Sub.
func References(n *yaml.Node) []string {
	var all []string
	switch n.Tag {
	case "!Ref":
		all = append(all, n.Value)
	case "!GetAtt":
		name, _, _ := strings.Cut(n.Value, ".")
		all = append(all, name)
	case "!Sub":
		for rest := n.Value; ; {
			_, after, ok := strings.Cut(rest, "${")
			if !ok {
				break
			}
			name, more, _ := strings.Cut(after, "}")
			all = append(all, name)
			rest = more
		}
	}
	for _, c := range n.Content {
		all = append(all, References(c)...)
	}
	return all
}
