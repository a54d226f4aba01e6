package aws_test

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/adapter/aws"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
)

// account is a stand-in of ECS, IAM and STS with one role, in the forms of their API
// references: JSON of ECS (docs.aws.amazon.com/AmazonECS/latest/APIReference), XML of
// IAM and STS (docs.aws.amazon.com/IAM/latest/APIReference, …/STS/latest/APIReference).
type account struct {
	roles    map[string]string            // name → ARN
	policies map[string]map[string]string // role → inline policies
	caller   string
	ecs      func(operation string) (int, object)
	denied   []string // actions that are
	asked    []string
}

const webRole = "arn:aws:iam::123456789012:role/team/web"

func newAccount(t *testing.T) *account {
	a := &account{
		roles:    map[string]string{"web": webRole, "admin": "arn:aws:iam::123456789012:role/admin"},
		policies: map[string]map[string]string{},
		caller:   "arn:aws:sts::123456789012:assumed-role/castellan/i-1",
		ecs:      func(operation string) (int, object) { return shop(operation, nil) },
	}
	s := httptest.NewServer(a)
	t.Cleanup(s.Close)
	everything(t, s.URL)
	return a
}

func (a *account) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if target := r.Header.Get("X-Amz-Target"); target != "" {
		_, operation, _ := cutLast(target)
		a.asked = append(a.asked, operation)
		status, body := a.ecs(operation)
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(body)
		return
	}
	form, err := url.ParseQuery(string(b))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	action, role, policy := form.Get("Action"), form.Get("RoleName"), form.Get("PolicyName")
	a.asked = append(a.asked, action)
	w.Header().Set("Content-Type", "text/xml")
	refuse := func(status int, code string) {
		w.WriteHeader(status)
		fmt.Fprintf(w, `<ErrorResponse xmlns="https://iam.amazonaws.com/doc/2010-05-08/"><Error><Type>Sender</Type><Code>%s</Code><Message>no</Message></Error><RequestId>r</RequestId></ErrorResponse>`, code)
	}
	answer := func(result string) {
		fmt.Fprintf(w, `<%[1]sResponse xmlns="https://iam.amazonaws.com/doc/2010-05-08/"><%[1]sResult>%[2]s</%[1]sResult><ResponseMetadata><RequestId>r</RequestId></ResponseMetadata></%[1]sResponse>`, action, result)
	}
	switch arn := a.roles[role]; {
	case slices.Contains(a.denied, action):
		refuse(403, "AccessDenied")
	case action == "GetCallerIdentity":
		answer(`<Arn>` + a.caller + `</Arn><UserId>AROA:i-1</UserId><Account>123456789012</Account>`)
	case arn == "":
		refuse(404, "NoSuchEntity")
	case action == "GetRole":
		answer(`<Role><Path>/</Path><RoleName>` + role + `</RoleName><RoleId>AROA</RoleId><Arn>` + arn + `</Arn><CreateDate>2020-01-01T00:00:00Z</CreateDate></Role>`)
	case action == "PutRolePolicy":
		if a.policies[role] == nil {
			a.policies[role] = map[string]string{}
		}
		a.policies[role][policy] = form.Get("PolicyDocument")
		answer("")
	case action == "DeleteRolePolicy" && a.policies[role][policy] == "":
		refuse(404, "NoSuchEntity")
	case action == "DeleteRolePolicy":
		delete(a.policies[role], policy)
		answer("")
	default:
		refuse(400, "InvalidAction")
	}
}

// cutLast cuts at the last dot.
func cutLast(s string) (before, after string, ok bool) {
	for i := len(s) - 1; i >= 0; i-- {
		if s[i] == '.' {
			return s[:i], s[i+1:], true
		}
	}
	return "", s, false
}

func TestSessionsAreRevokedAndReinstated(t *testing.T) {
	a := newAccount(t)
	s := aws.NewSessions(slog.New(slog.DiscardHandler))
	before := time.Date(2026, 1, 2, 4, 4, 5, 0, time.FixedZone("CET", 3600))
	for range 2 { // a second time moves the time
		if err := s.Revoke(t.Context(), webRole, before); err != nil {
			t.Fatal(err)
		}
	}
	var got struct {
		Statement []struct {
			Effect, Action, Resource string
			Condition                map[string]map[string]string
		}
	}
	if err := json.Unmarshal([]byte(a.policies["web"][aws.RevokedPolicy]), &got); err != nil {
		t.Fatal(err)
	}
	if st := got.Statement[0]; len(got.Statement) != 1 || st.Effect != "Deny" || st.Action != "*" || st.Resource != "*" ||
		len(st.Condition) != 1 || st.Condition["DateLessThan"]["aws:TokenIssueTime"] != "2026-01-02T03:04:05Z" {
		t.Errorf("policy: %+v", got)
	}
	for range 2 {
		if err := s.Reinstate(t.Context(), webRole); err != nil {
			t.Fatal(err)
		}
	}
	if len(a.policies["web"]) != 0 {
		t.Errorf("left: %v", a.policies)
	}
}

func TestSessionsThatAreNotRevoked(t *testing.T) {
	for _, tt := range []struct {
		name, role string
		change     func(*account)
		kind       fault.Kind
	}{
		{"of the server itself", webRole, func(a *account) { a.caller = "arn:aws:sts::123456789012:assumed-role/web/x" }, fault.Denied},
		{"of another account", "arn:aws:iam::999999999999:role/team/web", nil, fault.Invalid},
		{"not there", "arn:aws:iam::123456789012:role/none", nil, fault.NotFound},
		{"a user", "arn:aws:iam::123456789012:user/web", nil, fault.Invalid},
		{"may not look", webRole, func(a *account) { a.denied = []string{"GetRole"} }, fault.Denied},
		{"may not change", webRole, func(a *account) { a.denied = []string{"PutRolePolicy"} }, fault.Denied},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := newAccount(t)
			if tt.change != nil {
				tt.change(a)
			}
			err := aws.NewSessions(slog.New(slog.DiscardHandler)).Revoke(t.Context(), tt.role, time.Now())
			if fault.Of(err) != tt.kind || len(a.policies) != 0 {
				t.Errorf("got %v (%v), policies %v", err, fault.Of(err), a.policies)
			}
			if tt.kind == fault.Denied && fault.Remedy(err) == "" {
				t.Error("nothing says what helps")
			}
		})
	}
}

func TestRoleOfATask(t *testing.T) {
	of := asset.ECS{Cluster: "shop", TaskARN: taskARN, Family: "web", Revision: "7"}
	plain := func(operation string) (int, object) {
		if operation == "DescribeTasks" {
			return 200, object{"tasks": []object{{"taskArn": taskARN, "taskDefinitionArn": defined}}}
		}
		return shop(operation, nil)
	}
	for _, tt := range []struct {
		name string
		ecs  func(string) (int, object)
		want string
		kind fault.Kind
	}{
		{"overridden", func(o string) (int, object) { return shop(o, nil) }, "arn:aws:iam::123456789012:role/admin", fault.Unknown},
		{"of its definition", plain, "arn:aws:iam::123456789012:role/web", fault.Unknown},
		{"that has ended", func(o string) (int, object) {
			if o == "DescribeTasks" {
				return 200, object{"tasks": []object{}, "failures": []object{{"arn": taskARN, "reason": "MISSING"}}}
			}
			return shop(o, nil)
		}, "arn:aws:iam::123456789012:role/web", fault.Unknown},
		{"without one", func(o string) (int, object) {
			if o == "DescribeTaskDefinition" {
				return 200, object{"taskDefinition": object{"family": "web", "revision": 7}}
			}
			return plain(o)
		}, "", fault.NotFound},
		{"may not look", func(string) (int, object) {
			return 400, object{"__type": "AccessDeniedException", "message": "no"}
		}, "", fault.Denied},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := newAccount(t)
			a.ecs = tt.ecs
			got, err := aws.NewSessions(slog.New(slog.DiscardHandler)).Role(t.Context(), of)
			if got != tt.want || fault.Of(err) != tt.kind {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
}
