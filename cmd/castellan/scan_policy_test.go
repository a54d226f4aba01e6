package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan"
)

// What breaks a gate, and in what words, by what is to fail.
func TestGate(t *testing.T) {
	file := inventory.Problem{Place: inventory.Place{Path: "/a.jar"}, What: "damaged"}
	lost := inventory.Problem{Place: inventory.Place{Layer: 1}, What: "layer 1 was not read", Lost: true}
	report := func(problems ...inventory.Problem) *scan.Report {
		return &scan.Report{
			Inventory: inventory.Inventory{Problems: problems},
			Vulnerabilities: []finding.Vulnerability{
				{ID: "CVE-1", Fingerprint: "low", Severity: finding.Low, Fixed: "1"},
				{ID: "CVE-2", Fingerprint: "high", Severity: finding.High},
				{ID: "CVE-3", Fingerprint: "accepted", Severity: finding.Critical, Accepted: &finding.Acceptance{Reason: "x"}},
			},
		}
	}
	for _, tc := range []struct {
		failOn     string
		report     *scan.Report
		rule       string
		violations []string
		problems   []string
	}{
		{"", report(file, lost), "", nil, nil},
		{"high", report(file), "nothing high or worse, or known to be exploited", []string{"high"}, nil},
		{"low", report(file, lost), "nothing low or worse, or known to be exploited", []string{"low", "high"}, []string{"layer 1 was not read"}},
		{"kev", report(lost), "nothing that is known to be exploited", []string{}, []string{"layer 1 was not read"}},
		{"critical, unreadable", report(file, lost), "nothing critical or worse, or known to be exploited; nothing that could not be read", []string{},
			[]string{"/a.jar: damaged", "layer 1 was not read"}},
		{"unreadable", report(file), "nothing that could not be read", []string{}, []string{"/a.jar: damaged"}},
		{"unreadable,high", report(), "nothing high or worse, or known to be exploited; nothing that could not be read", []string{"high"}, nil},
	} {
		t.Run(tc.failOn, func(t *testing.T) {
			p := scanPolicy{}
			if err := p.parseFailOn(tc.failOn); err != nil {
				t.Fatal(err)
			}
			got := p.gate(tc.report)
			if tc.rule == "" {
				if got != nil {
					t.Errorf("gate %+v, want none", got)
				}
				return
			}
			want := &scan.Gate{Rule: tc.rule, Violations: tc.violations, Problems: tc.problems}
			if diff := cmp.Diff(got, want); diff != "" {
				t.Errorf("got, want: %s", diff)
			}
			if got.Passed() != (len(tc.violations)+len(tc.problems) == 0) {
				t.Errorf("passed: %v", got.Passed())
			}
		})
	}
}

func TestFailOnErrors(t *testing.T) {
	for text, want := range map[string]string{"grave": "or unreadable", "high,low": "the lower severity", "kev,high": "kev and high", "high,": "severity"} {
		p := scanPolicy{}
		if err := p.parseFailOn(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}
