package condition_test

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/admit/condition"
)

// TestRoles: what a role may do is what its policies leave after what is denied, and
// after its boundary; where one of these is not known, neither is the answer, unless
// what is known gives it.
func TestRoles(t *testing.T) {
	const all, some, none = `{"Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`, `{"Statement":[{"Effect":"Allow","Action":"s3:*","Resource":"*"}]}`, `{"Statement":[]}`
	documents := func(texts ...string) []json.RawMessage {
		var out []json.RawMessage
		for _, x := range texts {
			out = append(out, json.RawMessage(x))
		}
		return out
	}
	s := condition.NewSchema()
	c, err := condition.NewCompiler(s)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name string
		role admission.Role
		text string
		want string
	}{
		{"all", admission.Role{Policies: documents(all), Known: true}, `role.allows("iam:PassRole")`, "true"},
		{"not all are known, and one allows it", admission.Role{Policies: documents(all)}, `role.allows("iam:PassRole")`, "true"},
		{"not all are known", admission.Role{Policies: documents(some)}, `role.allows("iam:PassRole")`, "role.statements"},
		{"bounded", admission.Role{Policies: documents(all), Known: true, Bounded: true, Boundary: json.RawMessage(some)}, `role.allows("iam:PassRole")`, "false"},
		{"bounded, and allowed", admission.Role{Policies: documents(all), Known: true, Bounded: true, Boundary: json.RawMessage(some)}, `role.allows("s3:GetObject") && role.bounded`, "true"},
		{"bounded by nothing", admission.Role{Policies: documents(all), Known: true, Bounded: true, Boundary: json.RawMessage(none)}, `role.allows("s3:GetObject")`, "false"},
		{"bounded by what nobody knows", admission.Role{Policies: documents(all), Known: true, Bounded: true}, `role.allows("iam:PassRole")`, "role.statements"},
		{"bounded by what nobody knows, and not allowed anyway", admission.Role{Policies: documents(some), Known: true, Bounded: true}, `role.allows("iam:PassRole")`, "false"},
		{"bounded by what is none", admission.Role{Policies: documents(all), Known: true, Bounded: true, Boundary: json.RawMessage(`[]`)}, `role.allows("iam:PassRole")`, "role.statements"},
		{"statements within the boundary", admission.Role{Policies: documents(all), Known: true, Bounded: true, Boundary: json.RawMessage(some)}, `role.statements.exists(s, s.every_action)`, "false"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.role.Use, tc.role.ARN = "task", "arn:aws:iam::1:role/web"
			r := admission.Request{Task: admission.Task{Roles: []admission.Role{tc.role}}}
			e, err := c.Condition(s.Kind("role"), nil, tc.text)
			if err != nil {
				t.Fatal(err)
			}
			got := "not asked"
			v, err := s.NewView(&r, func(*admission.Image) *admission.Facts { return nil }, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			s.Kind("role").Each(v, nil, func(scope *condition.Scope) bool {
				holds, unknown, err := e.Holds(context.Background(), scope)
				switch {
				case err != nil:
					got = err.Error()
				case unknown != nil:
					got = scope.View.Missing(unknown)[0].What
				case holds:
					got = "true"
				default:
					got = "false"
				}
				return true
			})
			if got != tc.want {
				t.Errorf("got %s, want %s", got, tc.want)
			}
		})
	}
}
