package docker

import (
	"slices"
	"strings"

	"github.com/castellan-security/castellan/internal/asset"
)

// image puts a reference and an image id together. A reference with a digest
// names the digest itself.
func image(reference, id string) asset.Image {
	i := asset.Image{Reference: clean(reference, maxText)}
	if isDigest(id) {
		i.ID = id
	}
	if _, digest, ok := strings.Cut(i.Reference, "@"); ok && isDigest(digest) {
		i.Digest = digest
	}
	return i
}

// isDigest reports whether s is algorithm:hex, the form of the OCI image
// specification, and so fit to be part of a path.
func isDigest(s string) bool {
	const shortest, longest = 32, 128
	algorithm, hex, ok := strings.Cut(s, ":")
	if !ok || len(hex) < shortest || len(hex) > longest {
		return false
	}
	return (algorithm == "sha256" || algorithm == "sha384" || algorithm == "sha512") && strings.Trim(hex, "0123456789abcdef") == ""
}

// digestOf picks the digest under which a registry knows the image: of the
// repository that the reference names if that is among them, else the first.
func digestOf(reference string, repoDigests []string) string {
	repository, _, _ := strings.Cut(reference, "@")
	repository = withoutTag(repository)
	repoDigests = slices.Clone(repoDigests)
	slices.Sort(repoDigests)
	first := ""
	for _, rd := range repoDigests {
		name, digest, ok := strings.Cut(rd, "@")
		if !ok || !isDigest(digest) {
			continue
		}
		if name == repository {
			return digest
		}
		if first == "" {
			first = digest
		}
	}
	return first
}
