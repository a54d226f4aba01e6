package scan

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"sync"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan/layer"
)

// Image returns what is inside an image. Only layers that are not in the cache
// are read, and none is even looked up if the very image was scanned before. It
// doesn't close src.
func (s *Scanner) Image(ctx context.Context, src Layers) (inventory.Inventory, error) {
	j := s.job(src)
	subject := inventory.Subject{Kind: inventory.KindImage, Name: j.image.Reference}
	chain := chainOf(j.image)
	if w := s.cache.loadImage(chain); w != nil && w.has(j.image.Layers) {
		j.image.ExplainLayers()
		for i, l := range w.Layers {
			complete(&j.image.Layers[i], l.DiffID, l.Size)
			j.image.Layers[i].Missing = ""
		}
		return s.dated(w.Inventory, subject, &j.image), nil
	}
	image, layers, err := j.layers(ctx)
	if err != nil {
		return inventory.Inventory{}, err
	}
	v, err := j.view(ctx, layers)
	if err != nil {
		return inventory.Inventory{}, err
	}
	inv := s.inventory(v, layers, strata{layers: len(layers)}, j.budget)
	if !slices.ContainsFunc(layers, func(r *layer.Result) bool { return r.Unsettled || r.Missing != "" }) {
		s.cache.storeImage(&wholeImage{Chain: chain, Layers: bare(image.Layers), Inventory: inv})
	}
	subject.Name = image.Reference
	return s.dated(inv, subject, &image), nil
}

// bare are layers with what was worked out while they were read, and nothing of
// their instructions, in which people put passwords.
func bare(layers []inventory.Layer) []inventory.Layer {
	out := make([]inventory.Layer, len(layers))
	for i, l := range layers {
		out[i] = inventory.Layer{DiffID: l.DiffID, Size: l.Size}
	}
	return out
}

// Workload returns what is inside a running workload: its image, and what it
// wrote since it was started, which is in upper as overlayfs keeps it. It doesn't
// close src.
func (s *Scanner) Workload(ctx context.Context, name string, src Layers, upper fs.FS) (inventory.Inventory, error) {
	j := s.job(src)
	image, layers, err := j.layers(ctx)
	if err != nil {
		return inventory.Inventory{}, err
	}
	tree := layer.Tree{Options: s.options(j.budget), Overlay: true}
	written, err := layer.ReadTree(ctx, upper, tree)
	if err != nil {
		return inventory.Inventory{}, fmt.Errorf("what the workload wrote: %w", err)
	}
	all := append(layers, written)
	v, err := j.view(ctx, all)
	if err != nil {
		return inventory.Inventory{}, err
	}
	if readings := s.secondReadings(v, all)[written]; len(readings) > 0 {
		if err := again(ctx, upper, tree, readings); err != nil {
			return inventory.Inventory{}, fmt.Errorf("what the workload wrote: %w", err)
		}
		v = newView(s.o.Analysers, all)
	}
	inv := s.inventory(v, all, strata{layers: len(layers), running: true}, j.budget)
	return s.dated(inv, inventory.Subject{Kind: inventory.KindWorkload, Name: name}, &image), nil
}

// job is one scan of one image.
type job struct {
	s      *Scanner
	src    Layers
	budget *layer.Budget

	image inventory.Image // as far as it was known before the layers were read

	mu     sync.Mutex // guards the rest
	known  map[string]*layer.Result
	seen   Progress
	failed error // what was known of layers is more than the scan may hold
}

func (s *Scanner) job(src Layers) *job {
	return &job{s: s, src: src, image: src.Image(), budget: layer.NewBudget(s.o.Limits), known: map[string]*layer.Result{}}
}

func (s *Scanner) options(b *layer.Budget) layer.Options {
	return layer.Options{Analysers: s.o.Analysers, Limits: s.o.Limits, Budget: b}
}

// layers returns what all layers of the image hold, the base first.
func (j *job) layers(ctx context.Context) (inventory.Image, []*layer.Result, error) {
	skip := func(l inventory.Layer) bool {
		have := j.recall(l)
		if have == nil {
			j.progress(0, l.Size)
		}
		return have != nil
	}
	if err := j.src.Each(ctx, j.s.o.Parallel, skip, j.take); err != nil {
		return inventory.Image{}, nil, err
	}
	image := j.src.Image()
	image.ExplainLayers()
	results := make([]*layer.Result, len(image.Layers))
	for i := range image.Layers {
		l := &image.Layers[i]
		r := j.recall(*l)
		switch {
		case r != nil:
			l.Missing = ""
		case l.Missing != "":
			j.progress(0, -l.Size)
			r = &layer.Result{Digest: l.Digest, DiffID: l.DiffID, Missing: l.Missing}
		default:
			return image, nil, fault.New(fault.Corrupt, "layer %d, %s, is not in the image", i+1, nameOf(*l)).
				With("fetch or save the image again: its archive lacks a layer")
		}
		complete(l, r.DiffID, r.Size)
		results[i] = r
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	return image, results, j.failed
}

// complete gives a layer what its source did not know.
func complete(l *inventory.Layer, diffID string, size int64) {
	if l.DiffID == "" {
		l.DiffID = diffID
	}
	if l.Size == 0 {
		l.Size = size
	}
}

// recall returns what is known of a layer, from this scan or from the cache, or
// nil. Of one that was never read by its digest, its DiffID is enough: an engine
// that has that layer doesn't look at the blob either, and one that hasn't refuses
// what turns out to be another one.
func (j *job) recall(l inventory.Layer) *layer.Result {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, key := range [...]string{l.Digest, l.DiffID} {
		if r := j.recalled(key); r != nil {
			if contradicts(r.DiffID, l.DiffID) {
				return nil // it is read, and the error says so
			}
			return r
		}
	}
	return nil
}

// recalled is recall for one digest; j.mu is held.
func (j *job) recalled(key string) *layer.Result {
	if key == "" {
		return nil
	}
	if r := j.known[key]; r != nil {
		return r
	}
	r := j.s.cache.load(key, "")
	if r != nil {
		j.known[key] = r
		j.failed = errors.Join(j.failed, r.Charge(j.budget))
	}
	return r
}

// contradicts says that a layer was found to be something else than is said of it.
func contradicts(found, said string) bool { return found != "" && said != "" && found != said }

// take reads a layer.
func (j *job) take(ctx context.Context, l inventory.Layer, r io.Reader) error {
	o := j.s.options(j.budget)
	o.Progress = func(n int) { j.progress(int64(n), 0) }
	res, err := layer.Read(ctx, l, r, o)
	if err != nil {
		return fmt.Errorf("%s: %w", j.describe(l), err)
	}
	j.s.cache.store(res, "")
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, key := range [...]string{res.Digest, res.DiffID} {
		if key != "" {
			j.known[key] = res
		}
	}
	return nil
}

// progress adds to what was read, and to what is to be read.
func (j *job) progress(read, total int64) {
	if j.s.o.Progress == nil {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.seen.Read += read
	j.seen.Total += total
	j.s.o.Progress(j.seen)
}

// describe names a layer for an error.
func (j *job) describe(l inventory.Layer) string {
	for i, k := range j.image.Layers {
		if k.Digest == l.Digest && k.DiffID == l.DiffID && nameOf(l) != "" {
			return fmt.Sprintf("layer %d, %s", i+1, nameOf(l))
		}
	}
	if name := nameOf(l); name != "" {
		return "layer " + name
	}
	return "a layer"
}

func nameOf(l inventory.Layer) string {
	if l.Digest != "" {
		return l.Digest
	}
	return l.DiffID
}
