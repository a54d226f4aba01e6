package oci

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/castellan-security/castellan/internal/inventory"
)

const (
	seedManifest = `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",` +
		`"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef","size":2},` +
		`"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef","size":3}]}`
	seedIndex = `{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json",` +
		`"digest":"sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef","size":3,"platform":{"os":"linux","architecture":"arm64","variant":"v8"},` +
		`"annotations":{"org.opencontainers.image.ref.name":"1"}}]}`
	seedConfig = `{"architecture":"amd64","os":"linux","created":"2026-01-02T03:04:05Z","config":{"Env":["A=b"],"Cmd":"sh","Labels":{"a":"b"},` +
		`"ExposedPorts":{"80/tcp":{}},"Healthcheck":{"Test":["CMD"]}},"rootfs":{"type":"layers","diff_ids":` +
		`["sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"]},"history":[{"created_by":"/bin/sh -c #(nop) CMD"},{"empty_layer":true}]}`
	seedContents = `[{"Config":"c.json","RepoTags":["a:1"],"Layers":["l.tar"],"LayerSources":{"sha256:0":{"mediaType":"x"}}}]`
)

// FuzzParseDocument wants of what is accepted that it can be followed.
func FuzzParseDocument(f *testing.F) {
	f.Add([]byte(seedManifest), typeManifest)
	f.Add([]byte(seedIndex), "")
	f.Add([]byte(`{"schemaVersion":1,"fsLayers":[]}`), typeSchema1)
	f.Add([]byte(`{"schemaVersion":2,"Layers":[]}`), "")
	f.Fuzz(func(t *testing.T, b []byte, mediaType string) {
		doc, err := parseDocument(b, mediaType)
		if err != nil {
			return
		}
		if doc.manifest == nil && len(doc.index) > maxManifests {
			t.Fatalf("%d manifests", len(doc.index))
		}
		if m := doc.manifest; m != nil {
			for _, d := range append(m.layers, m.config) {
				if inventory.CheckDigest(d.Digest) != nil || d.Size < 0 {
					t.Fatalf("descriptor %+v", d)
				}
			}
			if doc.index != nil || len(m.layers) > maxLayers {
				t.Fatalf("document %+v", doc)
			}
		}
	})
}

// FuzzParseConfig wants valid text within its limits.
func FuzzParseConfig(f *testing.F) {
	f.Add([]byte(seedConfig))
	f.Add([]byte(`{"rootfs":{}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := parseConfig(b)
		if err != nil {
			return
		}
		texts := append([]string{c.config.User, c.config.WorkingDir}, c.config.Env...)
		texts = append(append(texts, c.config.Entrypoint...), c.config.ExposedPorts...)
		for _, s := range c.history {
			texts = append(texts, s.Instruction, s.Author, s.Comment)
		}
		for _, s := range texts {
			if len(s) > maxText || !utf8.ValidString(s) {
				t.Fatalf("text %q", s)
			}
		}
		image, err := describe(c, make([]descriptor, len(c.diffIDs)))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := json.Marshal(image); err != nil {
			t.Fatal(err)
		}
	})
}

// FuzzParseContents wants names that files can have.
func FuzzParseContents(f *testing.F) {
	f.Add([]byte(seedContents))
	f.Fuzz(func(t *testing.T, b []byte) {
		items, err := parseContents(b)
		if err != nil {
			return
		}
		for _, it := range items {
			if len(it.Layers) > maxLayers || len(it.Config) > maxName {
				t.Fatalf("item %+v", it)
			}
		}
	})
}

// seedArchive is an archive of one image.
func seedArchive() []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	put := func(name, body string) {
		_ = w.WriteHeader(&tar.Header{Name: name, Size: int64(len(body)), Mode: 0o600, Typeflag: tar.TypeReg})
		_, _ = io.WriteString(w, body)
	}
	layer := strings.Repeat("\x00", 1024)
	put("c.json", `{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":["sha256:`+fmt.Sprintf("%x", sha256.Sum256([]byte(layer)))+`"]}}`)
	put("l.tar", layer)
	_ = w.WriteHeader(&tar.Header{Name: "m.tar", Linkname: "l.tar", Typeflag: tar.TypeSymlink})
	put("manifest.json", seedContents)
	_ = w.Close()
	return b.Bytes()
}

// FuzzArchive reads archives as files and as streams. What both accept is the
// same image, with the same layers.
func FuzzArchive(f *testing.F) {
	f.Add(seedArchive())
	f.Add(seedArchive()[:3000])
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, b []byte) {
		path := filepath.Join(dir, "image.tar")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		fromFile, fileErr := readAll(t, func() (*Image, error) { return OpenPath(t.Context(), path, Choice{}) })
		fromStream, streamErr := readAll(t, func() (*Image, error) {
			return OpenStream(io.NopCloser(bytes.NewReader(b)), Choice{}), nil
		})
		if fileErr != nil || streamErr != nil {
			return
		}
		if fromFile.image.ID != fromStream.image.ID || len(fromFile.image.Layers) != len(fromStream.image.Layers) {
			t.Fatalf("as a file %+v, as a stream %+v", fromFile.image, fromStream.image)
		}
		for digest := range fromFile.layers {
			if !fromStream.layers[digest] {
				t.Fatalf("layer %s came of the file and not of the stream", digest)
			}
		}
	})
}

// read is an image with the digests of what its layers were.
type read struct {
	image  inventory.Image
	layers map[string]bool
}

func readAll(t *testing.T, open func() (*Image, error)) (read, error) {
	t.Helper()
	i, err := open()
	if err != nil {
		return read{}, err
	}
	defer func() { _ = i.Close() }()
	got := read{layers: map[string]bool{}}
	err = i.Each(t.Context(), 1, func(inventory.Layer) bool { return false }, func(_ context.Context, _ inventory.Layer, r io.Reader) error {
		h := sha256.New()
		if _, err := io.Copy(h, r); err != nil {
			return err
		}
		got.layers[fmt.Sprintf("%x", h.Sum(nil))] = true
		return nil
	})
	got.image = i.Image()
	return got, err
}

// FuzzReference wants of what is accepted that it means the same when it is
// written out.
func FuzzReference(f *testing.F) {
	for _, s := range []string{"web", "web:1", "registry.example:5000/shop/web@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", "A:b", "-x", "[::1]:5000/a"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		ref, err := parseReference(s)
		if err != nil {
			return
		}
		again, err := parseReference(ref.Name())
		if err != nil || again.Name() != ref.Name() {
			t.Fatalf("%q is %q, and that is %v, %v", s, ref.Name(), again, err)
		}
		_ = isLoopback(ref.Context().RegistryStr())
	})
}

// FuzzDockerConfig reads credentials of a file without a helper.
func FuzzDockerConfig(f *testing.F) {
	f.Add([]byte(`{"auths":{"registry.example":{"auth":"YTpi"},"https://registry.example/v1/":{}}}`))
	repo, err := name.NewRepository("registry.example/shop/web")
	if err != nil {
		f.Fatal(err)
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, b []byte) {
		path := filepath.Join(dir, "config.json")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := readDockerConfig(path)
		if err != nil {
			return
		}
		c.CredsStore, c.CredHelpers = "", nil
		_, _, _ = c.find(t.Context(), repo)
	})
}

// FuzzParseArtifact wants of what is accepted that it can be fetched.
func FuzzParseArtifact(f *testing.F) {
	kind := ArtifactKind{Type: "application/vnd.example", MediaType: "application/vnd.example+zstd"}
	a := Artifact{ArtifactKind: kind, Digest: digestOf([]byte("x"), ""), Size: 1, Title: "x"}
	b, err := a.document()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(seedManifest))
	f.Add([]byte(seedIndex))
	f.Fuzz(func(t *testing.T, b []byte) {
		a, d, err := parseArtifact(b, kind)
		if err != nil {
			return
		}
		if inventory.CheckDigest(d.Digest) != nil || d.Size <= 0 || d.Size > maxArtifact || a.Digest != d.Digest || a.Size != d.Size {
			t.Fatalf("artifact %+v, file %+v", a, d)
		}
	})
}

// FuzzNextPage wants the same list of the same registry, whatever it says.
func FuzzNextPage(f *testing.F) {
	for _, s := range []string{
		`</v2/_catalog?last=a&n=2>; rel="next"`, `<https://registry.example:443/v2/_catalog?last=a>; rel=next`,
		`<a>; title="x, <y>"; rel="last", <?last=b>;rel="next last"`, `<//elsewhere.example/?x>; rel="next"`, `<`, `<>;rel=next`, `,;"`,
	} {
		f.Add(s)
	}
	address := url.URL{Scheme: "https", Host: "registry.example", Path: "/v2/_catalog", RawQuery: "n=1"}
	f.Fuzz(func(t *testing.T, header string) {
		query, err := nextPage([]string{header}, address)
		if err != nil || query == "" {
			return
		}
		next := address
		next.RawQuery = query
		if u, err := url.Parse(next.String()); err != nil || u.Host != address.Host || u.Path != address.Path || u.Scheme != "https" {
			t.Fatalf("%q leads to %q (%v)", header, next.String(), err)
		}
	})
}
