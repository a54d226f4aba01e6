package guest_test

import (
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/castellan-security/castellan/internal/adapter/bpf"
	"github.com/castellan-security/castellan/internal/profile"
)

// Containers are held to their peers on this kernel too, wherever the host's engine
// makes its cgroups, and stay held when the program that set it up has ended.
func TestNetworkIsHeld(t *testing.T) {
	mountAt(t, "/sys/fs/bpf", "bpf", "")
	near, err := net.Listen("tcp", "127.0.0.2:0")
	if err != nil {
		t.Fatal(err)
	}
	defer near.Close()
	far, err := net.Listen("tcp", "127.0.0.3:0")
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	port := near.Addr().(*net.TCPAddr).AddrPort().Port()
	rules := profile.Rules{Group: "a/b/c", Answers: map[profile.Control]profile.Answer{}}
	for _, c := range profile.Controls() {
		rules.Answers[c] = profile.Deny
	}
	rules.Network.Destinations = []profile.Destination{{
		PortRule: profile.PortRule{Protocol: "tcp", Ports: profile.Ports{First: port, Last: port}},
		Network:  netip.MustParsePrefix("127.0.0.2/32"),
	}}
	dir := filepath.Join("/sys/fs/bpf", "castellan")
	for _, l := range commonLayouts() {
		t.Run(l.name, func(t *testing.T) {
			c := newContainer(t, newID(t), l.mount(t))
			g, err := bpf.OpenNetGuard(dir, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if _, err := bpf.Release(dir); err != nil {
					t.Error(err)
				}
			})
			if err := g.Set(rules); err != nil {
				t.Fatal(err)
			}
			if got := c.run(t, "connect", far.Addr().String()); got != 0 {
				t.Errorf("before it is held: %v", unix.Errno(got))
			}
			if err := g.Hold(c.id, "a/b/c"); err != nil {
				t.Fatal(err)
			}
			if err := g.Close(); err != nil {
				t.Fatal(err)
			}
			if got := c.run(t, "connect", near.Addr().String()); got != 0 {
				t.Errorf("permitted: %v", unix.Errno(got))
			}
			if got := c.run(t, "connect", far.Addr().String()); got != int(unix.EPERM) {
				t.Errorf("outside: %v, want EPERM", unix.Errno(got))
			}
		})
	}
}
