package secret

import "strings"

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
var digestMarks = []string{"version", "commit", "revision", "sha1", "sha2", "sha5", "_sha", "digest", "checksum", "hash", "gpg", "pgp", "fingerprint", "h1:", "integrity", "etag", "uuid", "guid", "build"}

// digestDoubt says of what the generic rule matched that it is a digest.
func digestDoubt(match, value string) string {
	low := strings.ToLower(strings.TrimSuffix(match, value))
	for _, m := range digestMarks {
		if strings.Contains(low, m) && (m == "h1:" || isHex(strings.ReplaceAll(value, "-", ""))) {
			return doubtDigest
		}
	}
	return ""
}
