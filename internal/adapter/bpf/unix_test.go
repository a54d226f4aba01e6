package bpf_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/castellan-security/castellan/internal/event"
)

// dialUnix connects to a unix socket, where somebody listens there.
func dialUnix(name string) error {
	c, err := net.Dial("unix", name)
	if errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	return c.Close()
}

// serveUnix listens at a unix socket, and connects to it once, until a line comes.
func serveUnix(name string) error {
	l, err := net.Listen("unix", name)
	if err != nil {
		return err
	}
	if err := dialUnix(name); err != nil {
		return err
	}
	if _, err := bufio.NewReaderSize(os.Stdin, 16).ReadString('\n'); err != nil {
		return err
	}
	return l.Close()
}

// listenAt listens at a unix socket until the test ends.
func listenAt(t *testing.T, name string) net.Listener {
	t.Helper()
	l, err := net.Listen("unix", name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// joins are the events of unix sockets of a process, each that differs once.
func (w *watcher) joins(pid int) []event.Connection {
	events, _ := w.seen(func(e event.Event) bool { return e.Kind == event.KindUnix && e.Process.Key.PID == uint32(pid) })
	var out []event.Connection
	for _, e := range events {
		if e.Connection.Protocol != "unix" || e.WorkloadID == "" {
			w.t.Errorf("told %+v of workload %q, want a unix socket of a container", e.Connection, e.WorkloadID)
		}
		if !slices.Contains(out, *e.Connection) {
			out = append(out, *e.Connection)
		}
	}
	return out
}

func TestUnixSockets(t *testing.T) {
	dir := t.TempDir()
	engine, gone := filepath.Join(dir, "docker.sock"), filepath.Join(dir, "gone.sock")
	abstract := "@castellan-test/" + filepath.Base(filepath.Dir(dir))
	listenAt(t, engine)
	listenAt(t, abstract)
	if l, ok := listenAt(t, gone).(*net.UnixListener); ok {
		l.SetUnlinkOnClose(false)
		l.Close()
	}
	elsewhere := filepath.Join(dir, "mounted.sock") // as a mount gives another name
	if err := os.Symlink(engine, elsewhere); err != nil {
		t.Fatal(err)
	}
	w := watch(t)
	v2, _ := hierarchies()
	h := startIn(t, v2, "castellan-test-unix/docker/"+newID(t), "dial="+elsewhere, "dial="+engine, "dial="+engine, "dial="+abstract,
		"dial="+gone, "dial="+filepath.Join(dir, "never.sock"), "exit=0")
	h.finish()
	w.exit(h.pid())
	got := w.joins(h.pid())
	for i := range got {
		if c := &got[i]; c.Listener.PID == uint32(os.Getpid()) && c.Listener.Start != 0 {
			c.Listener = event.Key{PID: 1}
		}
	}
	comm, err := os.ReadFile("/proc/self/comm")
	if err != nil {
		t.Fatal(err)
	}
	us := strings.TrimSpace(string(comm))
	want := []event.Connection{ // what is alike is told once
		{Protocol: "unix", Path: engine, Asked: elsewhere, Outside: true, Listener: event.Key{PID: 1}, ListenerName: us},
		{Protocol: "unix", Path: abstract, Outside: true, Listener: event.Key{PID: 1}, ListenerName: us},
		{Protocol: "unix", Path: gone, Error: "ECONNREFUSED"},
	}
	if d := cmp.Diff(got, want, cmpopts.EquateComparable(netip.AddrPort{})); d != "" {
		t.Errorf("told (-got +want):\n%s", d)
	}
}

// serves lets a helper go on until it listens at a unix socket. We are a process of the
// host: of what that connects to nothing is told.
func (h *helper) serves(name string) {
	h.t.Helper()
	if _, err := io.WriteString(h.stdin, "\n"); err != nil {
		h.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(h.t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		c, err := net.Dial("unix", name)
		if err == nil {
			c.Close()
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			h.t.Fatalf("nobody listens at %s: %v", name, err)
		}
	}
}

// Sockets of the same container are told as such, those of another one with whose they
// are, and what a process of the host connects to not at all.
func TestUnixSocketsOfContainers(t *testing.T) {
	name := filepath.Join(t.TempDir(), "app.sock")
	w := watch(t)
	v2, _ := hierarchies()
	id := newID(t)
	server := startIn(t, v2, "castellan-test-unix/docker/"+id, "serve="+name, "exit=0")
	server.serves(name)
	client := startIn(t, v2, "castellan-test-unix/docker/"+newID(t), "dial="+name, "exit=0")
	client.finish()
	server.finish()
	w.exit(client.pid())
	w.exit(server.pid())
	for _, tt := range []struct {
		what string
		of   *helper
		want event.Connection
	}{
		{"its own", server, event.Connection{}},
		{"another's", client, event.Connection{Outside: true}},
	} {
		got := w.joins(tt.of.pid())
		tt.want.Protocol, tt.want.Path, tt.want.ListenerWorkloadID = "unix", name, id
		for i := range got {
			if c := &got[i]; c.Listener.PID == uint32(server.pid()) && c.ListenerName != "" {
				c.Listener, c.ListenerName = event.Key{}, ""
			}
		}
		if d := cmp.Diff(got, []event.Connection{tt.want}, cmpopts.EquateComparable(netip.AddrPort{})); d != "" {
			t.Errorf("%s: told (-got +want):\n%s", tt.what, d)
		}
	}
	hosts, _ := w.seen(func(e event.Event) bool { return e.Kind == event.KindUnix && e.WorkloadID == "" })
	if len(hosts) != 0 {
		t.Errorf("told of the host's processes: %+v", hosts)
	}
}
