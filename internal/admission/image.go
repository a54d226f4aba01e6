package admission

import "strings"

// dockerHub is the registry of references that name none.
const dockerHub = "docker.io"

// ParseImage takes an image's reference apart, as engines do: what names no
// registry is Docker Hub's, and what names neither tag nor digest has the tag
// latest. What is no reference is one all the same, of nothing that is allowed.
func ParseImage(reference string) Image {
	i := Image{Reference: reference, Registry: dockerHub}
	rest, digest, pinned := strings.Cut(reference, "@")
	i.Digest, i.Pinned = digest, pinned
	host, path, slash := strings.Cut(rest, "/")
	if slash && (strings.ContainsAny(host, ".:") || host == "localhost") {
		i.Registry, rest = host, path
	}
	if i.Registry == "index.docker.io" {
		i.Registry = dockerHub
	}
	if colon := strings.LastIndexByte(rest, ':'); colon > strings.LastIndexByte(rest, '/') {
		rest, i.Tag = rest[:colon], rest[colon+1:]
	}
	if i.Registry == dockerHub && !strings.Contains(rest, "/") {
		rest = "library/" + rest
	}
	i.Repository = rest
	if i.Tag == "" && !pinned {
		i.Tag = "latest"
	}
	return i
}
