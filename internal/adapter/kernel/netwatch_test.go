package kernel_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/adapter/kernel"
	"github.com/castellan-security/castellan/internal/need"
)

// ringsWithin is how long a bell may take on a busy machine; it is waited for
// in full only when a test fails.
const ringsWithin = 30 * time.Second

// namespace is a network namespace of its own, held by a process that ends with
// the test.
type namespace struct{ pid int }

func newNamespace(t *testing.T) namespace {
	t.Helper()
	need.Root(t)
	holder := exec.Command("cat") // until its input ends, also when this program is killed
	holder.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	input, err := holder.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := holder.Start(); err != nil {
		t.Fatalf("make a network namespace: %v", err)
	}
	t.Cleanup(func() {
		_ = input.Close()
		if err := holder.Wait(); err != nil {
			t.Errorf("holder of the namespace: %v", err)
		}
	})
	n := namespace{holder.Process.Pid}
	n.ip(t, "link", "set", "lo", "up")
	return n
}

// ip runs ip(8) in the namespace.
func (n namespace) ip(t *testing.T, args ...string) {
	t.Helper()
	n.batch(t, strings.Join(args, " "))
}

// batch runs lines of ip(8) in the namespace, in one process.
func (n namespace) batch(t *testing.T, lines ...string) {
	t.Helper()
	c := exec.CommandContext(t.Context(), "nsenter", fmt.Sprintf("--net=/proc/%d/ns/net", n.pid), "ip", "-batch", "-")
	c.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("ip: %v: %s", err, out)
	}
}

// bell is a watch of a host's addresses: what they are is looked at when it
// rings, and not else.
type bell struct {
	heard chan []netip.Addr
	done  chan error
	stop  context.CancelFunc
	// deaf is held while the watch is to hear nothing.
	deaf sync.Mutex
}

func watchAddresses(t *testing.T, h *kernel.Host) *bell {
	t.Helper()
	b := &bell{heard: make(chan []netip.Addr, 100), done: make(chan error, 1)}
	var ctx context.Context
	ctx, b.stop = context.WithCancel(t.Context())
	go func() {
		b.done <- h.WatchAddresses(ctx, func() {
			b.deaf.Lock()
			defer b.deaf.Unlock()
			got, err := h.HostAddresses()
			if err != nil {
				t.Error(err)
			}
			select {
			case b.heard <- got:
			case <-ctx.Done():
			}
		})
	}()
	return b
}

// until waits until a bell led to these addresses.
func (b *bell) until(t *testing.T, why string, want ...string) {
	t.Helper()
	late := time.NewTimer(ringsWithin)
	defer late.Stop()
	var last []netip.Addr
	for {
		select {
		case last = <-b.heard:
			if slices.Equal(last, addresses(want...)) {
				return
			}
		case err := <-b.done:
			t.Fatalf("%s: the watch ended: %v", why, err)
		case <-late.C:
			t.Fatalf("%s: heard %v last, want %v", why, last, want)
		}
	}
}

// What comes and goes in the host's network is told, and what it is now can be
// read then.
func TestWatchAddresses(t *testing.T) {
	host, task := newNamespace(t), newNamespace(t)
	host.batch(t, "link add br0 type bridge", "addr add 10.0.1.10/24 dev br0", "link set br0 up")
	b := watchAddresses(t, kernel.New(kernel.Options{Network: host.pid}))
	b.until(t, "at the start", "10.0.1.10")
	// The kernel tells an address a moment before it can be read, hence another
	// change behind it.
	for _, step := range []struct {
		name  string
		lines []string
		want  []string
	}{
		{"another bridge", []string{"link add br1 type bridge", "link set br1 up", "addr add 172.18.0.1/16 dev br1", "link set br1 mtu 1400"}, []string{"10.0.1.10", "172.18.0.1"}},
		{"an address goes", []string{"addr del 10.0.1.10/24 dev br0", "link set br0 mtu 1401"}, []string{"172.18.0.1"}},
		{"IPv6", []string{"addr add 2001:db8::1/64 dev br1 nodad", "link set br1 mtu 1402"}, []string{"172.18.0.1", "2001:db8::1"}},
		{"a bridge is down, which IPv4 addresses survive", []string{"link set br1 down"}, []string{"172.18.0.1"}},
		{"a bridge goes", []string{"link del br1"}, nil},
		{"an interface comes", []string{"link add eni0 type veth peer name eni1", "addr add 10.0.2.77/24 dev eni0", "link set eni0 up", "link set eni0 mtu 1403"}, []string{"10.0.2.77"}},
		{"it is moved into a task", []string{fmt.Sprintf("link set eni0 netns %d", task.pid)}, nil},
	} {
		host.batch(t, step.lines...)
		b.until(t, step.name, step.want...)
	}
	b.stop()
	if err := <-b.done; !errors.Is(err, context.Canceled) {
		t.Errorf("after the end: got %v, want the context's error", err)
	}
}

// More than the kernel keeps for a listener is told as one thing: that there was
// more.
func TestWatchAddressesOverrun(t *testing.T) {
	host := newNamespace(t)
	b := watchAddresses(t, kernel.New(kernel.Options{Network: host.pid}))
	b.until(t, "at the start")
	b.deaf.Lock()
	lines := []string{"link add br0 type bridge", "link set br0 up"}
	for n := range 2000 {
		lines = append(lines, fmt.Sprintf("link set br0 mtu %d", 1000+n%2))
	}
	host.batch(t, append(lines, "addr add 172.18.0.1/16 dev br0", "link set br0 mtu 1400")...)
	b.deaf.Unlock()
	b.until(t, "after the overrun", "172.18.0.1")
	host.batch(t, "link del br0")
	b.until(t, "the bridge goes")
	b.stop()
	<-b.done
}

func TestWatchAddressesOfNobody(t *testing.T) {
	h := kernel.New(kernel.Options{Proc: t.TempDir()})
	if err := h.WatchAddresses(t.Context(), func() {}); err == nil {
		t.Error("got no error, want that the namespace can't be opened")
	}
}
