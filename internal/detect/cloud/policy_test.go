package cloud_test

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/castellan-security/castellan/internal/detect/cloud"
)

// request is a call with a policy as a text, as most calls have theirs.
func request(t *testing.T, statement string) json.RawMessage {
	t.Helper()
	return json.RawMessage(`{"policyDocument":` + strconv.Quote(`{"Version":"2012-10-17","Statement":[`+statement+`]}`) + `}`)
}

// TestOpenTo: whom a policy lets in is told however it is written.
func TestOpenTo(t *testing.T) {
	const mine, theirs = "111122223333", "444455556666"
	for _, tc := range []struct {
		name, statement string
		want            []string
	}{
		{"everybody", `{"Effect":"Allow","Action":"s3:*","Principal":"*"}`, []string{cloud.Everybody}},
		{"everybody of AWS", `{"Effect":"Allow","Action":"s3:*","Principal":{"AWS":["*"]}}`, []string{cloud.Everybody}},
		{"all but some", `{"Effect":"Allow","Action":"s3:*","NotPrincipal":{"AWS":"arn:aws:iam::` + mine + `:root"}}`, []string{cloud.Everybody}},
		{"another account", `{"Effect":"Allow","Action":"sts:AssumeRole","Principal":{"AWS":["arn:aws:iam::` + theirs + `:root","` + mine + `"]}}`, []string{theirs}},
		{"a service", `{"Effect":"Allow","Action":"sts:AssumeRole","Principal":{"Service":"ecs-tasks.amazonaws.com"}}`, nil},
		{"a denial", `{"Effect":"Deny","Action":"s3:*","Principal":"*"}`, nil},
		{"tied by a secret", `{"Effect":"Allow","Action":"sts:AssumeRole","Principal":{"AWS":"` + theirs + `"},"Condition":{"StringEquals":{"sts:ExternalId":"x"}}}`, nil},
		{"tied to all addresses", `{"Effect":"Allow","Action":"s3:*","Principal":"*","Condition":{"IpAddress":{"aws:SourceIp":"0.0.0.0/0"}}}`, []string{cloud.Everybody}},
		{"with a text that hides it", `{"Effect":"Allow","Action":"s3:*","Principal":"*","Resource":"` + strings.Repeat("x", 20_000) + `"}`, []string{cloud.Everybody}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := cloud.OpenTo(request(t, tc.statement), mine); !slices.Equal(got, tc.want) {
				t.Errorf("as a text: got %q, want %q", got, tc.want)
			}
			if got := cloud.OpenTo(json.RawMessage(`{"bucketPolicy":{"Statement":`+tc.statement+`}}`), mine); !slices.Equal(got, tc.want) {
				t.Errorf("as an object: got %q, want %q", got, tc.want)
			}
		})
	}
}

// TestGrants: what a policy permits everywhere is told in small letters.
func TestGrants(t *testing.T) {
	for _, tc := range []struct {
		statement string
		want      []string
	}{
		{`{"Effect":"Allow","Action":["IAM:*","s3:Get*"],"Resource":"*"}`, []string{"iam:*", "s3:get*"}},
		{`{"Effect":"Allow","NotAction":"s3:*","Resource":["*"]}`, []string{"*"}},
		{`{"Effect":"Allow","Action":"*","Resource":"arn:aws:*"}`, []string{"*"}},
		{`{"Effect":"Allow","Action":"*","Resource":"arn:aws:s3:::shop/*"}`, nil},
		{`{"Effect":"Deny","Action":"*","Resource":"*"}`, nil},
		{`{"Effect":"Allow","Action":"sts:AssumeRole","Principal":"*"}`, nil},
	} {
		if got := cloud.Grants(request(t, tc.statement)); !slices.Equal(got, tc.want) {
			t.Errorf("%s: got %q, want %q", tc.statement, got, tc.want)
		}
	}
}
