package sbom

import (
	"strings"

	"github.com/castellan-security/castellan/internal/inventory"
)

// systemOf returns the system that a package URL names by its qualifier distro,
// ID-VERSION as a rule, and by its namespace, which alone doesn't tell the
// release.
func systemOf(distro, namespace string) inventory.OS {
	os := inventory.OS{ID: namespace}
	i := strings.LastIndexByte(distro, '-')
	switch {
	case distro == "":
	case i > 0 && startsWithDigit(distro[i+1:]):
		os.ID, os.Version = distro[:i], distro[i+1:]
	case startsWithDigit(distro): // Trivy's, for apk
		os.Version = distro
	case i > 0:
		os.ID, os.Codename = distro[:i], distro[i+1:]
	case namespace != "" && distro != namespace:
		os.Codename = distro
	default:
		os.ID = distro
	}
	return cleanSystem(os)
}

// builtFor returns the system that an rpm was built for, by the tag that
// distributions put at the end of its release: 1.0-1.el9_2, 1.0-1.fc40,
// 1.0-1.amzn2023. It is "" where there is none, or no namespace.
func builtFor(namespace, version string) string {
	if namespace == "" {
		return ""
	}
	for _, tag := range [...]string{".el", ".fc", ".amzn"} {
		i := strings.LastIndex(version, tag)
		if i < 0 {
			continue
		}
		rest := version[i+len(tag):]
		if n := len(rest) - len(strings.TrimLeft(rest, "0123456789")); n > 0 {
			return namespace + "-" + rest[:n]
		}
	}
	return ""
}

func startsWithDigit(s string) bool { return s != "" && s[0] >= '0' && s[0] <= '9' }

// families are the names that Trivy and package URLs have for systems, with
// those that the systems have for themselves.
var families = map[string]string{
	"redhat": "rhel", "amazon": "amzn", "alma": "almalinux", "oracle": "ol", "rockylinux": "rocky",
	"suse linux enterprise server": "sles", "suse": "sles", "opensuse.leap": "opensuse-leap", "opensuse.tumbleweed": "opensuse-tumbleweed",
	"cbl-mariner": "mariner",
}

// releases are the code names that stand for a release in package URLs.
var releases = map[string]string{
	"debian jessie": "8", "debian stretch": "9", "debian buster": "10", "debian bullseye": "11", "debian bookworm": "12", "debian trixie": "13",
	"ubuntu xenial": "16.04", "ubuntu bionic": "18.04", "ubuntu focal": "20.04", "ubuntu jammy": "22.04", "ubuntu noble": "24.04",
}

// cleanSystem gives a system the names that its os-release file has.
func cleanSystem(os inventory.OS) inventory.OS {
	os.ID = strings.ToLower(os.ID)
	if id := families[os.ID]; id != "" {
		os.ID = id
	}
	os.Version, _, _ = strings.Cut(os.Version, " ") // 2 (Karoo)
	if os.Version == "" {
		os.Version = releases[os.ID+" "+os.Codename]
	}
	if os.Name == "" || !strings.Contains(os.Name, " ") {
		os.Name = prettyName(os)
	}
	return os
}

// prettyName is the name of a system for people where a document has none; for
// SUSE's it is the one by which its advisories go.
func prettyName(os inventory.OS) string {
	switch {
	case os.ID == "opensuse-tumbleweed":
		return "openSUSE Tumbleweed"
	case os.ID == "opensuse-leap" && os.Version != "":
		return "openSUSE Leap " + os.Version
	case os.ID == "sles" && os.Version != "":
		major, service, ok := strings.Cut(os.Version, ".")
		if ok {
			return "SUSE Linux Enterprise Server " + major + " SP" + service
		}
		return "SUSE Linux Enterprise Server " + major
	}
	if os.Name != "" {
		return os.Name
	}
	return strings.TrimSpace(os.ID + " " + os.Version)
}
