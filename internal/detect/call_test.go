package detect_test

import (
	"strings"
	"testing"

	"github.com/castellan-security/castellan/internal/detect"
)

// What can't be said of calls of AWS is told, and not ignored.
func TestRulesOfCallsAreHeldToWhatCallsHave(t *testing.T) {
	for _, tc := range []struct{ name, rest, want string }{
		{"a call", "on: [trail.call], calls: [\"ecs:RunTask\"], when: 'value(call.request, \"cluster\") == \"shop\"'", ""},
		{"a count by session", "on: [trail.call], count: {by: session, within: 5m, reaches: 3, distinct: call.target}", ""},
		{"no call", "on: [trail.call], calls: [RunTask]", "is no call of AWS"},
		{"a pattern", "on: [trail.call], calls: [\"ecs:*\"]", "is no call of AWS"},
		{"calls of files", "on: [file.read], calls: [\"ecs:RunTask\"]", "calls are never there"},
		{"calls and programs", "on: [trail.call], calls: [\"ecs:RunTask\"], programs: [sh]", "either programs or calls"},
		{"a process's field", "on: [trail.call], when: 'file.path == \"x\"'", "file.path is never there"},
		{"a call's field", "on: [file.read], when: 'call.account == \"x\"'", "call.account is never there"},
		{"by process", "on: [trail.call], count: {by: process, within: 5m, reaches: 3}", "not by process"},
		{"by session of files", "on: [file.read], count: {by: session, within: 5m, reaches: 3}", "by can't be session"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			body := "rules:\n- {id: own-x, title: t, severity: low, tactic: execution, meaning: m., " + tc.rest + "}\n"
			err := detect.Check([]detect.Text{{Name: "own.yaml", Body: []byte(body)}})
			if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}
