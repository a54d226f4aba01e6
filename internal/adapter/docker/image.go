package docker

import (
	"container/list"
	"context"
	"sync"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
)

const (
	// maxImages bounds the images that are remembered; a host has some dozens.
	maxImages = 512
	// imagesFor is how long they are: an image gets another digest when it is
	// pushed, or pulled under another name.
	imagesFor = 10 * time.Minute
)

// imageFacts is what is read of the engine's answer about an image. The zero
// value is of one that it does not know.
type imageFacts struct {
	RepoDigests []string
	platform
	RootFS struct{ Layers []string }
}

// platform is what an image was built for.
type platform struct{ OS, Architecture, Variant string }

// is reports whether both may be the same. Engines leave out variants that are
// usual, such as v8 of arm64.
func (p platform) is(o platform) bool {
	return p.OS == o.OS && p.Architecture == o.Architecture &&
		(p.Variant == o.Variant || p.Variant == "" || o.Variant == "")
}

// layers returns the diff ids of the image's layers, the base first; nil when
// they are not what diff ids are, because then none can be counted on.
func (f *imageFacts) layers() []string {
	if len(f.RootFS.Layers) > maxLayers {
		return nil
	}
	for _, l := range f.RootFS.Layers {
		if !isDigest(l) {
			return nil
		}
	}
	return f.RootFS.Layers
}

// unpacked reports whether the container's root is made of the layers of the
// image that the engine describes. Engines with their own store (overlay2) know
// an image by its configuration, which is of one platform. Those that leave it
// to containerd know it by a manifest or by an index of many; they describe the
// one for the host, and say which one the container is of.
func (in *inspection) unpacked(f *imageFacts) bool {
	if m := in.ImageManifestDescriptor; m != nil {
		return m.Platform != nil && m.Platform.is(f.platform)
	}
	return in.Driver == "overlay2"
}

// images remembers what the engine said of images, so that a host with a
// thousand containers of one image asks once. Least recently used goes first.
type images struct {
	conn *conn

	mu    sync.Mutex
	order *list.List // of *knownImage, most recently used first
	byID  map[string]*list.Element
}

type knownImage struct {
	id    string
	facts imageFacts
	asked time.Time
}

func newImages(c *conn) *images {
	return &images{conn: c, order: list.New(), byID: map[string]*list.Element{}}
}

// describe completes what is known of the image of an inspected container: its
// digest, which is empty for one that was built here and never pushed, and its
// layers. Of an image that was removed meanwhile nothing more is known.
func (d *images) describe(ctx context.Context, in *inspection, i *asset.Image) {
	if i.ID == "" {
		return
	}
	facts, ok := d.recall(i.ID)
	if !ok {
		var err error
		facts, err = d.conn.image(ctx, i.ID)
		if err != nil && !fault.Is(err, fault.NotFound) {
			return // not remembered: the next container of this image asks again
		}
		d.keep(i.ID, facts)
	}
	if i.Digest == "" {
		i.Digest = digestOf(i.Reference, facts.RepoDigests)
	}
	if in.unpacked(&facts) {
		i.Layers = facts.layers()
	}
}

func (d *images) recall(id string) (imageFacts, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	e, ok := d.byID[id]
	if !ok {
		return imageFacts{}, false
	}
	known := e.Value.(*knownImage)
	if time.Since(known.asked) > imagesFor {
		return imageFacts{}, false
	}
	d.order.MoveToFront(e)
	return known.facts, true
}

func (d *images) keep(id string, facts imageFacts) {
	facts.RootFS.Layers = facts.layers() // nothing of any length is kept
	d.mu.Lock()
	defer d.mu.Unlock()
	if old, ok := d.byID[id]; ok {
		d.order.Remove(old)
	}
	d.byID[id] = d.order.PushFront(&knownImage{id: id, facts: facts, asked: time.Now()})
	if d.order.Len() > maxImages {
		oldest := d.order.Back()
		d.order.Remove(oldest)
		delete(d.byID, oldest.Value.(*knownImage).id)
	}
}
