package oci

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/inventory"
)

// Annotations of OCI image specification 1.1 that an artifact has.
const (
	annotationCreated = "org.opencontainers.image.created"
	annotationTitle   = "org.opencontainers.image.title"
	annotationName    = "org.opencontainers.image.ref.name"
)

// The configuration of what has none.
const (
	typeEmpty   = "application/vnd.oci.empty.v1+json"
	emptyConfig = "{}"
)

// ArtifactKind tells an artifact of one file from images and other artifacts.
type ArtifactKind struct {
	Type      string // of the artifact
	MediaType string // of its file
}

// Artifact is a file that is to be kept where images are kept.
type Artifact struct {
	ArtifactKind
	Digest      string // of the file
	Size        int64
	Title       string // the file's name, for tools that write it to a folder
	Created     string // RFC 3339
	Annotations map[string]string
	// Open opens the file. It is called again when sending it has failed.
	Open func() (io.ReadCloser, error)
}

// document returns the manifest of an artifact: of the same artifact always the
// same bytes.
func (a *Artifact) document() ([]byte, error) {
	if err := errors.Join(inventory.CheckDigest(a.Digest), fits(a.Size)); err != nil {
		return nil, err
	}
	annotations := maps.Clone(a.Annotations)
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[annotationCreated], annotations[annotationTitle] = a.Created, a.Title
	type part struct {
		MediaType   string            `json:"mediaType"`
		Digest      string            `json:"digest"`
		Size        int64             `json:"size"`
		Data        []byte            `json:"data,omitempty"`
		Annotations map[string]string `json:"annotations,omitempty"`
	}
	return json.Marshal(struct {
		Schema      int               `json:"schemaVersion"`
		MediaType   string            `json:"mediaType"`
		Type        string            `json:"artifactType"`
		Config      part              `json:"config"`
		Layers      []part            `json:"layers"`
		Annotations map[string]string `json:"annotations"`
	}{
		Schema: 2, MediaType: typeManifest, Type: a.Type,
		Config:      part{MediaType: typeEmpty, Digest: digestOf([]byte(emptyConfig), ""), Size: int64(len(emptyConfig)), Data: []byte(emptyConfig)},
		Layers:      []part{{MediaType: a.MediaType, Digest: a.Digest, Size: a.Size, Annotations: map[string]string{annotationTitle: a.Title}}},
		Annotations: annotations,
	})
}

// fits refuses a file that is larger than artifacts may be.
func fits(size int64) error {
	if size <= 0 || size > maxArtifact {
		return invalid("a file of %d bytes, and artifacts have between 1 and %d", size, int64(maxArtifact))
	}
	return nil
}

// StoredArtifact is an artifact that was found. The caller closes it.
type StoredArtifact struct {
	Manifest    string // its digest
	Digest      string // of the file
	Size        int64
	Annotations map[string]string
	open        func(context.Context) (io.ReadCloser, error)
	closer      io.Closer
}

// Open returns the file: as many bytes as were announced, whose digest the caller
// checks.
func (s *StoredArtifact) Open(ctx context.Context) (io.ReadCloser, error) {
	r, err := s.open(ctx)
	if err != nil {
		return nil, fmt.Errorf("open the file of artifact %s: %w", short(s.Manifest), err)
	}
	return r, nil
}

// Close gives back what the artifact holds open.
func (s *StoredArtifact) Close() error {
	if s.closer == nil {
		return nil
	}
	return s.closer.Close()
}

// parseArtifact reads the manifest of an artifact of that kind with one file.
func parseArtifact(b []byte, kind ArtifactKind) (*StoredArtifact, descriptor, error) {
	var schema, mediaType, artifactType, config, layers, manifests, annotations json.RawMessage
	if _, err := members(b, map[string]*json.RawMessage{
		"schemaVersion": &schema, "mediaType": &mediaType, "artifactType": &artifactType, "config": &config,
		"layers": &layers, "manifests": &manifests, "annotations": &annotations,
	}); err != nil {
		return nil, descriptor{}, refuse("manifest", err)
	}
	if !isNull(manifests) {
		return nil, descriptor{}, fault.New(fault.Unsupported, "it is an index of several manifests").With("name one of them by its digest")
	}
	var said string
	if !isNull(artifactType) {
		if err := json.Unmarshal(artifactType, &said); err != nil {
			return nil, descriptor{}, invalid("artifact type: %w", err)
		}
	}
	parts, err := list[descriptor](layers, maxLayers, "layers")
	if err != nil {
		return nil, descriptor{}, refuse("manifest", err)
	}
	parts = slices.DeleteFunc(parts, func(d descriptor) bool { return mediaTypeOf(d.MediaType) != kind.MediaType })
	if said != "" && said != kind.Type || len(parts) == 0 {
		return nil, descriptor{}, fault.New(fault.Unsupported, "it is no artifact of type %s (its type is %q)", kind.Type, shown(said)).
			With("is it the right name?")
	}
	if len(parts) > 1 {
		return nil, descriptor{}, invalid("it has %d files of type %s", len(parts), kind.MediaType)
	}
	d := parts[0]
	if err := errors.Join(d.check("file"), fits(d.Size)); err != nil {
		return nil, descriptor{}, err
	}
	a := &StoredArtifact{Manifest: digestOf(b, ""), Digest: d.Digest, Size: d.Size}
	if a.Annotations, err = table[string](annotations, maxWords, "annotations"); err != nil {
		return nil, descriptor{}, refuse("manifest", err)
	}
	return a, d, nil
}
