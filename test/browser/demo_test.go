package browser

import (
	"context"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/adapter/bpf"
	"github.com/castellan-security/castellan/internal/adapter/docker"
	"github.com/castellan-security/castellan/internal/adapter/kernel"
	"github.com/castellan-security/castellan/internal/agent"
	"github.com/castellan-security/castellan/internal/need"
	"github.com/castellan-security/castellan/test/docker/engine"
)

const (
	source     = "../.." // where the demo is started
	demoWithin = 5 * time.Minute
)

// TestDemo is what a newcomer does: the demo on a real engine, a real agent
// beside it, and the console in a browser while somebody breaks in.
func TestDemo(t *testing.T) {
	need.Root(t)
	need.BPF(t, "tp_btf")
	need.Browser(t)
	e := engine.ForTest(t, engine.Options{Apart: true})
	s := &shop{engine: e, program: filepath.Join(t.TempDir(), "demo")}
	build := exec.CommandContext(t.Context(), "go", "build", "-o", s.program, "./demo")
	build.Dir = source
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the demo: %v\n%s", err, out)
	}
	s.run(t, s.program, "up")
	h := serve(t)
	h.guard(t, e)

	browser := launch(t)
	h.signIn(t, browser)
	t.Run("workloads", func(t *testing.T) { s.workloads(t, h.tab(t, browser)) })
	t.Run("docker exec on screen", func(t *testing.T) { s.enters(t, h.tab(t, browser)) })
	t.Run("process tree", func(t *testing.T) { s.lives(t, h.tab(t, browser)) })
	t.Run("attack on screen", func(t *testing.T) { s.attacked(t, h.tab(t, browser)) })
}

// guard runs an agent with this host's real doors until the test ends.
func (h *house) guard(t *testing.T, e *engine.Engine) {
	t.Helper()
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	door, err := docker.New(docker.Options{Host: e.Host()}, log)
	if err != nil {
		t.Fatal(err)
	}
	sensors, err := bpf.Open(t.Context(), bpf.Options{}, log)
	if err != nil {
		t.Fatal(err)
	}
	id, err := agent.Identity(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	a := agent.New(agent.Config{ID: id, Version: "0.1.0-test"},
		agent.Parts{Engine: door, Sensors: sensors, Host: kernel.New(kernel.Options{}), Server: h.Intake()}, log)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := sensors.Close(); err != nil {
			t.Error(err)
		}
	})
}

// shop is the demo on an engine of its own.
type shop struct {
	engine  *engine.Engine
	program string
}

// run runs a command in the source tree, in the engine's network, and returns
// what it printed.
func (s *shop) run(t *testing.T, command ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), demoWithin)
	defer cancel()
	line := s.engine.Inside(command...)
	c := exec.CommandContext(ctx, line[0], line[1:]...)
	c.Dir, c.Env = source, append(os.Environ(), "DOCKER_HOST="+s.engine.Host())
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(command, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

func (s *shop) storefront(t *testing.T) string {
	t.Helper()
	return s.run(t, "docker", "ps", "--quiet", "--no-trunc", "--filter", "label=com.amazonaws.ecs.container-name=storefront")
}

func (s *shop) workloads(t *testing.T, b *tab) {
	b.open("/workloads?cluster=shop&state=running")
	for _, name := range []string{"storefront", "api", "worker", "store", "client"} {
		if !eval[bool](b, shows(name)) {
			b.open("/workloads?cluster=shop&state=running") // the agent may have begun just now
			b.wait(shows(name))
		}
	}
}

// enters looks for the row of a shell that comes in by docker exec, on a page
// that was open before.
func (s *shop) enters(t *testing.T, b *tab) {
	b.open("/events?entered=true")
	began := time.Now()
	s.run(t, "docker", "exec", s.storefront(t), "sh", "-c", "echo burglar-at-the-door")
	b.wait(shows("burglar-at-the-door"))
	b.wait(shows("from outside"))
	picture(b, "demo-entered")
	t.Logf("on screen %v after docker exec was started", time.Since(began).Round(time.Millisecond))
}

// lives looks for a process in the live tree, and for its end.
func (s *shop) lives(t *testing.T, b *tab) {
	id := s.storefront(t)
	b.open("/workloads/" + id)
	// The shop ran before the agent: what it starts now must hang below it.
	b.wait(`[...document.querySelectorAll('main li')].some(l => l.querySelector(':scope > .proc')?.innerText.includes('/bin/storefront') && l.querySelector('li'))`)
	s.run(t, "docker", "exec", "--detach", id, "sleep", "4711")
	b.wait(shows("sleep 4711"))
	picture(b, "demo-workload")
	s.run(t, "docker", "exec", id, "bash", "-c", `for p in /proc/[0-9]*; do read -r -d "" c < $p/cmdline; [ "$c" = sleep ] && kill ${p#/proc/}; done; true`)
	b.wait(`[...document.querySelectorAll('main li')].some(l => l.innerText.includes('sleep 4711') && /signal|ended|killed/.test(l.innerText))`)
}

// attacked looks for what an attack through the web left.
func (s *shop) attacked(t *testing.T, b *tab) {
	b.open("/events?origin=written")
	s.run(t, "bash", "demo/attacks/download-run.sh")
	b.wait(shows("/tmp/"))
	b.wait(shows("written"))
	b.open("/")
	picture(b, "demo-overview")
}
