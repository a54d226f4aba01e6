package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan"
)

// Something is news if it was not there, has become graver, or was accepted then
// and is not any more.
func TestOnlyNews(t *testing.T) {
	accepted := &finding.Acceptance{Reason: "a lab"}
	for _, tc := range []struct {
		name        string
		before, now finding.Severity
		then, still *finding.Acceptance
		news        bool
	}{
		{"the same", finding.Medium, finding.Medium, nil, nil, false},
		{"graver", finding.Medium, finding.Critical, nil, nil, true},
		{"less grave", finding.High, finding.Low, nil, nil, false},
		{"no longer accepted", finding.High, finding.High, accepted, nil, true},
		{"still accepted", finding.High, finding.High, accepted, accepted, false},
		{"accepted since", finding.High, finding.High, nil, accepted, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			report := func(s finding.Severity, a *finding.Acceptance) scan.Report {
				return scan.Report{
					Vulnerabilities:   []finding.Vulnerability{{ID: "CVE-2026-1", Severity: s, Accepted: a, Package: inventory.Package{Type: "deb", Name: "a"}}},
					Misconfigurations: []finding.Misconfiguration{{Fingerprint: "1", Severity: s, Accepted: a}},
					Secrets:           []finding.Secret{{Fingerprint: "2", Severity: s, Accepted: a}},
				}
			}
			r := report(tc.now, tc.still)
			formerOf([]scan.Report{report(tc.before, tc.then)}).leaveOut(&r, "base")
			want := []int{0, 0, 0, 3}
			if tc.news {
				want = []int{1, 1, 1, 0}
			}
			if diff := cmp.Diff([]int{len(r.Vulnerabilities), len(r.Misconfigurations), len(r.Secrets), r.Since.Known}, want); diff != "" {
				t.Errorf("got, want: %s", diff)
			}
		})
	}
}
