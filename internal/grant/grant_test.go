package grant_test

import (
	"strings"
	"testing"

	"github.com/castellan-security/castellan/internal/grant"
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

// TestLimit follows IAM's evaluation: a denial holds against every allowance, and of
// a role with a boundary what both allow is left.
func TestLimit(t *testing.T) {
	const all = `{"Effect":"Allow","Action":"*","Resource":"*"}`
	for _, tc := range []struct {
		name, policy, boundary, action string
		want                           bool
	}{
		{"boundary allows it", all, all, "iam:PassRole", true},
		{"boundary allows something else", all, `{"Effect":"Allow","Action":"s3:*","Resource":"*"}`, "iam:PassRole", false},
		{"boundary alone allows nothing", `{"Effect":"Allow","Action":"s3:*","Resource":"*"}`, all, "iam:PassRole", false},
		{"boundary with nothing in it", all, `{"Effect":"Deny","Action":"s3:*","Resource":"*"}`, "iam:PassRole", false},
		{"boundary denies it", all, all + `,{"Effect":"Deny","Action":"iam:*","Resource":"*"}`, "iam:PassRole", false},
		{"boundary denies all but", all, all + `,{"Effect":"Deny","NotAction":"s3:*","Resource":"*"}`, "iam:PassRole", false},
		{"boundary denies on a condition", all, all + `,{"Effect":"Deny","Action":"iam:*","Resource":"*","Condition":{"Bool":{"aws:SecureTransport":"false"}}}`, "iam:PassRole", true},
		{"boundary for other resources", `{"Effect":"Allow","Action":"s3:GetObject","Resource":"arn:aws:s3:::shop/*"}`, `{"Effect":"Allow","Action":"s3:*","Resource":"arn:aws:s3:::other/*"}`, "s3:GetObject", false},
		{"boundary for some of the resources", `{"Effect":"Allow","Action":"s3:GetObject","Resource":"arn:aws:s3:::sh*"}`, `{"Effect":"Allow","Action":"s3:*","Resource":"arn:aws:s3:::*op/x"}`, "s3:GetObject", true},
		{"boundary by a variable", `{"Effect":"Allow","Action":"s3:GetObject","Resource":"arn:aws:s3:::shop/*"}`, `{"Effect":"Allow","Action":"s3:*","Resource":"arn:aws:s3:::${aws:PrincipalTag/team}/*"}`, "s3:GetObject", true},
		{"boundary for all but these", `{"Effect":"Allow","Action":"s3:GetObject","Resource":"arn:aws:s3:::shop/*"}`, `{"Effect":"Allow","Action":"s3:*","NotResource":"arn:aws:s3:::shop*"}`, "s3:GetObject", false},
		{"denied where it is allowed", `{"Effect":"Allow","Action":"s3:GetObject","Resource":"arn:aws:s3:::shop/*"},{"Effect":"Deny","Action":"s3:*","Resource":"arn:aws:s3:::sh*"}`, "", "s3:GetObject", false},
		{"denied in another case", `{"Effect":"Allow","Action":"s3:GetObject","Resource":"arn:aws:s3:::shop/*"},{"Effect":"Deny","Action":"s3:*","Resource":"arn:aws:s3:::SH*"}`, "", "s3:GetObject", true},
		{"denied in a part", `{"Effect":"Allow","Action":"s3:GetObject","Resource":"arn:aws:s3:::*"},{"Effect":"Deny","Action":"s3:*","Resource":"arn:aws:s3:::shop/*"}`, "", "s3:GetObject", true},
		{"denied everywhere else", `{"Effect":"Allow","Action":"s3:GetObject","Resource":"arn:aws:s3:::shop/*"},{"Effect":"Deny","Action":"s3:*","NotResource":"arn:aws:s3:::other/*"}`, "", "s3:GetObject", false},
		{"denied everywhere but here", `{"Effect":"Allow","Action":"s3:GetObject","Resource":"arn:aws:s3:::shop/*"},{"Effect":"Deny","Action":"s3:*","NotResource":"arn:aws:s3:::shop/*"}`, "", "s3:GetObject", true},
		{"all denied but some", all + `,{"Effect":"Deny","NotAction":["s3:*","iam:Get*"],"Resource":"*"}`, "", "iam:PassRole", false},
		{"some of all denied but some", all + `,{"Effect":"Deny","NotAction":["s3:*","iam:Get*"],"Resource":"*"}`, "", "iam:GetRole", true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := grant.Allows(limited(t, tc.policy, tc.boundary), tc.action); got != tc.want {
				t.Errorf("got %v, want %v", got, tc.want)
			}
		})
	}
}

func limited(t *testing.T, policy, boundary string) []grant.Statement {
	t.Helper()
	read := func(statements string) []grant.Statement {
		list, err := grant.Parse([]byte(`{"Statement":[` + statements + `]}`))
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	if boundary == "" {
		return grant.Limit(read(policy), false, nil)
	}
	return grant.Limit(read(policy), true, read(boundary))
}

// TestStatementsWithinTheirLimits: what a statement is said to be about is what is
// left of it.
func TestStatementsWithinTheirLimits(t *testing.T) {
	const all, some = `{"Effect":"Allow","Action":"*","Resource":"*"}`, `{"Effect":"Allow","Action":["s3:*","iam:*"],"Resource":"*"}`
	for _, tc := range []struct {
		name, policy, boundary string
		actions, resources     bool
		services               string
	}{
		{"nothing takes of it", all, "", true, true, ""},
		{"a boundary with everything", all, all, true, true, ""},
		{"a boundary with something", all, `{"Effect":"Allow","Action":"s3:*","Resource":"*"}`, false, true, ""},
		{"a boundary for some resources", some, `{"Effect":"Allow","Action":"*","Resource":"arn:aws:s3:::shop/*"}`, false, false, "s3 iam"},
		{"a boundary with a service", some, `{"Effect":"Allow","Action":"s3:*","Resource":"*"}`, false, true, "s3"},
		{"all denied but some", all + `,{"Effect":"Deny","NotAction":"s3:*","Resource":"*"}`, "", false, true, ""},
		{"a service denied", some + `,{"Effect":"Deny","Action":"iam:*","Resource":"*"}`, "", false, true, "s3"},
		{"all resources denied but some", some + `,{"Effect":"Deny","Action":"*","NotResource":"arn:aws:s3:::shop/*"}`, "", false, false, "s3 iam"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := limited(t, tc.policy, tc.boundary)[0]
			if s.EveryAction() != tc.actions || s.EveryResource() != tc.resources || strings.Join(s.WholeServices(), " ") != tc.services {
				t.Errorf("every action %v, every resource %v, services %v", s.EveryAction(), s.EveryResource(), s.WholeServices())
			}
		})
	}
}

// TestHostilePoliciesCostLittle: what is not looked at counts as allowed.
func TestHostilePoliciesCostLittle(t *testing.T) {
	long := strings.Repeat("*a", 1000)
	list := `["` + strings.Repeat(long+`x","`, 100) + `z"]`
	one := `{"Effect":"Allow","Action":"s3:*","Resource":` + list + `}`
	other := `{"Effect":"Allow","Action":"s3:*","Resource":` + strings.ReplaceAll(list, "x", "y") + `}`
	if !grant.Allows(limited(t, one, other), "s3:GetObject") {
		t.Error("not allowed")
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

// TestTied: only conditions that somebody must meet tie a statement to who is known.
func TestTied(t *testing.T) {
	for _, tc := range []struct {
		condition string
		tied      bool
	}{
		{`{}`, false},
		{`{"StringEquals":{"sts:ExternalId":"s3cret"}}`, true},
		{`{"StringEquals":{"aws:SourceAccount":"111122223333"}}`, true},
		{`{"StringNotEquals":{"sts:ExternalId":"s3cret"}}`, false},
		{`{"StringEqualsIfExists":{"aws:PrincipalOrgID":"o-1"}}`, false},
		{`{"ForAllValues:StringEquals":{"aws:PrincipalOrgID":"o-1"}}`, false},
		{`{"IpAddress":{"aws:SourceIp":["192.0.2.0/24"]}}`, true},
		{`{"IpAddress":{"aws:SourceIp":["192.0.2.0/24","0.0.0.0/0"]}}`, false},
		{`{"Bool":{"aws:SecureTransport":"true"}}`, false},
	} {
		all, err := grant.Parse([]byte(`{"Statement":{"Effect":"Allow","Action":"sts:AssumeRole","Principal":"*","Condition":` + tc.condition + `}}`))
		if err != nil {
			t.Fatal(err)
		}
		if got := all[0].Tied(); got != tc.tied {
			t.Errorf("%s: tied %v, want %v", tc.condition, got, tc.tied)
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
