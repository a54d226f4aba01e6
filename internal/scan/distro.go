package scan

import (
	"slices"
	"strconv"
	"strings"

	"github.com/castellan-security/castellan/internal/inventory"
)

// Ecosystem returns where advisories for an operating system's packages are
// looked up, in the words of the OSV schema (1.7, "Defined ecosystems"):
//
//	Debian:12             the major release; testing and unstable have none
//	                      and go by the number that their code name will have
//	Ubuntu:22.04:LTS      Ubuntu:24.10; every April of an even year is LTS
//	Alpine:v3.20          Alpine:edge for what leads to the next release
//	AlmaLinux:9  Rocky Linux:9  Mageia:9  Azure Linux:3  Photon OS:5.0
//	openEuler:22.03       SUSE and openSUSE are followed by what PRETTY_NAME
//	                      says behind their name: openSUSE:Leap 15.6,
//	                      SUSE:Linux Enterprise Server 15 SP5
//	Wolfi  Chainguard  MinimOS  without a release
//
// and, where the schema has none or one that an image does not tell, in ours,
// which the feeds share:
//
//	Red Hat:9             OSV has a CPE of a product stream there; CentOS up to 8
//	                      is built from the same sources and takes it too
//	Amazon Linux:2023     Amazon Linux:2, and Amazon Linux:1 for 2018.03
//	Oracle Linux:9  Fedora:40  CentOS Stream:9
//
// It is "" for systems that nobody publishes for.
func Ecosystem(os inventory.OS) string {
	major, _, _ := strings.Cut(os.Version, ".")
	switch os.ID {
	case "debian", "raspbian":
		return with("Debian", firstOf(major, debianRelease(os.Codename)))
	case "ubuntu":
		return ubuntu(os.Version)
	case "alpine":
		return alpine(os.Version)
	case "wolfi":
		return "Wolfi"
	case "chainguard":
		return "Chainguard"
	case "minimos":
		return "MinimOS"
	case "amzn":
		return amazon(os.Version)
	case "rhel", "redhat":
		return with("Red Hat", major)
	case "centos":
		if strings.Contains(os.Name, "Stream") {
			return with("CentOS Stream", major)
		}
		return with("Red Hat", major)
	case "almalinux", "rocky", "ol", "fedora", "mageia", "azurelinux", "mariner":
		names := map[string]string{"almalinux": "AlmaLinux", "rocky": "Rocky Linux", "ol": "Oracle Linux", "fedora": "Fedora",
			"mageia": "Mageia", "azurelinux": "Azure Linux", "mariner": "Azure Linux"}
		return with(names[os.ID], major)
	case "photon":
		return with("Photon OS", os.Version)
	case "openEuler", "openeuler":
		return with("openEuler", os.Version)
	}
	return suse(os)
}

func with(name, release string) string {
	if release == "" {
		return name
	}
	return name + ":" + release
}

func firstOf(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// debianRelease returns the number of a release of Debian by its code name, or
// the name if it is none that is known.
func debianRelease(codename string) string {
	names := [...]string{"jessie", "stretch", "buster", "bullseye", "bookworm", "trixie", "forky", "duke"}
	if i := slices.Index(names[:], codename); i >= 0 {
		return strconv.Itoa(8 + i)
	}
	return codename
}

func ubuntu(version string) string {
	year, month, _ := strings.Cut(version, ".")
	n, err := strconv.Atoi(year)
	if err == nil && n%2 == 0 && (month == "04" || strings.HasPrefix(month, "04.")) {
		return "Ubuntu:" + year + ".04:LTS"
	}
	return with("Ubuntu", version)
}

// alpine takes 3.20.3 for the branch v3.20, and 3.21_alpha20240807 for edge.
func alpine(version string) string {
	if strings.ContainsAny(version, "_") || version == "edge" {
		return "Alpine:edge"
	}
	parts := strings.SplitN(version, ".", 3)
	if len(parts) < 2 {
		return "Alpine"
	}
	return "Alpine:v" + parts[0] + "." + parts[1]
}

func amazon(version string) string {
	year, month, _ := strings.Cut(version, ".")
	if month != "" && len(year) == len("2018") && year < "2022" {
		return "Amazon Linux:1"
	}
	return with("Amazon Linux", year)
}

// suse goes by what the pretty name says, as SUSE's advisories do.
func suse(os inventory.OS) string {
	isSUSE := strings.HasPrefix(os.ID, "opensuse") || strings.HasPrefix(os.ID, "sle") || os.ID == "suse"
	for _, name := range [...]string{"openSUSE", "SUSE"} {
		if rest, ok := strings.CutPrefix(os.Name, name+" "); ok && isSUSE {
			return name + ":" + rest
		}
	}
	return ""
}

// namespaceOf is the package URL's namespace of a system's packages.
func namespaceOf(os inventory.OS) string {
	switch {
	case os.ID == "rhel":
		return "redhat"
	case strings.HasPrefix(os.ID, "opensuse"):
		return "opensuse"
	case strings.HasPrefix(os.ID, "sle"):
		return "suse"
	}
	return os.ID
}
