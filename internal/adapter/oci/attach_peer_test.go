package oci_test

import (
	"io"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/castellan-security/castellan/internal/signature"
)

// The library by which cosign speaks to registries finds and reads what was
// attached, and what it attaches is found.
func TestPeerReadsAndWrites(t *testing.T) {
	for _, lists := range []bool{true, false} {
		h := newHub(t)
		p := inRegistry(t, h)
		if !lists {
			h.before = without(404)
		}
		bundle, old := envelopes()[0], envelopes()[4]
		for _, e := range []signature.Envelope{bundle, old} {
			if _, err := p.attach(e); err != nil {
				t.Fatal(err)
			}
		}
		repo, err := name.NewRepository(p.subject.Repository, name.Insecure)
		if err != nil {
			t.Fatal(err)
		}
		index, err := remote.Referrers(repo.Digest(p.subject.Digest))
		if err != nil {
			t.Fatal(err)
		}
		manifest, err := index.IndexManifest()
		if err != nil || len(manifest.Manifests) != 1 {
			t.Fatalf("the list of referrers is %+v, %v", manifest, err)
		}
		tag := repo.Tag(strings.Replace(p.subject.Digest, ":", "-", 1) + ".sig")
		for _, tc := range []struct {
			ref  name.Reference
			want signature.Envelope
		}{{repo.Digest(manifest.Manifests[0].Digest.String()), bundle}, {tag, old}} {
			image, err := remote.Image(tc.ref)
			if err != nil {
				t.Fatal(err)
			}
			if got := contentOfLayer(t, image); got != string(tc.want.Payload) {
				t.Errorf("the layer of %s is %q, want %q", tc.ref, got, tc.want.Payload)
			}
		}
		image, err := remote.Image(tag)
		if err != nil {
			t.Fatal(err)
		}
		if c, err := image.ConfigFile(); err != nil || len(c.RootFS.DiffIDs) != 1 {
			t.Errorf("the configuration of cosign's tag is %+v, %v", c, err)
		}
		// Another image's referrers, by the peer.
		theirs, err := remote.Get(repo.Digest(manifest.Manifests[0].Digest.String()))
		if err != nil {
			t.Fatal(err)
		}
		if err := remote.Put(repo.Tag("copy"), theirs); err != nil {
			t.Fatal(err)
		}
		if got, err := p.find(); err != nil || len(got) != 2 {
			t.Errorf("%d found, %v, want both once", len(got), err)
		}
	}
}

func contentOfLayer(t *testing.T, image v1.Image) string {
	t.Helper()
	layers, err := image.Layers()
	if err != nil || len(layers) != 1 {
		t.Fatalf("%d layers, %v", len(layers), err)
	}
	r, err := layers[0].Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
