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
			a.addRole(name, r)
		case "AWS::IAM::Policy", "AWS::IAM::ManagedPolicy", "AWS::IAM::RolePolicy":
			p := policyOf(r.Properties.Get("PolicyDocument"))
			a.policies[r.Name] = p
			for _, to := range atMost(append(r.Properties.Get("Roles").Each(), r.Properties.Get("RoleName").Each()...), maxEntries) {
				a.attached[to.Ref] = a.attached[to.Ref].and(p)
			}
		case "AWS::ECR::Repository":
			d.Repositories = append(d.Repositories, repositoryOf(name, r.Properties))
		}
	}
	d.Roles = append(d.Roles, a.resolved()...)
	return whole
}

func isCloudFormation(typ string) bool {
	switch typ {
	case "AWS::ECS::TaskDefinition", "AWS::ECS::Service", "AWS::ECS::TaskSet", "AWS::ECS::Cluster", "AWS::IAM::Role", "AWS::IAM::Policy",
		"AWS::IAM::ManagedPolicy", "AWS::IAM::RolePolicy", "AWS::EC2::Subnet", "AWS::ECR::Repository":
		return true
	}
	return false
}

// attachments are roles with the policies that are attached to them, which stand
// elsewhere in the document.
type attachments struct {
	roles    []blueprint.Role
	bounds   map[string]blueprint.Text // boundaries, by what refers to the role
	policies map[string]policy         // by what refers to them
	attached map[string]policy         // by what refers to the role
	managed  map[string][]blueprint.Text
}

func newAttachments() *attachments {
	return &attachments{bounds: map[string]blueprint.Text{}, policies: map[string]policy{}, attached: map[string]policy{}, managed: map[string][]blueprint.Text{}}
}

// addRole adds a role of a template.
func (a *attachments) addRole(name string, r cloudformation.Resource) {
	managed, policies := r.Properties.Get("ManagedPolicyArns").AsTexts(), r.Properties.Get("Policies")
	role := blueprint.Role{Resource: blueprint.Resource{Name: name, At: r.Properties.At}, Key: r.Name, Ref: r.Name,
		Trust: grantsOf(r.Properties.Get("AssumeRolePolicyDocument")), Managed: managed.V}
	own := policy{open: managed.Is == blueprint.Unknown || policies.IsUnknown() || len(policies.Each()) > maxEntries}
	for _, p := range atMost(policies.Each(), maxEntries) {
		own = own.and(policyOf(p.Get("PolicyDocument")))
		own.open = own.open || p.IsUnknown()
	}
	role.Statements, role.Denials, role.Open = own.allows, own.denials, own.open
	a.bounds[r.Name] = r.Properties.Get("PermissionsBoundary").AsText()
	a.roles = append(a.roles, role)
}

// resolved returns the roles with all that is attached.
func (a *attachments) resolved() []blueprint.Role {
	for i := range a.roles {
		r := &a.roles[i]
		r.ForTasks = forTasks(r.Trust)
		all := policy{r.Statements, r.Denials, r.Open}
		if r.Key != "" {
			all = all.and(a.attached[r.Key])
			r.Managed = append(r.Managed, a.managed[r.Key]...)
		}
		for _, m := range r.Managed {
			all = all.and(a.named(m))
		}
		r.Statements, r.Denials, r.Open = all.allows, all.denials, all.open
		if b := a.bounds[r.Key]; !b.Absent() {
			p := a.named(b)
			r.Boundary = &blueprint.Boundary{Allows: p.allows, Denials: p.denials, Open: p.open}
		}
	}
	return a.roles
}

// named is the policy of an ARN. One that is not of this document is open.
func (a *attachments) named(arn blueprint.Text) policy {
	if p, here := a.policies[arn.Ref]; here && arn.Ref != "" {
		return p
	}
	return policy{open: true}
}
