package scan_test

import (
	"testing"

	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan"
)

func TestEcosystem(t *testing.T) {
	for _, tc := range []struct {
		os   inventory.OS
		want string
	}{
		{inventory.OS{ID: "debian", Version: "12", Codename: "bookworm"}, "Debian:12"},
		{inventory.OS{ID: "debian", Version: "9.13"}, "Debian:9"},
		{inventory.OS{ID: "debian", Codename: "forky", Name: "Debian GNU/Linux forky/sid"}, "Debian:14"},
		{inventory.OS{ID: "debian"}, "Debian"},
		{inventory.OS{ID: "ubuntu", Version: "22.04"}, "Ubuntu:22.04:LTS"},
		{inventory.OS{ID: "ubuntu", Version: "24.10"}, "Ubuntu:24.10"},
		{inventory.OS{ID: "ubuntu", Version: "23.04"}, "Ubuntu:23.04"},
		{inventory.OS{ID: "alpine", Version: "3.20.3"}, "Alpine:v3.20"},
		{inventory.OS{ID: "alpine", Version: "3.21.0_alpha20240807"}, "Alpine:edge"},
		{inventory.OS{ID: "alpine"}, "Alpine"},
		{inventory.OS{ID: "amzn", Version: "2023"}, "Amazon Linux:2023"},
		{inventory.OS{ID: "amzn", Version: "2"}, "Amazon Linux:2"},
		{inventory.OS{ID: "amzn", Version: "2018.03"}, "Amazon Linux:1"},
		{inventory.OS{ID: "almalinux", Version: "9.4"}, "AlmaLinux:9"},
		{inventory.OS{ID: "rocky", Version: "8.10"}, "Rocky Linux:8"},
		{inventory.OS{ID: "rhel", Version: "9.3"}, "Red Hat:9"},
		{inventory.OS{ID: "centos", Version: "7", Name: "CentOS Linux 7 (Core)"}, "Red Hat:7"},
		{inventory.OS{ID: "centos", Version: "9", Name: "CentOS Stream 9"}, "CentOS Stream:9"},
		{inventory.OS{ID: "ol", Version: "9.4"}, "Oracle Linux:9"},
		{inventory.OS{ID: "fedora", Version: "40"}, "Fedora:40"},
		{inventory.OS{ID: "azurelinux", Version: "3.0"}, "Azure Linux:3"},
		{inventory.OS{ID: "photon", Version: "5.0"}, "Photon OS:5.0"},
		{inventory.OS{ID: "wolfi", Version: "20230201"}, "Wolfi"},
		{inventory.OS{ID: "chainguard", Version: "20230214"}, "Chainguard"},
		{inventory.OS{ID: "opensuse-leap", Version: "15.6", Name: "openSUSE Leap 15.6"}, "openSUSE:Leap 15.6"},
		{inventory.OS{ID: "opensuse-tumbleweed", Name: "openSUSE Tumbleweed"}, "openSUSE:Tumbleweed"},
		{inventory.OS{ID: "sles", Version: "15.5", Name: "SUSE Linux Enterprise Server 15 SP5"}, "SUSE:Linux Enterprise Server 15 SP5"},
		{inventory.OS{ID: "arch"}, ""},
		{inventory.OS{}, ""},
	} {
		t.Run(tc.os.ID+" "+tc.os.Version, func(t *testing.T) {
			if got := scan.Ecosystem(tc.os); got != tc.want {
				t.Errorf("Ecosystem() = %q, want %q", got, tc.want)
			}
		})
	}
}
