package condition

import (
	"encoding/json"
	"fmt"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"

	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/grant"
)

// maxPolicies bounds the documents of one role: IAM attaches twenty.
const maxPolicies = 200

func grantStructs() []*Struct {
	type T = grant.Statement
	return []*Struct{
		{Name: "Role", Doc: "An IAM role that a task gets.", Fields: []Field{
			text("use", "task or execution", func(v *admission.Role) string { return v.Use }),
			text("arn", "", func(v *admission.Role) string { return v.ARN }),
			flag("bounded", "it has a permissions boundary; what that takes away is taken into account", func(v *admission.Role) bool { return v.Bounded }),
			{Name: "statements", Type: "list(Statement)", Doc: "of all its policies; unknown unless all of them are known", get: func(o *Object) any {
				list, u := roleStatements(o)
				if u != nil {
					return u
				}
				return listed(children(o, "Statement", "statements", list))
			}},
		}},
		{Name: "Statement", Doc: "A statement of an IAM policy.", Fields: []Field{
			text("sid", "its name", func(v *T) string { return v.SID }),
			flag("allow", "it allows; otherwise it denies", func(v *T) bool { return v.Allow }),
			words("actions", "as written: s3:GetObject, s3:*", func(v *T) []string { return v.Actions }),
			words("not_actions", "all but these", func(v *T) []string { return v.NotActions }),
			words("resources", "", func(v *T) []string { return v.Resources }),
			words("not_resources", "all but these", func(v *T) []string { return v.NotResources }),
			words("principals", "who: *, aws:arn:…, service:ecs.amazonaws.com", func(v *T) []string { return v.Principals }),
			words("condition_keys", "keys of its conditions, in lower case", func(v *T) []string { return v.Conditions }),
			flag("conditional", "it has conditions", func(v *T) bool { return len(v.Conditions) > 0 }),
			flag("every_action", "it is about all actions of all services, or all but some", (*T).EveryAction),
			flag("every_resource", "it is about any resource", (*T).EveryResource),
			words("whole_services", "services of which it has all actions: s3 for s3:*", (*T).WholeServices),
			flag("public", "anybody in the world may do it", (*T).Public),
		}},
	}
}

// roleStatements returns what is known of a role's statements, and why that isn't
// all.
func roleStatements(o *Object) ([]grant.Statement, *types.Unknown) {
	r := of[admission.Role](o)
	if u := o.view.unknownAt(o.path, "policies"); u != nil {
		return nil, u
	}
	list, err := documents(r.Policies)
	var boundary []grant.Statement
	if r.Bounded && len(r.Boundary) > 0 && err == nil {
		boundary, err = documents([]json.RawMessage{r.Boundary})
	}
	if !r.Bounded || boundary != nil {
		list = grant.Limit(list, r.Bounded, boundary)
	}
	m := Missing{What: "role.statements", Remedy: "let the door read the role's policies: it needs iam:GetRolePolicy and iam:GetPolicyVersion, or the template must have them"}
	switch {
	case err != nil:
		m.State, m.Text = admission.Failed, fmt.Sprintf("a policy of the role %s can't be read: %v", r.ARN, err)
	case !r.Known:
		m.Text = "the policies of the role " + r.ARN + " are not known"
	case r.Bounded && boundary == nil:
		m.Text = "the permissions boundary of the role " + r.ARN + " is not known"
	default:
		return list, nil
	}
	return list, o.view.miss(m)
}

// documents reads policies; what can be read before an error is returned with it.
func documents(all []json.RawMessage) ([]grant.Statement, error) {
	if len(all) > maxPolicies {
		return nil, fmt.Errorf("%d policies: at most %d are read", len(all), maxPolicies)
	}
	out := []grant.Statement{}
	for _, b := range all {
		list, err := grant.Parse(b)
		if err != nil {
			return out, err
		}
		out = append(out, list...)
	}
	return out, nil
}

func repositoryStatements(o *Object) any {
	r := of[admission.Repository](o)
	if u := o.view.unknownAt(o.path, "policy"); u != nil {
		return u
	}
	if len(r.Policy) == 0 || string(r.Policy) == "null" {
		return listed(nil)
	}
	list, err := grant.Parse(r.Policy)
	if err != nil {
		return o.view.miss(Missing{What: "repository.statements", State: admission.Failed, Text: fmt.Sprintf("the policy of the repository %s can't be read: %v", r.Name, err), Remedy: "correct the policy"})
	}
	return listed(children(o, "Statement", "statements", list))
}

// roleAllows says whether a role may do all of some actions. What is known of it
// may be enough to say so; to say that it may not, all its policies must be known. A
// boundary that is not known may take away whatever they allow, and adds nothing.
func roleAllows(o *Object, actions []string) ref.Val {
	r := of[admission.Role](o)
	list, unknown := roleStatements(o)
	open := r.Bounded && len(r.Boundary) == 0
	for _, a := range actions {
		switch {
		case grant.Allows(list, a):
		case unknown == nil, r.Known && open:
			return types.False
		default:
			return unknown
		}
	}
	if open && unknown != nil {
		return unknown
	}
	return types.True
}
