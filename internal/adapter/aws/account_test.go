package aws_test

import (
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/adapter/aws"
	"github.com/castellan-security/castellan/internal/fault"
)

// fleet is a stand-in of STS and ECS of all accounts and regions: it says as whom and
// in which region it was asked to stop a task.
type fleet struct {
	external string // what the role of account 210987654321 asks for
	stopped  []string
	assumed  int
}

func (f *fleet) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	_, scope, _ := strings.Cut(r.Header.Get("Authorization"), "Credential=")
	parts := strings.Split(scope, "/") // key, day, region, …
	if target := r.Header.Get("X-Amz-Target"); target != "" {
		var in struct{ Task string }
		if err := json.Unmarshal(b, &in); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		f.stopped = append(f.stopped, parts[0]+" "+parts[2]+" "+in.Task[strings.LastIndexByte(in.Task, '/')+1:])
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		_, _ = w.Write([]byte(`{"task":{}}`))
		return
	}
	q, err := url.ParseQuery(string(b))
	if err != nil || q.Get("Action") != "AssumeRole" {
		http.Error(w, "what?", http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "text/xml")
	if q.Get("RoleArn") != "arn:aws:iam::210987654321:role/castellan-respond" || q.Get("ExternalId") != f.external || q.Get("DurationSeconds") != "900" || q.Get("RoleSessionName") != "castellan" {
		w.WriteHeader(http.StatusForbidden)
		_, _ = w.Write([]byte(`<ErrorResponse><Error><Code>AccessDenied</Code><Message>is not authorized to perform: sts:AssumeRole</Message></Error></ErrorResponse>`))
		return
	}
	f.assumed++
	_, _ = w.Write([]byte(`<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><Credentials><AccessKeyId>ASIAOTHER</AccessKeyId>` +
		`<SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken><Expiration>` + time.Now().Add(15*time.Minute).UTC().Format(time.RFC3339) + `</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>`))
}

func TestTasksAreStoppedWhereTheyAre(t *testing.T) {
	f := &fleet{external: "case:42"}
	srv := httptest.NewServer(f)
	t.Cleanup(srv.Close)
	everything(t, srv.URL)
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIAOWN")
	t.Setenv("AWS_REGION", "eu-west-1")
	log := slog.New(slog.DiscardHandler)
	role := "arn:aws:iam::210987654321:role/castellan-respond"
	a, err := aws.NewAccounts([]aws.AccountRole{{Role: role, ExternalID: "case:42"}}, log)
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range []string{
		"arn:aws:ecs:eu-west-1:123456789012:task/shop/own", "arn:aws:ecs:us-east-2:123456789012:task/shop/region", "arn:aws:ecs:us-east-2:210987654321:task/shop/other",
		"arn:aws:ecs:us-east-2:210987654321:task/shop/again", "arn:aws:ecs:evil.example.org/:123456789012:task/shop/odd",
	} {
		if err := a.Stop(t.Context(), "shop", task, "because"); err != nil {
			t.Errorf("%s: %v", task, err)
		}
	}
	want := "AKIAOWN eu-west-1 own, AKIAOWN us-east-2 region, ASIAOTHER us-east-2 other, ASIAOTHER us-east-2 again, AKIAOWN eu-west-1 odd"
	if got := strings.Join(f.stopped, ", "); got != want {
		t.Errorf("asked %s\nwant %s", got, want)
	}
	if f.assumed != 1 {
		t.Errorf("took the role %d times", f.assumed)
	}
	if a, err = aws.NewAccounts([]aws.AccountRole{{Role: role, ExternalID: "wrong"}}, log); err != nil {
		t.Fatal(err)
	}
	err = a.Stop(t.Context(), "shop", "arn:aws:ecs:us-east-2:210987654321:task/shop/other", "because")
	if !fault.Is(err, fault.Denied) || !strings.Contains(fault.Remedy(err), "sts:AssumeRole") || !strings.Contains(fault.Remedy(err), "external id") || !strings.Contains(err.Error(), role) {
		t.Errorf("a role that is refused: %v, remedy %q", err, fault.Remedy(err))
	}
	for _, bad := range [][]aws.AccountRole{
		{{Role: "castellan"}}, {{Role: "arn:aws:iam::1:role/x"}}, {{Role: "arn:aws:iam::210987654321:user/x"}}, {{Role: role}, {Role: role}}, {{Role: role, ExternalID: "a b"}},
	} {
		if _, err := aws.NewAccounts(bad, log); !fault.Is(err, fault.Invalid) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}
