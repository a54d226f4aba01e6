package agent_test

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/castellan-security/castellan/internal/agent"
	"github.com/castellan-security/castellan/internal/asset"
)

// networks are the network namespaces of a world: the host's is 1.
type networks struct {
	mu    sync.Mutex
	of    map[int][]netip.Addr
	rings chan struct{} // nil: nothing is told
}

func (n *networks) Addresses(pid int) ([]netip.Addr, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	list, ok := n.of[pid]
	if !ok {
		return nil, errors.New("no such process")
	}
	return list, nil
}

func (n *networks) HostAddresses() ([]netip.Addr, error) { return n.Addresses(1) }

func (n *networks) WatchAddresses(ctx context.Context, ring func()) error {
	if n.rings == nil {
		return errors.New("operation not permitted")
	}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-n.rings:
			ring()
		}
	}
}

// set changes the addresses of a namespace; none at all takes it away.
func (n *networks) set(pid int, list ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.of, pid)
	for _, a := range list {
		n.of[pid] = append(n.of[pid], netip.MustParseAddr(a))
	}
}

// inNetworks runs play beside an agent of a host with the address 10.0.1.10 and
// a task without one.
func inNetworks(t *testing.T, told bool, play func(t *testing.T, w *world, n *networks)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{engine: make(chan asset.Inventory)}
		n := &networks{of: map[int][]netip.Addr{7: {}}}
		if told {
			n.rings = make(chan struct{})
		}
		n.set(1, "10.0.1.10")
		a := agent.New(agent.Config{ID: "A"}, agent.Parts{Engine: w, Sensors: w, Host: w, Server: w, Addresser: n}, slog.New(slog.DiscardHandler))
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- a.Run(ctx) }()
		w.engine <- asset.Inventory{Engine: asset.Engine{Connected: true}, Complete: true, Workloads: []asset.Workload{
			{ID: "task", PID: 7, State: asset.Running, Settings: asset.Settings{NetworkMode: "none"}},
		}}
		synctest.Wait()
		play(t, w, n)
		stop()
		if err := <-done; err != nil {
			t.Errorf("Run returned %v, want nil", err)
		}
	})
}

// told is what the last report of the host, and the last one of the task, say.
func (w *world) told() map[string][]netip.Addr {
	return map[string][]netip.Addr{"host": w.last().Agent.Host.Addresses, "task": w.workloads()["task"].Settings.Addresses}
}

func TestAddressesAreReadAnew(t *testing.T) {
	same := cmp.Comparer(func(a, b netip.Addr) bool { return a == b })
	want := func(t *testing.T, w *world, when, host, task string) {
		t.Helper()
		synctest.Wait()
		got, wanted := w.told(), map[string][]netip.Addr{"host": {netip.MustParseAddr(host)}, "task": {}}
		if task != "" {
			wanted["task"] = []netip.Addr{netip.MustParseAddr(task)}
		}
		if diff := cmp.Diff(got, wanted, same, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s: addresses (-got +want):\n%s", when, diff)
		}
	}
	const soon = 250 * time.Millisecond
	t.Run("told", func(t *testing.T) {
		inNetworks(t, true, func(t *testing.T, w *world, n *networks) {
			n.rings <- struct{}{}
			time.Sleep(soon)
			want(t, w, "at the start", "10.0.1.10", "")
			n.set(1, "172.18.0.1")
			n.set(7, "10.0.2.77")
			n.rings <- struct{}{}
			time.Sleep(soon)
			want(t, w, "after a change", "172.18.0.1", "10.0.2.77")
			n.rings <- struct{}{}
			time.Sleep(soon)
			n.set(7, "10.0.2.78") // when nothing is told any more
			time.Sleep(time.Second)
			want(t, w, "a moment after a change", "172.18.0.1", "10.0.2.78")
			n.set(1)
			n.set(7)
			n.rings <- struct{}{}
			time.Sleep(soon)
			want(t, w, "when nothing can be read", "172.18.0.1", "10.0.2.78")
		})
	})
	t.Run("not told", func(t *testing.T) {
		inNetworks(t, false, func(t *testing.T, w *world, n *networks) {
			n.set(1, "172.18.0.1")
			n.set(7, "10.0.2.77")
			time.Sleep(30*time.Second + soon)
			want(t, w, "half a minute after a change", "172.18.0.1", "10.0.2.77")
		})
	})
	t.Run("always told", func(t *testing.T) {
		inNetworks(t, true, func(t *testing.T, w *world, n *networks) {
			for range 1000 { // a ring each millisecond
				n.rings <- struct{}{}
				time.Sleep(time.Millisecond)
			}
			n.set(1, "172.18.0.1")
			for range 1000 {
				n.rings <- struct{}{}
				time.Sleep(time.Millisecond)
			}
			want(t, w, "in the middle of it", "172.18.0.1", "")
		})
	})
}
