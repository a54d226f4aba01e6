package intent

import (
	"slices"
	"strings"

	"github.com/castellan-security/castellan/internal/profile"
)

// Sensitive is a file whose reading the sensors tell, so that a profile without
// it says that it is not read: event.File.Sensitive.
type Sensitive struct {
	Name string // of the rule: shadow, keys, …
	// Path is below any folder if Anywhere, else from the root.
	Path     profile.Pattern
	Anywhere bool
}

// sensitive are the rules of the file sensor, but for keys that are known by
// their ending alone: those of certificate authorities end so too.
var sensitive = []Sensitive{
	{"shadow", "/etc/shadow", true}, {"shadow", "/etc/shadow-", true},
	{"shadow", "/etc/gshadow", true}, {"shadow", "/etc/gshadow-", true}, {"shadow", "/etc/security/opasswd", true},
	{"keys", "/id_rsa", true}, {"keys", "/id_dsa", true}, {"keys", "/id_ecdsa", true}, {"keys", "/id_ecdsa_sk", true},
	{"keys", "/id_ed25519", true}, {"keys", "/id_ed25519_sk", true}, {"keys", "/ssh_host_*_key", true},
	{"token", "/.git-credentials", true}, {"token", "/.netrc", true}, {"token", "/.npmrc", true}, {"token", "/.pypirc", true},
	{"token", "/.pgpass", true}, {"token", "/.my.cnf", true}, {"token", "/.vault-token", true}, {"token", "/serviceaccount/token", true},
	{"cloud", "/.aws/*", true}, {"cloud", "/.azure/*", true}, {"cloud", "/gcloud/*", true}, {"cloud", "/.kube/config", true},
	{"cloud", "/.docker/config.json", true}, {"cloud", "/.dockerconfigjson", true}, {"cloud", "/.dockercfg", true},
	{"cloud", "/etc/ecs/ecs.config", true},
	{"secrets", "/run/secrets/*", false}, {"secrets", "/var/run/secrets/*", false},
	{"memory", "/proc/kcore", false}, {"memory", "/proc/*/mem", false}, {"memory", "/proc/*/task/*/mem", false},
	{"environ", "/proc/*/environ", false}, {"environ", "/proc/*/task/*/environ", false},
}

// ByEnding are what sensors tell too and outputs can't refuse without refusing
// the certificates that every program reads.
const ByEnding = "*.key, *.pem, *.p12, *.pfx"

// Unread returns the sensitive files that nothing in the profile reads, and those
// of which something does, so that they can't be refused as a whole.
func Unread(p *profile.Profile) (unread, read []Sensitive) {
	for _, s := range sensitive {
		used := slices.ContainsFunc(p.Reads, func(f profile.File) bool { return s.overlaps(f.Path) })
		if used {
			read = append(read, s)
		} else {
			unread = append(unread, s)
		}
	}
	return unread, read
}

// Paths lists where the files are, for notes: with "**" in front of those that can
// be below any folder.
func Paths(all []Sensitive) string {
	var s []string
	for _, x := range all {
		if x.Anywhere {
			s = append(s, "**"+string(x.Path))
		} else {
			s = append(s, string(x.Path))
		}
	}
	return strings.Join(s, ", ")
}

// overlaps reports whether the pattern stands for one of the files.
func (s Sensitive) overlaps(p profile.Pattern) bool {
	if Overlap(s.Path, p) {
		return true
	}
	names := p.Names()
	if !s.Anywhere || len(names) == 0 {
		return false
	}
	if names[len(names)-1] == "**" {
		return true // below it can be any folder
	}
	for i := range names {
		if Overlap(s.Path, profile.Pattern("/"+strings.Join(names[i:], "/"))) {
			return true
		}
	}
	return false
}
