package agent

import (
	"context"
	"errors"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/asset"
)

// namespaces answers for the processes that are in it.
type namespaces map[int]netip.Addr

func (n namespaces) Addresses(pid int) ([]netip.Addr, error) {
	a, ok := n[pid]
	if !ok {
		return nil, errors.New("no such process")
	}
	return []netip.Addr{a}, nil
}

func (n namespaces) HostAddresses() ([]netip.Addr, error) { return n.Addresses(0) }

func (n namespaces) WatchAddresses(ctx context.Context, ring func()) error {
	<-ctx.Done()
	return ctx.Err()
}

func TestAddressesThatTheEngineDoesNotKnow(t *testing.T) {
	eni, bridge, host := netip.MustParseAddr("10.0.2.77"), netip.MustParseAddr("172.17.0.2"), netip.MustParseAddr("10.0.2.20")
	w := newWorkloads("a")
	w.addresser = namespaces{1: eni, 2: eni, 3: host}
	one := func(id, mode string, pid int, told ...netip.Addr) asset.Workload {
		return asset.Workload{ID: id, PID: pid, State: asset.Running, Settings: asset.Settings{NetworkMode: mode, Addresses: told}}
	}
	engines := []asset.Workload{
		one("task", "container:pause", 1), one("bridge", "bridge", 2, bridge), one("host", "host", 3), one("gone", "none", 4),
	}
	w.put(asset.Inventory{Workloads: engines})
	got := map[string][]netip.Addr{}
	for _, wl := range w.pending(10).workloads {
		got[wl.ID] = wl.Settings.Addresses
	}
	want := map[string][]netip.Addr{"task": {eni}, "bridge": {bridge}, "host": nil, "gone": nil}
	same := cmp.Comparer(func(a, b netip.Addr) bool { return a == b })
	if diff := cmp.Diff(want, got, same); diff != "" {
		t.Errorf("addresses (-want +got):\n%s", diff)
	}
	if engines[0].Settings.Addresses != nil {
		t.Error("what the engine told was changed")
	}
}
