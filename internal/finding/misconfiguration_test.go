package finding_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/finding"
)

// A fault keeps its fingerprint when lines are put in above it, and when it is
// described better.
func TestPrintMisconfiguration(t *testing.T) {
	fault := func(change func(*finding.Misconfiguration)) string {
		m := finding.Misconfiguration{Check: "CAST-TASK-001", Resource: "aws_ecs_task_definition.web", Container: "web", File: "main.tf",
			Start: finding.Position{Line: 3, Column: 1}, Evidence: "privileged = true"}
		change(&m)
		m.Print(0)
		return m.Fingerprint
	}
	first := fault(func(*finding.Misconfiguration) {})
	for _, tc := range []struct {
		name   string
		change func(*finding.Misconfiguration)
		same   bool
	}{
		{"another line", func(m *finding.Misconfiguration) { m.Start.Line = 30 }, true},
		{"another title", func(m *finding.Misconfiguration) { m.Title = "x" }, true},
		{"other evidence", func(m *finding.Misconfiguration) { m.Evidence = "x" }, true},
		{"another severity", func(m *finding.Misconfiguration) { m.Severity = finding.Low }, true},
		{"another check", func(m *finding.Misconfiguration) { m.Check = "CAST-TASK-002" }, false},
		{"another file", func(m *finding.Misconfiguration) { m.File = "other.tf" }, false},
		{"another resource", func(m *finding.Misconfiguration) { m.Resource = "aws_ecs_task_definition.api" }, false},
		{"another container", func(m *finding.Misconfiguration) { m.Container = "api" }, false},
		{"another subject", func(m *finding.Misconfiguration) { m.Subject = "DB_PASSWORD" }, false},
		{"a name that goes on in the next field", func(m *finding.Misconfiguration) { m.Container, m.Subject = "", "web" }, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := fault(tc.change); (got == first) != tc.same {
				t.Errorf("fingerprint %s, first %s, want the same: %v", got, first, tc.same)
			}
		})
	}
	var a, b finding.Misconfiguration
	a.Print(0)
	b.Print(1)
	if a.Fingerprint == b.Fingerprint {
		t.Error("two faults that are alike have one fingerprint")
	}
}

func TestNamesElsewhere(t *testing.T) {
	e := finding.Elsewhere{SecurityHub: []string{"ECS.4"}, CIS: []string{"Docker 1.6 5.5"}, Checkov: []string{"CKV_AWS_334"}}
	if diff := cmp.Diff(e.Names(), []string{"Security Hub ECS.4", "CIS Docker 1.6 5.5", "Checkov CKV_AWS_334"}); diff != "" {
		t.Errorf("got, want: %s", diff)
	}
}
