package policy

import (
	"fmt"
	"strings"
)

// Names of Docker Hub: all mean the same registry.
const (
	dockerHub     = "docker.io"
	dockerLibrary = "library" // where images without an owner are
)

// maxRepository is what registries allow for host and path together, with some
// room for the host.
const maxRepository = 512

// Repository is the full name of a repository, as it is compared: the host in
// lower case and without the standard port, Docker Hub's short names in full.
// "" is what is in no registry.
type Repository string

// ParseRepository returns the full name of a repository as people and engines
// write it: "nginx" is docker.io/library/nginx. Tags and digests are not part of
// it and are refused, as is what no registry could hold.
func ParseRepository(s string) (Repository, error) {
	if s == "" {
		return "", nil
	}
	if len(s) > maxRepository {
		return "", fmt.Errorf("a repository's name of %d bytes: at most %d are read", len(s), maxRepository)
	}
	parts := strings.Split(s, "/")
	if !isHost(parts[0]) {
		if len(parts) == 1 {
			parts = append([]string{dockerLibrary}, parts...)
		}
		parts = append([]string{dockerHub}, parts...)
	}
	host, err := cleanHost(parts[0])
	if err != nil {
		return "", fmt.Errorf("repository %q: %w", s, err)
	}
	parts[0] = host
	if host == dockerHub && len(parts) == 2 {
		parts = []string{host, dockerLibrary, parts[1]}
	}
	if len(parts) == 1 {
		return "", fmt.Errorf("repository %q: a registry without a path", s)
	}
	for _, p := range parts[1:] {
		if !isComponent(p) {
			return "", fmt.Errorf("repository %q: %q can't be part of a path: lower-case letters, digits, and . _ - between them", s, p)
		}
	}
	return Repository(strings.Join(parts, "/")), nil
}

// isHost tells a registry's name from the first part of a path on Docker Hub, as
// Docker does; but a name in capitals without dot or port is none: in lower case,
// as it is compared, it would be an owner's.
func isHost(s string) bool {
	return strings.ContainsAny(s, ".:") || s == "localhost"
}

// cleanHost returns a registry's host as it is compared.
func cleanHost(s string) (string, error) {
	s = strings.ToLower(s)
	host, port, hasPort := strings.Cut(s, ":")
	if strings.HasPrefix(s, "[") {
		return "", fmt.Errorf("addresses of IPv6 are not understood: give the registry a name")
	}
	// With zeros in front a port is the same one to whoever pulls and another name
	// here: a stricter rule for the registry could be got round by them.
	if hasPort && (port == "" || port[0] == '0' || strings.Trim(port, "0123456789") != "" || len(port) > 5) {
		return "", fmt.Errorf("%q is no port", port)
	}
	for label := range strings.SplitSeq(host, ".") {
		if label == "" || len(label) > 63 || strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			return "", fmt.Errorf("%q is no name of a registry", host)
		}
	}
	if port == "443" {
		s = host // what HTTPS means anyway
	}
	if s == "index.docker.io" || s == "registry-1.docker.io" {
		s = dockerHub
	}
	return s, nil
}

// isComponent reports whether s can be a part of a repository's path (OCI
// distribution specification).
func isComponent(s string) bool {
	if s == "" || !alphanumeric(s[0]) || !alphanumeric(s[len(s)-1]) {
		return false
	}
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case alphanumeric(c), c == '-':
		case c == '.' && s[i-1] != '.' && s[i-1] != '_' && s[i-1] != '-':
			if !alphanumeric(s[i+1]) {
				return false
			}
		case c == '_' && alphanumeric(s[i-1]):
			if s[i+1] == '_' {
				i++
			}
			if !alphanumeric(s[i+1]) {
				return false
			}
		default:
			return false
		}
	}
	return true
}

func alphanumeric(c byte) bool { return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' }
