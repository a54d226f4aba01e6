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
		"aws_iam_role_policy_attachment", "aws_iam_policy_document", "aws_subnet", "aws_ecr_repository", "aws_ecr_repository_policy":
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
	addRepositories(resources, documents, d)
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
			t.Key, t.Module = r.Key, r.Module
			d.Tasks = append(d.Tasks, t)
		case "aws_ecs_service", "aws_ecs_task_set":
			s := serviceOf(r.Address, r.Body, subnets)
			s.TaskSet, s.Module = r.Type == "aws_ecs_task_set", r.Module
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
	read := func(n *tree.Node) policy { return policyOf(written(n, documents)) }
	switch r.Type {
	case "aws_iam_role":
		managed, inline := r.Body.Get("managed_policy_arns").AsTexts(), r.Body.Get("inline_policy")
		role := blueprint.Role{Resource: blueprint.Resource{Name: r.Address, At: r.Body.At, Module: r.Module}, Key: r.Key, Ref: r.Key,
			Trust: read(r.Body.Get("assume_role_policy")).allows, Managed: managed.V}
		own := policy{open: managed.Is == blueprint.Unknown || inline.IsUnknown() || len(inline.Each()) > maxEntries}
		for _, p := range atMost(inline.Each(), maxEntries) {
			own = own.and(read(p.Get("policy")))
		}
		role.Statements, role.Denials, role.Open = own.allows, own.denials, own.open
		a.bounds[r.Key] = r.Body.Get("permissions_boundary").AsText()
		a.roles = append(a.roles, role)
	case "aws_iam_role_policy":
		to := r.Body.Get("role").AsText().Ref
		a.attached[to] = a.attached[to].and(read(r.Body.Get("policy")))
	case "aws_iam_policy":
		a.policies[r.Key] = read(r.Body.Get("policy"))
	case "aws_iam_role_policy_attachment":
		to := r.Body.Get("role").AsText().Ref
		a.managed[to] = append(a.managed[to], r.Body.Get("policy_arn").AsText())
	}
}

// written is a policy as it is written where a value is: as a text, or by a
// document that the value refers to.
func written(n *tree.Node, documents map[string]*tree.Node) *tree.Node {
	if n = terraform.Decoded(n); n.IsUnknown() && documents[n.Ref] != nil {
		return documents[n.Ref]
	}
	return n
}

// addRepositories adds the repositories of a module, each with its policy.
func addRepositories(resources []terraform.Resource, documents map[string]*tree.Node, d *blueprint.Document) {
	at := map[string]int{}
	for _, r := range resources {
		if r.Type == "aws_ecr_repository" {
			at[r.Key] = len(d.Repositories)
			repository := repositoryOf(r.Address, r.Body)
			repository.Module = r.Module
			d.Repositories = append(d.Repositories, repository)
		}
	}
	for _, r := range resources {
		if r.Type != "aws_ecr_repository_policy" {
			continue
		}
		if i, ok := at[r.Body.Get("repository").AsText().Ref]; ok {
			d.Repositories[i].Policy = policyText(written(r.Body.Get("policy"), documents))
		}
	}
}

// documentOf brings aws_iam_policy_document into the form of a policy, in which
// Allow must be said.
func documentOf(body *tree.Node) *tree.Node {
	// What other documents bring is not told.
	out := &tree.Node{Kind: tree.Map, At: body.At, Open: body.Get("source_policy_documents", "override_policy_documents", "source_json", "override_json").There()}
	list := &tree.Node{Kind: tree.List, At: body.At}
	for _, s := range atMost(body.Get("statement").Each(), maxEntries) {
		if s.Kind != tree.Map {
			list.Items = append(list.Items, s)
			continue
		}
		one := &tree.Node{Kind: tree.Map, At: s.At, Open: s.Open}
		effect := s.Get("effect")
		if effect == nil {
			effect = tree.TextAt("Allow", s.At)
		}
		one.Set("Effect", effect)
		for _, f := range []struct{ from, to string }{{"sid", "Sid"}, {"actions", "Action"}, {"not_actions", "NotAction"}, {"resources", "Resource"}, {"not_resources", "NotResource"}} {
			if v := s.Get(f.from); v.There() {
				one.Set(f.to, v)
			}
		}
		for _, f := range []struct{ from, to string }{{"principals", "Principal"}, {"not_principals", "NotPrincipal"}} {
			if v := s.Get(f.from); v.There() {
				one.Set(f.to, principalBlocks(v))
			}
		}
		if v := s.Get("condition"); v.There() {
			one.Set("Condition", conditionBlocks(v))
		}
		list.Items = append(list.Items, one)
	}
	out.Fields = []tree.Field{{Key: "Statement", KeyAt: body.At, Value: list}}
	return out
}

// principalBlocks are principals by their kind: "*" is anybody of AWS.
func principalBlocks(n *tree.Node) *tree.Node {
	out := &tree.Node{Kind: tree.Map, At: n.At, Open: n.IsUnknown()}
	for _, block := range atMost(n.Each(), maxEntries) {
		kind := block.Get("type").AsText()
		if !kind.Known() {
			out.Open = true
			continue
		}
		if kind.V == "*" {
			kind.V = "AWS"
		}
		all := &tree.Node{Kind: tree.List, At: block.At}
		if was := out.Exact(kind.V); was != nil {
			all.Items = append(all.Items, was.Items...)
		}
		all.Items = append(all.Items, block.Get("identifiers").Each()...)
		out.Set(kind.V, all)
	}
	return out
}

// conditionBlocks are conditions by their operators.
func conditionBlocks(n *tree.Node) *tree.Node {
	out := &tree.Node{Kind: tree.Map, At: n.At, Open: n.IsUnknown()}
	for _, block := range atMost(n.Each(), maxEntries) {
		test, variable := block.Get("test").AsText(), block.Get("variable").AsText()
		if !test.Known() || !variable.Known() {
			out.Open = true
			continue
		}
		keys := out.Exact(test.V)
		if keys == nil {
			keys = &tree.Node{Kind: tree.Map, At: block.At}
		}
		keys.Set(variable.V, block.Get("values"))
		out.Set(test.V, keys)
	}
	return out
}
