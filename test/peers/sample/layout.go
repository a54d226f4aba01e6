package sample

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
)

const oci = "application/vnd.oci.image."

// descriptor is OCI's.
type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int64             `json:"size"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

func describe(kind string, b []byte) descriptor {
	return descriptor{MediaType: oci + kind, Digest: "sha256:" + digest(b), Size: int64(len(b))}
}

// documents are the configuration and the manifest.
func (i Image) documents() (config, manifest []byte, err error) {
	type history struct {
		Created string `json:"created"`
		By      string `json:"created_by"`
	}
	when := made.Format("2006-01-02T15:04:05Z")
	var diffs []string
	var steps []history
	var layers []descriptor
	for _, l := range i.Layers {
		d := describe("layer.v1.tar", l)
		layers, diffs = append(layers, d), append(diffs, d.Digest)
		steps = append(steps, history{when, "COPY . / # buildkit"})
	}
	config, err = json.Marshal(map[string]any{"created": when, "os": "linux", "architecture": "amd64", "config": struct{}{},
		"rootfs": map[string]any{"type": "layers", "diff_ids": diffs}, "history": steps})
	if err != nil {
		return nil, nil, err
	}
	manifest, err = json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": oci + "manifest.v1+json",
		"config": describe("config.v1+json", config), "layers": layers})
	return config, manifest, err
}

// Digest is that of the image's manifest.
func (i Image) Digest() (string, error) {
	_, manifest, err := i.documents()
	return "sha256:" + digest(manifest), err
}

// WriteLayout writes the image as an OCI image layout into a folder.
func (i Image) WriteLayout(dir string) error {
	config, manifest, err := i.documents()
	if err != nil {
		return err
	}
	blobs := filepath.Join(dir, "blobs", "sha256")
	if err := os.MkdirAll(blobs, 0o755); err != nil {
		return err
	}
	for _, b := range append([][]byte{config, manifest}, i.Layers...) {
		if err := os.WriteFile(filepath.Join(blobs, digest(b)), b, 0o644); err != nil {
			return err
		}
	}
	named := describe("manifest.v1+json", manifest)
	named.Annotations = map[string]string{"org.opencontainers.image.ref.name": "latest"}
	index, err := json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": oci + "index.v1+json", "manifests": []descriptor{named}})
	if err != nil {
		return err
	}
	return errors.Join(os.WriteFile(filepath.Join(dir, "index.json"), index, 0o644),
		os.WriteFile(filepath.Join(dir, "oci-layout"), []byte(`{"imageLayoutVersion":"1.0.0"}`), 0o644))
}

// WriteArchive writes the image as `docker save` does.
func (i Image) WriteArchive(name string) (err error) {
	config, _, err := i.documents()
	if err != nil {
		return err
	}
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w := tar.NewWriter(f)
	put := func(name string, b []byte) error {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, ModTime: made, Size: int64(len(b))}); err != nil {
			return err
		}
		_, err := w.Write(b)
		return err
	}
	var layers []string
	for _, l := range i.Layers {
		layers = append(layers, digest(l)+"/layer.tar")
		if err := put(layers[len(layers)-1], l); err != nil {
			return err
		}
	}
	configName := digest(config) + ".json"
	list, err := json.Marshal([]map[string]any{{"Config": configName, "RepoTags": []string{i.Name + ":latest"}, "Layers": layers}})
	if err != nil {
		return err
	}
	return errors.Join(put(configName, config), put("manifest.json", list), w.Close())
}
