package scan

import (
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan/report"
)

// supportKnown is when the dates below were last looked at.
const supportKnown = "2026-11-28"

// supportEnds are the days on which releases of distributions got, or will get, the
// last fixes that everybody gets. A release that is not here has none that we know
// of. Where they are from:
//
//   - Debian including its LTS, and Ubuntu without what only subscribers get: eol-lts
//     and eol of distro-info-data 0.58+deb12u7 (debian.csv, ubuntu.csv)
//   - Alpine, Fedora, CentOS, RHEL and Oracle Linux: endoflife.date's
//     products/*.md, which follow the publishers' own tables. Oracle tells months:
//     the last day of each is taken
//   - Amazon Linux: aws.amazon.com/amazon-linux-2/faqs and that of 2023; AlmaLinux and
//     Rocky Linux: their wikis
var supportEnds = map[string]string{
	"debian 6": "2016-02-29", "debian 7": "2018-05-31", "debian 8": "2020-06-30", "debian 9": "2022-06-30", "debian 10": "2024-06-30",
	"debian 11": "2026-08-31", "debian 12": "2028-06-30", "debian 13": "2030-06-30",

	"ubuntu 14.04": "2019-04-25", "ubuntu 16.04": "2021-04-30", "ubuntu 18.04": "2023-05-31", "ubuntu 20.04": "2025-05-29",
	"ubuntu 22.04": "2027-06-01", "ubuntu 24.04": "2029-05-31", "ubuntu 26.04": "2031-05-29",
	"ubuntu 16.10": "2017-07-20", "ubuntu 17.04": "2018-01-13", "ubuntu 17.10": "2018-07-19", "ubuntu 18.10": "2019-07-18",
	"ubuntu 19.04": "2020-01-23", "ubuntu 19.10": "2020-07-17", "ubuntu 20.10": "2021-07-22", "ubuntu 21.04": "2022-01-20",
	"ubuntu 21.10": "2022-07-14", "ubuntu 22.10": "2023-07-20", "ubuntu 23.04": "2024-01-25", "ubuntu 23.10": "2024-07-11",
	"ubuntu 24.10": "2025-07-10", "ubuntu 25.04": "2026-01-15", "ubuntu 25.10": "2026-07-09",

	"alpine 3.0": "2016-05-01", "alpine 3.1": "2016-11-01", "alpine 3.2": "2017-05-01", "alpine 3.3": "2017-11-01", "alpine 3.4": "2018-05-01",
	"alpine 3.5": "2018-11-01", "alpine 3.6": "2019-05-01", "alpine 3.7": "2019-11-01", "alpine 3.8": "2020-05-01",
	"alpine 3.9": "2020-11-01", "alpine 3.10": "2021-05-01", "alpine 3.11": "2021-11-01", "alpine 3.12": "2022-05-01",
	"alpine 3.13": "2022-11-01", "alpine 3.14": "2023-05-01", "alpine 3.15": "2023-11-01", "alpine 3.16": "2024-05-23",
	"alpine 3.17": "2024-11-22", "alpine 3.18": "2025-05-09", "alpine 3.19": "2025-11-01", "alpine 3.20": "2026-04-01",
	"alpine 3.21": "2026-11-01", "alpine 3.22": "2027-05-01", "alpine 3.23": "2027-11-01",

	"amzn 1": "2023-12-31", "amzn 2": "2026-06-30", "amzn 2023": "2029-06-30",

	"centos 6": "2020-11-30", "centos 7": "2024-06-30", "centos 8": "2021-12-31",
	"centos-stream 8": "2024-05-31", "centos-stream 9": "2027-05-31", "centos-stream 10": "2030-01-01",
	"rhel 5": "2017-03-31", "rhel 6": "2020-11-30", "rhel 7": "2024-06-30", "rhel 8": "2029-05-31", "rhel 9": "2032-05-31",
	"almalinux 8": "2029-05-31", "almalinux 9": "2032-05-31", "almalinux 10": "2035-05-31", "rocky 8": "2029-05-31", "rocky 9": "2032-05-31",
	"ol 6": "2021-03-31", "ol 7": "2024-12-31", "ol 8": "2029-07-31", "ol 9": "2032-06-30",

	"fedora 30": "2020-05-26", "fedora 31": "2020-11-24", "fedora 32": "2021-05-25", "fedora 33": "2021-11-30", "fedora 34": "2022-06-07",
	"fedora 35": "2022-12-13", "fedora 36": "2023-05-16", "fedora 37": "2023-12-05", "fedora 38": "2024-05-21", "fedora 39": "2024-11-26",
	"fedora 40": "2025-05-13", "fedora 41": "2025-12-15", "fedora 42": "2026-05-13", "fedora 43": "2026-12-09",
}

// release is how the table names a system.
func releaseOf(os inventory.OS) string {
	parts := strings.SplitN(os.Version, ".", 3)
	switch os.ID {
	case "ubuntu", "alpine":
		return os.ID + " " + strings.Join(parts[:min(len(parts), 2)], ".")
	case "amzn":
		if Ecosystem(os) == "Amazon Linux:1" {
			return "amzn 1"
		}
	case "centos":
		if strings.Contains(os.Name, "Stream") { // has the same numbers and other dates
			return "centos-stream " + parts[0]
		}
	}
	return os.ID + " " + parts[0]
}

// Unmaintained says since when a system's release gets no fixes any more; nil if it
// does at that time, or if that is not known.
func Unmaintained(os inventory.OS, at time.Time) *report.Unmaintained {
	last, err := time.Parse(time.DateOnly, supportEnds[releaseOf(os)])
	if err != nil || !at.After(last.AddDate(0, 0, 1)) {
		return nil
	}
	name := os.Name
	if name == "" {
		name = releaseOf(os)
	}
	return &report.Unmaintained{System: name, Since: last, Known: supportKnown, Subscribers: os.ID == "ubuntu" || os.ID == "rhel" || os.ID == "ol"}
}
