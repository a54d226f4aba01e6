package oci

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/inventory"
)

// Media types of OCI image specification 1.1 and of Docker's image manifest
// version 2, schemas 1 and 2.
const (
	typeIndex        = "application/vnd.oci.image.index.v1+json"
	typeManifest     = "application/vnd.oci.image.manifest.v1+json"
	typeConfig       = "application/vnd.oci.image.config.v1+json"
	typeLayer        = "application/vnd.oci.image.layer.v1.tar"
	typeLayerPrivate = "application/vnd.oci.image.layer.nondistributable.v1.tar"

	typeDockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"
	typeDockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	typeDockerConfig   = "application/vnd.docker.container.image.v1+json"
	typeDockerLayer    = "application/vnd.docker.image.rootfs.diff.tar"
	typeDockerForeign  = "application/vnd.docker.image.rootfs.foreign.diff.tar"

	typeSchema1       = "application/vnd.docker.distribution.manifest.v1+json"
	typeSchema1Signed = "application/vnd.docker.distribution.manifest.v1+prettyjws"
)

// accepted are the media types that a registry is asked for. Schema 1 is among
// them because a registry that has nothing else then says so.
const accepted = typeIndex + ", " + typeManifest + ", " + typeDockerList + ", " + typeDockerManifest + ", " +
	typeSchema1Signed + ", " + typeSchema1

// platform is what an image runs on, in an index and in a configuration.
type platform struct {
	OS           string `json:"os"`
	Architecture string `json:"architecture"`
	Variant      string `json:"variant"`
	OSVersion    string `json:"os.version"`
}

func (p platform) noun() inventory.Platform {
	return inventory.Platform{
		OS: cut(p.OS, maxShown), Architecture: cut(p.Architecture, maxShown),
		Variant: cut(p.Variant, maxShown), OSVersion: cut(p.OSVersion, maxShown),
	}
}

// descriptor names something by its digest.
type descriptor struct {
	MediaType    string    `json:"mediaType"`
	Digest       string    `json:"digest"`
	Size         int64     `json:"size"`
	Platform     *platform `json:"platform"`
	ArtifactType string    `json:"artifactType"`
	URLs         []string  `json:"urls"`
	Annotations  struct {
		RefName   string `json:"org.opencontainers.image.ref.name"`
		ImageName string `json:"io.containerd.image.name"`
		// Kind is set for what BuildKit attaches to an image.
		Kind string `json:"vnd.docker.reference.type"`
	} `json:"annotations"`
}

// check refuses a descriptor that cannot be followed.
func (d descriptor) check(what string) error {
	if err := checkDigest(d.Digest, what); err != nil {
		return err
	}
	if d.Size < 0 {
		return invalid("%s %s: a size of %d bytes", what, short(d.Digest), d.Size)
	}
	return nil
}

// attached says that d is about an image and is none: an attestation, which
// has no platform that could run it, or another artifact.
func (d descriptor) attached() bool {
	return d.Annotations.Kind != "" || isArtifact(d.ArtifactType) ||
		d.Platform != nil && d.Platform.OS == "unknown" && d.Platform.Architecture == "unknown"
}

// isArtifact says whether an artifact type in a descriptor names something else
// than an image. Some tools write there what an image's configuration is.
func isArtifact(kind string) bool {
	switch mediaTypeOf(kind) {
	case "", typeConfig, typeDockerConfig:
		return false
	}
	return true
}

// manifest is one image's manifest.
type manifest struct {
	config descriptor
	layers []descriptor
}

// document is an index or a manifest, whichever it turned out to be.
type document struct {
	manifest *manifest
	index    []descriptor
}

// parseDocument reads an index or a manifest. said is the media type under
// which it came, which must agree with what is inside; it may be empty.
func parseDocument(b []byte, said string) (document, error) {
	var schema, mediaType, config, layers, manifests, fsLayers json.RawMessage
	if _, err := members(b, map[string]*json.RawMessage{
		"schemaVersion": &schema, "mediaType": &mediaType, "config": &config,
		"layers": &layers, "manifests": &manifests, "fsLayers": &fsLayers,
	}); err != nil {
		return document{}, err
	}
	said = mediaTypeOf(said)
	if said == typeSchema1 || said == typeSchema1Signed || string(schema) == "1" || fsLayers != nil {
		return document{}, fault.New(fault.Unsupported, "the image has a manifest of Docker's schema 1, whose layers cannot be verified").
			With("pull it with a docker older than 26 and push it again, or build it anew; schema 1 was given up in 2019")
	}
	if string(schema) != "2" {
		return document{}, fmt.Errorf("schema version %s, and 2 is known", shown(string(schema)))
	}
	var inside string
	if !isNull(mediaType) {
		if err := json.Unmarshal(mediaType, &inside); err != nil {
			return document{}, fmt.Errorf("media type: %w", err)
		}
	}
	isManifest := !isNull(config) || !isNull(layers)
	isIndex := !isNull(manifests) || manifests != nil && !isManifest // null is an empty one
	if isIndex && isManifest {
		return document{}, fmt.Errorf("an index and a manifest at once")
	}
	for _, t := range []string{said, mediaTypeOf(inside)} {
		if isIndex && (t == typeManifest || t == typeDockerManifest) || isManifest && (t == typeIndex || t == typeDockerList) {
			return document{}, fmt.Errorf("it calls itself %s and is not", t)
		}
	}
	switch {
	case isIndex:
		all, err := list[descriptor](manifests, maxManifests, "manifests")
		return document{index: all}, err
	case isManifest:
		m, err := parseManifest(config, layers)
		return document{manifest: m}, err
	}
	return document{}, fmt.Errorf("neither an index nor a manifest (media type %q)", shown(said))
}

// mediaTypeOf drops the parameters of a media type.
func mediaTypeOf(s string) string {
	s, _, _ = strings.Cut(s, ";")
	return strings.ToLower(strings.TrimSpace(s))
}

func parseManifest(config, layers json.RawMessage) (*manifest, error) {
	m := &manifest{}
	if isNull(config) {
		return nil, fmt.Errorf("a manifest without a configuration")
	}
	if err := json.Unmarshal(config, &m.config); err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	var err error
	if m.layers, err = list[descriptor](layers, maxLayers, "layers"); err != nil {
		return nil, err
	}
	if err := m.config.check("configuration"); err != nil {
		return nil, err
	}
	if !isImageConfig(m.config.MediaType) {
		return nil, &notAnImage{kind: m.config.MediaType}
	}
	for i, l := range m.layers {
		if err := l.check(fmt.Sprintf("layer %d", i+1)); err != nil {
			return nil, err
		}
		if err := checkLayerType(l.MediaType); err != nil {
			return nil, fmt.Errorf("layer %d: %w", i+1, err)
		}
	}
	return m, nil
}

// isImageConfig says whether a configuration of that type can be an image's.
// The plain types are those under which registries kept the images that were
// pushed by docker 1.10, before there was a type of its own.
func isImageConfig(mediaType string) bool {
	switch mediaTypeOf(mediaType) {
	case typeConfig, typeDockerConfig, "application/octet-stream", "application/json", "text/html", "":
		return true
	}
	return false
}

// notAnImage is the error for a manifest of something else, as a chart or a
// signature.
type notAnImage struct{ kind string }

// Error names what it is instead.
func (e *notAnImage) Error() string {
	return fmt.Sprintf("it is no image but an artifact of type %q", shown(e.kind))
}

// checkLayerType refuses what is not a file system: readers decide by a layer's
// first bytes how it is compressed, not whether it is one.
func checkLayerType(mediaType string) error {
	t := mediaTypeOf(mediaType)
	if strings.HasSuffix(t, "+encrypted") {
		return fault.New(fault.Unsupported, "it is encrypted").With("decrypt the image first (skopeo copy --decryption-key)")
	}
	base := strings.TrimSuffix(t, ".gzip")
	base = strings.TrimSuffix(base, ".zstd")
	base, _, _ = strings.Cut(base, "+")
	switch base {
	case typeLayer, typeLayerPrivate, typeDockerLayer, typeDockerForeign:
		return nil
	}
	return &notAnImage{kind: mediaType}
}

// isForeign says that only a layer's publisher may distribute it.
func isForeign(mediaType string) bool {
	t := mediaTypeOf(mediaType)
	return strings.HasPrefix(t, typeLayerPrivate) || strings.HasPrefix(t, typeDockerForeign)
}
