package authz

import (
	"sync"
	"time"
)

// What an engine said of an image is used for a moment. Its id is its content, and
// a container's start comes right after it was made. What a name means is
// remembered until a call passes that may move names, and no longer than that where
// none is seen, as when BuildKit names what it has built: what starts is decided by
// the image that a container really has.
const (
	knownFor = 2 * time.Second
	maxKnown = 256
)

// images are those that an engine has just told of.
type images struct {
	mu     sync.Mutex
	byID   map[string]knownImage
	byName map[string]knownImage
	moves  uint64 // so many calls there were that may have moved names
}

type knownImage struct {
	image localImage
	until time.Time
}

// get returns the image of an id or a name if it is known, and else how many moves
// there were, to remember it by.
func (i *images) get(reference string, now time.Time) (img localImage, moves uint64, ok bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	k, ok := i.byID[reference]
	if !ok {
		k, ok = i.byName[reference]
	}
	return k.image, i.moves, ok && now.Before(k.until)
}

// put remembers an image that was looked up when there were so many moves.
func (i *images) put(reference string, img localImage, moves uint64, now time.Time) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if len(i.byID) >= maxKnown {
		clear(i.byID)
	}
	if len(i.byName) >= maxKnown {
		clear(i.byName)
	}
	k := knownImage{img, now.Add(knownFor)}
	i.byID[img.ID] = k
	if moves == i.moves && reference != img.ID {
		i.byName[reference] = k
	}
}

// moved forgets what names mean. It is called before and after what may move them.
func (i *images) moved() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.moves++
	clear(i.byName)
}

// mayMove says whether a call may make a name that of another image.
func mayMove(r route) bool {
	return r.kind == pull || r.kind == plain || r.name == "image remove"
}
