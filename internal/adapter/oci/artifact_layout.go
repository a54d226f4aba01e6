package oci

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/castellan-security/castellan/internal/fault"
)

// layoutVersion is what the file oci-layout says.
const layoutVersion = `{"imageLayoutVersion":"1.0.0"}`

// WriteArtifact writes an artifact as an OCI image layout: a tar archive if path
// ends with .tar, else a folder, in which the layout that may be there keeps its
// other names. It returns the digest of the manifest. The same artifact and tag
// make the same bytes.
func WriteArtifact(ctx context.Context, path, tag string, a Artifact) (string, error) {
	manifest, err := a.document()
	if err != nil {
		return "", err
	}
	w := layoutWriter{path: path, tag: tag, a: a, manifest: manifest, digest: digestOf(manifest, "")}
	if strings.HasSuffix(path, ".tar") {
		err = w.tar(ctx)
	} else {
		err = w.folder(ctx)
	}
	if err != nil {
		return "", fmt.Errorf("write %s: %w", shown(path), err)
	}
	return w.digest, nil
}

type layoutWriter struct {
	path, tag string
	a         Artifact
	manifest  []byte
	digest    string
}

// indexEntry names the manifest in the index.
func (w *layoutWriter) indexEntry() (json.RawMessage, error) {
	return json.Marshal(struct {
		MediaType   string            `json:"mediaType"`
		Digest      string            `json:"digest"`
		Size        int               `json:"size"`
		Type        string            `json:"artifactType"`
		Annotations map[string]string `json:"annotations"`
	}{typeManifest, w.digest, len(w.manifest), w.a.Type, map[string]string{annotationName: w.tag}})
}

// index is the index with the manifest and what else was in it.
func (w *layoutWriter) index(others []json.RawMessage) ([]byte, error) {
	mine, err := w.indexEntry()
	if err != nil {
		return nil, err
	}
	return json.Marshal(struct {
		Schema    int               `json:"schemaVersion"`
		MediaType string            `json:"mediaType"`
		Manifests []json.RawMessage `json:"manifests"`
	}{2, typeIndex, append(others, mine)})
}

// tar writes an archive, which appears whole or not at all.
func (w *layoutWriter) tar(ctx context.Context) error {
	index, err := w.index(nil)
	if err != nil {
		return err
	}
	return whole(w.path, func(f io.Writer) error {
		t := tar.NewWriter(f)
		for _, e := range []struct {
			name    string
			content []byte
		}{
			{fileLayout, []byte(layoutVersion)}, {fileIndex, index},
			{blobName(digestOf([]byte(emptyConfig), "")), []byte(emptyConfig)}, {blobName(w.digest), w.manifest},
		} {
			if err := addFile(t, e.name, int64(len(e.content)), bytes.NewReader(e.content)); err != nil {
				return err
			}
		}
		file, err := w.a.Open()
		if err != nil {
			return err
		}
		return errors.Join(addFile(t, blobName(w.a.Digest), w.a.Size, inContext{ctx, file}), file.Close(), t.Close())
	})
}

func addFile(t *tar.Writer, name string, size int64, content io.Reader) error {
	if err := t.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: size, Format: tar.FormatPAX}); err != nil {
		return err
	}
	n, err := io.Copy(t, io.LimitReader(content, size))
	if err == nil && n != size {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// folder writes into a folder: first what the index is to name, then the index.
func (w *layoutWriter) folder(ctx context.Context) error {
	others, err := w.others()
	if err != nil {
		return err
	}
	index, err := w.index(others)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(w.path, "blobs", "sha256"), 0o755); err != nil {
		return err
	}
	put := func(name string, content []byte) error {
		return whole(filepath.Join(w.path, name), func(f io.Writer) error { _, err := f.Write(content); return err })
	}
	err = whole(filepath.Join(w.path, blobName(w.a.Digest)), func(f io.Writer) error {
		file, err := w.a.Open()
		if err != nil {
			return err
		}
		n, err := io.Copy(f, inContext{ctx, file})
		if err == nil && n != w.a.Size {
			err = io.ErrUnexpectedEOF
		}
		return errors.Join(err, file.Close())
	})
	if err != nil {
		return err
	}
	if err := put(blobName(digestOf([]byte(emptyConfig), "")), []byte(emptyConfig)); err != nil {
		return err
	}
	if err := put(blobName(w.digest), w.manifest); err != nil {
		return err
	}
	if err := put(fileLayout, []byte(layoutVersion)); err != nil {
		return err
	}
	return put(fileIndex, index)
}

// others are the entries of the index that is there, but for the one with the
// same tag. A folder with anything else in it is left alone.
func (w *layoutWriter) others() ([]json.RawMessage, error) {
	entries, err := os.ReadDir(w.path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(entries) == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, unreadable(w.path, err)
	}
	f, err := openFolder(w.path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // it was only read
	b, err := small(f, fileIndex, maxManifest)
	if fault.Is(err, fault.NotFound) {
		return nil, fault.New(fault.Conflict, "the folder is there and is no OCI image layout").With("name an empty or a new folder, or a file that ends with .tar")
	}
	if err != nil {
		return nil, err
	}
	var manifests json.RawMessage
	if _, err := members(b, map[string]*json.RawMessage{"manifests": &manifests}); err != nil {
		return nil, refuse(fileIndex, err)
	}
	all, err := list[json.RawMessage](manifests, maxManifests-1, "manifests")
	if err != nil {
		return nil, refuse(fileIndex, err)
	}
	return slices.DeleteFunc(all, func(raw json.RawMessage) bool {
		var d descriptor
		return json.Unmarshal(raw, &d) == nil && d.Annotations.RefName == w.tag
	}), nil
}

// whole writes a file that others may read: it appears whole or not at all.
func whole(path string, write func(io.Writer) error) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".castellan-")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	if err := errors.Join(write(f), f.Chmod(0o644), f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// OpenPathArtifact finds an artifact of that kind in an OCI image layout, a folder
// or a tar archive: the one with the tag, or without a tag the only one.
func OpenPathArtifact(ctx context.Context, path, tag string, kind ArtifactKind) (*StoredArtifact, error) {
	f, err := openLayout(ctx, path)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", shown(path), err)
	}
	a, err := artifactAmong(ctx, f, tag, kind)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", shown(path), err), f.Close())
	}
	a.closer = f
	return a, nil
}

// openLayout opens a layout whose files can be read in any order.
func openLayout(ctx context.Context, path string) (files, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, unreadable(path, err)
	}
	if info.IsDir() {
		return openFolder(path)
	}
	f, stream, err := openFile(ctx, path, Choice{})
	if stream != nil {
		return nil, errors.Join(fault.New(fault.Unsupported, "it is compressed, or a pipe").With("give the layout as a folder or as a plain tar archive"), stream.Close())
	}
	return f, err
}

func artifactAmong(ctx context.Context, f files, tag string, kind ArtifactKind) (*StoredArtifact, error) {
	if err := checkLayout(f); err != nil {
		return nil, err
	}
	b, err := small(f, fileIndex, maxManifest)
	if err != nil {
		return nil, err
	}
	doc, err := parseDocument(b, typeIndex)
	if err != nil {
		return nil, refuse(fileIndex, err)
	}
	var there []string
	var chosen []descriptor
	for _, d := range doc.index {
		if d.ArtifactType != "" && d.ArtifactType != kind.Type {
			continue
		}
		if d.Annotations.RefName == tag || tag == "" && d.ArtifactType == kind.Type || d.Digest == tag {
			chosen = append(chosen, d)
		}
		if len(there) < maxListed && d.ArtifactType == kind.Type {
			there = append(there, shown(d.Annotations.RefName))
		}
	}
	if len(chosen) != 1 {
		return nil, fault.New(fault.NotFound, "%d artifacts of that name and type are in it; there is %q", len(chosen), there).With("name one of those: oci:PATH:TAG")
	}
	s := newResolver(blobs{f}, Choice{})
	if b, err = s.document(ctx, chosen[0], maxManifest, "manifest", s.manifest); err != nil {
		return nil, err
	}
	a, file, err := parseArtifact(b, kind)
	if err != nil {
		return nil, err
	}
	a.Manifest = chosen[0].Digest
	a.open = func(ctx context.Context) (io.ReadCloser, error) { return s.blob(ctx, file) }
	return a, nil
}
