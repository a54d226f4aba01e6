package oci

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/inventory"
)

// openFile opens an archive as files, or as a stream if it can only be read
// from its beginning to its end.
func openFile(ctx context.Context, path string, c Choice) (files, *Image, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, nil, unreadable(path, err)
	}
	info, err := file.Stat()
	if err != nil {
		return nil, nil, errors.Join(err, file.Close())
	}
	var head [headSize]byte
	n := 0
	if info.Mode().IsRegular() {
		if n, err = file.ReadAt(head[:], 0); err != nil && !errors.Is(err, io.EOF) {
			return nil, nil, errors.Join(err, file.Close())
		}
	}
	if !info.Mode().IsRegular() || compression(head[:n]) != plain {
		stream := OpenStream(file, c)
		stream.info.Reference = c.in(path)
		return nil, stream, nil
	}
	t, err := openTarball(ctx, file)
	if err != nil {
		return nil, nil, errors.Join(err, file.Close())
	}
	return t, nil, nil
}

// item is one image in the table of contents of an archive.
type item struct {
	Config   string
	RepoTags []string
	Layers   []string
	// LayerSources tells of layers that only their publisher may distribute.
	LayerSources map[string]descriptor
}

// isNamed says whether the item is known by name; every item is by none.
func (i item) isNamed(name string) bool {
	return name == "" || slices.ContainsFunc(i.RepoTags, func(t string) bool { return sameName(t, name) }) ||
		strings.HasPrefix(name, "sha256:") && digestInName(i.Config) == name
}

// readContents reads the table of contents of an archive.
func readContents(f files) ([]item, error) {
	b, err := small(f, fileContents, maxManifest)
	if err != nil {
		return nil, err
	}
	return parseContents(b)
}

func parseContents(b []byte) ([]item, error) {
	raw, err := list[json.RawMessage](bytes.TrimSpace(b), maxManifests, "images")
	if err != nil {
		return nil, invalid("%s: %w", fileContents, err)
	}
	var items []item
	for _, one := range raw {
		it, err := parseItem(one)
		if err != nil {
			return nil, invalid("%s: %w", fileContents, err)
		}
		items = append(items, it)
	}
	return items, nil
}

func parseItem(b []byte) (item, error) {
	var config, tags, layers, sources json.RawMessage
	if _, err := members(b, map[string]*json.RawMessage{
		"Config": &config, "RepoTags": &tags, "Layers": &layers, "LayerSources": &sources,
	}); err != nil {
		return item{}, err
	}
	var it item
	var err error
	if isNull(config) {
		return item{}, errors.New("an image without a configuration")
	}
	if err := json.Unmarshal(config, &it.Config); err != nil {
		return item{}, err
	}
	if it.RepoTags, err = list[string](tags, maxManifests, "tags"); err != nil {
		return item{}, err
	}
	if it.Layers, err = list[string](layers, maxLayers, "layers"); err != nil {
		return item{}, err
	}
	if len(it.Config) > maxName || slices.ContainsFunc(it.Layers, func(l string) bool { return len(l) > maxName || l == "" }) {
		return item{}, errors.New("a name that no file can have")
	}
	it.LayerSources, err = table[descriptor](sources, maxLayers, "sources of layers")
	return it, err
}

// saved is one image of an archive's table of contents.
type saved struct {
	image inventory.Image
	files []string // of the layers
}

// openSaved finds images by the table of contents of an archive.
func openSaved(ctx context.Context, f files, c Choice, all bool) ([]*Image, error) {
	found, err := chooseSaved(ctx, f, c, all)
	if err != nil {
		return nil, err
	}
	var images []*Image
	for _, s := range found {
		for n := range s.image.Layers {
			if err := stored(f, s.files[n], &s.image.Layers[n]); err != nil {
				return nil, fmt.Errorf("layer %d: %w", n+1, err)
			}
		}
		images = append(images, &Image{info: s.image, opened: func(_ context.Context, n int) (io.ReadCloser, error) {
			return f.open(s.files[n])
		}})
	}
	return images, nil
}

// chooseSaved resolves a choice against an archive's table of contents.
func chooseSaved(ctx context.Context, f files, c Choice, all bool) ([]*saved, error) {
	items, err := readContents(f)
	if err != nil {
		return nil, err
	}
	var known []candidate
	var loaded []*saved
	for n, it := range items {
		if !it.isNamed(c.Name) {
			known = append(known, candidate{names: it.RepoTags})
			continue
		}
		s, err := loadSaved(ctx, f, it)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(loaded, func(o *saved) bool { return o.image.ID == s.image.ID && slices.Equal(o.files, s.files) }) {
			continue
		}
		loaded = append(loaded, s)
		known = append(known, candidate{names: it.RepoTags, top: n, runs: &s.image.Platform, descriptor: descriptor{Digest: s.image.ID}})
	}
	if len(loaded) == 0 {
		return nil, fault.New(fault.NotFound, "there is no image %q in it; there is %s", shown(c.Name), listing(known)).
			With("name one of those")
	}
	known = slices.DeleteFunc(known, func(k candidate) bool { return k.runs == nil })
	if all {
		return loaded, nil
	}
	k, err := c.pick(known)
	if err != nil {
		return nil, err
	}
	at := slices.IndexFunc(loaded, func(s *saved) bool { return s.image.ID == k.Digest })
	return loaded[at : at+1], nil
}

// loadSaved reads the configuration of one image of an archive.
func loadSaved(ctx context.Context, f files, it item) (*saved, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	b, err := small(f, it.Config, maxConfig)
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	c, err := parseConfig(b)
	if err != nil {
		return nil, refuse("configuration "+shown(it.Config), err)
	}
	id := digestOf(b, "")
	if said := digestInName(it.Config); said != "" && said != id {
		return nil, corrupt("configuration %s: its digest is %s", shown(it.Config), id)
	}
	layers := make([]descriptor, len(it.Layers))
	image, err := describe(c, layers)
	if err != nil {
		return nil, refuse("image "+short(id), err)
	}
	image.ID = id
	for n, l := range image.Layers {
		if from := it.LayerSources[l.DiffID]; isForeign(from.MediaType) && !has(f, it.Layers[n]) {
			image.Layers[n] = foreign(l, from)
		}
	}
	return &saved{image: image, files: it.Layers}, nil
}

// foreign is a layer that the archive leaves to its publisher.
func foreign(l inventory.Layer, d descriptor) inventory.Layer {
	l.MediaType, l.Missing = cut(d.MediaType, maxShown), missingForeign(d)
	if inventory.CheckDigest(d.Digest) == nil && d.Size >= 0 {
		l.Digest, l.Size = d.Digest, d.Size
	}
	return l
}

// stored completes a layer with what its file tells.
func stored(f files, name string, l *inventory.Layer) error {
	if l.Missing != "" {
		return nil
	}
	size, err := f.size(name)
	if err != nil {
		return err
	}
	r, err := f.open(name)
	if err != nil {
		return err
	}
	var head [headSize]byte
	n, err := io.ReadFull(r, head[:])
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil
	}
	if err := errors.Join(err, r.Close()); err != nil {
		return err
	}
	l.Size, l.Digest = size, blobDigest(name)
	switch compression(head[:n]) {
	case plain:
		l.MediaType, l.Digest = typeLayer, l.DiffID
	case gzipped:
		l.MediaType = typeLayer + "+gzip"
	case zstandard:
		l.MediaType = typeLayer + "+zstd"
	default:
		return notALayer(name)
	}
	return nil
}

func notALayer(name string) error {
	return fault.New(fault.Unsupported, "%s is neither a tar archive nor one that gzip or zstd compressed", shown(name)).
		With("save the image anew with a current docker, podman or skopeo")
}

// blobDigest returns the digest that a file's place in a layout says it has.
func blobDigest(name string) string {
	rest, ok := strings.CutPrefix(name, "blobs/")
	if !ok {
		return ""
	}
	d := strings.Replace(rest, "/", ":", 1)
	if inventory.CheckDigest(d) != nil {
		return ""
	}
	return d
}

// digestInName returns the digest that a configuration's name says it has:
// tools name it by its digest, with and without an ending. The rest name it as
// they like.
func digestInName(name string) string {
	if d := blobDigest(name); d != "" {
		return d
	}
	hex := strings.TrimPrefix(strings.TrimSuffix(name, ".json"), "sha256:")
	if d := "sha256:" + hex; inventory.CheckDigest(d) == nil {
		return d
	}
	return ""
}
