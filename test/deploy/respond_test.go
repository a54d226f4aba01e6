package deploy_test

import (
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/castellan-security/castellan/test/deploy/template"
)

// TestRespondRole: the role that we have people make can what responses need, and
// changes nothing but the tasks and roles that are named.
func TestRespondRole(t *testing.T) {
	tm := respondPieces.template(t)
	var allowed []string
	for name, r := range tm.Resources {
		for _, s := range template.Statements(&r.Properties) {
			if template.Field(s, "Effect").Value == "Allow" {
				allowed = append(allowed, respondMay(t, name, s)...)
			}
		}
	}
	slices.Sort(allowed)
	want := []string{"ecs:DescribeTaskDefinition", "ecs:DescribeTasks", "ecs:StopTask", "iam:DeleteRolePolicy", "iam:GetRole", "iam:PutRolePolicy", "sts:AssumeRole"}
	if !slices.Equal(allowed, want) {
		t.Errorf("it allows %q, want %q", allowed, want)
	}
}

// respondMay returns what a statement allows, which must be on no more than is named.
func respondMay(t *testing.T, name string, s *yaml.Node) (allowed []string) {
	t.Helper()
	resources, conditional := template.Texts(template.Field(s, "Resource")), template.Field(s, "Condition") != nil
	for _, a := range template.Texts(template.Field(s, "Action")) {
		allowed = append(allowed, a)
		switch {
		case a == "sts:AssumeRole":
			if !conditional {
				t.Error("whoever is named may take the role without the external id")
			}
		case a == "ecs:DescribeTaskDefinition": // ECS knows no narrower resource
		case a == "ecs:StopTask" || a == "ecs:DescribeTasks":
			if !slices.Equal(resources, []string{"Clusters"}) {
				t.Errorf("%s: %s on %q", name, a, resources)
			}
		case len(resources) != 1 || !strings.HasSuffix(resources[0], ":role${TaskRolePath}*"):
			t.Errorf("%s: %s on %q", name, a, resources)
		case a != "iam:GetRole" && !conditional:
			t.Errorf("%s: %s without the permissions boundary", name, a)
		}
	}
	return allowed
}
