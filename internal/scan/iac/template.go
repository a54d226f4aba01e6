package iac

import (
	"github.com/castellan-security/castellan/internal/scan/blueprint"
	"github.com/castellan-security/castellan/internal/scan/iac/cloudformation"
	"github.com/castellan-security/castellan/internal/scan/iac/tree"
)

// fromCloudFormation adds what a template describes, and says whether that is all
// of it.
func fromCloudFormation(n *tree.Node, d *blueprint.Document) (whole bool) {
	resources, whole := cloudformation.Read(n, isCloudFormation)
	subnets := map[string]bool{}
	for _, r := range resources {
		if r.Type == "AWS::EC2::Subnet" && blueprint.IsTrue(r.Properties.Get("MapPublicIpOnLaunch").AsBool()) {
			subnets[r.Name] = true
		}
	}
	a := newAttachments()
	for _, r := range resources {
		name := "Resources." + r.Name
		switch r.Type {
		case "AWS::ECS::TaskDefinition":
			t := taskOf(name, r.Properties)
			t.Key = r.Name
			d.Tasks = append(d.Tasks, t)
		case "AWS::ECS::Service", "AWS::ECS::TaskSet":
			s := serviceOf(name, r.Properties, subnets)
			s.TaskSet = r.Type == "AWS::ECS::TaskSet"
			d.Services = append(d.Services, s)
		case "AWS::ECS::Cluster":
			d.Clusters = append(d.Clusters, clusterOf(name, r.Properties))
		case "AWS::IAM::Role":
			role := blueprint.Role{Resource: blueprint.Resource{Name: name, At: r.Properties.At}, Key: r.Name,
				Trust: grantsOf(r.Properties.Get("AssumeRolePolicyDocument")), Managed: r.Properties.Get("ManagedPolicyArns").AsTexts().V}
			for _, p := range atMost(r.Properties.Get("Policies").Each(), maxEntries) {
				role.Statements = append(role.Statements, grantsOf(p.Get("PolicyDocument"))...)
			}
			a.roles = append(a.roles, role)
		case "AWS::IAM::Policy", "AWS::IAM::ManagedPolicy", "AWS::IAM::RolePolicy":
			grants := grantsOf(r.Properties.Get("PolicyDocument"))
			a.policies[r.Name] = grants
			for _, to := range atMost(append(r.Properties.Get("Roles").Each(), r.Properties.Get("RoleName").Each()...), maxEntries) {
				a.attached[to.Ref] = append(a.attached[to.Ref], grants...)
			}
		}
	}
	d.Roles = append(d.Roles, a.resolved()...)
	return whole
}

func isCloudFormation(typ string) bool {
	switch typ {
	case "AWS::ECS::TaskDefinition", "AWS::ECS::Service", "AWS::ECS::TaskSet", "AWS::ECS::Cluster", "AWS::IAM::Role", "AWS::IAM::Policy",
		"AWS::IAM::ManagedPolicy", "AWS::IAM::RolePolicy", "AWS::EC2::Subnet":
		return true
	}
	return false
}

// attachments are roles with the policies that are attached to them, which stand
// elsewhere in the document.
type attachments struct {
	roles    []blueprint.Role
	policies map[string][]blueprint.Grant // by what refers to them
	attached map[string][]blueprint.Grant // by what refers to the role
	managed  map[string][]blueprint.Text
}

func newAttachments() *attachments {
	return &attachments{policies: map[string][]blueprint.Grant{}, attached: map[string][]blueprint.Grant{}, managed: map[string][]blueprint.Text{}}
}

// resolved returns the roles with all that is attached.
func (a *attachments) resolved() []blueprint.Role {
	for i := range a.roles {
		r := &a.roles[i]
		r.ForTasks = forTasks(r.Trust)
		if r.Key != "" {
			r.Statements = append(r.Statements, a.attached[r.Key]...)
			r.Managed = append(r.Managed, a.managed[r.Key]...)
		}
		for _, m := range r.Managed {
			if m.Ref != "" {
				r.Statements = append(r.Statements, a.policies[m.Ref]...)
			}
		}
	}
	return a.roles
}
