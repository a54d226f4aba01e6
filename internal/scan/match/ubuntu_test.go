package match_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/advisory"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan/match"
)

// TestStatesOfUbuntu joins Canonical's two feeds: OSV has the versions that fix, VEX
// has what OSV has no words for. What subscribers get is apart.
func TestStatesOfUbuntu(t *testing.T) {
	const free, pro = "Ubuntu:22.04:LTS", "Ubuntu:Pro:22.04:LTS"
	about := func(ecosystem, fixed string, status advisory.Status, note string) advisory.Affected {
		a := advisory.Affected{Ecosystem: ecosystem, Package: "zabbix", Of: advisory.OfSource, Status: status, Note: note}
		if status != advisory.NotAffected {
			a.Ranges = []advisory.Range{{Fixed: fixed}}
		}
		return a
	}
	osv := func(all ...advisory.Affected) []advisory.Advisory {
		return []advisory.Advisory{{ID: "UBUNTU-CVE-2024-1000", Upstream: []string{"CVE-2024-1000"}, Affected: all}}
	}
	vex := func(all ...advisory.Affected) []advisory.Advisory {
		return []advisory.Advisory{{ID: "CVE-2024-1000", Affected: all}}
	}
	const open = ""
	for _, tc := range []struct {
		name     string
		osv, vex []advisory.Advisory
		version  string
		want     []string
	}{
		{"needed", osv(about(free, open, advisory.IsAffected, "")), vex(about(free, open, advisory.IsAffected, "")), "5.0-1",
			[]string{"zabbix-agent CVE-2024-1000 unfixed by CVE-2024-1000,UBUNTU-CVE-2024-1000"}},
		{"ignored", osv(about(free, open, advisory.IsAffected, "")), vex(about(free, open, advisory.WontFix, "too intrusive")), "5.0-1",
			[]string{"zabbix-agent CVE-2024-1000 will-not-fix by CVE-2024-1000,UBUNTU-CVE-2024-1000 (too intrusive)"}},
		{"deferred", osv(about(free, open, advisory.IsAffected, "")), vex(about(free, open, advisory.Deferred, "2025-05-01")), "5.0-1",
			[]string{"zabbix-agent CVE-2024-1000 deferred by CVE-2024-1000,UBUNTU-CVE-2024-1000 (2025-05-01)"}},
		{"not affected, which OSV writes as a fix", osv(about(free, "5.0-9", advisory.IsAffected, "")), vex(about(free, "", advisory.NotAffected, "code not present")), "5.0-1", nil},
		{"fixed for subscribers only, who have not updated",
			osv(about(pro, "5.0-1+esm2", advisory.IsAffected, "")), vex(about(free, open, advisory.WontFix, "")), "5.0-1+esm1",
			[]string{"zabbix-agent CVE-2024-1000 fixable fixed 5.0-1+esm2 by UBUNTU-CVE-2024-1000"}},
		{"fixed for subscribers only, who have",
			osv(about(pro, "5.0-1+esm2", advisory.IsAffected, "")), vex(about(free, open, advisory.WontFix, "")), "5.0-1+esm2", nil},
		{"fixed for subscribers only, and this is none",
			osv(about(pro, "5.0-1+esm2", advisory.IsAffected, "")), vex(about(free, open, advisory.WontFix, "")), "5.0-1",
			[]string{"zabbix-agent CVE-2024-1000 will-not-fix by CVE-2024-1000"}},
		{"not affected says nothing about subscribers' packages",
			osv(about(pro, "5.0-1+esm2", advisory.IsAffected, "")), vex(about(free, "", advisory.NotAffected, "")), "5.0-1+esm1",
			[]string{"zabbix-agent CVE-2024-1000 fixable fixed 5.0-1+esm2 by UBUNTU-CVE-2024-1000"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := inventory.Package{Type: "deb", Namespace: "ubuntu", Name: "zabbix-agent", Version: tc.version, Ecosystem: free,
				Source: inventory.Source{Name: "zabbix", Version: tc.version}}
			got := matched(t, map[string][]advisory.Advisory{"osv/Ubuntu": tc.osv, "ubuntu/vex": tc.vex}, match.Options{}, p)
			if d := cmp.Diff(tc.want, brief(got.Vulnerabilities)); d != "" {
				t.Errorf("-want +got:\n%s", d)
			}
		})
	}
}
