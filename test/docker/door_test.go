// Package docker_test holds the door to Docker against a real engine: a private
// one, started for each test and removed with all its traces. What the door
// does with engines that are older, newer or hostile is tested beside it.
package docker_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"

	"github.com/castellan-security/castellan/internal/adapter/docker"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/test/docker/engine"
)

// patience is how long anything may take on a machine that is busy with other
// tests; it is only ever waited for in full when a test fails.
const patience = 60 * time.Second

// watcher follows an engine through the door and remembers what it says.
type watcher struct {
	mu       sync.Mutex
	changed  chan struct{} // closed and made anew with each inventory
	all      []asset.Inventory
	byID     map[string]asset.Workload
	reported map[string][]asset.Workload
}

// watch starts to follow an engine until the test ends.
func watch(t *testing.T, host string) *watcher {
	t.Helper()
	door, err := docker.New(docker.Options{Host: host}, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	w := &watcher{changed: make(chan struct{}), byID: map[string]asset.Workload{}, reported: map[string][]asset.Workload{}}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- door.Watch(ctx, w.see) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			if !errors.Is(err, context.Canceled) {
				t.Errorf("Watch() = %v, want the context's error", err)
			}
		case <-time.After(patience):
			t.Error("Watch does not return after its context ended")
		}
	})
	return w
}

func (w *watcher) see(inv asset.Inventory) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all = append(w.all, inv)
	for _, wl := range inv.Workloads {
		w.byID[wl.ID] = wl
		w.reported[wl.ID] = append(w.reported[wl.ID], wl)
	}
	close(w.changed)
	w.changed = make(chan struct{})
}

// wait returns when ok does, asked after each inventory.
func (w *watcher) wait(t *testing.T, what string, ok func() bool) {
	t.Helper()
	late := time.NewTimer(patience)
	defer late.Stop()
	for {
		w.mu.Lock()
		met, changed := ok(), w.changed
		w.mu.Unlock()
		if met {
			return
		}
		select {
		case <-changed:
		case <-late.C:
			w.mu.Lock()
			defer w.mu.Unlock()
			t.Fatalf("waited %s for %s; %d inventories, the last: %+v", patience, what, len(w.all), w.all[max(0, len(w.all)-3):])
		}
	}
}

// until waits until what is known of a container fits, and returns it.
func (w *watcher) until(t *testing.T, id, what string, fits func(asset.Workload) bool) (got asset.Workload) {
	t.Helper()
	w.wait(t, "container "+asset.ShortID(id)+" "+what, func() bool {
		var ok bool
		got, ok = w.byID[id]
		return ok && fits(got)
	})
	return got
}

// connected waits for the nth complete inventory.
func (w *watcher) connected(t *testing.T, n int) (last asset.Inventory) {
	t.Helper()
	w.wait(t, fmt.Sprintf("complete inventory %d", n), func() bool {
		count := 0
		for _, inv := range w.all {
			if inv.Complete {
				count++
				last = inv
			}
		}
		return count >= n
	})
	return last
}

func in(s asset.State) func(asset.Workload) bool {
	return func(w asset.Workload) bool { return w.State == s }
}

// start starts an engine with a shell image in it.
func start(t *testing.T, o engine.Options) *engine.Engine {
	t.Helper()
	e := engine.ForTest(t, o)
	image, err := engine.Busybox()
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Load(t.Context(), image); err != nil {
		t.Fatal(err)
	}
	return e
}

const (
	shell   = "busybox:test"
	taskID  = "0123456789abcdef0123456789abcdef"
	taskARN = "arn:aws:ecs:eu-west-1:123456789012:task/shop/" + taskID
)

// labels are those that the ECS agent sets.
func labels(container string) map[string]string {
	return map[string]string{
		"com.amazonaws.ecs.cluster":                 "shop",
		"com.amazonaws.ecs.task-arn":                taskARN,
		"com.amazonaws.ecs.task-definition-family":  "storefront",
		"com.amazonaws.ecs.task-definition-version": "7",
		"com.amazonaws.ecs.container-name":          container,
	}
}

func identity(container string) asset.ECS {
	return asset.ECS{
		Account: "123456789012", Region: "eu-west-1", Cluster: "shop", Family: "storefront", Revision: "7",
		TaskARN: taskARN, TaskID: taskID, Container: container,
	}
}

func run(t *testing.T, e *engine.Engine, c engine.Container) string {
	t.Helper()
	if c.Image == "" {
		c.Image = shell
	}
	id, err := e.Run(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// One container from before the door opened, through everything that can
// happen to it, to its end.
func TestLifeOfAContainer(t *testing.T) {
	e := start(t, engine.Options{})
	id := run(t, e, engine.Container{Name: "early", Labels: labels("web"), Cmd: []string{"sleep", "3600"}})
	w := watch(t, e.Host())
	first := w.connected(t, 1)

	if got := first.Engine; !got.Connected || got.Version == "" || got.APIVersion == "" || got.Name == "" {
		t.Errorf("engine = %+v, want it connected, with name and versions", got)
	}
	got := w.until(t, id, "found", in(asset.Running))
	if got.ECS != identity("web") || got.Group != "shop/storefront/web" || got.Name != "early" || got.PID == 0 ||
		got.Started == nil || got.Finished != nil || got.ExitCode != nil || got.Partial || got.Image.Reference != shell || got.Image.ID == "" {
		t.Errorf("existing container = %+v", got)
	}

	steps := []struct {
		name string
		do   func(ctx context.Context) error
		fits func(asset.Workload) bool
	}{
		{"paused", func(ctx context.Context) error {
			_, err := e.Client.ContainerPause(ctx, id, client.ContainerPauseOptions{})
			return err
		}, in(asset.Paused)},
		{"running again", func(ctx context.Context) error {
			_, err := e.Client.ContainerUnpause(ctx, id, client.ContainerUnpauseOptions{})
			return err
		}, in(asset.Running)},
		{"renamed", func(ctx context.Context) error {
			_, err := e.Client.ContainerRename(ctx, id, client.ContainerRenameOptions{NewName: "late"})
			return err
		}, func(w asset.Workload) bool { return w.Name == "late" }},
		{"limited", func(ctx context.Context) error {
			limit := int64(100)
			_, err := e.Client.ContainerUpdate(ctx, id, client.ContainerUpdateOptions{Resources: &container.Resources{PidsLimit: &limit}})
			return err
		}, func(w asset.Workload) bool { return w.Settings.PidsLimit == 100 }},
		{"killed", func(ctx context.Context) error {
			_, err := e.Client.ContainerKill(ctx, id, client.ContainerKillOptions{Signal: "KILL"})
			return err
		}, func(w asset.Workload) bool {
			return w.State == asset.Exited && w.ExitCode != nil && *w.ExitCode == 137 && w.Finished != nil && w.PID == 0
		}},
		{"started again", func(ctx context.Context) error {
			_, err := e.Client.ContainerStart(ctx, id, client.ContainerStartOptions{})
			return err
		}, func(w asset.Workload) bool { return w.State == asset.Running && w.ExitCode == nil && w.Finished == nil }},
		{"removed", func(ctx context.Context) error { return e.Remove(ctx, id) }, in(asset.Exited)},
	}
	for _, s := range steps {
		if err := s.do(t.Context()); err != nil {
			t.Fatalf("%s: %v", s.name, err)
		}
		got := w.until(t, id, s.name, s.fits)
		if got.ECS != identity("web") {
			t.Errorf("%s: identity = %+v, want it kept", s.name, got.ECS)
		}
	}
}

// What lives for milliseconds and leaves nothing behind is recorded all the
// same: name, image, identity, times and exit code.
func TestContainersOfMilliseconds(t *testing.T) {
	e := start(t, engine.Options{})
	w := watch(t, e.Host())
	w.connected(t, 1)
	for n := range 10 {
		code := n % 2
		name := fmt.Sprintf("blink-%d", n)
		id := run(t, e, engine.Container{Name: name, Labels: labels("job"), Cmd: []string{[]string{"true", "false"}[code]}, Remove: true})
		got := w.until(t, id, "ended", func(w asset.Workload) bool { return w.State == asset.Exited && w.ExitCode != nil })
		if got.Name != name || got.Image.Reference != shell || got.ECS != identity("job") || *got.ExitCode != code ||
			got.Created.IsZero() || got.Started == nil || got.Finished == nil || got.PID != 0 {
			t.Errorf("container %d = %+v, want all of it", n, got)
		}
		if got.Started != nil && got.Finished != nil && got.Finished.Before(*got.Started) {
			t.Errorf("container %d ended at %s, before it started at %s", n, got.Finished, got.Started)
		}
	}
}

func TestFiftyAtOnce(t *testing.T) {
	const many = 50
	e := start(t, engine.Options{})
	w := watch(t, e.Host())
	w.connected(t, 1)
	ids := make([]string, many)
	errs := make([]error, many)
	var starting sync.WaitGroup
	for n := range many {
		starting.Go(func() {
			ids[n], errs[n] = e.Run(t.Context(), engine.Container{
				Image: shell, Name: fmt.Sprintf("many-%02d", n), Labels: labels("many"), Cmd: []string{"sh", "-c", "sleep 0.2; exit 3"},
			})
		})
	}
	starting.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	for n, id := range ids {
		got := w.until(t, id, "ended", func(w asset.Workload) bool { return w.State == asset.Exited && w.ExitCode != nil })
		if got.Name != fmt.Sprintf("many-%02d", n) || got.ECS != identity("many") || *got.ExitCode != 3 || got.Partial {
			t.Errorf("container %d = %+v", n, got)
		}
	}
}

// The engine dies, is away, and comes back: the door says so, then tells
// everything anew, with what happened to the containers in the meantime.
func TestEngineComesBack(t *testing.T) {
	for _, tt := range []struct {
		name string
		end  func(*engine.Engine) error
	}{
		{"killed", (*engine.Engine).Kill},
		{"stopped", (*engine.Engine).Stop},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := start(t, engine.Options{})
			w := watch(t, e.Host())
			w.connected(t, 1)
			id := run(t, e, engine.Container{Name: "survivor", Labels: labels("web")})
			w.until(t, id, "running", in(asset.Running))

			if err := tt.end(e); err != nil {
				t.Fatal(err)
			}
			w.wait(t, "word that the engine is away and what to do", func() bool {
				last := w.all[len(w.all)-1].Engine
				return !last.Connected && strings.Contains(last.Error, "is dockerd running?")
			})
			if err := e.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			again := w.connected(t, 2)
			if len(again.Workloads) != 1 || again.Workloads[0].ID != id {
				t.Errorf("complete inventory after the engine came back = %+v, want container %s", again.Workloads, id)
			}
			next := run(t, e, engine.Container{Name: "next"})
			w.until(t, next, "running", in(asset.Running))
		})
	}
}

func TestNoEngineYet(t *testing.T) {
	e := start(t, engine.Options{})
	if err := e.Stop(); err != nil {
		t.Fatal(err)
	}
	w := watch(t, e.Host())
	w.wait(t, "word that there is no engine", func() bool {
		return len(w.all) == 1 && !w.all[0].Engine.Connected && w.all[0].Engine.Error != ""
	})
	if err := e.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.connected(t, 1)
}

// What a maker of containers can write into them neither blinds the door nor
// gets through it.
func TestHostileLabels(t *testing.T) {
	e := start(t, engine.Options{})
	w := watch(t, e.Host())
	w.connected(t, 1)

	forged := labels("web")
	forged["com.amazonaws.ecs.container-name"] = "a/b\x1b[2J"
	forged["com.amazonaws.ecs.task-definition-family"] = strings.Repeat("f", 100_000)
	forged["name"], forged["image"] = "not-my-name", "not-my-image"
	id := run(t, e, engine.Container{Name: "forger", Labels: forged})
	got := w.until(t, id, "found", in(asset.Running))
	if got.ECS.Container != "" || got.ECS.Family != "" || got.Group != "docker/forger" || got.Name != "forger" || got.Image.Reference != shell {
		t.Errorf("container with forged labels = %+v, want made-up names left out", got)
	}

	// The engine lets a label cover the exit code in its events.
	id = run(t, e, engine.Container{Name: "innocent", Labels: map[string]string{"exitCode": "0"}, Cmd: []string{"false"}, Remove: true})
	got = w.until(t, id, "ended", in(asset.Exited))
	if got.ExitCode != nil && *got.ExitCode == 0 {
		t.Errorf("exit code = 0 as the label says, want 1 or nothing")
	}

	// An event is longer than the door reads, an inspection too.
	id = run(t, e, engine.Container{Name: "bulky", Labels: map[string]string{"filler": strings.Repeat("x", 5<<20)}})
	got = w.until(t, id, "found although it is bulky", in(asset.Running))
	if got.Name != "bulky" || got.Image.Reference != shell || !got.Partial {
		t.Errorf("container with 5 MiB of labels = %+v, want it known by name, and partial", got)
	}
	after := run(t, e, engine.Container{Name: "after"})
	w.until(t, after, "found after all that", in(asset.Running))
}

// Every part of the settings, as a real engine writes them.
func TestSettings(t *testing.T) {
	e := start(t, engine.Options{Bridge: true})
	folder := t.TempDir()
	id := run(t, e, engine.Container{Name: "set", Cmd: []string{"sleep", "3600"}, Change: func(c *container.Config, h *container.HostConfig) {
		c.User, c.Env = "1000:1000", []string{"PASSWORD=hunter2"}
		c.ExposedPorts = network.PortSet{network.MustParsePort("8080/tcp"): {}, network.MustParsePort("53/udp"): {}}
		h.PortBindings = network.PortMap{network.MustParsePort("8080/tcp"): {{HostPort: "18080"}}}
		h.Binds = []string{folder + ":/data:ro"}
		h.Tmpfs = map[string]string{"/scratch": "size=1m"}
		h.ReadonlyRootfs = true
		h.CapAdd, h.CapDrop = []string{"NET_ADMIN"}, []string{"ALL"}
		h.SecurityOpt = []string{"no-new-privileges"}
		h.Memory = 64 << 20
		h.PidMode = "host"
	}})
	w := watch(t, e.Host())
	got := w.until(t, id, "found", in(asset.Running))
	s := got.Settings
	wantMounts := []asset.Mount{{Kind: "bind", Source: folder, Target: "/data", ReadOnly: true}, {Kind: "tmpfs", Target: "/scratch"}}
	if s.User != "1000:1000" || strings.Join(s.Entrypoint, " ") != "sleep 3600" || !s.ReadOnlyRoot || s.Privileged ||
		strings.Join(s.CapAdd, " ") != "NET_ADMIN" || strings.Join(s.CapDrop, " ") != "ALL" || len(s.SecurityOpt) == 0 || s.SecurityOpt[0] != "no-new-privileges" ||
		s.MemoryLimit != 64<<20 || s.PIDMode != "host" || fmt.Sprint(s.Mounts) != fmt.Sprint(wantMounts) {
		t.Errorf("settings = %+v", s)
	}
	if len(s.Addresses) != 1 || !s.Addresses[0].Is4() {
		t.Errorf("addresses = %v, want the one on the bridge", s.Addresses)
	}
	if len(s.Ports) != 2 || s.Ports[0] != (asset.Port{Protocol: "udp", Port: 53}) || s.Ports[1].Port != 8080 || s.Ports[1].HostPort != 18080 {
		t.Errorf("ports = %+v, want 53/udp and 8080/tcp on 18080", s.Ports)
	}
	if strings.Contains(fmt.Sprintf("%+v", got), "hunter2") {
		t.Error("the environment is in the workload")
	}
}
