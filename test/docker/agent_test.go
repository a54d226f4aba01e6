package docker_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/adapter/bpf"
	"github.com/castellan-security/castellan/internal/adapter/docker"
	"github.com/castellan-security/castellan/internal/adapter/kernel"
	"github.com/castellan-security/castellan/internal/agent"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/need"
	"github.com/castellan-security/castellan/internal/server/intake"
	"github.com/castellan-security/castellan/test/docker/engine"
)

// inbox is a server that keeps what an agent reports.
type inbox struct {
	server  *intake.Intake      // who else gets the reports; nil for nobody
	sensing asset.AgentSettings // of the sensors
	leave   func()              // ends the agent, once; what it still held is here then
	further func(*agent.Parts)  // adds doors to the agent; nil for none
	wishes  chan link.Directive // nil: nothing is wanted

	mu        sync.Mutex
	changed   chan struct{} // closed and made anew with each report
	events    []event.Event
	workloads map[string]asset.Workload
	agent     asset.Agent
	used      map[string][]string // by workload
	scanned   []link.Scanned
}

// Report keeps the report, with the events as they are told or, where there is a
// real server, as that stores them: see take.
func (b *inbox) Report(ctx context.Context, r link.Report) (receipt link.Receipt, err error) {
	if b.server != nil {
		if receipt, err = b.server.Report(ctx, r); err != nil {
			return receipt, err
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.agent = r.Agent
	if b.server == nil {
		b.events = append(b.events, r.Events...)
	}
	for _, w := range r.Workloads {
		b.workloads[w.ID] = w
	}
	for _, u := range r.Uses {
		if b.used == nil {
			b.used = map[string][]string{}
		}
		b.used[u.WorkloadID] = append(b.used[u.WorkloadID], u.Paths...)
	}
	b.wake()
	return receipt, nil
}

// take keeps events that the server stored.
func (b *inbox) take(events []event.Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.events = append(b.events, events...)
	b.wake()
}

// wake is called with mu held.
func (b *inbox) wake() {
	close(b.changed)
	b.changed = make(chan struct{})
}

// Directives hands on what is wanted.
func (b *inbox) Directives(ctx context.Context, _ link.Caller, take func(link.Directive)) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case d := <-b.wishes:
			take(d)
		}
	}
}

// Inventory keeps the answer to a scan.
func (b *inbox) Inventory(_ context.Context, s link.Scanned) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.scanned = append(b.scanned, s)
	b.wake()
	return nil
}

// Verdict is link.Server: none is asked for.
func (b *inbox) Verdict(context.Context, link.Verified) error {
	return errors.New("no verdict was asked for")
}

// wait returns when ok does, asked after each report.
func (b *inbox) wait(t *testing.T, what string, ok func() bool) {
	t.Helper()
	late := time.NewTimer(patience)
	defer late.Stop()
	for {
		b.mu.Lock()
		met, changed := ok(), b.changed
		b.mu.Unlock()
		if met {
			return
		}
		select {
		case <-changed:
		case <-late.C:
			b.mu.Lock()
			defer b.mu.Unlock()
			t.Fatalf("waited %s for %s; %d events, sensors %+v, losses %+v, last events: %+v",
				patience, what, len(b.events), b.agent.Sensors, b.agent.Losses, b.events[max(0, len(b.events)-20):])
		}
	}
}

// exec waits for the exec of a container that fits, and returns it.
func (b *inbox) exec(t *testing.T, id, what string, fits func(event.Event) bool) (got event.Event) {
	t.Helper()
	b.wait(t, "exec of "+what, func() bool {
		i := slices.IndexFunc(b.events, func(e event.Event) bool {
			return e.Kind == event.KindExec && e.WorkloadID == id && e.Exec != nil && fits(e)
		})
		if i >= 0 {
			got = b.events[i]
		}
		return i >= 0
	})
	return got
}

// workload waits until what is reported of a container fits, and returns it.
func (b *inbox) workload(t *testing.T, id string, fits func(asset.Workload) bool) (got asset.Workload) {
	t.Helper()
	b.wait(t, "workload "+asset.ShortID(id), func() bool {
		var ok bool
		got, ok = b.workloads[id]
		return ok && fits(got)
	})
	return got
}

// guard runs an agent with the real doors of this host on an engine until the
// test ends, and returns what it reports.
func guard(t *testing.T, e *engine.Engine) *inbox {
	t.Helper()
	return guardWith(t, e, asset.AgentSettings{})
}

// guardWith is guard with settings for the sensors.
func guardWith(t *testing.T, e *engine.Engine, settings asset.AgentSettings) *inbox {
	t.Helper()
	b := &inbox{changed: make(chan struct{}), workloads: map[string]asset.Workload{}, sensing: settings}
	b.guard(t, e)
	return b
}

// guard runs the agent; the host that it guards is the engine's.
func (b *inbox) guard(t *testing.T, e *engine.Engine) {
	t.Helper()
	need.BPF(t, "tp_btf")
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	door, err := docker.New(docker.Options{Host: e.Host()}, log)
	if err != nil {
		t.Fatal(err)
	}
	sensors, err := bpf.Open(t.Context(), bpf.Options{Settings: b.sensing}, log)
	if err != nil {
		t.Fatal(err)
	}
	id, err := agent.Identity(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	host := kernel.New(kernel.Options{Network: e.PID()})
	parts := agent.Parts{
		Engine: door, Sensors: sensors, Lister: sensors, Inspector: host, Addresser: host, Sampler: host, Host: host, Server: b,
	}
	if b.further != nil {
		b.further(&parts)
	}
	a := agent.New(agent.Config{ID: id, Version: "test"}, parts, log)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	b.leave = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("agent ended: %v", err)
		}
		if err := sensors.Close(); err != nil {
			t.Errorf("close sensors: %v", err)
		}
	})
	t.Cleanup(b.leave)
	b.wait(t, "the agent to watch", func() bool {
		return b.agent.Engine.Connected && slices.ContainsFunc(b.agent.Sensors, func(s asset.Sensor) bool {
			return s.Name == "process" && s.State == asset.SensorRunning
		})
	})
}

func called(args ...string) func(event.Event) bool {
	return func(e event.Event) bool { return slices.Equal(e.Exec.Args, args) }
}

// Somebody enters a container that runs, looks around, drops a program and
// runs it: each step is reported with the workload it happened in.
func TestShellInAContainer(t *testing.T) {
	e := start(t, engine.Options{})
	id := run(t, e, engine.Container{Name: "web", Labels: labels("web"), Cmd: []string{"sleep", "3600"}})
	b := guard(t, e)
	if got := b.workload(t, id, in(asset.Running)); got.ECS != identity("web") || got.Group != "shop/storefront/web" {
		t.Errorf("workload = %+v", got)
	}

	const script = "cp /bin/busybox /tmp/ls && /tmp/ls /tmp"
	out, code, err := e.Exec(t.Context(), id, "sh", "-c", script)
	if err != nil || code != 0 {
		t.Fatalf("exec: %v, code %d, output %q", err, code, out)
	}
	entered := b.exec(t, id, "the shell that entered", called("sh", "-c", script))
	if x := entered.Exec; !x.Entered || x.Origin != event.OriginImage || entered.Process.UID != 0 || x.Cwd != "/" {
		t.Errorf("shell = %+v of process %+v, want it entered, from the image, as root in /", x, entered.Process)
	}
	dropped := b.exec(t, id, "the program that was dropped", called("/tmp/ls", "/tmp"))
	if x := dropped.Exec; x.Origin != event.OriginWritten || dropped.Process.Executable != "/tmp/ls" {
		t.Errorf("dropped program = %+v of process %+v, want it written later, at /tmp/ls", x, dropped.Process)
	}
	if dropped.Seq <= entered.Seq {
		t.Errorf("sequence of the dropped program %d, want it after the shell's %d", dropped.Seq, entered.Seq)
	}
}

// A container of milliseconds has its workload and what it ran.
func TestBlinkOfAContainer(t *testing.T) {
	e := start(t, engine.Options{})
	b := guard(t, e)
	id := run(t, e, engine.Container{Name: "blink", Labels: labels("job"), Cmd: []string{"true"}, Remove: true})
	got := b.workload(t, id, func(w asset.Workload) bool { return w.State == asset.Exited && w.ExitCode != nil })
	if got.ECS != identity("job") || got.Name != "blink" || *got.ExitCode != 0 || got.Started == nil || got.Finished == nil {
		t.Errorf("workload = %+v", got)
	}
	ran := b.exec(t, id, "its program", called("true"))
	if ran.Exec.Origin != event.OriginImage || ran.Exec.Entered {
		t.Errorf("exec = %+v, want it from the image and not entered", ran.Exec)
	}
}
