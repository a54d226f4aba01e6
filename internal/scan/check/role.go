package check

import (
	"fmt"
	"slices"
	"strings"

	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/scan/blueprint"
)

func roleChecks() []Check {
	return []Check{
		{ID: "CAST-ROLE-001", Title: "Task may do everything", Severity: finding.Critical,
			Why:    "Whoever gets into the container has the account: every bucket, every secret, every key.",
			Remedy: "Name the actions and the resources that the task needs.",
			Elsewhere: finding.Elsewhere{SecurityHub: []string{"IAM.1"}, CIS: []string{"AWS Foundations 3.0 1.16"},
				Prowler: []string{"iam_inline_policy_no_administrative_privileges", "iam_customer_attached_policy_no_administrative_privileges"},
				Checkov: []string{"CKV_AWS_62", "CKV_AWS_63"}},
			find: taskRoles(func(r *blueprint.Role, hits report) {
				for _, g := range r.Statements {
					for _, a := range g.Actions.V {
						if a.Known() && (a.V == "*" || a.V == "*:*") {
							h := hit{at: a.At, subject: "Action " + a.V, evidence: "Action * is allowed"}
							if !wild(g.Resources) || g.Conditions {
								h.severity = finding.High
							}
							hits(h)
						}
					}
				}
			})},
		{ID: "CAST-ROLE-002", Title: "Task may do everything in a service", Severity: finding.Medium,
			Why:       "All actions on all resources of a service are more than any task needs: reading becomes deleting, one bucket becomes all of them.",
			Remedy:    "Name the actions and the resources that the task needs.",
			Elsewhere: finding.Elsewhere{SecurityHub: []string{"IAM.21"}},
			find: taskRoles(func(r *blueprint.Role, hits report) {
				for _, g := range r.Statements {
					if !wild(g.Resources) || g.Conditions {
						continue
					}
					for _, a := range g.Actions.V {
						if service, ok := strings.CutSuffix(a.V, ":*"); a.Known() && ok && service != "*" && !narrow(service) {
							hits(hit{at: a.At, subject: "Action " + a.V, evidence: fmt.Sprintf("%s on all resources is allowed", a.V)})
						}
					}
				}
			})},
		{ID: "CAST-ROLE-003", Title: "Task has an administrator's policy", Severity: finding.Critical,
			Why:       "Whoever gets into the container has the account.",
			Remedy:    "Detach the policy, and name the actions and resources that the task needs.",
			Elsewhere: finding.Elsewhere{Prowler: []string{"iam_role_administratoraccess_policy"}, Checkov: []string{"CKV_AWS_274"}},
			find: taskRoles(func(r *blueprint.Role, hits report) {
				for _, m := range r.Managed {
					if !m.Known() {
						continue
					}
					name := m.V[strings.LastIndexByte(m.V, '/')+1:]
					switch {
					case slices.Contains([]string{"AdministratorAccess", "IAMFullAccess"}, name):
						hits(hit{at: m.At, subject: name, evidence: name + " is attached"})
					case name == "PowerUserAccess":
						hits(hit{at: m.At, subject: name, evidence: name + " is attached", severity: finding.High})
					}
				}
			})},
	}
}

// trustChecks are checks about who takes, and hands on, a role.
func trustChecks() []Check {
	return []Check{
		{ID: "CAST-ROLE-004", Title: "Anybody may assume the task's role", Severity: finding.Critical,
			Why:    "With * as principal the role can be taken by every account of AWS.",
			Remedy: "Trust ecs-tasks.amazonaws.com alone, with a condition on aws:SourceAccount.",
			find: taskRoles(func(r *blueprint.Role, hits report) {
				for _, g := range r.Trust {
					for _, p := range g.Principals.V {
						if p.Known() && p.V == "*" {
							h := hit{at: p.At, subject: "Principal *", evidence: "the principal is *"}
							if g.Conditions {
								h.severity = finding.Medium
							}
							hits(h)
						}
					}
				}
			})},
		{ID: "CAST-ROLE-005", Title: "Task may hand on any role", Severity: finding.High,
			Why:    "With iam:PassRole on all roles the task starts something under a mightier role and acts through it.",
			Remedy: "Name the roles that may be passed, with a condition on iam:PassedToService.",
			find: taskRoles(func(r *blueprint.Role, hits report) {
				for _, g := range r.Statements {
					for _, a := range g.Actions.V {
						if blueprint.Is(a, "iam:PassRole", "sts:AssumeRole") && wild(g.Resources) && !g.Conditions {
							hits(hit{at: a.At, subject: "Action " + a.V, evidence: a.V + " on all roles is allowed"})
						}
					}
				}
			})},
	}
}

// wild says that a statement is known to be about all resources.
func wild(resources blueprint.Texts) bool {
	return slices.ContainsFunc(resources.V, func(t blueprint.Text) bool { return t.Known() && t.V == "*" })
}

// narrow names services whose actions all do little, or take no resource.
func narrow(service string) bool {
	return slices.Contains([]string{"ssmmessages", "xray", "cloudwatch", "logs", "ec2messages", "aps", "applicationinsights"}, strings.ToLower(service))
}
