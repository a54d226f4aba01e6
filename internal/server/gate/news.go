package gate

import (
	"context"
	"sync"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/fault"
)

// maxFollowers bounds who follows what is new: each is a page in a browser.
const maxFollowers = 256

// news tells who follows that something is new: a verdict that was kept, another
// policy, an exception.
type news struct {
	mu        sync.Mutex
	followers map[chan struct{}]struct{}
}

// News returns a channel that gets a value after a verdict was kept, or policy or
// exceptions changed. At most one value waits, so that the reader sets the pace. It
// is closed when ctx ends. The error is Exhausted when too many follow already. It
// needs access.ReadAdmission.
func (s *Service) News(ctx context.Context, who access.Identity) (<-chan struct{}, error) {
	if err := who.Need(access.ReadAdmission); err != nil {
		return nil, err
	}
	n, mine := &s.news, make(chan struct{}, 1)
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.followers) >= maxFollowers {
		return nil, fault.New(fault.Exhausted, "%d pages follow admission already", maxFollowers).With("close some of them")
	}
	if n.followers == nil {
		n.followers = map[chan struct{}]struct{}{}
	}
	n.followers[mine] = struct{}{}
	context.AfterFunc(ctx, func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		delete(n.followers, mine)
		close(mine) // under the lock: nobody tells it any more
	})
	return mine, nil
}

// tell says that something is new.
func (n *news) tell() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for c := range n.followers {
		select {
		case c <- struct{}{}:
		default: // one waits already
		}
	}
}
