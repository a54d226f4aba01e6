package grant_test

import (
	"strings"
	"testing"

	"github.com/castellan-security/castellan/internal/admit/grant"
)

func TestAllows(t *testing.T) {
	for _, tc := range []struct {
		name, policy, action string
		want                 bool
	}{
		{"exact, in any case", `{"Statement":{"Effect":"Allow","Action":"IAM:passrole","Resource":"*"}}`, "iam:PassRole", true},
		{"wildcards", `{"Statement":[{"Effect":"Allow","Action":["iam:P?ss*"],"Resource":["*"]}]}`, "iam:PassRole", true},
		{"another action", `{"Statement":{"Effect":"Allow","Action":"iam:Get*","Resource":"*"}}`, "iam:PassRole", false},
		{"all but others", `{"Statement":{"Effect":"Allow","NotAction":["s3:*"],"Resource":"*"}}`, "iam:PassRole", true},
		{"all but it", `{"Statement":{"Effect":"Allow","NotAction":["iam:*"],"Resource":"*"}}`, "iam:PassRole", false},
		{"taken back", `{"Statement":[{"Effect":"Allow","Action":"*","Resource":"*"},{"Effect":"Deny","Action":"iam:*","Resource":"*"}]}`, "iam:PassRole", false},
		{"taken back on a condition", `{"Statement":[{"Effect":"Allow","Action":"*","Resource":"*"},{"Effect":"Deny","Action":"iam:*","Resource":"*","Condition":{"Bool":{"aws:MultiFactorAuthPresent":"false"}}}]}`, "iam:PassRole", true},
		{"taken back somewhere", `{"Statement":[{"Effect":"Allow","Action":"*","Resource":"*"},{"Effect":"Deny","Action":"iam:*","Resource":"arn:aws:iam::1:role/a"}]}`, "iam:PassRole", true},
		{"percent-encoded", `"%7B%22Statement%22%3A%7B%22Effect%22%3A%22Allow%22%2C%22Action%22%3A%22%2A%22%2C%22Resource%22%3A%22%2A%22%7D%7D"`, "iam:PassRole", true},
		{"many stars take no time", `{"Statement":{"Effect":"Allow","Action":"` + strings.Repeat("*a", 2000) + `","Resource":"*"}}`, strings.Repeat("a", 1999) + "b", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			all, err := grant.Parse([]byte(tc.policy))
			if err != nil {
				t.Fatal(err)
			}
			if got := grant.Allows(all, tc.action); got != tc.want {
				t.Errorf("got %v, want %v", got, tc.want)
			}
		})
	}
}

// TestOtherWaysToWriteAnything shows that no other wording of everything is taken
// for something less, nor the reverse.
func TestOtherWaysToWriteAnything(t *testing.T) {
	for _, tc := range []struct {
		statement                 string
		actions, resources, world bool
	}{
		{`"Action":"?*","Resource":"arn:aws:*"`, true, true, false},
		{`"Action":"*?:*","Resource":"*?"`, true, true, false},
		{`"Action":"*","Resource":"arn:aws*:*:*:*:*"`, true, true, false},
		{`"Action":"?","Resource":"arn:aws:s3:::*"`, false, false, false},
		{`"Action":"s3:?*","Resource":"arn:aws:*:eu-west-1:*:*"`, false, false, false},
		{`"Action":"s3:*","Resource":"*","Principal":"*","Condition":{"StringLike":{"aws:PrincipalArn":"*"}}`, false, true, true},
		{`"Action":"s3:*","Resource":"*","Principal":"*","Condition":{"StringNotEquals":{"aws:PrincipalAccount":"1"}}`, false, true, true},
		{`"Action":"s3:*","Resource":"*","Principal":"*","Condition":{"StringEqualsIfExists":{"aws:SourceVpc":"v"}}`, false, true, true},
		{`"Action":"s3:*","Resource":"*","Principal":"*","Condition":{"Null":{"aws:SourceArn":"true"}}`, false, true, true},
		{`"Action":"s3:*","Resource":"*","Principal":"*","Condition":{"StringEquals":{"aws:PrincipalOrgID":["o-1"]}}`, false, true, false},
	} {
		all, err := grant.Parse([]byte(`{"Statement":{"Effect":"Allow",` + tc.statement + `}}`))
		if err != nil {
			t.Fatal(err)
		}
		s := all[0]
		if s.EveryAction() != tc.actions || s.EveryResource() != tc.resources || s.Public() != tc.world {
			t.Errorf("%s: every action %v, every resource %v, public %v", tc.statement, s.EveryAction(), s.EveryResource(), s.Public())
		}
	}
}

func TestWhatIsNoPolicyIsRefused(t *testing.T) {
	for _, tc := range []struct{ name, text string }{
		{"nothing", ``}, {"no object", `[]`}, {"no statement", `{"Version":"2012-10-17"}`}, {"no effect", `{"Statement":{"Action":"*"}}`},
		{"another effect", `{"Statement":{"Effect":"Perhaps","Action":"*"}}`}, {"no action", `{"Statement":{"Effect":"Allow","Resource":"*"}}`},
		{"a name twice", `{"Statement":{"Effect":"Deny","effect":"Allow","Action":"*"}}`}, {"something behind it", `{"Statement":[]} {}`},
		{"a number", `{"Statement":{"Effect":"Allow","Action":7}}`}, {"a condition that is none", `{"Statement":{"Effect":"Allow","Action":"*","Condition":"no"}}`},
		{"too large", `{"Statement":[]` + strings.Repeat(" ", grant.MaxBytes) + `}`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if all, err := grant.Parse([]byte(tc.text)); err == nil {
				t.Errorf("read as %+v", all)
			}
		})
	}
}

// FuzzParse: no document makes the reader panic, and what can be read can be asked.
func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"Statement":[{"Sid":"a","Effect":"Allow","Action":["s3:*"],"Resource":"*","Principal":{"AWS":"*"},"Condition":{"StringLike":{"a":"b"}}}]}`))
	f.Add([]byte(`"%7B%7D"`))
	f.Fuzz(func(t *testing.T, b []byte) {
		all, err := grant.Parse(b)
		if err != nil && all != nil {
			t.Error("statements and an error")
		}
		grant.Allows(all, "iam:PassRole")
		for i := range all {
			all[i].EveryAction()
			all[i].EveryResource()
			all[i].Public()
			all[i].WholeServices()
		}
	})
}
