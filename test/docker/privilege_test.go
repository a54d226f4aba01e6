package docker_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"

	"github.com/castellan-security/castellan/internal/adapter/bpf"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/need"
	"github.com/castellan-security/castellan/test/docker/engine"
)

// senses collects what the process and the privilege sensors tell.
type senses struct {
	mu     sync.Mutex
	events []event.Event
	news   chan struct{} // closed and replaced when events come
}

// sense runs the two sensors until the test ends.
func sense(t *testing.T) *senses {
	t.Helper()
	need.BPF(t, "tp_btf")
	off := slices.DeleteFunc(bpf.Names(), func(name string) bool { return name == "process" || name == "privilege" })
	sensors, err := bpf.Open(t.Context(), bpf.Options{Off: off}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range sensors.Status() {
		if s.State != asset.SensorRunning && !slices.Contains(off, s.Name) {
			t.Fatalf("sensor %s is %s: %s", s.Name, s.State, s.Reason)
		}
	}
	s := &senses{news: make(chan struct{})}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- sensors.Run(ctx, s.see) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run ended with %v, want the context's error", err)
		}
		if err := sensors.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func (s *senses) see(batch []event.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events = append(s.events, batch...)
	close(s.news)
	s.news = make(chan struct{})
}

// wait returns the first event that matches.
func (s *senses) wait(t *testing.T, what string, match func(event.Event) bool) event.Event {
	t.Helper()
	late := time.NewTimer(patience)
	defer late.Stop()
	for {
		s.mu.Lock()
		i := slices.IndexFunc(s.events, match)
		var found event.Event
		if i >= 0 {
			found = s.events[i]
		}
		news := s.news
		s.mu.Unlock()
		if i >= 0 {
			return found
		}
		select {
		case <-news:
		case <-late.C:
			t.Fatalf("no %s was told", what)
		}
	}
}

// privileges returns what was told of a container so far.
func (s *senses) privileges(id string) []event.Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []event.Event
	for _, e := range s.events {
		if e.Privilege != nil && e.WorkloadID == id {
			out = append(out, e)
		}
	}
	return out
}

// What an engine does to start a container, and to run something in one, is
// not told as the container's; what the container does is, also when it was
// refused, and when it has left the container.
func TestPrivileges(t *testing.T) {
	e := start(t, engine.Options{})
	s := sense(t)
	ran := func(id, command string) func(event.Event) bool {
		return func(e event.Event) bool {
			return e.Kind == event.KindExec && e.WorkloadID == id && slices.Contains(e.Exec.Args, command)
		}
	}
	none := func(id, what string) {
		t.Helper()
		for _, e := range s.privileges(id) {
			t.Errorf("%s: %s by %s: %+v", what, e.Kind, e.Process.Name, *e.Privilege)
		}
	}
	quiet, err := e.Run(t.Context(), engine.Container{Name: "quiet", Image: shell})
	if err != nil {
		t.Fatal(err)
	}
	s.wait(t, "start of the container", ran(quiet, "3600"))
	none(quiet, "start")
	if out, code, err := e.Exec(t.Context(), quiet, "true", "castellan"); err != nil || code != 0 {
		t.Fatalf("exec: %v, code %d: %s", err, code, out)
	}
	s.wait(t, "exec in the container", ran(quiet, "castellan"))
	none(quiet, "exec")
	if out, code, err := e.Exec(t.Context(), quiet, "busybox", "mount", "-t", "tmpfs", "castellan", "/tmp"); err != nil || code == 0 {
		t.Fatalf("a container mounted something: %v: %s", err, out)
	}
	refused := s.wait(t, "mount that was refused", func(e event.Event) bool { return e.Kind == event.KindMount && e.WorkloadID == quiet })
	if p := refused.Privilege; p.Error != "EPERM" || p.Source != "castellan" || p.Target != "/tmp" || p.Type != "tmpfs" || refused.Process.Name != "busybox" && refused.Process.Name != "mount" {
		t.Errorf("refused: %+v by %s", p, refused.Process.Name)
	}

	strong, err := e.Run(t.Context(), engine.Container{Name: "strong", Image: shell, Change: func(_ *container.Config, h *container.HostConfig) {
		h.CapAdd, h.CapDrop, h.SecurityOpt = []string{"ALL"}, []string{"SYS_RESOURCE"}, []string{"seccomp=unconfined", "apparmor=unconfined"}
		h.PidMode = "host"
	}})
	if err != nil {
		t.Fatal(err)
	}
	s.wait(t, "start of the container", ran(strong, "3600"))
	none(strong, "start")
	// This test is in the host's namespaces and can be joined, unlike the first
	// process of some machines.
	out, code, err := e.Exec(t.Context(), strong, "busybox", "nsenter", "-t", strconv.Itoa(os.Getpid()), "-m", "umount", "/castellan-absent")
	if err != nil || code == 0 {
		t.Fatalf("nsenter: %v, code %d: %s", err, code, out)
	}
	joined := s.wait(t, "joining of the host", func(e event.Event) bool { return e.Kind == event.KindSetns && e.WorkloadID == strong })
	if p := joined.Privilege; p.Type != "mnt" || p.Error != "" || !slices.Contains(p.Flags, "host") {
		t.Errorf("joined: %+v", p)
	}
	after := s.wait(t, "call of a process that broke out", func(e event.Event) bool { return e.Kind == event.KindUmount && e.WorkloadID == strong })
	if p := after.Privilege; p.Target != "/castellan-absent" || !slices.Contains(p.Flags, "host") {
		t.Errorf("after that: %+v", p)
	}
}
