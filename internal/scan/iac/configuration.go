package iac

import (
	"github.com/castellan-security/castellan/internal/scan/blueprint"
	"github.com/castellan-security/castellan/internal/scan/iac/terraform"
	"github.com/castellan-security/castellan/internal/scan/iac/tree"
)

// isWanted says whether a type of Terraform's is one that is looked at.
func isWanted(typ string) bool {
	switch typ {
	case "aws_ecs_task_definition", "aws_ecs_service", "aws_ecs_task_set", "aws_ecs_cluster", "aws_iam_role", "aws_iam_role_policy", "aws_iam_policy",
		"aws_iam_role_policy_attachment", "aws_iam_policy_document", "aws_subnet":
		return true
	}
	return false
}

// fromTerraform adds what a module with those that it calls describes. References
// are within one module.
func fromTerraform(resources []terraform.Resource, d *blueprint.Document) {
	modules := map[string][]terraform.Resource{}
	var order []string
	for _, r := range resources {
		if modules[r.Module] == nil {
			order = append(order, r.Module)
		}
		modules[r.Module] = append(modules[r.Module], r)
	}
	for _, m := range order {
		fromModule(modules[m], d)
	}
}

func fromModule(resources []terraform.Resource, d *blueprint.Document) {
	subnets := map[string]bool{}
	documents := map[string]*tree.Node{}
	for _, r := range resources {
		switch {
		case r.Type == "aws_subnet" && blueprint.IsTrue(r.Body.Get("map_public_ip_on_launch").AsBool()):
			subnets[r.Key] = true
		case r.Type == "aws_iam_policy_document":
			documents[r.Key] = documentOf(r.Body)
		}
	}
	a := newAttachments()
	for _, r := range resources {
		switch r.Type {
		case "aws_ecs_task_definition":
			body := *r.Body
			body.Fields = append([]tree.Field{}, r.Body.Fields...)
			if f := body.Field("container_definitions"); f != nil {
				f.Value = terraform.Decoded(f.Value)
			}
			t := taskOf(r.Address, &body)
			t.Key = r.Key
			d.Tasks = append(d.Tasks, t)
		case "aws_ecs_service", "aws_ecs_task_set":
			s := serviceOf(r.Address, r.Body, subnets)
			s.TaskSet = r.Type == "aws_ecs_task_set"
			d.Services = append(d.Services, s)
		case "aws_ecs_cluster":
			d.Clusters = append(d.Clusters, clusterOf(r.Address, r.Body))
		default:
			a.addTerraform(r, documents)
		}
	}
	for _, role := range a.resolved() {
		role.ForTasks = role.ForTasks || refersTo(resources, role.Key)
		role.Key = ""
		d.Roles = append(d.Roles, role)
	}
}

// refersTo says whether a task definition names a role.
func refersTo(resources []terraform.Resource, key string) bool {
	for _, r := range resources {
		if r.Type == "aws_ecs_task_definition" && key != "" &&
			(r.Body.Get("task_role_arn").AsText().Ref == key || r.Body.Get("execution_role_arn").AsText().Ref == key) {
			return true
		}
	}
	return false
}

func (a *attachments) addTerraform(r terraform.Resource, documents map[string]*tree.Node) {
	granted := func(n *tree.Node) []blueprint.Grant {
		if n = terraform.Decoded(n); n.IsUnknown() {
			n = documents[n.Ref]
		}
		return grantsOf(n)
	}
	policy := func(name string) []blueprint.Grant { return granted(r.Body.Get(name)) }
	switch r.Type {
	case "aws_iam_role":
		role := blueprint.Role{Resource: blueprint.Resource{Name: r.Address, At: r.Body.At}, Key: r.Key, Trust: policy("assume_role_policy"),
			Managed: r.Body.Get("managed_policy_arns").AsTexts().V}
		for _, p := range atMost(r.Body.Get("inline_policy").Each(), maxEntries) {
			role.Statements = append(role.Statements, granted(p.Get("policy"))...)
		}
		a.roles = append(a.roles, role)
	case "aws_iam_role_policy":
		to := r.Body.Get("role").AsText().Ref
		a.attached[to] = append(a.attached[to], policy("policy")...)
	case "aws_iam_policy":
		a.policies[r.Key] = policy("policy")
	case "aws_iam_role_policy_attachment":
		to := r.Body.Get("role").AsText().Ref
		a.managed[to] = append(a.managed[to], r.Body.Get("policy_arn").AsText())
	}
}

// documentOf brings aws_iam_policy_document into the form of a policy, in which
// Allow must be said.
func documentOf(body *tree.Node) *tree.Node {
	out := &tree.Node{Kind: tree.Map, At: body.At}
	list := &tree.Node{Kind: tree.List, At: body.At}
	for _, s := range atMost(body.Get("statement").Each(), maxEntries) {
		one := *s
		one.Fields = append([]tree.Field{}, s.Fields...)
		if one.Get("effect") == nil {
			one.Fields = append(one.Fields, tree.Field{Key: "Effect", KeyAt: s.At, Value: tree.TextAt("Allow", s.At)})
		}
		if p := one.Field("principals"); p != nil {
			all := &tree.Node{Kind: tree.List, At: p.Value.At}
			for _, block := range atMost(p.Value.Each(), maxEntries) {
				all.Items = append(all.Items, block.Get("identifiers").Each()...)
			}
			p.Value = all
		}
		list.Items = append(list.Items, &one)
	}
	out.Fields = []tree.Field{{Key: "Statement", KeyAt: body.At, Value: list}}
	return out
}
