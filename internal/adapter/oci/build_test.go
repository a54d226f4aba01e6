package oci_test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/castellan-security/castellan/internal/adapter/oci"
	"github.com/castellan-security/castellan/internal/inventory"
)

const (
	ociIndex     = "application/vnd.oci.image.index.v1+json"
	ociManifest  = "application/vnd.oci.image.manifest.v1+json"
	ociConfig    = "application/vnd.oci.image.config.v1+json"
	ociLayer     = "application/vnd.oci.image.layer.v1.tar"
	dockerConfig = "application/vnd.docker.container.image.v1+json"
	dockerSchema = "application/vnd.docker.distribution.manifest.v2+json"
	dockerLayer  = "application/vnd.docker.image.rootfs.diff.tar"
)

// object is JSON that is written by hand in tests.
type object = map[string]any

// blobs are what is kept under its digest.
type blobs map[string][]byte

// add keeps b and returns its descriptor.
func (s blobs) add(mediaType string, b []byte) object {
	d := digest(b)
	s[d] = b
	return object{"mediaType": mediaType, "digest": d, "size": len(b)}
}

func (s blobs) addJSON(mediaType string, v any) object { return s.add(mediaType, asJSON(v)) }

func asJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // of a test's own literal
	}
	return b
}

func digest(b []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(b)) }

// with returns a copy of d with more members.
func with(d object, more object) object {
	d = maps.Clone(d)
	maps.Copy(d, more)
	return d
}

// tarOf makes a tar archive of name and content pairs.
func tarOf(pairs ...string) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i := 0; i < len(pairs); i += 2 {
		must(w.WriteHeader(&tar.Header{Name: pairs[i], Mode: 0o644, Size: int64(len(pairs[i+1])), Typeflag: tar.TypeReg}))
		_, err := io.WriteString(w, pairs[i+1])
		must(err)
	}
	must(w.Close())
	return b.Bytes()
}

func must(err error) {
	if err != nil {
		panic(err) // writing to memory does not fail
	}
}

func gzipped(b []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, err := w.Write(b)
	must(err)
	must(w.Close())
	return out.Bytes()
}

func zstandard(b []byte) []byte {
	w, err := zstd.NewWriter(nil)
	must(err)
	return w.EncodeAll(b, nil)
}

// layer is a layer as it is stored.
type layer struct {
	mediaType   string
	tar, stored []byte
}

func plainLayer(pairs ...string) layer {
	t := tarOf(pairs...)
	return layer{ociLayer, t, t}
}

func gzipLayer(pairs ...string) layer {
	t := tarOf(pairs...)
	return layer{ociLayer + "+gzip", t, gzipped(t)}
}

func zstdLayer(pairs ...string) layer {
	t := tarOf(pairs...)
	return layer{ociLayer + "+zstd", t, zstandard(t)}
}

// threeLayers are one of each kind.
func threeLayers(mark string) []layer {
	return []layer{
		gzipLayer("etc/os-release", "ID=debian\n", "mark", mark),
		zstdLayer("app/server", strings.Repeat("server "+mark, 5000)),
		plainLayer("app/config", "port=80 "+mark),
	}
}

// config is the configuration of an image of those layers, with its history.
func config(arch string, layers []layer) object {
	var ids []string
	history := []object{{"created_by": "/bin/sh -c #(nop) ADD file:1 in / ", "created": "2026-01-02T03:04:05Z"},
		{"created_by": "ENV A=b", "empty_layer": true, "comment": "buildkit.dockerfile.v0"},
		{"created_by": "RUN /bin/sh -c make # buildkit", "author": "me"}}
	for i, l := range layers {
		ids = append(ids, digest(l.tar))
		if i >= 2 {
			history = append(history, object{"created_by": fmt.Sprintf("COPY app/config /app # %d", i)})
		}
	}
	return object{
		"architecture": arch, "os": "linux", "created": "2026-01-02T03:04:06.5Z",
		"config": object{
			"User": "1000", "Env": []string{"PATH=/bin", "A=b"}, "Entrypoint": []string{"/app/server"}, "Cmd": []string{"--port", "80"},
			"WorkingDir": "/app", "ExposedPorts": object{"80/tcp": object{}, "443/tcp": object{}}, "Volumes": object{"/data": object{}},
			"Labels": object{"maintainer": "me"}, "Healthcheck": object{"Test": []string{"CMD", "/app/server", "-check"}},
		},
		"rootfs":  object{"type": "layers", "diff_ids": ids},
		"history": history,
	}
}

// image adds an image and returns the descriptor of its manifest.
func (s blobs) image(arch string, layers []layer) object {
	var ds []object
	for _, l := range layers {
		ds = append(ds, s.add(l.mediaType, l.stored))
	}
	return s.addJSON(ociManifest, object{
		"schemaVersion": 2, "mediaType": ociManifest, "config": s.addJSON(ociConfig, config(arch, layers)), "layers": ds,
	})
}

// index adds an index of entries.
func (s blobs) index(entries ...object) object {
	return s.addJSON(ociIndex, object{"schemaVersion": 2, "mediaType": ociIndex, "manifests": entries})
}

// forPlatform gives an entry of an index its platform.
func forPlatform(d object, os, arch, variant string) object {
	p := object{"os": os, "architecture": arch}
	if variant != "" {
		p["variant"] = variant
	}
	return with(d, object{"platform": p})
}

// twoPlatforms adds an image of two platforms with what BuildKit and a signer
// attach, and returns its index.
func (s blobs) twoPlatforms() object {
	amd := s.image("amd64", threeLayers("amd64"))
	arm := s.image("arm64", threeLayers("arm64"))
	statement := s.add("application/vnd.in-toto+json", []byte(`{"_type":"https://in-toto.io/Statement/v0.1"}`))
	attestation := s.addJSON(ociManifest, object{
		"schemaVersion": 2, "mediaType": ociManifest, "config": s.addJSON(ociConfig, config("unknown", nil)), "layers": []object{statement},
	})
	return s.index(
		forPlatform(amd, "linux", "amd64", ""),
		forPlatform(arm, "linux", "arm64", "v8"),
		with(forPlatform(attestation, "unknown", "unknown", ""), object{"annotations": object{"vnd.docker.reference.type": "attestation-manifest"}}),
	)
}

// files returns the blobs as a layout's files, with an index of entries.
func (s blobs) files(entries ...object) map[string][]byte {
	f := map[string][]byte{
		"oci-layout": []byte(`{"imageLayoutVersion":"1.0.0"}`),
		"index.json": asJSON(object{"schemaVersion": 2, "manifests": entries}),
	}
	for d, b := range s {
		f["blobs/"+strings.Replace(d, ":", "/", 1)] = b
	}
	return f
}

// writeFolder writes files below a new folder.
func writeFolder(t testing.TB, files map[string][]byte) string {
	t.Helper()
	dir := t.TempDir()
	for name, b := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// archive makes a tar archive of files, in the order of their names.
func archive(files map[string][]byte) []byte {
	var pairs []string
	for _, name := range slices.Sorted(maps.Keys(files)) {
		pairs = append(pairs, name, string(files[name]))
	}
	return tarOf(pairs...)
}

func writeFile(t testing.TB, b []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "image.tar")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// taken is what Each handed over: the digest of what was stored, for each
// layer's digest and diff id as they were given.
type taken struct {
	mu    sync.Mutex
	calls map[string]inventory.Layer // by digest of the stored bytes
}

func nothing(inventory.Layer) bool { return false }

func (k *taken) take(_ context.Context, l inventory.Layer, r io.Reader) error {
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.calls == nil {
		k.calls = map[string]inventory.Layer{}
	}
	got := fmt.Sprintf("sha256:%x", h.Sum(nil))
	if _, twice := k.calls[got]; twice {
		return fmt.Errorf("layer %s handed over twice", got)
	}
	k.calls[got] = l
	return nil
}

// checkLayers reads all layers of an image and checks that they are what was
// built, each handed over once.
func checkLayers(t *testing.T, i *oci.Image, layers []layer) {
	t.Helper()
	var k taken
	if err := i.Each(t.Context(), 2, nothing, k.take); err != nil {
		t.Fatalf("Each() = %v", err)
	}
	want := map[string]bool{}
	for _, l := range layers {
		d := digest(l.stored)
		want[d] = true
		got, ok := k.calls[d]
		if !ok {
			t.Errorf("layer %s was not handed over", d)
		}
		if got.Digest != "" && got.Digest != d || got.DiffID != "" && got.DiffID != digest(l.tar) {
			t.Errorf("layer %s came as %+v", d, got)
		}
	}
	for d := range k.calls {
		if !want[d] {
			t.Errorf("something else was handed over: %s", d)
		}
	}
	got := i.Image().Layers
	if len(got) != len(layers) {
		t.Fatalf("the image has %d layers, want %d", len(got), len(layers))
	}
	for n, l := range layers {
		if got[n].DiffID != digest(l.tar) || got[n].Size != int64(len(l.stored)) {
			t.Errorf("layer %d is %+v", n+1, got[n])
		}
	}
}
