package authz

import (
	"slices"
	"strings"

	"github.com/castellan-security/castellan/internal/admission"
)

const hub = "docker.io"

// parseImage takes a reference apart as the engine does: what names no registry
// is Docker Hub's, and what has no slash there is of its library. What only names
// an id ("sha256:…" or the beginning of one) has no repository.
func parseImage(reference string) admission.Image {
	img := admission.Image{Reference: bounded(reference)}
	rest := reference
	if isImageID(rest) {
		img.ID = rest
		return img
	}
	rest, digest, pinned := strings.Cut(rest, "@")
	if pinned {
		img.Digest, img.Pinned = bounded(digest), true
	}
	first, path, slash := strings.Cut(rest, "/")
	img.Registry = hub
	if slash && (strings.ContainsAny(first, ".:") || first == "localhost" || strings.ToLower(first) != first) {
		img.Registry, rest = bounded(first), path
	}
	if img.Registry == "index.docker.io" {
		img.Registry = hub
	}
	if colon := strings.LastIndexByte(rest, ':'); colon > strings.LastIndexByte(rest, '/') {
		rest, img.Tag = rest[:colon], bounded(rest[colon+1:])
	}
	if img.Registry == hub && !strings.Contains(rest, "/") {
		rest = "library/" + rest
	}
	img.Repository = bounded(rest)
	if img.Tag == "" && !pinned {
		img.Tag = "latest"
	}
	return img
}

// isImageID says that a reference is an engine's id written out.
func isImageID(reference string) bool {
	hex, ok := strings.CutPrefix(reference, "sha256:")
	return ok && isHex(hex)
}

func isHex(s string) bool {
	const digits = 64
	return len(s) == digits && strings.Trim(s, "0123456789abcdef") == ""
}

// localImage is what an engine says of an image.
type localImage struct {
	ID          string `json:"Id"`
	RepoDigests []string
	Config      *struct {
		User        string
		Entrypoint  words
		Cmd         words
		Healthcheck *health
	}
}

// complete gives an image what the engine knows of it. The digest is the one
// under which its repository has it: a local tag says nothing of where an image
// came from, so that one that no repository has under a digest is of none.
func complete(img admission.Image, known localImage) admission.Image {
	if strings.HasPrefix(known.ID, img.Reference) || strings.HasPrefix(known.ID, "sha256:"+img.Reference) {
		img = admission.Image{Reference: img.Reference} // the beginning of an id is one too
	}
	img.ID = bounded(known.ID)
	if img.Repository == "" { // asked for by its id alone: any name that a registry knows
		digests := slices.Sorted(slices.Values(known.RepoDigests))
		if len(digests) > 0 {
			named := parseImage(digests[0])
			img.Registry, img.Repository, img.Digest = named.Registry, named.Repository, named.Digest
		}
		return img
	}
	asked, vouched := img.Digest, false
	img.Digest = ""
	for _, d := range known.RepoDigests {
		named := parseImage(d)
		if named.Registry != img.Registry || named.Repository != img.Repository {
			continue
		}
		vouched = true
		if img.Digest = named.Digest; asked == "" || asked == named.Digest {
			return img
		}
	}
	if asked != "" && known.ID == asked { // an engine whose images are containerd's
		img.Digest, vouched = asked, true
	}
	if !vouched {
		img.Registry, img.Repository = "", ""
	}
	return img
}
