package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan"
)

// What a report in JSON tells when it is read is what it told when it was made.
func TestReadFormer(t *testing.T) {
	reports := []scan.Report{{
		SaltID: "salt",
		Vulnerabilities: []finding.Vulnerability{
			{ID: "CVE-2026-1", Severity: finding.High, Fingerprint: "1", Package: inventory.Package{Type: "maven", Namespace: "org.a", Name: "b", Places: []inventory.Place{{Path: "/a.jar"}}}},
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
	want.fingerprints = map[string]bool{"1": true, "2": true, "3": true, "4": true}
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
