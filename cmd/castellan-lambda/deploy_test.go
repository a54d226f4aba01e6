package main_test

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

// template is what of deploy/admission/cloudformation.yaml is held against the
// program. Functions of CloudFormation stay as they are written.
type template struct {
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

func readTemplate(t *testing.T) template {
	t.Helper()
	return readTemplateOf(t, "admission")
}

// readTemplateOf reads deploy/NAME/cloudformation.yaml.
func readTemplateOf(t *testing.T, name string) template {
	t.Helper()
	b, err := os.ReadFile("../../deploy/" + name + "/cloudformation.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var out template
	if err := yaml.Unmarshal(b, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// field returns a member of a map.
func field(n *yaml.Node, path ...string) *yaml.Node {
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

// statements are those of a policy's document, of all branches.
func statements(n *yaml.Node) []*yaml.Node {
	var all []*yaml.Node
	if n == nil {
		return nil
	}
	if field(n, "Effect") != nil && field(n, "Action") != nil {
		return []*yaml.Node{n}
	}
	for _, c := range n.Content {
		all = append(all, statements(c)...)
	}
	return all
}

// texts are the texts of a value, of all branches of its conditions.
func texts(n *yaml.Node) []string {
	switch {
	case n == nil:
		return nil
	case n.Kind == yaml.ScalarNode:
		return []string{n.Value}
	case n.Tag == "!If":
		return append(texts(n.Content[1]), texts(n.Content[2])...)
	}
	var all []string
	for _, c := range n.Content {
		all = append(all, texts(c)...)
	}
	return all
}

// lambdaItself says that an action is for what Lambda does with a function's role:
// its log, its queue, and its place in a network.
func lambdaItself(action string) bool {
	return strings.HasPrefix(action, "logs:") || action == "sqs:SendMessage" || strings.HasPrefix(action, "ec2:")
}

// actions are what a role's policies allow, but for what Lambda itself uses.
func (tm *template) actions(t *testing.T, role string) []string {
	t.Helper()
	own := tm.Resources[role].Properties
	all := statements(field(&own, "Policies"))
	for _, policy := range references(field(&own, "ManagedPolicyArns")) {
		managed := tm.Resources[policy].Properties
		all = append(all, statements(field(&managed, "PolicyDocument"))...)
	}
	var actions []string
	for _, s := range all {
		if field(s, "Effect").Value != "Allow" {
			continue
		}
		for _, a := range texts(field(s, "Action")) {
			if strings.Contains(a, "*") {
				t.Errorf("%s: %s allows more than is known", role, a)
			}
			if slices.Contains(texts(field(s, "Resource")), "*") && a != "ecs:DescribeTaskDefinition" && !strings.HasPrefix(a, "ec2:") {
				t.Errorf("%s: %s is allowed on everything", role, a)
			}
			if !lambdaItself(a) {
				actions = append(actions, a)
			}
		}
	}
	slices.Sort(actions)
	return slices.Compact(actions)
}

// TestProgramMayNotUseTheNetworksRights: what Lambda needs to put a function into a
// VPC can't be narrowed to resources, so that the program itself is denied it.
func TestProgramMayNotUseTheNetworksRights(t *testing.T) {
	tm := readTemplate(t)
	policy := tm.Resources["NetworkPolicy"].Properties
	allowed, denied := []string{}, []string{}
	for _, s := range statements(field(&policy, "PolicyDocument")) {
		if field(s, "Effect").Value == "Allow" {
			allowed = append(allowed, texts(field(s, "Action"))...)
			continue
		}
		denied = append(denied, texts(field(s, "Action"))...)
		if field(s, "Condition", "ArnLike", "lambda:SourceFunctionArn") == nil {
			t.Error("the program is not told from Lambda")
		}
	}
	if diff := cmp.Diff(allowed, denied); diff != "" || len(allowed) == 0 {
		t.Errorf("-allowed to Lambda +denied to the program:\n%s", diff)
	}
}

// TestRolesAllowWhatIsAskedForAndNothingMore: each function is run through all that
// its doors can do, against a stand-in that notes what AWS is asked for.
func TestRolesAllowWhatIsAskedForAndNothingMore(t *testing.T) {
	tm := readTemplate(t)
	gate, reaction := askedFor(t)
	for role, asked := range map[string][]string{"GateRole": gate, "ReactionRole": reaction} {
		if diff := cmp.Diff(asked, tm.actions(t, role)); diff != "" {
			t.Errorf("%s: -asked for +allowed:\n%s", role, diff)
		}
	}
	// Only the reaction may change anything.
	if slices.ContainsFunc(tm.actions(t, "GateRole"), func(a string) bool {
		_, op, _ := strings.Cut(a, ":")
		return !strings.HasPrefix(op, "Describe") && !strings.HasPrefix(op, "Get") && !strings.HasPrefix(op, "List")
	}) {
		t.Errorf("the role of the hooks may do more than read: %q", tm.actions(t, "GateRole"))
	}
}

// TestTemplateFitsTheProgram: variables that the program does not know would be
// settings without effect, and hooks are called for what it looks at.
func TestTemplateFitsTheProgram(t *testing.T) {
	tm := readTemplate(t)
	config, err := os.ReadFile("config.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"Gate", "ReactionFunction"} {
		p := tm.Resources[name].Properties
		variables := field(&p, "Environment", "Variables")
		if variables == nil || field(&p, "Runtime").Value != "provided.al2023" || field(&p, "Handler").Value != "bootstrap" {
			t.Fatalf("%s is no function for the program", name)
		}
		for i := 0; i < len(variables.Content); i += 2 {
			if v := variables.Content[i].Value; !strings.Contains(string(config), `"`+v+`"`) {
				t.Errorf("%s: the program knows no %s", name, v)
			}
		}
	}
	hook := tm.Resources["ResourceHook"].Properties
	var types []string
	for _, n := range field(&hook, "TargetFilters", "TargetNames").Content {
		types = append(types, n.Value)
	}
	if diff := cmp.Diff([]string{"AWS::ECS::TaskDefinition", "AWS::ECS::Service", "AWS::ECS::TaskSet", "AWS::ECR::Repository"}, types); diff != "" {
		t.Errorf("-looked at +asked about:\n%s", diff)
	}
	for name, r := range tm.Resources {
		for _, used := range references(&r.Properties) {
			_, resource := tm.Resources[used]
			_, parameter := tm.Parameters[used]
			if !resource && !parameter && !strings.HasPrefix(used, "AWS::") {
				t.Errorf("%s refers to %s, which there is not", name, used)
			}
		}
		if _, ok := tm.Conditions[r.Condition]; r.Condition != "" && !ok {
			t.Errorf("%s has the condition %s, which there is not", name, r.Condition)
		}
	}
}

// references are the names that a value refers to by Ref, GetAtt and Sub.
func references(n *yaml.Node) []string {
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
		all = append(all, references(c)...)
	}
	return all
}
