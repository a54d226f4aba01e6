package docker_test

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/castellan-security/castellan/internal/adapter/bpf"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/profile"
	"github.com/castellan-security/castellan/test/docker/engine"
)

// outsiders collects what a guard tells until the test ends.
func outsiders(t *testing.T, guard *bpf.Guard) func() []event.Event {
	t.Helper()
	var mu sync.Mutex
	var told []event.Event
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() {
		done <- guard.Run(ctx, func(batch []event.Event) {
			mu.Lock()
			defer mu.Unlock()
			told = append(told, batch...)
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run: %v", err)
		}
	})
	return func() []event.Event {
		mu.Lock()
		defer mu.Unlock()
		return append([]event.Event(nil), told...)
	}
}

// In a container that shares the host's process ids the runtime's own steps are not
// the container's: it starts, its health is looked at, and `docker exec` goes on, also
// of what the profile does not have, which is killed by itself. What the container
// does is held as anywhere.
func TestRuntimeInAContainerWithTheHostsProcesses(t *testing.T) {
	_, guard := holding(t, &standing{})
	told := outsiders(t, guard)
	e := start(t, engine.Options{})
	r := profile.Rules{Group: heldGroup, Revision: 1, Answers: map[profile.Control]profile.Answer{}}
	for _, c := range profile.Controls() {
		r.Answers[c] = profile.Off
	}
	r.Answers[profile.ControlExec] = profile.Deny
	r.Exec.Paths = []profile.Pattern{"/bin/busybox"}
	if err := guard.Set(r); err != nil {
		t.Fatal(err)
	}
	id, err := e.Create(t.Context(), engine.Container{Name: "shares", Image: shell, Cmd: []string{"sleep", "3600"}, Change: func(c *container.Config, h *container.HostConfig) {
		c.Healthcheck = &container.HealthConfig{Test: []string{"CMD", "true"}, Interval: 200 * time.Millisecond}
		// All that a machine can give, which may be less than --privileged.
		h.PidMode, h.CapAdd, h.CapDrop = "host", []string{"ALL"}, []string{"SYS_RESOURCE"}
		h.SecurityOpt = []string{"seccomp=unconfined", "apparmor=unconfined"}
		h.NanoCPUs = 5e8 // so that the runtime is put aside in the middle of its steps
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := guard.Hold(id, heldGroup); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Client.ContainerStart(t.Context(), id, client.ContainerStartOptions{}); err != nil {
		t.Fatal(err)
	}
	does := func(want int, cmd ...string) {
		t.Helper()
		if out, code, err := e.Exec(t.Context(), id, cmd...); err != nil || code != want {
			t.Errorf("%s ends with %d, %v, want %d: %s", strings.Join(cmd, " "), code, err, want, out)
		}
	}
	for range 40 {
		does(0, "true")
	}
	const killed = 128 + 9 // by SIGKILL
	does(0, "cp", "/bin/busybox", "/tmp/true")
	does(killed, "/tmp/true")
	does(killed, "sh", "-c", "/tmp/true")
	// In the host's namespaces too.
	does(killed, "busybox", "nsenter", "--target", strconv.Itoa(e.PID()), "--mount", "--", "/bin/true")
	does(0, "true")
	state, err := e.Client.ContainerInspect(t.Context(), id, client.ContainerInspectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if h := state.Container.State.Health; h == nil || h.Status != container.Healthy {
		t.Errorf("its health is %+v", h)
	}
	for _, got := range told() {
		if got.Exec == nil || got.Process.Executable != "/tmp/true" && !strings.HasSuffix(got.Process.Executable, "/bin/true") {
			t.Errorf("told of %s %s: %+v", got.Kind, got.Reaction, got.Process)
		}
	}
}
