package console

import (
	"bytes"
	"context"
	"crypto/sha256"
	"net/http"
	"sync"
	"time"

	"github.com/a-h/templ"
)

// shows are views that several browsers may follow. Each is read and rendered
// once for all of them: what it costs does not grow with who looks. Nothing
// personal is in one.
type shows struct {
	mu  sync.Mutex
	all map[string]*show // by address
}

// show is one view while somebody follows it. Its fields are guarded by shows.
type show struct {
	seats map[chan frame]struct{}
	last  frame // what was sent last
	stop  context.CancelFunc
	done  chan struct{}
}

// frame is what a view looked like at a time.
type frame struct {
	message []byte // as a browser gets it
	sum     [sha256.Size]byte
}

// maker reads and makes what a view shows.
type maker func(ctx context.Context) (templ.Component, error)

// followShow sends the view at an address whenever something of images changed,
// at most once in a pause, until the browser goes or must come back.
func (c *Console) followShow(w http.ResponseWriter, r *http.Request, address string, atMost time.Duration, made maker) error {
	changed := func(ctx context.Context) (<-chan struct{}, error) { return c.Images.Changed(ctx, "") }
	return c.followChanges(w, r, address, atMost, changed, made)
}

// changes tell that a view may look otherwise; see images.Service.Changed.
type changes func(ctx context.Context) (<-chan struct{}, error)

// followChanges is followShow for what changes with other things than images.
func (c *Console) followChanges(w http.ResponseWriter, r *http.Request, address string, atMost time.Duration, changed changes, made maker) error {
	ctx, cancel := context.WithTimeout(r.Context(), streamFor)
	defer cancel()
	frames, leave, err := c.seat(address, atMost, changed, made)
	if err != nil {
		return err
	}
	defer leave()
	s := newStream(w)
	for {
		select {
		case <-ctx.Done():
			return nil
		case f, ok := <-frames:
			if !ok || s.sendFrame(f) != nil {
				return nil // the view can't be made, or the browser has gone; it asks again
			}
		}
	}
}

// seat returns what gets the view's frames, the newest at once where there is
// one. It is closed when the view can't be made any more. leave ends it.
func (c *Console) seat(address string, atMost time.Duration, changed changes, made maker) (frames <-chan frame, leave func(), err error) {
	c.shows.mu.Lock()
	defer c.shows.mu.Unlock()
	sh := c.shows.all[address]
	if sh == nil {
		if sh, err = c.openShow(address, atMost, changed, made); err != nil {
			return nil, nil, err
		}
	}
	mine := make(chan frame, 1) // a newer one takes its place
	sh.seats[mine] = struct{}{}
	if sh.last.message != nil {
		mine <- sh.last
	}
	return mine, func() { c.shows.leave(address, sh, mine) }, nil
}

// openShow begins to make a view. The lock is held.
func (c *Console) openShow(address string, atMost time.Duration, changes changes, made maker) (*show, error) {
	ctx, stop := context.WithCancel(context.Background())
	changed, err := changes(ctx)
	if err != nil {
		stop()
		return nil, err
	}
	sh := &show{seats: map[chan frame]struct{}{}, stop: stop, done: make(chan struct{})}
	c.shows.all[address] = sh
	go func() {
		defer close(sh.done)
		follow(ctx, changed, atMost, func() bool {
			f, err := render(ctx, made)
			if err != nil && ctx.Err() == nil {
				c.Log.Debug("live view ended", "address", address, "error", err)
			}
			return err == nil && c.shows.hand(sh, f)
		})
		c.shows.end(address, sh)
	}()
	return sh, nil
}

func render(ctx context.Context, made maker) (frame, error) {
	body, err := made(ctx)
	if err != nil {
		return frame{}, err
	}
	var html bytes.Buffer
	if err := body.Render(ctx, &html); err != nil {
		return frame{}, err
	}
	return frame{messageOf("part", "", html.Bytes()), sha256.Sum256(html.Bytes())}, nil
}

// hand gives a frame to all who follow.
func (s *shows) hand(sh *show, f frame) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	sh.last = f
	for seat := range sh.seats {
		select {
		case <-seat: // an older one that was not taken yet
		default:
		}
		seat <- f
	}
	return true
}

// end closes the seats of a view that is made no more.
func (s *shows) end(address string, sh *show) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all[address] == sh {
		delete(s.all, address)
	}
	for seat := range sh.seats {
		close(seat)
	}
	clear(sh.seats)
	sh.stop()
}

// leave gives a seat up. Who leaves last ends the view, and waits for its end.
func (s *shows) leave(address string, sh *show, seat chan frame) {
	s.mu.Lock()
	delete(sh.seats, seat)
	last := len(sh.seats) == 0
	if last && s.all[address] == sh {
		delete(s.all, address)
	}
	s.mu.Unlock()
	if last {
		sh.stop()
		<-sh.done
	}
}
