package bpf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/cilium/ebpf"

	"github.com/castellan-security/castellan/internal/asset"
)

// rule says that reading the files of a pattern is worth telling. A pattern is
// a path of which "*" stands for any part of one name; one that begins with
// "**/" fits in every folder.
type rule struct {
	name    string // as event.File.Sensitive has it
	pattern string
}

// builtin are the rules that need no configuration. The files of procfs are
// told by their place in it, wherever it is mounted: see procRule.
var builtin = []rule{
	{"shadow", "**/etc/shadow"},
	{"shadow", "**/etc/shadow-"},
	{"shadow", "**/etc/gshadow"},
	{"shadow", "**/etc/gshadow-"},
	{"shadow", "**/etc/security/opasswd"},
	{"keys", "**/id_rsa"},
	{"keys", "**/id_dsa"},
	{"keys", "**/id_ecdsa"},
	{"keys", "**/id_ecdsa_sk"},
	{"keys", "**/id_ed25519"},
	{"keys", "**/id_ed25519_sk"},
	{"keys", "**/ssh_host_*_key"},
	{"keys", "**/*.key"},
	{"keys", "**/*.pem"},
	{"keys", "**/*.p12"},
	{"keys", "**/*.pfx"},
	{"token", "**/.git-credentials"},
	{"token", "**/.netrc"},
	{"token", "**/.npmrc"},
	{"token", "**/.pypirc"},
	{"token", "**/.pgpass"},
	{"token", "**/.my.cnf"},
	{"token", "**/.vault-token"},
	{"token", "**/serviceaccount/token"},
	{"cloud", "**/.aws/*"},
	{"cloud", "**/.azure/*"},
	{"cloud", "**/gcloud/*"},
	{"cloud", "**/.kube/config"},
	{"cloud", "**/.docker/config.json"},
	{"cloud", "**/.dockerconfigjson"},
	{"cloud", "**/.dockercfg"},
	{"cloud", "**/etc/ecs/ecs.config"},
	{"secrets", "/run/secrets/*"},
	{"secrets", "/var/run/secrets/*"},
}

// procNames are the files of procfs that procRule may find worth telling.
var procNames = []string{"environ", "mem", "kcore"}

// procRule names the rule for a file at a place within procfs; empty for none.
func procRule(inside string) string {
	switch base := path.Base(inside); {
	case inside == "/kcore":
		return "memory"
	case base == "mem" && inside != "/mem":
		return "memory"
	case base == "environ":
		return "environ"
	}
	return ""
}

// public are folders of files that end like keys and are everybody's: those of
// certificate authorities, and what packages bring along.
var public = []string{"/etc/ssl/certs/", "/etc/pki/", "/usr/share/", "/usr/lib/", "/usr/local/lib/", "/usr/local/share/"}

// publicNames are parts of the names of certificates.
var publicNames = []string{"cert", "chain", "bundle", "root", "pub"}

// isPublic tells certificates from keys, by name alone: a program that reads
// the certificates it trusts is every program.
func isPublic(file string) bool {
	if strings.Contains(file, "/site-packages/") || strings.Contains(file, "/node_modules/") {
		return true
	}
	for _, folder := range public {
		if strings.HasPrefix(file, folder) {
			return true
		}
	}
	if !strings.HasSuffix(file, ".pem") {
		return false
	}
	base := path.Base(file)
	for _, part := range publicNames {
		if strings.Contains(base, part) {
			return true
		}
	}
	return base == "ca.pem" || strings.HasPrefix(base, "ca-") || strings.HasPrefix(base, "ca_")
}

// maxConfigured bounds the configured patterns: each is compared with the path
// of each candidate, and has an entry in the kernel's table.
const maxConfigured = 512

// sensitive are the rules in force.
type sensitive struct{ configured []string }

// newSensitive returns the rules of settings, and by what the kernel finds
// candidates. Patterns that can't be followed are ignored, so that a mistake
// costs one pattern and not the sensor: relative ones, and those whose last name
// has fewer than four letters behind its last "*" in a folder that has a "*" too.
func newSensitive(s asset.AgentSettings) (*sensitive, map[fileNotableKey]bool) {
	out := &sensitive{}
	marks := map[fileNotableKey]bool{}
	for _, r := range builtin {
		if key, ok := markOf(r.pattern); ok {
			marks[key] = true
		}
	}
	for _, name := range procNames {
		marks[newMark(fileNotableNOTABLE_NAME, name)] = true
	}
	for _, pattern := range s.SensitivePaths[:min(len(s.SensitivePaths), maxConfigured)] {
		key, ok := markOf(pattern)
		if !ok || pattern[0] != '/' {
			continue
		}
		out.configured = append(out.configured, pattern)
		marks[key] = true
	}
	return out, marks
}

// rule names the rule that a file fits; empty for none.
func (s *sensitive) rule(file string) string {
	for _, pattern := range s.configured {
		if fits(pattern, file) {
			return pattern
		}
	}
	for _, r := range builtin {
		if fits(r.pattern, file) && (r.name != "keys" || !isPublic(file)) {
			return r.name
		}
	}
	return ""
}

// fits tells whether a path fits a pattern. Both are compared from the end, so
// that nearly all differ at once.
func fits(pattern, file string) bool {
	anywhere := strings.HasPrefix(pattern, "**/")
	if anywhere {
		pattern = pattern[2:]
	}
	for {
		p, f := strings.LastIndexByte(pattern, '/'), strings.LastIndexByte(file, '/')
		if p < 0 || f < 0 {
			return pattern == file
		}
		if !fitsName(pattern[p+1:], file[f+1:]) {
			return false
		}
		pattern, file = pattern[:p], file[:f]
		if pattern == "" {
			return anywhere || file == ""
		}
	}
}

// fitsName compares one name. It tries each "*" for as little as will do, and
// goes back to the last one only: that is enough, and bounded by the product of
// both lengths.
func fitsName(pattern, name string) bool {
	p, n, star, mark := 0, 0, -1, 0
	for n < len(name) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, mark = p, n
			p++
		case p < len(pattern) && pattern[p] == name[n]:
			p++
			n++
		case star >= 0:
			mark++
			p, n = star+1, mark
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}

// markOf returns by what the kernel knows files that may fit a pattern; false
// for a pattern that gives it too little.
func markOf(pattern string) (fileNotableKey, bool) {
	rest := strings.TrimPrefix(pattern, "**")
	if !strings.HasPrefix(rest, "/") || strings.HasSuffix(rest, "/") {
		return fileNotableKey{}, false
	}
	folder, last := path.Split(rest)
	star := strings.LastIndexByte(last, '*')
	if star < 0 {
		return newMark(fileNotableNOTABLE_NAME, last), true
	}
	if tail := last[star+1:]; len(tail) >= suffixLen {
		return newMark(fileNotableNOTABLE_SUFFIX, tail[len(tail)-suffixLen:]), true
	}
	folder = path.Base(folder)
	if strings.Contains(folder, "*") || folder == "/" {
		return fileNotableKey{}, false
	}
	return newMark(fileNotableNOTABLE_FOLDER, folder), true
}

// suffixLen is NOTABLE_SUFFIX_LEN of notable.bpf.h.
const suffixLen = 4

func newMark(what fileNotable, text string) fileNotableKey {
	k := fileNotableKey{What: uint8(what)}
	copy(k.Text[:], text)
	return k
}

// Of notable.bpf.h.
const (
	markBits   = 12
	markFactor = 0x9e3779b97f4a7c15
)

// bit returns the place of a mark, as is_marked of notable.bpf.h computes it.
func bit(k fileNotableKey) uint64 {
	word := binary.LittleEndian.Uint64(k.Text[:8])
	return (word + uint64(k.What)) * markFactor >> (64 - markBits)
}

// putMarks makes the kernel look for these marks and no others. While it does,
// those that stay are looked for.
func putMarks(maps map[string]*ebpf.Map, wanted map[fileNotableKey]bool) error {
	notables, marks := maps["notables"], maps["marks"]
	bits := make([]uint64, 1<<markBits/64)
	for k := range wanted {
		n := bit(k)
		bits[n/64] |= 1 << (n % 64)
		if err := notables.Put(k, uint8(1)); err != nil {
			return fmt.Errorf("set a sensitive path: %w", err)
		}
	}
	if err := marks.Put(uint32(0), bits); err != nil {
		return fmt.Errorf("set sensitive paths: %w", err)
	}
	var (
		k   fileNotableKey
		v   uint8
		old []fileNotableKey
	)
	entries := notables.Iterate()
	for entries.Next(&k, &v) {
		if !wanted[k] {
			old = append(old, k)
		}
	}
	errs := []error{entries.Err()}
	for _, k := range old {
		errs = append(errs, notables.Delete(k))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("remove sensitive paths: %w", err)
	}
	return nil
}
