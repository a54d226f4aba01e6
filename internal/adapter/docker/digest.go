package docker

import (
	"container/list"
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
)

const (
	// maxImages bounds the images whose digests are remembered; a host has some
	// dozens.
	maxImages = 512
	// digestsFor is how long they are: an image gets another digest when it is
	// pushed, or pulled under another name.
	digestsFor = 10 * time.Minute
)

// image puts a reference and an image id together. A reference with a digest
// names the digest itself.
func image(reference, id string) asset.Image {
	i := asset.Image{Reference: clean(reference, maxText)}
	if isDigest(id) {
		i.ID = id
	}
	if _, digest, ok := strings.Cut(i.Reference, "@"); ok && isDigest(digest) {
		i.Digest = digest
	}
	return i
}

// isDigest reports whether s is algorithm:hex, the form of the OCI image
// specification, and so fit to be part of a path.
func isDigest(s string) bool {
	const shortest, longest = 32, 128
	algorithm, hex, ok := strings.Cut(s, ":")
	if !ok || len(hex) < shortest || len(hex) > longest {
		return false
	}
	return (algorithm == "sha256" || algorithm == "sha384" || algorithm == "sha512") && strings.Trim(hex, "0123456789abcdef") == ""
}

// digestOf picks the digest under which a registry knows the image: of the
// repository that the reference names if that is among them, else the first.
func digestOf(reference string, repoDigests []string) string {
	repository, _, _ := strings.Cut(reference, "@")
	repository = withoutTag(repository)
	repoDigests = slices.Clone(repoDigests)
	slices.Sort(repoDigests)
	first := ""
	for _, rd := range repoDigests {
		name, digest, ok := strings.Cut(rd, "@")
		if !ok || !isDigest(digest) {
			continue
		}
		if name == repository {
			return digest
		}
		if first == "" {
			first = digest
		}
	}
	return first
}

// digests remembers what the engine said of images, so that a host with a
// thousand containers of one image asks once. Least recently used goes first.
type digests struct {
	conn *conn

	mu    sync.Mutex
	order *list.List // of *imageDigests, most recently used first
	byID  map[string]*list.Element
}

type imageDigests struct {
	id    string
	names []string
	asked time.Time
}

func newDigests(c *conn) *digests {
	return &digests{conn: c, order: list.New(), byID: map[string]*list.Element{}}
}

// of returns the digest of an image, or "" when the engine knows none: an image
// that was built here and never pushed, or one that was removed meanwhile.
func (d *digests) of(ctx context.Context, i asset.Image) string {
	if i.ID == "" {
		return ""
	}
	if names, ok := d.recall(i.ID); ok {
		return digestOf(i.Reference, names)
	}
	names, err := d.conn.repoDigests(ctx, i.ID)
	if err != nil && !fault.Is(err, fault.NotFound) {
		return "" // not remembered: the next container of this image asks again
	}
	d.keep(i.ID, names)
	return digestOf(i.Reference, names)
}

func (d *digests) recall(id string) ([]string, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	e, ok := d.byID[id]
	if !ok {
		return nil, false
	}
	known := e.Value.(*imageDigests)
	if time.Since(known.asked) > digestsFor {
		return nil, false
	}
	d.order.MoveToFront(e)
	return known.names, true
}

func (d *digests) keep(id string, names []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if old, ok := d.byID[id]; ok {
		d.order.Remove(old)
	}
	d.byID[id] = d.order.PushFront(&imageDigests{id: id, names: names, asked: time.Now()})
	if d.order.Len() > maxImages {
		oldest := d.order.Back()
		d.order.Remove(oldest)
		delete(d.byID, oldest.Value.(*imageDigests).id)
	}
}
