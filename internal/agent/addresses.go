package agent

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/castellan-security/castellan/internal/pace"
)

// Times of reading addresses. They are changed by many steps at once: a bridge
// is made, then gets its address, then is set up.
const (
	// addressesSettle is how long changes are collected before addresses are
	// read, so that a host that starts containers all the time reads them ten
	// times a second at most.
	addressesSettle = 100 * time.Millisecond
	// addressesAgain is when they are read once more after the last change: the
	// kernel tells an address before it routes it, and what gives an interface
	// to a task moves it first and gives it its address then, unseen from here.
	addressesAgain = time.Second
	// rereadAddresses is how often they are read when no change is told.
	rereadAddresses = 30 * time.Second
)

// hostAddresses are the addresses of the host as they were last read.
type hostAddresses struct {
	mu   sync.Mutex
	list []netip.Addr
}

func (h *hostAddresses) get() []netip.Addr {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.list
}

// put takes over the addresses and reports whether they are others than before.
func (h *hostAddresses) put(list []netip.Addr) (changed bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if slices.Equal(h.list, list) {
		return false
	}
	h.list = list
	return true
}

// followAddresses reads the addresses of the host and of workloads anew when
// they may have changed, until ctx ends.
func (a *Agent) followAddresses(ctx context.Context) {
	bell := make(chan struct{}, 1)
	var watching sync.WaitGroup
	watching.Go(func() {
		err := a.parts.Addresser.WatchAddresses(ctx, func() {
			select {
			case bell <- struct{}{}:
			default:
			}
		})
		if err != nil && ctx.Err() == nil {
			a.log.Warn("changes of addresses are not told; they are read from time to time", "every", rereadAddresses, "error", err)
		}
	})
	defer watching.Wait()
	next := time.NewTimer(rereadAddresses)
	defer next.Stop()
	for {
		pause := rereadAddresses
		select {
		case <-ctx.Done():
			return
		case <-bell:
			if !pace.Wait(ctx, addressesSettle) {
				return
			}
			select {
			case <-bell: // of what has settled
			default:
			}
			pause = addressesAgain
		case <-next.C:
		}
		a.readAddresses()
		next.Reset(pause)
	}
}

// readAddresses reads the addresses of the host and of those workloads whose
// addresses the engine does not know, and reports them if they changed.
func (a *Agent) readAddresses() {
	changed := a.workloads.readdress()
	// Of a host whose addresses can't be read those from before are the best guess.
	if list, err := a.parts.Addresser.HostAddresses(); err == nil && a.addresses.put(list) {
		a.log.Info("addresses of the host changed", "addresses", list)
		changed = true
	}
	if changed {
		a.queue.wake()
	}
}
