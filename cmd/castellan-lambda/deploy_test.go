package main_test

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/test/deploy/template"
)

// readTemplate reads the template of the program.
func readTemplate(t *testing.T) template.Template {
	t.Helper()
	tm, err := template.Read("../../deploy/admission/cloudformation.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return tm
}

// lambdaItself says that an action is for what Lambda does with a function's role:
// its log, its queue, and its place in a network.
func lambdaItself(action string) bool {
	return strings.HasPrefix(action, "logs:") || action == "sqs:SendMessage" || strings.HasPrefix(action, "ec2:")
}

// actions are what a role's policies allow, but for what Lambda itself uses.
func actions(t *testing.T, tm *template.Template, role string) []string {
	t.Helper()
	own := tm.Resources[role].Properties
	all := template.Statements(template.Field(&own, "Policies"))
	for _, policy := range template.References(template.Field(&own, "ManagedPolicyArns")) {
		managed := tm.Resources[policy].Properties
		all = append(all, template.Statements(template.Field(&managed, "PolicyDocument"))...)
	}
	var actions []string
	for _, s := range all {
		if template.Field(s, "Effect").Value != "Allow" {
			continue
		}
		for _, a := range template.Texts(template.Field(s, "Action")) {
			if strings.Contains(a, "*") {
				t.Errorf("%s: %s allows more than is known", role, a)
			}
			if slices.Contains(template.Texts(template.Field(s, "Resource")), "*") && a != "ecs:DescribeTaskDefinition" && !strings.HasPrefix(a, "ec2:") {
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
	for _, s := range template.Statements(template.Field(&policy, "PolicyDocument")) {
		if template.Field(s, "Effect").Value == "Allow" {
			allowed = append(allowed, template.Texts(template.Field(s, "Action"))...)
			continue
		}
		denied = append(denied, template.Texts(template.Field(s, "Action"))...)
		if template.Field(s, "Condition", "ArnLike", "lambda:SourceFunctionArn") == nil {
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
		if diff := cmp.Diff(asked, actions(t, &tm, role)); diff != "" {
			t.Errorf("%s: -asked for +allowed:\n%s", role, diff)
		}
	}
	// Only the reaction may change anything.
	if slices.ContainsFunc(actions(t, &tm, "GateRole"), func(a string) bool {
		_, op, _ := strings.Cut(a, ":")
		return !strings.HasPrefix(op, "Describe") && !strings.HasPrefix(op, "Get") && !strings.HasPrefix(op, "List")
	}) {
		t.Errorf("the role of the hooks may do more than read: %q", actions(t, &tm, "GateRole"))
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
		variables := template.Field(&p, "Environment", "Variables")
		if variables == nil || template.Field(&p, "Runtime").Value != "provided.al2023" || template.Field(&p, "Handler").Value != "bootstrap" {
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
	for _, n := range template.Field(&hook, "TargetFilters", "TargetNames").Content {
		types = append(types, n.Value)
	}
	if diff := cmp.Diff([]string{"AWS::ECS::TaskDefinition", "AWS::ECS::Service", "AWS::ECS::TaskSet", "AWS::ECR::Repository"}, types); diff != "" {
		t.Errorf("-looked at +asked about:\n%s", diff)
	}
	for name, r := range tm.Resources {
		for _, used := range template.References(&r.Properties) {
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
