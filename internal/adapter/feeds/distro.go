package feeds

import (
	"strings"

	"github.com/castellan-security/castellan/internal/advisory"
)

// namesOf says what the names of packages mean in OSV documents of distributions.
// The schema says "source package" of most; where their data says otherwise, that
// counts: AlmaLinux lists every binary package, and Chainguard and Wolfi list
// sub-packages one by one. What is not listed here is no distribution.
func namesOf(ecosystem string) (of advisory.Of, distribution bool) {
	base, _, _ := strings.Cut(ecosystem, ":")
	switch base {
	case "Debian", "Ubuntu", "Alpine", "Rocky Linux", "SUSE", "openSUSE", "Mageia", "openEuler",
		"Alpaquita", "BellSoft Hardened Containers", "Echo":
		return advisory.OfSource, true
	case "AlmaLinux", "Red Hat", "Photon OS", "Azure Linux", "Chainguard", "Wolfi", "MinimOS", "CleanStart",
		"Docker Hardened Images", "Amazon Linux":
		return advisory.OfBinary, true
	}
	return advisory.OfPackage, false
}

// redHatStreams are products of Red Hat that are releases of its Enterprise Linux
// with another life span. Their fixes are others than those of the release.
const redHatStreams = "rhel_eus rhel_aus rhel_tus rhel_e4s rhel_els rhel_eus_long_life"

// redHat turns the part of a Red Hat CPE that follows its vendor into an
// ecosystem: "enterprise_linux:9::appstream" is "Red Hat:9", and
// "rhel_eus:9.2::baseos" is "Red Hat:rhel_eus:9.2". Other products keep their
// CPE, and enterprise is false for them: their packages are in no release.
func redHat(cpe string) (ecosystem string, enterprise bool) {
	product, rest, _ := strings.Cut(cpe, ":")
	version, _, _ := strings.Cut(rest, ":")
	switch {
	case product == "enterprise_linux" && version != "":
		major, _, _ := strings.Cut(version, ".")
		return "Red Hat:" + major, true
	case version != "" && hasWord(redHatStreams, product):
		return "Red Hat:" + product + ":" + version, true
	}
	return "Red Hat:" + strings.TrimRight(cpe, ":"), false
}

func hasWord(words, word string) bool {
	for w := range strings.FieldsSeq(words) {
		if w == word {
			return true
		}
	}
	return false
}

// rating returns what a publisher's word for how grave something is means. The
// words of all of them are known; an unknown one means that nobody has rated.
func rating(word string) advisory.Rating {
	word = strings.TrimRight(strings.TrimSpace(word), "*") // Debian: a guess
	switch strings.ToLower(word) {
	case "critical":
		return advisory.Critical
	case "high", "important":
		return advisory.High
	case "medium", "moderate":
		return advisory.Medium
	case "low":
		return advisory.Low
	case "negligible", "unimportant", "none":
		return advisory.Negligible
	}
	return advisory.Unrated
}

// titleRating reads the rating at the beginning of the titles of Red Hat's
// relatives: "Important: nodejs:20 security update".
func titleRating(title string) advisory.Rating {
	word, _, ok := strings.Cut(title, ":")
	if !ok {
		return advisory.Unrated
	}
	switch word {
	case "Critical", "Important", "Moderate", "Low":
		return rating(word)
	}
	return advisory.Unrated
}

// moduleOf returns the module stream that a title of Red Hat's relatives names,
// "nodejs:20". Their OSV documents have no field for it, but no package whose
// version says that it is of a module may be matched across streams.
func moduleOf(title string) string {
	module := ""
	for word := range strings.FieldsSeq(title) {
		name, stream, ok := strings.Cut(word, ":")
		if !ok || name == "" || stream == "" || strings.Contains(stream, ":") {
			continue
		}
		stream, _, _ = strings.Cut(stream, "/") // "httpd:2.4/mod_http2": a package of it
		if module != "" && module != name+":"+stream {
			return "" // several: it is not said which is of which
		}
		module = name + ":" + stream
	}
	return module
}

// isModular reports whether a version of an RPM says that it is of a module.
func isModular(version string) bool {
	return strings.Contains(version, ".module_el") || strings.Contains(version, ".module+el")
}

// isCVE reports whether id is a CVE number.
func isCVE(id string) bool {
	rest, ok := strings.CutPrefix(id, "CVE-")
	if !ok {
		return false
	}
	year, number, ok := strings.Cut(rest, "-")
	return ok && len(year) == 4 && len(number) >= 4 && len(number) <= 19 &&
		strings.Trim(year, "0123456789") == "" && strings.Trim(number, "0123456789") == ""
}

// cveIn returns the CVE number at the end of a distribution's own name for it:
// "UBUNTU-CVE-2024-51988", "ALPINE-CVE-2010-3846-cvs".
func cveIn(id string) string {
	i := strings.Index(id, "CVE-")
	if i <= 0 {
		return ""
	}
	end := i + len("CVE-")
	for end < len(id) && (id[end] >= '0' && id[end] <= '9' || id[end] == '-' && strings.Count(id[i:end], "-") == 1) {
		end++
	}
	if !isCVE(id[i:end]) {
		return ""
	}
	return id[i:end]
}
