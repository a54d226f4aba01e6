package main

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// imageLayer is one layer of the image that is scanned.
type imageLayer struct {
	path         string // of its blob
	digest, diff string
	size         int64 // as stored
}

// descriptor is OCI's.
type descriptor struct {
	MediaType string `json:"mediaType"`
	Digest    string `json:"digest"`
	Size      int64  `json:"size"`
}

// makeLayers writes folders of this machine as the blobs of an image layout.
func makeLayers(dir, form string) (layers []imageLayer, err error) {
	blobs := filepath.Join(dir, "blobs", "sha256")
	if err := os.MkdirAll(blobs, 0o755); err != nil {
		return nil, err
	}
	left := int64(imageBytes)
	for _, folder := range imageFolders {
		if _, err := os.Stat(folder); err != nil || left <= 0 {
			continue
		}
		l, err := makeLayer(blobs, folder, form, &left)
		if err != nil {
			return nil, err
		}
		layers = append(layers, l)
	}
	return layers, nil
}

// together is how large layers are as they are stored.
func together(layers []imageLayer) (stored int64) {
	for _, l := range layers {
		stored += l.size
	}
	return stored
}

func configOf(layers []imageLayer) map[string]any {
	var diffs []string
	for _, l := range layers {
		diffs = append(diffs, l.diff)
	}
	return map[string]any{"os": "linux", "architecture": runtime.GOARCH, "config": struct{}{},
		"rootfs": map[string]any{"type": "layers", "diff_ids": diffs}}
}

// writeLayout completes an OCI image layout whose blobs of layers are there.
func writeLayout(dir, form string, layers []imageLayer) error {
	blobs := filepath.Join(dir, "blobs", "sha256")
	var descriptors []descriptor
	for _, l := range layers {
		descriptors = append(descriptors, descriptor{"application/vnd.oci.image.layer.v1.tar+" + form, l.digest, l.size})
	}
	put := func(v any, kind string) (descriptor, error) {
		b, err := json.Marshal(v)
		if err != nil {
			return descriptor{}, err
		}
		sum := sha256.Sum256(b)
		name := hex.EncodeToString(sum[:])
		return descriptor{kind, "sha256:" + name, int64(len(b))}, os.WriteFile(filepath.Join(blobs, name), b, 0o644)
	}
	const oci = "application/vnd.oci.image."
	config, err := put(configOf(layers), oci+"config.v1+json")
	if err != nil {
		return err
	}
	manifest, err := put(map[string]any{"schemaVersion": 2, "mediaType": oci + "manifest.v1+json", "config": config, "layers": descriptors}, oci+"manifest.v1+json")
	if err != nil {
		return err
	}
	index, err := json.Marshal(map[string]any{"schemaVersion": 2, "manifests": []descriptor{manifest}})
	if err != nil {
		return err
	}
	return errors.Join(os.WriteFile(filepath.Join(dir, "index.json"), index, 0o644),
		os.WriteFile(filepath.Join(dir, "oci-layout"), []byte(`{"imageLayoutVersion":"1.0.0"}`), 0o644))
}

// makeLayer writes a folder as a compressed tar under its digest; left is how
// much the image may still take.
func makeLayer(blobs, folder, form string, left *int64) (l imageLayer, err error) {
	f, err := os.CreateTemp(blobs, "layer-")
	if err != nil {
		return l, err
	}
	defer f.Close()
	stored, plain := sha256.New(), sha256.New()
	z, err := compressor(form, io.MultiWriter(f, stored))
	if err != nil {
		return l, err
	}
	w := tar.NewWriter(io.MultiWriter(z, plain))
	err = filepath.WalkDir(folder, func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err != nil || *left < info.Size() {
			return err
		}
		*left -= info.Size()
		return addFile(w, p, info)
	})
	if err = errors.Join(err, w.Close(), z.Close()); err != nil {
		return l, err
	}
	return nameLayer(f, stored, plain)
}

// compressor compresses as builders of images do by default.
func compressor(form string, w io.Writer) (io.WriteCloser, error) {
	if form == "zstd" {
		return zstd.NewWriter(w)
	}
	return gzip.NewWriter(w), nil
}

// nameLayer gives a blob that is written the name that its digest is, and says
// what it is as a layer.
func nameLayer(f *os.File, stored, plain hash.Hash) (l imageLayer, err error) {
	info, err := f.Stat()
	if err != nil {
		return l, err
	}
	name := hex.EncodeToString(stored.Sum(nil))
	l = imageLayer{filepath.Join(filepath.Dir(f.Name()), name), "sha256:" + name, "sha256:" + hex.EncodeToString(plain.Sum(nil)), info.Size()}
	return l, os.Rename(f.Name(), l.path)
}

func addFile(w *tar.Writer, path string, info fs.FileInfo) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	h, err := tar.FileInfoHeader(info, "")
	if err != nil {
		return err
	}
	h.Name = strings.TrimPrefix(path, "/")
	if err := w.WriteHeader(h); err != nil {
		return err
	}
	_, err = io.CopyN(w, f, info.Size())
	return err
}

// writeArchive writes what `docker save` would: the layers as they are when they
// are not compressed.
func writeArchive(name string, layers []imageLayer) (err error) {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w := tar.NewWriter(f)
	var names []string
	for _, l := range layers {
		names = append(names, strings.TrimPrefix(l.diff, "sha256:")+"/layer.tar")
		if err := putPlain(w, names[len(names)-1], l.path); err != nil {
			return err
		}
	}
	config, err := json.Marshal(configOf(layers))
	if err != nil {
		return err
	}
	sum := sha256.Sum256(config)
	configName := hex.EncodeToString(sum[:]) + ".json"
	manifest, err := json.Marshal([]map[string]any{{"Config": configName, "RepoTags": []string{"bench:latest"}, "Layers": names}})
	if err != nil {
		return err
	}
	return errors.Join(putBytes(w, configName, config), putBytes(w, "manifest.json", manifest), w.Close())
}

// putPlain adds a layer, unpacked; that takes two readings, since its size comes
// first.
func putPlain(w *tar.Writer, name, blob string) error {
	var size int64
	if err := decompress(blob, counter{&size}); err != nil {
		return err
	}
	if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: size}); err != nil {
		return err
	}
	return decompress(blob, w)
}

// counter counts what is written to it.
type counter struct{ n *int64 }

func (c counter) Write(b []byte) (int, error) {
	*c.n += int64(len(b))
	return len(b), nil
}

func putBytes(w *tar.Writer, name string, b []byte) error {
	if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(b))}); err != nil {
		return err
	}
	_, err := w.Write(b)
	return err
}

// addToLayer writes a layer anew with one file more, under its new digest.
func addToLayer(blobs string, l imageLayer) (imageLayer, error) {
	f, err := os.CreateTemp(blobs, "layer-")
	if err != nil {
		return l, err
	}
	defer f.Close()
	stored, plain := sha256.New(), sha256.New()
	z := gzip.NewWriter(io.MultiWriter(f, stored))
	w := tar.NewWriter(io.MultiWriter(z, plain))
	pr, pw := io.Pipe()
	go func() { pw.CloseWithError(decompress(l.path, pw)) }()
	defer pr.Close()
	r := tar.NewReader(pr)
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return l, err
		}
		if err := w.WriteHeader(h); err != nil {
			return l, err
		}
		if _, err := io.Copy(w, r); err != nil {
			return l, err
		}
	}
	if err := errors.Join(putBytes(w, "etc/changed", []byte("yes")), w.Close(), z.Close()); err != nil {
		return l, err
	}
	return nameLayer(f, stored, plain)
}
