package oci

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/inventory"
)

// store is where the parts of images are kept by their digests. The error is of
// kind NotFound for a part that isn't there. The caller closes what it gets.
type store interface {
	manifest(ctx context.Context, d descriptor) (io.ReadCloser, error)
	blob(ctx context.Context, d descriptor) (io.ReadCloser, error)
}

// resolver follows one reference to the images it means.
type resolver struct {
	store
	choice Choice
	budget int64 // of maxDocuments
}

func newResolver(s store, c Choice) *resolver {
	return &resolver{store: s, choice: c, budget: maxDocuments}
}

// resolved is one image with what its layers are opened by.
type resolved struct {
	image  inventory.Image
	config descriptor
	layers []descriptor
}

// document reads and verifies a document.
func (r *resolver) document(ctx context.Context, d descriptor, limit int64, what string,
	open func(context.Context, descriptor) (io.ReadCloser, error)) ([]byte, error) {
	if err := d.check(what); err != nil {
		return nil, err
	}
	if d.Size > limit {
		return nil, tooLarge(what+" "+short(d.Digest), d.Size, limit)
	}
	if r.budget <= 0 {
		return nil, fault.New(fault.Invalid, "more than %d bytes of manifests and configurations", maxDocuments).
			With("ask for one platform or for one name")
	}
	body, err := open(ctx, d)
	if err != nil {
		return nil, fmt.Errorf("open %s %s: %w", what, short(d.Digest), err)
	}
	b, err := readVerified(body, d, min(limit, r.budget), what)
	err = errors.Join(err, body.Close())
	r.budget -= int64(len(b))
	return b, err
}

// one returns the image that the choice means among those of an index, or the
// only one.
func (r *resolver) one(ctx context.Context, all []candidate) (*resolved, error) {
	chosen, err := r.narrow(ctx, all)
	if err != nil {
		return nil, err
	}
	k, err := r.choice.pick(chosen)
	if err != nil {
		return nil, err
	}
	return r.load(ctx, k)
}

// each returns the images of all platforms.
func (r *resolver) each(ctx context.Context, all []candidate) ([]*resolved, error) {
	chosen, err := r.narrow(ctx, all)
	if err != nil {
		return nil, err
	}
	var out []*resolved
	var missing error
	for _, k := range chosen {
		if r.choice.asked() && rank(*k.runs, r.choice.wanted()) == 0 {
			continue
		}
		got, err := r.load(ctx, k)
		if fault.Is(err, fault.NotFound) {
			missing = err // a copy of some platforms has the index of all
			continue
		}
		if err != nil {
			return nil, err
		}
		out = append(out, got)
	}
	if len(out) > 0 {
		return out, nil
	}
	if missing != nil {
		return nil, missing
	}
	_, err = r.choice.pick(chosen)
	return nil, err
}

// narrow leaves the candidates that have the name that is asked for and are
// images, each once, and completes their platforms.
func (r *resolver) narrow(ctx context.Context, all []candidate) ([]candidate, error) {
	known := named(all, r.choice.Name)
	if len(known) == 0 && r.choice.Name != "" {
		return nil, fault.New(fault.NotFound, "there is no image %q in it; there is %s", shown(r.choice.Name), listing(all)).
			With("name one of those")
	}
	var out []candidate
	var artifact error
	for _, k := range known {
		if slices.ContainsFunc(out, func(o candidate) bool { return o.Digest == k.Digest }) {
			continue
		}
		if k.runs == nil {
			got, err := r.load(ctx, k)
			if other := (*notAnImage)(nil); errors.As(err, &other) && len(known) > 1 {
				artifact = err
				continue
			}
			if err != nil {
				return nil, err
			}
			k.got, k.runs = got, &got.image.Platform
		}
		out = append(out, k)
	}
	if len(out) > 0 {
		return out, nil
	}
	if artifact != nil {
		return nil, artifact
	}
	return nil, fault.New(fault.NotFound, "there is no image in it").With("was anything saved or pushed there?")
}

// candidates returns the manifests that the document b, which d names, is or
// leads to.
func (r *resolver) candidates(ctx context.Context, d descriptor, b []byte, depth int) ([]candidate, error) {
	doc, err := parseDocument(b, d.MediaType)
	if err != nil {
		return nil, refuse("manifest "+short(d.Digest), err)
	}
	if doc.manifest != nil {
		return []candidate{{descriptor: d, doc: doc.manifest, names: namesOf(d), runs: platformOf(d)}}, nil
	}
	return r.entries(ctx, doc.index, depth)
}

// entries returns the manifests that the entries of an index lead to.
func (r *resolver) entries(ctx context.Context, index []descriptor, depth int) ([]candidate, error) {
	if depth == maxNesting {
		return nil, invalid("indexes within indexes, %d deep", maxNesting)
	}
	var all []candidate
	for i, d := range index {
		if d.attached() {
			continue
		}
		if t := mediaTypeOf(d.MediaType); t != typeIndex && t != typeDockerList {
			all = append(all, candidate{descriptor: d, names: namesOf(d), runs: platformOf(d), top: i})
			continue
		}
		b, err := r.document(ctx, d, maxManifest, "index", r.manifest)
		if fault.Is(err, fault.NotFound) {
			continue // what a partial copy left out; if nothing else is there, that is said
		}
		if err != nil {
			return nil, err
		}
		below, err := r.candidates(ctx, d, b, depth+1)
		if err != nil {
			return nil, err
		}
		for _, k := range below {
			k.top, k.names, k.above = i, append(namesOf(d), k.names...), append(k.above, d.Digest)
			all = append(all, k)
		}
		if len(all) > maxManifests {
			return nil, invalid("more than %d manifests", maxManifests)
		}
	}
	return all, nil
}

func namesOf(d descriptor) []string {
	var names []string
	for _, n := range []string{d.Annotations.ImageName, d.Annotations.RefName} {
		if n != "" && !slices.Contains(names, n) {
			names = append(names, n)
		}
	}
	return names
}

func platformOf(d descriptor) *inventory.Platform {
	if d.Platform == nil || d.Platform.OS == "" || d.Platform.Architecture == "" {
		return nil
	}
	p := d.Platform.noun()
	return &p
}

// load reads a candidate's manifest and configuration.
func (r *resolver) load(ctx context.Context, k candidate) (*resolved, error) {
	if k.got != nil {
		return k.got, nil
	}
	if k.doc == nil {
		b, err := r.document(ctx, k.descriptor, maxManifest, "manifest", r.manifest)
		if err != nil {
			return nil, err
		}
		doc, err := parseDocument(b, k.MediaType)
		if err != nil {
			return nil, refuse("manifest "+short(k.Digest), err)
		}
		if doc.manifest == nil {
			return nil, invalid("manifest %s: it is an index, and its own index calls it a manifest", short(k.Digest))
		}
		k.doc = doc.manifest
	}
	m := k.doc
	b, err := r.document(ctx, m.config, maxConfig, "configuration", r.blob)
	if err != nil {
		return nil, err
	}
	c, err := parseConfig(b)
	if err != nil {
		return nil, refuse("configuration "+short(m.config.Digest), err)
	}
	image, err := describe(c, m.layers)
	if err != nil {
		return nil, refuse("image "+short(k.Digest), err)
	}
	image.Digest, image.ID = k.Digest, m.config.Digest
	if hint := k.runs; hint != nil && image.Platform.OS == hint.OS && image.Platform.Architecture == hint.Architecture {
		// Only indexes tell the variant of what older builders made.
		if image.Platform.Variant == "" {
			image.Platform.Variant = hint.Variant
		}
	}
	return &resolved{image: image, config: m.config, layers: m.layers}, nil
}

// describe puts a configuration and the layers of a manifest together.
func describe(c *configuration, layers []descriptor) (inventory.Image, error) {
	if len(c.diffIDs) != len(layers) {
		return inventory.Image{}, fmt.Errorf("the manifest has %d layers and the configuration %d", len(layers), len(c.diffIDs))
	}
	image := inventory.Image{
		Platform: c.platform.noun(), Created: c.created, Config: c.config, History: c.history,
		Layers: make([]inventory.Layer, len(layers)),
	}
	for i, l := range layers {
		image.Layers[i] = inventory.Layer{
			Digest: l.Digest, DiffID: c.diffIDs[i], MediaType: cut(l.MediaType, maxShown), Size: l.Size,
		}
		if isForeign(l.MediaType) {
			image.Layers[i].Missing = missingForeign(l)
		}
	}
	image.ExplainLayers()
	return image, nil
}

// missingForeign says why a layer is not read that only its publisher may
// distribute. The image names addresses for it, which whoever made the image
// chose: they are shown and never followed.
func missingForeign(d descriptor) string {
	why := "only its publisher may distribute this layer, and nothing is fetched from elsewhere"
	if len(d.URLs) == 0 {
		return why
	}
	return why + " (" + shown(d.URLs[0]) + ")"
}

// refuse says of which document an error of its parser is.
func refuse(what string, err error) error {
	var other *notAnImage
	switch {
	case errors.As(err, &other):
		return fault.New(fault.Unsupported, "%s: %w", what, err).With("name the image that it belongs to")
	case fault.Of(err) != fault.Unknown:
		return fmt.Errorf("%s: %w", what, err)
	}
	return invalid("%s: %w", what, err)
}
