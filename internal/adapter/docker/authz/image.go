package authz

import (
	"cmp"
	"encoding/json"
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
	// Descriptor is there where containerd keeps the images, and Identity from API
	// 1.53 on: where the image really came from.
	Descriptor json.RawMessage
	Identity   *struct {
		Pull []struct{ Repository string }
	}
	Config *struct {
		User        string
		Entrypoint  words
		Cmd         words
		Healthcheck *health
	}
}

// vouched is complete, by those names under which a registry has the image. Where
// containerd keeps the images, whoever tags one gives it a digest under that name,
// too: there it counts from where the engine says that it was pulled.
func (p *Plugin) vouched(img admission.Image, known localImage) admission.Image {
	if !known.containerds() {
		return complete(img, known)
	}
	switch {
	case known.Identity != nil:
		known.RepoDigests = slices.DeleteFunc(slices.Clone(known.RepoDigests), func(d string) bool { return !known.pulledAs(d) })
	case !p.options.TrustTags:
		known.RepoDigests = nil
	}
	img = complete(img, known)
	img.Digest = cmp.Or(img.Digest, bounded(known.ID)) // its id is its digest, under any name
	return img
}

// pulledAs says that an image was pulled from where a name says. Engines keep the
// registry without its port.
func (k *localImage) pulledAs(name string) bool {
	portless := func(registry string) string {
		if colon := strings.LastIndexByte(registry, ':'); colon >= 0 {
			return registry[:colon]
		}
		return registry
	}
	img := parseImage(name)
	for _, from := range k.Identity.Pull {
		at := parseImage(from.Repository)
		if at.Registry != "" && portless(at.Registry) == portless(img.Registry) && at.Repository == img.Repository {
			return true
		}
	}
	return false
}

// containerds says that containerd keeps an image: its id is then its digest.
func (k *localImage) containerds() bool {
	return len(k.Descriptor) > 0 && string(k.Descriptor) != "null" ||
		slices.ContainsFunc(k.RepoDigests, func(d string) bool { return isImageID(k.ID) && strings.HasSuffix(d, "@"+k.ID) })
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
	if !vouched {
		img.Registry, img.Repository = "", ""
	}
	return img
}
