package finding_test

import (
	"encoding/json"
	"testing"

	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/inventory"
)

func TestSeverityInWords(t *testing.T) {
	for _, name := range []string{"unknown", "negligible", "low", "medium", "high", "critical"} {
		t.Run(name, func(t *testing.T) {
			s, err := finding.ParseSeverity(name)
			if err != nil || s.String() != name {
				t.Errorf("ParseSeverity(%q) = %v, %v", name, s, err)
			}
			b, err := json.Marshal(s)
			if err != nil || string(b) != `"`+name+`"` {
				t.Errorf("Marshal(%v) = %s, %v", s, b, err)
			}
		})
	}
	if _, err := finding.ParseSeverity("grave"); err == nil {
		t.Error(`ParseSeverity("grave") = nil error, want one`)
	}
}

func TestPrint(t *testing.T) {
	vulnerability := func(change func(*finding.Vulnerability)) string {
		v := finding.Vulnerability{ID: "CVE-2023-1", Severity: finding.High, Package: inventory.Package{
			Type: "deb", Name: "openssl", Version: "1", Places: []inventory.Place{{Path: "/var/lib/dpkg/status", Layer: 1}}}}
		change(&v)
		v.Print()
		return v.Fingerprint
	}
	first := vulnerability(func(*finding.Vulnerability) {})
	for _, tc := range []struct {
		name   string
		change func(*finding.Vulnerability)
		same   bool
	}{
		{"another severity", func(v *finding.Vulnerability) { v.Severity = finding.Low }, true},
		{"another layer", func(v *finding.Vulnerability) { v.Package.Places[0].Layer = 2 }, true},
		{"another version", func(v *finding.Vulnerability) { v.Package.Version = "2" }, false},
		{"another place", func(v *finding.Vulnerability) { v.Package.Places[0].Path = "/else" }, false},
		{"another weakness", func(v *finding.Vulnerability) { v.ID = "CVE-2023-2" }, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := vulnerability(tc.change); (got == first) != tc.same {
				t.Errorf("fingerprint %s, first %s, want the same: %v", got, first, tc.same)
			}
		})
	}
}
