package oci

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/inventory"
)

// Image is one opened image. The caller closes it.
type Image struct {
	info   inventory.Image
	opened opened // for layers that can be had one by one
	pass   *pass  // for an image that arrives as a stream; else nil
	closer io.Closer
}

// opened opens the layer at a place in Image.Layers, from its first byte to its
// last and no further.
type opened func(ctx context.Context, layer int) (io.ReadCloser, error)

// Image describes the image. For one that arrives as a stream it is complete
// only after Each.
func (i *Image) Image() inventory.Image {
	info := i.info
	info.Layers = slices.Clone(info.Layers) // which whoever scans completes
	return info
}

// Each hands over the stored bytes of every layer that skip does not name, up
// to parallel at once, in any order. A layer that the image has twice is handed
// over once, and one that is Missing only if it is there after all: whoever made
// an image could call any layer its publisher's own. Of a stream, layers come one
// by one, with only those fields filled that are known by then, and possibly
// more of them than the image turns out to have; of a pipe, Each works once.
//
// It stops at the first error of take and returns it. Take need not read to
// the end. Digests of layers are for take to check; that as many bytes come as
// were announced is checked here.
func (i *Image) Each(ctx context.Context, parallel int, skip func(inventory.Layer) bool,
	take func(context.Context, inventory.Layer, io.Reader) error) error {
	if i.pass != nil {
		info, err := i.pass.run(ctx, skip, take)
		if err == nil {
			info.Reference = i.info.Reference
			i.info = info
		}
		return err
	}
	group, inner := errgroup.WithContext(ctx)
	group.SetLimit(max(parallel, 1))
	for _, n := range i.order(skip) {
		group.Go(func() error {
			if err := inner.Err(); err != nil {
				return err // another layer failed, or nobody wants them any more
			}
			return i.hand(inner, n, take)
		})
	}
	return group.Wait()
}

// order returns the places of the layers to hand over, the largest first: the
// last to end then ends soonest.
func (i *Image) order(skip func(inventory.Layer) bool) []int {
	type identity struct{ digest, diffID string }
	seen := map[identity]bool{}
	var places []int
	for n, l := range i.info.Layers {
		id := identity{l.Digest, l.DiffID}
		if seen[id] {
			continue
		}
		seen[id] = true
		if !skip(l) {
			places = append(places, n)
		}
	}
	slices.SortStableFunc(places, func(a, b int) int {
		switch x, y := i.info.Layers[a].Size, i.info.Layers[b].Size; {
		case x > y:
			return -1
		case x < y:
			return 1
		}
		return 0
	})
	return places
}

// hand opens one layer and hands it over.
func (i *Image) hand(ctx context.Context, n int, take func(context.Context, inventory.Layer, io.Reader) error) error {
	l := i.info.Layers[n]
	body, err := i.opened(ctx, n)
	if l.Missing != "" && fault.Is(err, fault.NotFound) {
		return nil // as was told
	}
	if err != nil {
		return fmt.Errorf("open layer %d (%s): %w", n+1, short(l.DiffID), err)
	}
	return errors.Join(take(ctx, l, body), body.Close())
}

// Close gives back what the image holds open. Layers that are being handed over
// must have ended.
func (i *Image) Close() error {
	if i.closer == nil {
		return nil
	}
	return i.closer.Close()
}
