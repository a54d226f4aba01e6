package docker_test

import (
	"bytes"
	"context"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/castellan-security/castellan/internal/adapter/bpf"
	"github.com/castellan-security/castellan/test/docker/engine"
)

const (
	strictPolicy  = "version: 1\nmode: enforce\nrules:\n  - use: privileged\n"
	lenientPolicy = "version: 1\nmode: audit\nrules:\n  - use: privileged\n"
)

// castellan is the program as users run it, with a door for one engine.
type castellan struct {
	t      *testing.T
	args   []string
	socket string
	cmd    *exec.Cmd
	ended  chan error
	output *locked
}

// locked is a buffer of what a program writes.
type locked struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *locked) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// build makes the program.
func build(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "castellan")
	c := exec.CommandContext(t.Context(), "go", "build", "-o", program, "../../cmd/castellan")
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return program
}

// start runs the program until its door is open.
func (c *castellan) start() {
	c.t.Helper()
	c.output = &locked{}
	c.cmd = exec.Command(c.args[0], c.args[1:]...)
	c.cmd.Stdout, c.cmd.Stderr = c.output, c.output
	before, _ := os.Lstat(c.socket) // there is none at the first start
	if err := c.cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	c.ended = make(chan error, 1)
	go func(cmd *exec.Cmd, ended chan error) { ended <- cmd.Wait() }(c.cmd, c.ended)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	late := time.After(patience)
	for {
		now, err := os.Lstat(c.socket)
		if err == nil && now.Mode().Type() == fs.ModeSocket && !os.SameFile(before, now) && now.Mode().Perm() == 0o600 {
			return
		}
		select {
		case err := <-c.ended:
			c.t.Fatalf("castellan ended: %v\n%s", err, c.output)
		case <-late:
			c.t.Fatalf("no socket after %s\n%s", patience, c.output)
		case <-tick.C:
		}
	}
}

// kill ends it as the kernel does when memory runs out.
func (c *castellan) kill() {
	if err := c.cmd.Process.Kill(); err != nil {
		c.t.Error(err)
	}
	<-c.ended
}

// TestPluginOfTheProgram runs the program as users do, replaces its policy, kills
// it in the middle, and starts it again.
func TestPluginOfTheProgram(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("not root: an engine looks for plugins in a folder of root's")
	}
	dir := t.TempDir()
	name, socket := pluginSocket(t)
	policy, host := filepath.Join(dir, "policy.yaml"), filepath.Join(dir, "d.sock")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(policy+".new", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(policy+".new", policy); err != nil {
			t.Fatal(err)
		}
	}
	write(strictPolicy)
	c := &castellan{t: t, socket: socket, args: []string{build(t), "up", "--data-dir", filepath.Join(dir, "data"), "--listen", "127.0.0.1:0",
		"--docker-host", "unix://" + host, "--sensor-off", strings.Join(bpf.Names(), ","), "--scan-images=false", "--verify-images=false",
		"--admission-plugin", "--admission-policy", policy, "--admission-socket", socket}}
	c.start()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("castellan wrote:\n%s", c.output)
		}
		c.kill()
	})
	e := start(t, engine.Options{Settings: map[string]any{"authorization-plugins": []string{name}, "live-restore": true}})
	if err := os.Symlink(strings.TrimPrefix(e.Host(), "unix://"), host); err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	privileged := engine.Container{Image: shell, Change: func(_ *container.Config, h *container.HostConfig) { h.Privileged = true }}

	id, err := e.Run(ctx, engine.Container{Image: shell})
	if err != nil {
		t.Fatalf("what is allowed does not run: %v\n%s", err, c.output)
	}
	_, err = e.Create(ctx, privileged)
	refusedBy(t, "create", err, "privileged: ")
	write("version: nonsense\n")
	_, err = e.Create(ctx, privileged)
	refusedBy(t, "create by a broken policy", err, "privileged: ")
	write(lenientPolicy)
	made, err := e.Create(ctx, privileged)
	if err != nil {
		t.Errorf("create by the new policy = %v", err)
	}
	write(strictPolicy)
	_, err = e.Client.ContainerStart(ctx, made, client.ContainerStartOptions{})
	refusedBy(t, "start by the old policy", err, "privileged: ")

	before := containers(t, e)
	c.kill()
	began := time.Now()
	timed, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if _, err := e.Client.ContainerStart(timed, made, client.ContainerStartOptions{}); err == nil || !strings.Contains(err.Error(), name) {
		t.Errorf("start without the plugin = %v, want it refused", err)
	}
	t.Logf("without the plugin the engine refuses after %s", time.Since(began).Round(time.Second))
	c.start() // over what is left of the socket
	if got := status(t, e, made); got != container.StateCreated {
		t.Errorf("container is %s, want it created", got)
	}
	if got := status(t, e, id); got != container.StateRunning {
		t.Errorf("container from before is %s, want it running", got)
	}
	if got := containers(t, e); got != before {
		t.Errorf("%d containers, want %d", got, before)
	}
	_, err = e.Create(ctx, privileged)
	refusedBy(t, "create after the restart", err, "privileged: ")
	if _, err := e.Run(ctx, engine.Container{Image: shell}); err != nil {
		t.Errorf("what is allowed does not run after the restart: %v", err)
	}
}
