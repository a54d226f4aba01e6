package cvss_test

import (
	"strings"
	"testing"

	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/scan/cvss"
)

// The scores are those of FIRST's own examples where it says so. All vectors of
// the base groups, and a sample of the others, were compared once with another
// implementation; the only differences are halves (see score4).
func TestScore(t *testing.T) {
	for _, tc := range []struct {
		name, vector string
		base         float64
		severity     finding.Severity
	}{
		{"2.0, CVE-2002-0392 (guide, 3.3.1)", "AV:N/AC:L/Au:N/C:N/I:N/A:C", 7.8, finding.High},
		{"2.0, CVE-2003-0818 (guide, 3.3.2)", "(AV:N/AC:L/Au:N/C:C/I:C/A:C)", 10, finding.High},
		{"2.0, CVE-2003-0062 (guide, 3.3.3)", "AV:L/AC:H/Au:N/C:C/I:C/A:C/E:POC/RL:OF/RC:C", 6.2, finding.Medium},
		{"2.0, no impact", "AV:N/AC:L/Au:N/C:N/I:N/A:N", 0, finding.Low},
		{"3.0, CVE-2013-1937 (examples)", "CVSS:3.0/AV:N/AC:L/PR:N/UI:R/S:C/C:L/I:L/A:N", 6.1, finding.Medium},
		{"3.0, CVE-2013-0375 (examples)", "CVSS:3.0/AV:N/AC:L/PR:L/UI:N/S:C/C:L/I:L/A:N", 6.4, finding.Medium},
		{"3.1, POODLE (examples)", "CVSS:3.1/AV:N/AC:H/PR:N/UI:R/S:U/C:L/I:N/A:N", 3.1, finding.Low},
		{"3.1, CVE-2012-1516 (examples)", "CVSS:3.1/AV:N/AC:L/PR:L/UI:N/S:C/C:H/I:H/A:H", 9.9, finding.Critical},
		{"3.1, CVE-2009-0783 (examples)", "CVSS:3.1/AV:L/AC:L/PR:H/UI:N/S:U/C:L/I:L/A:L", 4.2, finding.Medium},
		{"3.1, CVE-2012-0384 (examples)", "CVSS:3.1/AV:N/AC:L/PR:L/UI:N/S:U/C:H/I:H/A:H", 8.8, finding.High},
		{"3.1, CVE-2008-1447 (examples)", "CVSS:3.1/AV:N/AC:H/PR:N/UI:N/S:C/C:N/I:H/A:N", 6.8, finding.Medium},
		{"3.1, Heartbleed (examples)", "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:N/A:N", 7.5, finding.High},
		{"3.1, Shellshock (examples)", "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H", 9.8, finding.Critical},
		{"3.1, CVE-2009-0927 (examples), metrics in another order", "CVSS:3.1/A:H/I:H/C:H/S:U/UI:R/PR:N/AC:L/AV:L", 7.8, finding.High},
		{"3.1, time does not count", "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H/E:U/RL:O/RC:U/MAV:P", 9.8, finding.Critical},
		{"3.1, no impact", "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:C/C:N/I:N/A:N", 0, finding.Negligible},
		{"4.0, CVE-2022-41741 (examples)", "CVSS:4.0/AV:L/AC:L/AT:P/PR:L/UI:N/VC:H/VI:H/VA:H/SC:N/SI:N/SA:N", 7.3, finding.High},
		{"4.0, CVE-2020-3549 (examples)", "CVSS:4.0/AV:N/AC:L/AT:P/PR:N/UI:P/VC:H/VI:H/VA:H/SC:N/SI:N/SA:N", 7.7, finding.High},
		{"4.0, CVE-2023-3089 (examples)", "CVSS:4.0/AV:N/AC:L/AT:P/PR:N/UI:N/VC:H/VI:L/VA:L/SC:N/SI:N/SA:N", 8.3, finding.High},
		{"4.0, CVE-2023-3089 where confidentiality matters", "CVSS:4.0/AV:N/AC:L/AT:P/PR:N/UI:N/VC:H/VI:L/VA:L/SC:N/SI:N/SA:N/CR:H/IR:L/AR:L/MAV:N/MAC:H/MVC:H/MVI:L/MVA:L", 8.1, finding.High},
		{"4.0, CVE-2021-44714 (examples)", "CVSS:4.0/AV:L/AC:L/AT:N/PR:N/UI:A/VC:L/VI:N/VA:N/SC:N/SI:N/SA:N", 4.6, finding.Medium},
		{"4.0, CVE-2022-21830 (examples)", "CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:A/VC:N/VI:N/VA:N/SC:L/SI:L/SA:N", 5.1, finding.Medium},
		{"4.0, CVE-2022-22186 (examples)", "CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:N/VI:L/VA:N/SC:L/SI:N/SA:N", 6.9, finding.Medium},
		{"4.0, CVE-2023-21989 (examples)", "CVSS:4.0/AV:L/AC:L/AT:N/PR:H/UI:N/VC:N/VI:N/VA:N/SC:H/SI:N/SA:N", 5.9, finding.Medium},
		{"4.0, Heartbleed, attacked (examples)", "CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:N/VA:N/SC:N/SI:N/SA:N/E:A", 8.7, finding.High},
		{"4.0, Log4Shell, attacked (examples)", "CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:H/VA:H/SC:H/SI:H/SA:H/E:A", 10, finding.Critical},
		{"4.0, safety", "CVSS:4.0/AV:A/AC:L/AT:N/PR:N/UI:N/VC:H/VI:N/VA:L/SC:H/SI:N/SA:H/MSI:S", 9.3, finding.Critical},
		{"4.0, no impact", "CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:N/VI:N/VA:N/SC:N/SI:N/SA:N", 0, finding.Negligible},
		{"4.0, half up in spite of floating point", "CVSS:4.0/AV:N/AC:L/AT:P/PR:L/UI:N/VC:H/VI:N/VA:L/SC:L/SI:N/SA:N/CR:H/IR:H/AR:L", 6, finding.Medium},
		{"4.0, unlikely to be attacked", "CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:H/VA:H/SC:N/SI:N/SA:N/E:U/S:P/AU:Y/R:I/V:C/RE:H/U:Red", 8.1, finding.High},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := cvss.Parse(tc.vector)
			if err != nil || got.Base != tc.base || got.Severity() != tc.severity || got.Version != tc.name[:3] {
				t.Errorf("Parse() = %+v (%v), %v, want %v (%v)", got, got.Severity(), err, tc.base, tc.severity)
			}
		})
	}
}

func TestWhatIsNoVector(t *testing.T) {
	for _, tc := range []struct{ name, vector, want string }{
		{"empty", "", "unknown metric"},
		{"a number", "7.5", "unknown metric"},
		{"another version", "CVSS:5.0/AV:N", "unknown version"},
		{"just the version", "CVSS:3.1", "unknown version"},
		{"a metric twice", "CVSS:3.1/AV:N/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H", "metric AV twice"},
		{"a metric missing", "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H", "metric A is missing"},
		{"base metric not defined", "CVSS:4.0/AV:X/AC:L/AT:N/PR:N/UI:N/VC:N/VI:N/VA:N/SC:N/SI:N/SA:N", "metric AV is missing"},
		{"value of another metric", "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:C", "unknown value"},
		{"value that only the modified metric has", "CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:N/VI:N/VA:N/SC:N/SI:S/SA:N", "unknown value"},
		{"our own placeholder", "CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:N/VI:N/VA:N/SC:-/SI:N/SA:N", "unknown value"},
		{"metric of another version", "CVSS:4.0/AV:N/AC:L/Au:N/PR:N/UI:N/VC:N/VI:N/VA:N/SC:N/SI:N/SA:N", "unknown metric"},
		{"too long", "CVSS:3.1/" + strings.Repeat("A", cvss.MaxLength), "at most 512"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if _, err := cvss.Parse(tc.vector); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("Parse() = %v, want an error with %q", err, tc.want)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add("AV:N/AC:L/Au:N/C:N/I:N/A:C")
	f.Add("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:C/C:H/I:H/A:H")
	f.Add("CVSS:4.0/AV:A/AC:L/AT:N/PR:N/UI:N/VC:H/VI:N/VA:L/SC:H/SI:N/SA:H/E:P/MSI:S")
	f.Fuzz(func(t *testing.T, vector string) {
		got, err := cvss.Parse(vector)
		if err == nil && (got.Base < 0 || got.Base > 10 || got.Version == "") {
			t.Errorf("Parse(%q) = %+v", vector, got)
		}
	})
}
