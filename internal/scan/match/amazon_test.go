package match_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/advisory"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan/match"
)

// TestStatesAndUpdatesOfAmazonLinux joins what Amazon Linux states of each weakness
// with the updates that it announces: of each weakness in each package one finding.
func TestStatesAndUpdatesOfAmazonLinux(t *testing.T) {
	const pending = "Pending Fix"
	of := func(ecosystem, repository string, status advisory.Status, note string) advisory.Advisory {
		a := advisory.Affected{Ecosystem: ecosystem, Package: "curl", Of: advisory.OfSource, Repository: repository, Status: status, Note: note}
		if status != advisory.NotAffected {
			a.Ranges = []advisory.Range{{}}
		}
		return advisory.Advisory{ID: "CVE-2025-0001", Affected: []advisory.Affected{a}}
	}
	update := func(ecosystem, repository, fixed string) advisory.Advisory {
		return advisory.Advisory{ID: "ALAS-1", Upstream: []string{"CVE-2025-0001", "CVE-2025-0002"}, Affected: []advisory.Affected{{
			Ecosystem: ecosystem, Package: "libcurl", Of: advisory.OfBinary, Repository: repository, Ranges: []advisory.Range{{Fixed: fixed}}}}}
	}
	libcurl := func(ecosystem, version string) inventory.Package {
		return inventory.Package{Type: "rpm", Name: "libcurl", Version: version, Arch: "x86_64", Ecosystem: ecosystem,
			Source: inventory.Source{Name: "curl", Version: version}}
	}
	const al1, al2, al2023 = "Amazon Linux:1", "Amazon Linux:2", "Amazon Linux:2023"
	for _, tc := range []struct {
		name       string
		states     []advisory.Advisory
		updates    []advisory.Advisory
		p          inventory.Package
		want       []string
		everything []string // with what is not affected
	}{
		{name: "no fix yet", states: []advisory.Advisory{of(al2023, "", advisory.IsAffected, pending)}, p: libcurl(al2023, "8.5-1"),
			want: []string{"libcurl CVE-2025-0001 unfixed by CVE-2025-0001 (Pending Fix)"}},
		{name: "none is planned", states: []advisory.Advisory{of(al1, "", advisory.WontFix, "No Fix Planned")}, p: libcurl(al1, "7.61-1"),
			want: []string{"libcurl CVE-2025-0001 will-not-fix by CVE-2025-0001 (No Fix Planned)"}},
		{name: "deferred", states: []advisory.Advisory{of(al2, "", advisory.Deferred, "Fix Deferred")}, p: libcurl(al2, "8.3-1"),
			want: []string{"libcurl CVE-2025-0001 deferred by CVE-2025-0001 (Fix Deferred)"}},
		{name: "investigated", states: []advisory.Advisory{of(al2, "", advisory.UnderInvestigation, "Under Investigation")}, p: libcurl(al2, "8.3-1"),
			want: []string{"libcurl CVE-2025-0001 under-investigation by CVE-2025-0001 (Under Investigation)"}},
		{name: "end of life", states: []advisory.Advisory{of(al1, "", advisory.EndOfLife, "End of Life")}, p: libcurl(al1, "7.61-1"),
			want: []string{"libcurl CVE-2025-0001 end-of-life by CVE-2025-0001 (End of Life)"}},
		{name: "not affected", states: []advisory.Advisory{of(al2, "", advisory.NotAffected, "Not Affected")}, p: libcurl(al2, "8.3-1"),
			everything: []string{"libcurl CVE-2025-0001 not-affected by CVE-2025-0001 (Not Affected)"}},
		{name: "of another release", states: []advisory.Advisory{of(al2023, "", advisory.IsAffected, pending)}, p: libcurl(al2, "8.3-1")},
		{name: "of an extra, while the core has it too",
			states: []advisory.Advisory{of(al2, "docker", advisory.IsAffected, pending)}, updates: []advisory.Advisory{update(al2, "", "8.3-2")}, p: libcurl(al2, "8.3-2")},
		{name: "said by both, and not yet updated",
			states: []advisory.Advisory{of(al2023, "", advisory.IsAffected, pending)}, updates: []advisory.Advisory{update(al2023, "", "8.5-2")}, p: libcurl(al2023, "8.5-1"),
			want: []string{"libcurl CVE-2025-0001 fixable fixed 8.5-2 by ALAS-1,CVE-2025-0001 (Pending Fix)", "libcurl CVE-2025-0002 fixable fixed 8.5-2 by ALAS-1"}},
		{name: "updated, and the state is from before",
			states: []advisory.Advisory{of(al2023, "", advisory.IsAffected, pending)}, updates: []advisory.Advisory{update(al2023, "", "8.5-2")}, p: libcurl(al2023, "8.5-2")},
		{name: "updated, but not for this",
			states:  []advisory.Advisory{of(al2023, "", advisory.IsAffected, pending)},
			updates: []advisory.Advisory{changed(update(al2023, "", "8.5-2"), func(a *advisory.Advisory) { a.Upstream = []string{"CVE-2025-0002"} })},
			p:       libcurl(al2023, "8.5-2"),
			want:    []string{"libcurl CVE-2025-0001 unfixed by CVE-2025-0001 (Pending Fix)"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			feeds := map[string][]advisory.Advisory{"amazon/cve": tc.states, "amazon/x": tc.updates}
			if d := cmp.Diff(tc.want, brief(matched(t, feeds, match.Options{}, tc.p).Vulnerabilities)); d != "" {
				t.Errorf("-want +got:\n%s", d)
			}
			if tc.everything == nil {
				return
			}
			if d := cmp.Diff(tc.everything, brief(matched(t, feeds, match.Options{All: true}, tc.p).Vulnerabilities)); d != "" {
				t.Errorf("with what is not affected: -want +got:\n%s", d)
			}
		})
	}
}
