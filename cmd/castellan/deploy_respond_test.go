package main

import (
	"os"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// statement is one of a policy in a template; functions are written as their text.
type statement struct {
	Effect            string
	Actions, Resource []string
	Conditional       bool
}

// statementsOf finds the statements of all policies in a template.
func statementsOf(n *yaml.Node) (out []statement) {
	field := func(name string) *yaml.Node {
		for i := 0; n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
			if n.Content[i].Value == name {
				return n.Content[i+1]
			}
		}
		return nil
	}
	texts := func(n *yaml.Node) (all []string) {
		if n == nil {
			return nil
		}
		if n.Kind == yaml.SequenceNode {
			for _, c := range n.Content {
				all = append(all, c.Value)
			}
			return all
		}
		return []string{n.Value}
	}
	if e, a := field("Effect"), field("Action"); e != nil && a != nil {
		out = append(out, statement{e.Value, texts(a), texts(field("Resource")), field("Condition") != nil})
	}
	for _, c := range n.Content {
		out = append(out, statementsOf(c)...)
	}
	return out
}

// TestRespondRole: the role that we have people make can what responses need, and
// changes nothing but the tasks and roles that are named.
func TestRespondRole(t *testing.T) {
	b, err := os.ReadFile("../../deploy/respond/cloudformation.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var root yaml.Node
	if err := yaml.Unmarshal(b, &root); err != nil {
		t.Fatal(err)
	}
	var allowed []string
	for _, s := range statementsOf(&root) {
		if s.Effect != "Allow" {
			continue
		}
		for _, a := range s.Actions {
			allowed = append(allowed, a)
			switch {
			case a == "sts:AssumeRole":
				if !s.Conditional {
					t.Error("whoever is named may take the role without the external id")
				}
			case a == "ecs:DescribeTaskDefinition": // ECS knows no narrower resource
			case a == "ecs:StopTask" || a == "ecs:DescribeTasks":
				if !slices.Equal(s.Resource, []string{"Clusters"}) {
					t.Errorf("%s on %q", a, s.Resource)
				}
			case len(s.Resource) != 1 || !strings.HasSuffix(s.Resource[0], ":role${TaskRolePath}*"):
				t.Errorf("%s on %q", a, s.Resource)
			case a != "iam:GetRole" && !s.Conditional:
				t.Errorf("%s without the permissions boundary", a)
			}
		}
	}
	slices.Sort(allowed)
	want := []string{"ecs:DescribeTaskDefinition", "ecs:DescribeTasks", "ecs:StopTask", "iam:DeleteRolePolicy", "iam:GetRole", "iam:PutRolePolicy", "sts:AssumeRole"}
	if !slices.Equal(allowed, want) {
		t.Errorf("it allows %q, want %q", allowed, want)
	}
}
