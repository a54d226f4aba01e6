package policy_test

import (
	"strings"
	"testing"

	"github.com/castellan-security/castellan/internal/trust/policy"
)

func TestCheckProfile(t *testing.T) {
	const before = "arn:aws:signer:eu-central-1:123456789012:"
	for _, tc := range []struct{ arn, wrong string }{
		{before + "/signing-profiles/web", ""},
		{before + "/signing-profiles/web/OF8IVUsPJq", ""},
		{before + "/aliased-signing-profiles/ecr", ""},
		{"arn:aws:signer:us-west-2::/aliased-signing-profiles/db4a39f3-f858-4b92-8623-8b4c41649972", ""},
		{"arn:aws:signer:::/aliased-signing-profiles/x", "names no region"},
		{"arn:aws:signer:::/aliases/com.example.web", ""},
		{"arn:aws-us-gov:signer:us-gov-west-1:123456789012:/signing-profiles/web", ""},
		{before + "signing-profiles/web", "lacks the slash"},
		{before + "/signing-profiles/", "empty name"},
		{before + "/signing-profiles", "no signing profile"},
		{before + "/signing-profiles/web/a/b", "no signing profile"},
		{before + "/signing-profiles/*", `"*" has no meaning`},
		{before + "/signing-jobs/2b0d", "a signing job"},
		{before + "/aliased-signing-profiles/ecr/1", "no signing profile"},
		{before + "/aliases/ecr", "no region and no account"},
		{"arn:aws:signer:::/signing-profiles/web", "names no region"},
		{"arn:aws:signer:eu-central-1:12345678901x:/signing-profiles/web", "names no region"},
		{"arn:aws:kms:eu-central-1:123456789012:key/abc", "of kms"},
		{"arn:gcp:signer:eu:123456789012:/signing-profiles/web", "is no ARN"},
		{"web", "is no ARN"},
		{"", "is no ARN"},
		{before + "/signing-profiles/w b", "no ARN has"},
		{before + "/signing-profiles/wéb", "no ARN has"},
		{before + "/signing-profiles/" + strings.Repeat("x", 3000), "at most 2048"},
	} {
		err := policy.CheckProfile(tc.arn)
		if got := ""; err == nil != (tc.wrong == "") {
			t.Errorf("%.80s: got %v, want %q", tc.arn, err, tc.wrong)
		} else if err != nil {
			if got = err.Error(); !strings.Contains(got, tc.wrong) {
				t.Errorf("%.80s: got %q, want %q", tc.arn, got, tc.wrong)
			}
		}
	}
}

func FuzzCheckProfile(f *testing.F) {
	f.Add("arn:aws:signer:::/aliases/ecr")
	f.Add("arn:aws:signer:eu-central-1:123456789012:/signing-profiles/web/OF8IVUsPJq")
	f.Fuzz(func(t *testing.T, arn string) {
		if policy.CheckProfile(arn) == nil && (strings.ContainsAny(arn, "*\n ") || !strings.Contains(arn, ":signer:")) {
			t.Errorf("%q passed", arn)
		}
	})
}
