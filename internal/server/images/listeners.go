package images

import (
	"context"
	"sync"

	"github.com/castellan-security/castellan/internal/fault"
)

// maxListeners bounds the pages and commands that wait for changes; every change
// is a pass over them.
const maxListeners = 256

// listeners wait for something of images to change.
type listeners struct {
	mu  sync.Mutex
	all map[*listener]struct{}
}

type listener struct {
	imageID string
	c       chan struct{}
}

// add returns a channel that gets a value after something of the image changed;
// it is closed when ctx ends.
func (l *listeners) add(ctx context.Context, imageID string) (<-chan struct{}, error) {
	w := &listener{imageID: imageID, c: make(chan struct{}, 1)}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.all) >= maxListeners {
		return nil, fault.New(fault.Exhausted, "%d pages or commands follow images already", maxListeners).
			With("close some of them, or ask again later")
	}
	if l.all == nil {
		l.all = map[*listener]struct{}{}
	}
	l.all[w] = struct{}{}
	context.AfterFunc(ctx, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.all, w)
		close(w.c)
	})
	return w.c, nil
}

// touch wakes those who wait for the image, or all with "".
func (l *listeners) touch(imageID string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for w := range l.all {
		if imageID != "" && w.imageID != "" && w.imageID != imageID {
			continue
		}
		select {
		case w.c <- struct{}{}:
		default: // one value waits already
		}
	}
}
