package images

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/store"
)

const (
	// maxNoted bounds the images that wait to be made known; beyond it the store
	// is asked for the workloads instead.
	maxNoted = 5_000
	// maxRemembered bounds the memory of what was made known: some 10 MiB.
	maxRemembered = 50_000
)

// noted are images that were told of and are not in the store yet.
type noted struct {
	mu sync.Mutex
	// known are image, reference and digest of what the store knows.
	known   map[string]bool
	waiting map[string]store.Image // by the same
	// sweep says that workloads may have been missed: the store has them all.
	sweep bool
}

// Noted tells of workloads that were stored: their images are scanned if they
// are not yet. It is quick and never waits.
func (s *Service) Noted(ws []asset.Workload) {
	if s.noted.add(ws) {
		s.nudge()
	}
}

// add reports whether something was new.
func (n *noted) add(ws []asset.Workload) (news bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for i := range ws {
		m := &ws[i].Image
		if inventory.CheckDigest(m.ID) != nil {
			continue // not known, as of a container that was gone before one could ask
		}
		key := noteKey(m.ID, m.Reference, m.Digest)
		if n.known[key] {
			continue
		}
		if len(n.waiting) >= maxNoted {
			n.sweep = true
			return true
		}
		im := store.Image{ID: m.ID, Digest: m.Digest, Layers: len(m.Layers)}
		if m.Reference != "" {
			im.References = []string{m.Reference}
		}
		n.waiting[key] = im
		news = true
	}
	return news
}

func noteKey(id, reference, digest string) string { return id + "\x00" + reference + "\x00" + digest }

// take hands over what waits, and whether workloads may have been missed.
func (n *noted) take() (images map[string]store.Image, sweep bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	images, sweep = n.waiting, n.sweep
	n.waiting, n.sweep = map[string]store.Image{}, false
	return images, sweep
}

// done remembers what the store knows now, or has it all looked for again.
func (n *noted) done(images map[string]store.Image, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err != nil {
		n.sweep = true
		return
	}
	if len(n.known)+len(images) > maxRemembered {
		clear(n.known)
	}
	for key := range images {
		n.known[key] = true
	}
}

// makeKnown stores what was noted.
func (s *Service) makeKnown(ctx context.Context) error {
	images, sweep := s.noted.take()
	if len(images) > 0 {
		err := s.noteImages(ctx, images)
		s.noted.done(images, err)
		if err != nil {
			return err
		}
	}
	if !sweep {
		return nil
	}
	err := s.sweep(ctx)
	s.noted.done(nil, err)
	return err
}

func (s *Service) noteImages(ctx context.Context, images map[string]store.Image) error {
	news, err := s.st.NoteImages(ctx, slices.Collect(maps.Values(images)), s.clock())
	if err != nil {
		return fmt.Errorf("store images: %w", err)
	}
	// An image that was there before may have a further name, or run on a further
	// agent, which can have its scan.
	s.leases.ask()
	s.owning.soon()
	for _, id := range news {
		s.log.Info("image is new", "image_id", id)
		s.listeners.touch(id)
	}
	return nil
}

// sweep makes the images of all workloads known that have not ended: what was
// told to a server that stopped before it got to them, or to one that knew
// nothing of images.
func (s *Service) sweep(ctx context.Context) error {
	q := store.WorkloadQuery{States: []asset.State{asset.Created, asset.Running, asset.Paused}, Limit: store.MaxPage}
	for {
		page, err := s.st.Workloads(ctx, q)
		if err != nil {
			return fmt.Errorf("list workloads: %w", err)
		}
		s.noted.add(page)
		if images, _ := s.noted.take(); len(images) > 0 {
			if err := s.noteImages(ctx, images); err != nil {
				return err
			}
			s.noted.done(images, nil)
		}
		if len(page) < store.MaxPage {
			return nil
		}
		q.After = page[len(page)-1].ID
	}
}
