package match_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/advisory"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan/match"
)

// TestHeaders: what is known of a kernel's source is not said of its headers, and
// the report tells so.
func TestHeaders(t *testing.T) {
	feeds := map[string][]advisory.Advisory{"osv": {{ID: "CVE-1-1", Affected: []advisory.Affected{source("linux", "7"), source("linux-headers", "7")}}}}
	for _, tc := range []struct {
		name     string
		p        inventory.Package
		findings int
	}{
		{"headers for programs", deb("linux-libc-dev", "6.1.90-1", "linux", "6.1.90-1"), 0},
		{"headers for modules", deb("linux-headers-6.1.0-21-common", "6.1.90-1", "linux", "6.1.90-1"), 0},
		{"the kernel", deb("linux-image-6.1.0-21-amd64", "6.1.90-1", "linux", "6.1.90-1"), 1},
		{"a tool of its source", deb("linux-perf", "6.1.90-1", "linux", "6.1.90-1"), 1},
		{"of no distribution", pypi("linux-headers", "1"), 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := matched(t, feeds, match.Options{}, tc.p)
			if len(r.Vulnerabilities) != tc.findings {
				t.Errorf("findings %q, want %d", brief(r.Vulnerabilities), tc.findings)
			}
			var gaps []match.Gap
			if tc.findings == 0 && tc.p.Type == "deb" {
				gaps = []match.Gap{{Why: match.Headers, Ecosystem: tc.p.Ecosystem, Packages: 1, Examples: []string{tc.p.Name + " " + tc.p.Version}}}
			}
			if tc.p.Type == "deb" {
				if diff := cmp.Diff(gaps, r.Gaps); diff != "" {
					t.Errorf("gaps (-want +got):\n%s", diff)
				}
			}
		})
	}
}
