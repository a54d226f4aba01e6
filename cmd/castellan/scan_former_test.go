package main

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan"
)

// What a report in JSON tells when it is read is what it told when it was made.
func TestReadFormer(t *testing.T) {
	until := time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)
	reports := []scan.Report{{
		SaltID: "salt",
		Vulnerabilities: []finding.Vulnerability{
			{ID: "CVE-2026-1", Severity: finding.High, Fingerprint: "1", Package: inventory.Package{Type: "maven", Namespace: "org.a", Name: "b", Places: []inventory.Place{{Path: "/a.jar"}}}},
			{ID: "CVE-2026-3", Severity: finding.Low, Fingerprint: "5", Accepted: &finding.Acceptance{Reason: "for a time", Expires: until}, Package: inventory.Package{Type: "deb", Name: "d"}},
			{ID: "CVE-2026-2", Severity: finding.Low, Fingerprint: "2", Accepted: &finding.Acceptance{Reason: "r"}, Package: inventory.Package{Type: "deb", Namespace: "debian", Name: "c"}},
		},
		Misconfigurations: []finding.Misconfiguration{{Check: "CAST-TASK-001", Severity: finding.High, Fingerprint: "3"}},
		Secrets:           []finding.Secret{{Secret: inventory.Secret{Rule: "password"}, Severity: finding.Medium, Fingerprint: "4"}},
	}, {Secrets: []finding.Secret{}}}
	b, err := json.Marshal(map[string]any{"tool": "castellan", "reports": reports})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "report.json")
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := readFormer("--baseline", file)
	if err != nil {
		t.Fatal(err)
	}
	want := formerOf(reports)
	want.fingerprints = map[string]time.Time{"1": {}, "2": {}, "3": {}, "4": {}, "5": until}
	want.salt = "salt"
	if d := cmp.Diff(got, want, cmp.AllowUnexported(former{}, past{})); d != "" {
		t.Errorf("differs (-got +want):\n%s", d)
	}
	for text, want := range map[string]string{"fail_on: high\n": "no report in JSON", `{"a": 1}`: "no report in JSON", `{"reports": [{"secrets": [{"severity": "worst"}]}]}`: "worst", `{"reports": [`: "too early"} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := readFormer("--baseline", file); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
	if _, err := readFormer("--new-since", file+".gone"); err == nil || !strings.Contains(err.Error(), "--new-since") {
		t.Errorf("a file that is not there: %v", err)
	}
}

// What was accepted for a time is so in a baseline for that time, and what a report
// with that baseline says of it has the same end.
func TestBaselineEndsWithItsAcceptances(t *testing.T) {
	end := time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)
	accepted := &finding.Acceptance{Reason: "until December", Expires: end}
	made := func() scan.Report {
		return scan.Report{
			Vulnerabilities:   []finding.Vulnerability{{ID: "CVE-1", Fingerprint: "vulnerability"}},
			Misconfigurations: []finding.Misconfiguration{{Check: "CAST-1", Fingerprint: "fault"}},
			Inventory: inventory.Inventory{
				Secrets: []inventory.Secret{{Rule: "password", Print: "secret"}},
				Malware: []inventory.Malware{{Rule: "bad", By: inventory.ByRule}},
			},
		}
	}
	judge := func(t *testing.T, b *baseline, now time.Time) scan.Report {
		t.Helper()
		r := made()
		b.accept(r.Vulnerabilities)
		b.acceptFaults(r.Misconfigurations)
		var known map[string]bool
		if b != nil {
			known = b.known
		}
		r.Secrets, _ = scan.JudgeSecrets(&r.Inventory, b.rules(), known, now)
		r.Malware, _ = scan.JudgeMalware(&r.Inventory, b.rules(), known, now)
		return r
	}
	counts := func(r scan.Report) (n int) {
		for _, counted := range []bool{r.Vulnerabilities[0].Accepted == nil, r.Misconfigurations[0].Accepted == nil, r.Secrets[0].Counts(), r.Malware[0].Counts()} {
			if counted {
				n++
			}
		}
		return n
	}
	read := func(t *testing.T, r scan.Report, now time.Time) *baseline {
		t.Helper()
		b, err := json.Marshal(map[string]any{"reports": []scan.Report{r}})
		file := filepath.Join(t.TempDir(), "report.json")
		if err := errors.Join(err, os.WriteFile(file, b, 0o600)); err != nil {
			t.Fatal(err)
		}
		base, err := readBaseline(file, now)
		if err != nil {
			t.Fatal(err)
		}
		return base
	}
	before, after := end.Add(-time.Hour), end
	first := judge(t, nil, before)
	for name, now := range map[string]struct {
		accepted *finding.Acceptance
		at       time.Time
		want     int
	}{
		"open then, and so known for good":     {nil, after, 0},
		"accepted for good":                    {&finding.Acceptance{Reason: "so be it"}, after, 0},
		"accepted for a time that is not over": {accepted, before, 0},
		"accepted for a time that is over":     {accepted, after, 4},
	} {
		t.Run(name, func(t *testing.T) {
			r := first
			r.Vulnerabilities, r.Misconfigurations, r.Secrets, r.Malware = slices.Clone(r.Vulnerabilities), slices.Clone(r.Misconfigurations), slices.Clone(r.Secrets), slices.Clone(r.Malware)
			r.Vulnerabilities[0].Accepted, r.Misconfigurations[0].Accepted, r.Secrets[0].Accepted, r.Malware[0].Accepted = now.accepted, now.accepted, now.accepted, now.accepted
			if got := counts(judge(t, read(t, r, now.at), now.at)); got != now.want {
				t.Errorf("%d findings count, want %d", got, now.want)
			}
			// The baseline of a baseline.
			second := judge(t, read(t, r, before), before)
			if got := counts(judge(t, read(t, second, now.at), now.at)); got != now.want {
				t.Errorf("by way of a second report %d findings count, want %d", got, now.want)
			}
		})
	}
}
