package authz

import (
	"sync"
	"time"
)

// What an engine said of an image by its id is used for a moment: the id is the
// image's content, and in between only its names can change. A container's start
// comes right after it was made.
const (
	knownFor = 2 * time.Second
	maxKnown = 256
)

// images are those that an engine has just told of, by id.
type images struct {
	mu   sync.Mutex
	byID map[string]knownImage
}

type knownImage struct {
	image localImage
	until time.Time
}

func (i *images) put(img localImage, now time.Time) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if len(i.byID) >= maxKnown {
		clear(i.byID)
	}
	i.byID[img.ID] = knownImage{img, now.Add(knownFor)}
}

func (i *images) get(id string, now time.Time) (localImage, bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	k, ok := i.byID[id]
	return k.image, ok && now.Before(k.until)
}
