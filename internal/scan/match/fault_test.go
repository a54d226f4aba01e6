package match_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/scan/match"
)

func TestAccept(t *testing.T) {
	now := time.Date(2026, 11, 28, 0, 0, 0, 0, time.UTC)
	fault := finding.Misconfiguration{Check: "CAST-TASK-001", File: "deploy/main.tf", Resource: "aws_ecs_task_definition.web", Container: "web", Elsewhere: finding.Elsewhere{Checkov: []string{"CKV_AWS_334"}}}
	for _, tc := range []struct {
		name     string
		rule     match.Rule
		accepted bool
		expired  int
	}{
		{"by check", match.Rule{ID: "cast-task-001", Reason: "r"}, true, 0},
		{"by its name elsewhere", match.Rule{ID: "CKV_AWS_334", Reason: "r"}, true, 0},
		{"another check", match.Rule{ID: "CAST-TASK-002", Reason: "r"}, false, 0},
		{"by file", match.Rule{Path: "deploy/**", Reason: "r"}, true, 0},
		{"another file", match.Rule{Path: "test/**", Reason: "r"}, false, 0},
		{"by resource", match.Rule{Resource: "aws_ecs_task_definition.*", Reason: "r"}, true, 0},
		{"by container", match.Rule{Resource: "aws_ecs_task_definition.web/web", Reason: "r"}, true, 0},
		{"another container", match.Rule{Resource: "aws_ecs_task_definition.web/api", Reason: "r"}, false, 0},
		{"check in another file", match.Rule{ID: "CAST-TASK-001", Path: "test/**", Reason: "r"}, false, 0},
		{"about a package", match.Rule{Package: "openssl", Reason: "r"}, false, 0},
		{"expired", match.Rule{ID: "CAST-TASK-001", Reason: "r", Expires: now}, false, 1},
		{"another that is expired", match.Rule{ID: "CAST-TASK-002", Reason: "r", Expires: now}, false, 0},
		{"not yet expired", match.Rule{ID: "CAST-TASK-001", Reason: "r", Expires: now.Add(1)}, true, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			faults := []finding.Misconfiguration{fault}
			expired := match.Accept(faults, []match.Rule{tc.rule}, now)
			if (faults[0].Accepted != nil) != tc.accepted || len(expired) != tc.expired {
				t.Errorf("accepted %v, expired %v", faults[0].Accepted, expired)
			}
		})
	}
	beside := fault
	beside.Accepted = &finding.Acceptance{Reason: "comment"}
	faults := []finding.Misconfiguration{beside}
	match.Accept(faults, []match.Rule{{ID: "CAST-TASK-001", Reason: "file"}}, now)
	if diff := cmp.Diff(faults[0].Accepted.Reason, "comment"); diff != "" {
		t.Errorf("got, want: %s", diff)
	}
}
