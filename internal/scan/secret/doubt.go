package secret

import (
	"slices"
	"strings"
)

// Doubts that come from where something stands, or from what it is; those of names
// and values are the judge's. They are words that follow "but".
const (
	doubtDocument = "it stands in a text for people"
	doubtTest     = "it stands where tests and examples are"
	doubtShipped  = "it stands among the files of a distribution"
	doubtDigest   = "it looks like a digest, or the number of a version"
	doubtExpired  = "it has expired"
	doubtNoKey    = "no key can be read from it"
)

// digestMarks are in the names of what is long and hexadecimal and no secret.
var digestMarks = []string{"version", "commit", "revision", "sha1", "sha2", "sha5", "_sha", "digest", "checksum", "hash", "gpg", "pgp", "fingerprint", "h1:", "integrity", "etag", "uuid", "guid", "build", "/passwd"}

// madeUp are parts that keys have which people make up.
var madeUp = []string{"abcd1234", "1234abcd", "123456789", "abcdefgh", "deadbeef", "xxxxxx", "00000000", "aaaaaaaa",
	"eby8vdm02xnocqflquwjpllmetlcdxj1"} // that of Azure's emulator, in all of its documents

func isMadeUp(value string) bool {
	const longest = 512 // no key of several lines
	if len(value) > longest {
		return false
	}
	low := strings.ToLower(value)
	for _, s := range madeUp {
		if strings.Contains(low, s) {
			return true
		}
	}
	return false
}

// isUUID says that a value has the form of one.
func isUUID(v string) bool {
	const length = 36
	return len(v) == length && v[8] == '-' && v[13] == '-' && v[18] == '-' && v[23] == '-' && isHex(strings.ReplaceAll(v, "-", ""))
}

// digestDoubt says of what the generic rule matched that it is a digest.
func digestDoubt(match, value string) string {
	low := strings.ToLower(strings.TrimSuffix(match, value))
	if isUUID(value) && (strings.Contains(low, "id") || !hasAny(low, "token", "secret", "key", "passw", "cred")) {
		return doubtDigest // the id of a key, which is none
	}
	for _, m := range digestMarks {
		if strings.Contains(low, m) && (m == "h1:" || isHex(strings.ReplaceAll(value, "-", ""))) {
			return doubtDigest
		}
	}
	return ""
}

func hasAny(s string, parts ...string) bool {
	return slices.ContainsFunc(parts, func(p string) bool { return strings.Contains(s, p) })
}

// isMember says that a value is names with points between them, as programs write
// what belongs to something: subtle.GenerateKeyX25519.
func isMember(v string) bool {
	names := strings.Split(v, ".")
	return len(names) > 1 && !slices.ContainsFunc(names, func(n string) bool {
		return n == "" || n[0] >= '0' && n[0] <= '9' || strings.ContainsAny(n, "-+/=")
	})
}
