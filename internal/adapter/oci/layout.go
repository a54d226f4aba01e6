package oci

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/castellan-security/castellan/internal/fault"
)

// Names within an image layout, OCI image layout specification 1.1, and within
// an archive of `docker save`.
const (
	fileLayout   = "oci-layout"
	fileIndex    = "index.json"
	fileContents = "manifest.json"
)

// OpenPath opens the image that c means in an OCI image layout, a folder or a
// tar archive, or in an archive that `docker save` of any version made. The
// error lists what there is when c means none of it, or several.
//
// An archive is indexed once and its layers can be read in any order; one that
// is compressed, or is a pipe, is read as it comes: see OpenStream.
func OpenPath(ctx context.Context, path string, c Choice) (*Image, error) {
	return first(openPath(ctx, path, c, false))
}

// OpenPathAll opens the images of all platforms; with a platform in c, all that
// suit it.
func OpenPathAll(ctx context.Context, path string, c Choice) ([]*Image, error) {
	return openPath(ctx, path, c, true)
}

func first(all []*Image, err error) (*Image, error) {
	if err != nil {
		return nil, err
	}
	return all[0], nil
}

func openPath(ctx context.Context, path string, c Choice, all bool) ([]*Image, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, unreadable(path, err)
	}
	var f files
	if info.IsDir() {
		f, err = openFolder(path)
	} else {
		var stream *Image
		f, stream, err = openFile(ctx, path, c)
		if stream != nil {
			return stream.alone(all)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", shown(path), err)
	}
	images, err := openFiles(ctx, f, c, all)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", shown(path), err), f.Close())
	}
	holders := share(f, len(images))
	for _, i := range images {
		i.info.Reference = c.in(path)
		i.closer = holders
	}
	return images, nil
}

// openFiles finds the images that c means among files.
func openFiles(ctx context.Context, f files, c Choice, all bool) ([]*Image, error) {
	if has(f, fileIndex) {
		return openIndexed(ctx, f, c, all)
	}
	if has(f, fileContents) {
		return openSaved(ctx, f, c, all)
	}
	return nil, fault.New(fault.Invalid, "neither %s nor %s is in it", fileIndex, fileContents).
		With("give an OCI image layout, or an archive that docker save, podman save or skopeo made")
}

// openIndexed finds images by the index of a layout.
func openIndexed(ctx context.Context, f files, c Choice, all bool) ([]*Image, error) {
	r := newResolver(blobs{f}, c)
	found, err := indexed(ctx, r, f, all)
	if err != nil {
		return nil, err
	}
	if err := agrees(ctx, f, c, found); err != nil {
		return nil, err
	}
	var images []*Image
	for _, got := range found {
		images = append(images, &Image{info: got.image, opened: func(ctx context.Context, n int) (io.ReadCloser, error) {
			return r.blob(ctx, got.layers[n])
		}})
	}
	return images, nil
}

// indexed resolves a choice against the index of a layout.
func indexed(ctx context.Context, r *resolver, f files, all bool) ([]*resolved, error) {
	if err := checkLayout(f); err != nil {
		return nil, err
	}
	b, err := small(f, fileIndex, maxManifest)
	if err != nil {
		return nil, err
	}
	doc, err := parseDocument(b, "")
	if err == nil && doc.manifest != nil {
		err = errors.New("it is a manifest and no index")
	}
	if err != nil {
		return nil, refuse(fileIndex, err)
	}
	candidates, err := r.entries(ctx, doc.index, 0)
	if err != nil {
		return nil, err
	}
	if all {
		return r.each(ctx, candidates)
	}
	got, err := r.one(ctx, candidates)
	if err != nil {
		return nil, err
	}
	return []*resolved{got}, nil
}

// checkLayout reads the version of a layout. Docker before 25 writes none, and
// its archives have no index either; without an index nobody comes here.
func checkLayout(f files) error {
	const limit = 4 << 10
	b, err := small(f, fileLayout, limit)
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	var said struct {
		Version string `json:"imageLayoutVersion"`
	}
	if err := json.Unmarshal(b, &said); err != nil {
		return invalid("%s: %w", fileLayout, err)
	}
	if v := said.Version; !strings.HasPrefix(v, "1.") {
		return fault.New(fault.Unsupported, "image layout version %q, and 1.0 is known", shown(v)).
			With("write it with a tool of OCI image specification 1")
	}
	return nil
}

// blobs are the parts of images below the folder blobs of a layout.
type blobs struct{ files files }

func (b blobs) manifest(ctx context.Context, d descriptor) (io.ReadCloser, error) {
	return b.blob(ctx, d)
}

func (b blobs) blob(_ context.Context, d descriptor) (io.ReadCloser, error) {
	name := blobName(d.Digest)
	size, err := b.files.size(name)
	if err != nil {
		return nil, err
	}
	if size != d.Size {
		return nil, corrupt("%s has %d bytes, and %d were announced", name, size, d.Size)
	}
	return b.files.open(name)
}

// blobName is where a layout keeps what has a digest that was checked.
func blobName(digest string) string {
	algorithm, hex, _ := strings.Cut(digest, ":")
	return "blobs/" + algorithm + "/" + hex
}

// agrees refuses an archive whose two tables of contents tell of different
// images under one name: an engine may run the one while the other is scanned.
func agrees(ctx context.Context, f files, c Choice, found []*resolved) error {
	if !has(f, fileContents) {
		return nil
	}
	items, err := readContents(f)
	if err != nil {
		return err
	}
	for _, it := range items {
		if len(items) > 1 && !it.isNamed(c.Name) {
			continue
		}
		if slices.ContainsFunc(found, func(r *resolved) bool { return it.Config == blobName(r.config.Digest) }) {
			continue
		}
		other, err := loadSaved(ctx, f, it)
		if err != nil {
			return err
		}
		for _, r := range found {
			if rank(other.image.Platform, r.image.Platform) > 0 {
				return invalid("%s and %s tell of different images: %s and %s", fileContents, fileIndex,
					cmp.Or(short(other.image.ID), it.Config), short(r.image.ID))
			}
		}
	}
	return nil
}
