package asset

import "strings"

const (
	// maxRepositoryName bounds a repository's name: 256 characters at Amazon ECR,
	// 255 elsewhere.
	maxRepositoryName = 256
	// maxTag bounds a tag, as the distribution specification does.
	maxTag = 128
)

// IsRepository says whether s is a repository's name as the OCI distribution
// specification writes it, without a registry: only then may it become part of
// an address or a key.
func IsRepository(s string) bool {
	if s == "" || len(s) > maxRepositoryName {
		return false
	}
	for part := range strings.SplitSeq(s, "/") {
		if !isRepositoryPart(part) {
			return false
		}
	}
	return true
}

// isRepositoryPart says whether s is letters and digits, with a dot, one or two
// underscores, or dashes between them.
func isRepositoryPart(s string) bool {
	alphanumeric := func(c byte) bool { return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' }
	if s == "" || !alphanumeric(s[0]) || !alphanumeric(s[len(s)-1]) {
		return false
	}
	for i := 0; i < len(s); i++ {
		if alphanumeric(s[i]) {
			continue
		}
		from := i
		for !alphanumeric(s[i+1]) { // the last one is
			i++
		}
		switch between := s[from : i+1]; {
		case between == ".", between == "_", between == "__", strings.Trim(between, "-") == "":
		default:
			return false
		}
	}
	return true
}

// IsTag says whether s is a tag as the OCI distribution specification writes it.
func IsTag(s string) bool {
	if s == "" || len(s) > maxTag || s[0] == '.' || s[0] == '-' {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if ('a' > c || c > 'z') && ('A' > c || c > 'Z') && ('0' > c || c > '9') && c != '_' && c != '.' && c != '-' {
			return false
		}
	}
	return true
}

// IsAttachedTag says whether a tag names no image but what was attached to one,
// as tools do where a registry has no referrers: sha256-DIGITS alone for the list
// of referrers, and with .sig, .att or .sbom for signatures, attestations and
// bills of materials.
func IsAttachedTag(tag string) bool {
	const digits = 64
	rest, ok := strings.CutPrefix(tag, "sha256-")
	if !ok || len(rest) < digits || strings.Trim(rest[:digits], "0123456789abcdef") != "" {
		return false
	}
	return len(rest) == digits || rest[digits] == '.' || rest[digits] == '-'
}
