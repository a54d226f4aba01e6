package oci

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/inventory"
)

// parseReference reads a reference as docker does: without a registry it is of
// Docker Hub, without a tag and a digest of the tag latest, and with both the
// digest counts.
func parseReference(s string) (name.Reference, error) {
	const remedy = "write it as docker does: [registry/]repository[:tag][@digest]"
	if s == "" {
		return nil, fault.New(fault.Invalid, "an empty image reference").With(remedy)
	}
	if scheme, rest, ok := strings.Cut(s, "://"); ok {
		return nil, fault.New(fault.Invalid, "image reference %q begins with an address's %s://", shown(s), shown(scheme)).
			With("leave that away: " + shown(rest))
	}
	if _, digest, ok := strings.Cut(s, "@"); ok {
		if err := inventory.CheckDigest(digest); err != nil {
			return nil, fault.New(fault.Invalid, "image reference %q: %w", shown(s), err).With("a digest is sha256: and 64 hex digits")
		}
	}
	ref, err := name.ParseReference(s)
	if err == nil && isRepository(ref.Context().RepositoryStr()) {
		return ref, nil
	}
	if err == nil {
		err = errors.New("each part of a repository begins and ends with a letter or digit")
	}
	why := strings.TrimPrefix(err.Error(), "could not parse reference: "+s)
	if lower := strings.ToLower(s); lower != s {
		if _, err := name.ParseReference(lower); err == nil {
			return nil, fault.New(fault.Invalid, "image reference %q: a repository is written in lower case", shown(s)).With(remedy)
		}
	}
	if why == "" {
		why = "it is none"
	}
	return nil, fault.New(fault.Invalid, "image reference %q: %s", shown(s), shown(why)).With(remedy)
}

// isRepository says whether each part of a repository's name is one by the OCI
// distribution specification, which also keeps a mistyped option from being
// asked of Docker Hub.
func isRepository(path string) bool {
	alphanumeric := func(c byte) bool { return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' }
	for part := range strings.SplitSeq(path, "/") {
		if part == "" || !alphanumeric(part[0]) || !alphanumeric(part[len(part)-1]) {
			return false
		}
	}
	return true
}

// isLoopback says whether a registry is on this machine, where nobody listens
// in on plain HTTP. A name is not looked up: what it resolves to is not ours to
// say.
func isLoopback(registry string) bool {
	host, _, err := net.SplitHostPort(registry)
	if err != nil {
		host = registry
	}
	host = strings.Trim(host, "[]")
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.IsLoopback()
}

// isInside says whether a host is given by an address that only this machine or
// its own network can reach, among them those of cloud metadata.
func isInside(host string) bool {
	host = strings.Trim(host, "[]")
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	a, err := netip.ParseAddr(host)
	if err != nil {
		return false
	}
	a = a.Unmap()
	return a.IsLoopback() || a.IsPrivate() || a.IsLinkLocalUnicast() || a.IsUnspecified() || a.IsMulticast()
}

// at moves a repository to another registry: a mirror, whose repositories may
// have a prefix.
func at(mirror string, repo name.Repository) (name.Repository, error) {
	host, prefix, _ := strings.Cut(mirror, "/")
	path := repo.RepositoryStr()
	if prefix = strings.Trim(prefix, "/"); prefix != "" {
		path = prefix + "/" + path
	}
	moved, err := name.NewRepository(host+"/"+path, name.StrictValidation)
	if err != nil {
		return name.Repository{}, fmt.Errorf("mirror %q: %w", mirror, err)
	}
	return moved, nil
}
