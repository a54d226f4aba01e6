package docker_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/castellan-security/castellan/internal/adapter/docker"
	"github.com/castellan-security/castellan/internal/adapter/docker/authz"
	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/test/docker/engine"
)

// law is a decider that a test changes while it is asked.
type law struct {
	mu    sync.Mutex
	rule  func(admission.Request) string // empty: allowed
	asked []admission.Request
}

func (l *law) Decide(_ context.Context, r admission.Request) (admission.Verdict, error) {
	l.mu.Lock()
	rule := l.rule
	l.asked = append(l.asked, r)
	l.mu.Unlock()
	if rule != nil {
		if why := rule(r); why != "" {
			return admission.Verdict{Outcome: admission.Deny, Reasons: []admission.Reason{
				{Effect: admission.Denies, Rule: "the-law", Message: why, Remedy: "ask for less"}}}, nil
		}
	}
	return admission.Verdict{Outcome: admission.Allow}, nil
}

// set changes the rule and forgets what was asked.
func (l *law) set(rule func(admission.Request) string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rule, l.asked = rule, nil
}

// late is an engine that is known only once it runs, after its plugin.
type late struct {
	reader atomic.Pointer[docker.Reader]
	looks  atomic.Int64 // so many times it was asked for a container
}

func (l *late) ask(f func(*docker.Reader) (json.RawMessage, error)) (json.RawMessage, error) {
	if r := l.reader.Load(); r != nil {
		return f(r)
	}
	return nil, fault.New(fault.Unavailable, "no engine yet")
}

func (l *late) Container(ctx context.Context, name string) (json.RawMessage, error) {
	l.looks.Add(1)
	return l.ask(func(r *docker.Reader) (json.RawMessage, error) { return r.Container(ctx, name) })
}
func (l *late) Containers(ctx context.Context) (json.RawMessage, error) {
	return l.ask(func(r *docker.Reader) (json.RawMessage, error) { return r.Containers(ctx) })
}
func (l *late) Exec(ctx context.Context, id string) (json.RawMessage, error) {
	return l.ask(func(r *docker.Reader) (json.RawMessage, error) { return r.Exec(ctx, id) })
}
func (l *late) Image(ctx context.Context, name string) (json.RawMessage, error) {
	return l.ask(func(r *docker.Reader) (json.RawMessage, error) { return r.Image(ctx, name) })
}
func (l *late) Volume(ctx context.Context, name string) (json.RawMessage, error) {
	return l.ask(func(r *docker.Reader) (json.RawMessage, error) { return r.Volume(ctx, name) })
}
func (l *late) Network(ctx context.Context, name string) (json.RawMessage, error) {
	return l.ask(func(r *docker.Reader) (json.RawMessage, error) { return r.Network(ctx, name) })
}

func (l *late) Info(ctx context.Context) (json.RawMessage, error) {
	return l.ask(func(r *docker.Reader) (json.RawMessage, error) { return r.Info(ctx) })
}

func (l *late) use(t *testing.T, host string) {
	t.Helper()
	door, err := docker.New(docker.Options{Host: host}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	r := door.Reader()
	t.Cleanup(r.Close)
	l.reader.Store(r)
}

// pluginSocket is where an engine looks for the plugin of a test.
func pluginSocket(t *testing.T) (name, path string) {
	t.Helper()
	name = fmt.Sprintf("castellan-%d-%s", os.Getpid(), strings.ToLower(filepath.Base(t.Name())))
	path = filepath.Join(filepath.Dir(authz.DefaultSocket), name+".sock")
	t.Cleanup(func() { _ = os.Remove(path) }) // may be gone
	return name, path
}

// guarded starts an engine under a plugin in this process.
func guarded(t *testing.T) (*engine.Engine, *law) {
	t.Helper()
	return guardedBy(t, engine.Options{})
}

// guardedBy is guarded, of an engine that is something else, too.
func guardedBy(t *testing.T, o engine.Options) (*engine.Engine, *law) {
	t.Helper()
	return guardedAs(t, o, authz.Options{})
}

// guardedAs is guardedBy, by a plugin with options.
func guardedAs(t *testing.T, o engine.Options, as authz.Options) (*engine.Engine, *law) {
	t.Helper()
	e, rules, _, _ := guardedWith(t, o, as)
	return e, rules
}

// guardedWith is guardedAs, and returns the plugin and what that asks.
func guardedWith(t *testing.T, o engine.Options, as authz.Options) (*engine.Engine, *law, *authz.Plugin, *late) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("not root: an engine looks for plugins in a folder of root's")
	}
	name, path := pluginSocket(t)
	l, err := authz.Listen(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	var rules law
	var asks late
	p := authz.New(&rules, &asks, as, slog.New(slog.NewTextHandler(t.Output(), nil)))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	o.Settings = map[string]any{"authorization-plugins": []string{name}}
	e := start(t, o)
	t.Cleanup(func() { rules.set(nil) }) // so that the engine can be cleared away
	asks.use(t, e.Host())
	return e, &rules, p, &asks
}

// deny makes a rule for one kind of request.
func deny(why string, when func(admission.Request) bool) func(admission.Request) string {
	return func(r admission.Request) string {
		if when(r) {
			return why
		}
		return ""
	}
}

func refusedBy(t *testing.T, what string, err error, why string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), "authorization denied by plugin castellan") || !strings.Contains(err.Error(), why) {
		t.Errorf("%s: error %v, want it denied because %q", what, err, why)
	}
}

// status is what the engine says of a container.
func status(t *testing.T, e *engine.Engine, id string) container.ContainerState {
	t.Helper()
	in, err := e.Client.ContainerInspect(t.Context(), id, client.ContainerInspectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if in.Container.State.Status == container.StateCreated && in.Container.State.StartedAt != "0001-01-01T00:00:00Z" {
		t.Errorf("container %s has run at %s", id, in.Container.State.StartedAt)
	}
	return in.Container.State.Status
}

func containers(t *testing.T, e *engine.Engine) int {
	t.Helper()
	all, err := e.Client.ContainerList(t.Context(), client.ContainerListOptions{All: true})
	if err != nil {
		t.Fatal(err)
	}
	return len(all.Items)
}

// TestAuthorization holds a real engine under the plugin against what people and
// attackers ask of it.
func TestAuthorization(t *testing.T) {
	e, rules := guarded(t)
	ctx := t.Context()
	privileged := func(_ *container.Config, h *container.HostConfig) { h.Privileged = true }
	noPrivileged := deny("it is privileged", func(r admission.Request) bool {
		return len(r.Task.Containers) > 0 && r.Task.Containers[0].Privileged
	})

	t.Run("what is allowed runs", func(t *testing.T) {
		rules.set(noPrivileged)
		id, err := e.Run(ctx, engine.Container{Image: shell})
		if err != nil {
			t.Fatal(err)
		}
		out, code, err := e.Exec(ctx, id, "echo", "hello")
		if err != nil || code != 0 || out != "hello\n" {
			t.Errorf("exec = %q, %d, %v", out, code, err)
		}
		if len(rules.asked) != 4 { // create, start, and both of the exec
			t.Errorf("%d verdicts, want 4", len(rules.asked))
		}
	})
	t.Run("what is denied is not even made", func(t *testing.T) {
		rules.set(noPrivileged)
		before := containers(t, e)
		_, err := e.Create(ctx, engine.Container{Image: shell, Change: privileged})
		refusedBy(t, "create", err, "the-law: it is privileged. Remedy: ask for less")
		if got := containers(t, e); got != before {
			t.Errorf("%d containers, want %d", got, before)
		}
	})
	t.Run("docker run says why", func(t *testing.T) {
		rules.set(noPrivileged)
		program, err := exec.LookPath("docker")
		if err != nil {
			t.Skip("no docker command here")
		}
		out, err := exec.CommandContext(ctx, program, "--host", e.Host(), "run", "--network", "none", "--privileged", shell, "true").CombinedOutput()
		if err == nil || !strings.Contains(string(out), "authorization denied by plugin castellan") || !strings.Contains(string(out), "it is privileged") {
			t.Errorf("docker run = %v, %s", err, out)
		}
		out, err = exec.CommandContext(ctx, program, "--host", e.Host(), "run", "--rm", "--network", "none", shell, "echo", "runs").CombinedOutput()
		if err != nil || !strings.Contains(string(out), "runs") {
			t.Errorf("docker run = %v, %s", err, out)
		}
	})
	t.Run("a container from before is decided when it starts", func(t *testing.T) {
		rules.set(nil)
		id, err := e.Create(ctx, engine.Container{Image: shell, Change: privileged})
		if err != nil {
			t.Fatal(err)
		}
		rules.set(noPrivileged)
		_, err = e.Client.ContainerStart(ctx, id, client.ContainerStartOptions{})
		refusedBy(t, "start", err, "it is privileged")
		_, err = e.Client.ContainerRestart(ctx, id, client.ContainerRestartOptions{})
		refusedBy(t, "restart", err, "it is privileged")
		if got := status(t, e, id); got != container.StateCreated {
			t.Errorf("container is %s, want it created", got)
		}
	})
	t.Run("what comes later is decided", func(t *testing.T) { later(t, e, rules) })
	t.Run("a volume that is a bind in disguise", func(t *testing.T) {
		rules.set(nil)
		_, err := e.Client.VolumeCreate(ctx, client.VolumeCreateOptions{Name: "sly", Driver: "local",
			DriverOpts: map[string]string{"type": "none", "o": "bind", "device": "/etc"}})
		if err != nil {
			t.Fatal(err)
		}
		rules.set(deny("it mounts /etc", func(r admission.Request) bool {
			for _, c := range r.Task.Containers {
				for _, m := range c.Mounts {
					if m.Kind == "bind" && m.Source == "/etc" {
						return true
					}
				}
			}
			return false
		}))
		_, err = e.Create(ctx, engine.Container{Image: shell, Change: func(_ *container.Config, h *container.HostConfig) { h.Binds = []string{"sly:/mnt"} }})
		refusedBy(t, "create", err, "it mounts /etc")
	})
	t.Run("a tag that moves between create and start", func(t *testing.T) { tagMoves(t, e, rules) })
	t.Run("calls that hide what they ask", func(t *testing.T) { hidden(t, e, rules) })
	t.Run("many at once", func(t *testing.T) {
		rules.set(nil)
		var all sync.WaitGroup
		for range 12 {
			all.Go(func() {
				if _, err := e.Run(ctx, engine.Container{Image: shell, Cmd: []string{"true"}, Remove: true}); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
	})
}

// later denies everything but making and starting containers.
func later(t *testing.T, e *engine.Engine, rules *law) {
	ctx := t.Context()
	rules.set(nil)
	id, err := e.Run(ctx, engine.Container{Image: shell})
	if err != nil {
		t.Fatal(err)
	}
	made, err := e.Client.ExecCreate(ctx, id, client.ExecCreateOptions{Cmd: []string{"cp", "/bin/busybox", "/tmp/ran"}})
	if err != nil {
		t.Fatal(err)
	}
	rules.set(deny("nothing later", func(r admission.Request) bool { return r.Action != admission.Run }))
	_, err = e.Client.ExecCreate(ctx, id, client.ExecCreateOptions{Cmd: []string{"true"}})
	refusedBy(t, "exec create", err, "nothing later")
	_, err = e.Client.ExecStart(ctx, made.ID, client.ExecStartOptions{Detach: true})
	refusedBy(t, "exec start", err, "nothing later")
	_, err = e.Client.ContainerUpdate(ctx, id, client.ContainerUpdateOptions{Resources: &container.Resources{Memory: 64 << 20, MemorySwap: 64 << 20}})
	refusedBy(t, "update", err, "nothing later")
	_, err = e.Client.ContainerRename(ctx, id, client.ContainerRenameOptions{NewName: "other"})
	refusedBy(t, "rename", err, "nothing later")
	_, err = e.Client.CopyToContainer(ctx, id, client.CopyToContainerOptions{DestinationPath: "/tmp", Content: bytes.NewReader(make([]byte, 1024))})
	refusedBy(t, "cp", err, "nothing later")
	_, err = e.Client.ContainerCommit(ctx, id, client.ContainerCommitOptions{Reference: "mine:1"})
	refusedBy(t, "commit", err, "nothing later")
	_, err = e.Client.ImageTag(ctx, client.ImageTagOptions{Source: shell, Target: "mine:1"})
	refusedBy(t, "tag", err, "nothing later")
	_, err = e.Client.VolumeCreate(ctx, client.VolumeCreateOptions{Name: "v"})
	refusedBy(t, "volume", err, "nothing later")
	_, err = e.Client.NetworkCreate(ctx, "n", client.NetworkCreateOptions{Driver: "bridge"})
	refusedBy(t, "network", err, "nothing later")
	_, err = e.Client.SwarmInit(ctx, client.SwarmInitOptions{ListenAddr: "127.0.0.1:0", AdvertiseAddr: "127.0.0.1"})
	refusedBy(t, "swarm init", err, "no plugin is asked about")
	_, err = e.Client.ContainerAttach(ctx, id, client.ContainerAttachOptions{Stream: true, Stdin: true})
	if err == nil {
		t.Error("attach passes, want it denied")
	}
	rules.set(nil)
	if out, _, err := e.Exec(ctx, id, "ls", "/tmp"); err != nil || strings.Contains(out, "ran") {
		t.Errorf("ls = %q, %v: the denied process ran", out, err)
	}
}

// tagMoves moves a tag after it was decided and before the engine uses it.
func tagMoves(t *testing.T, e *engine.Engine, rules *law) {
	ctx := t.Context()
	rules.set(nil)
	evil, err := engine.Busybox()
	if err != nil {
		t.Fatal(err)
	}
	evil.Reference, evil.Labels = "evil:1", map[string]string{"evil": "yes"}
	if err := e.Load(ctx, evil); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Client.ImageTag(ctx, client.ImageTagOptions{Source: shell, Target: "app:1"}); err != nil {
		t.Fatal(err)
	}
	id := func(name string) string {
		in, err := e.Client.ImageInspect(ctx, name)
		if err != nil {
			t.Error(err)
		}
		return in.ID
	}
	bad := id("evil:1")
	noEvil := func(r admission.Request) string {
		if len(r.Task.Containers) > 0 && r.Task.Containers[0].Image.ID == bad {
			return "its image is evil"
		}
		return ""
	}
	var once sync.Once
	rules.set(func(r admission.Request) string {
		why := noEvil(r)
		if r.Call.Name == "container create" {
			once.Do(func() {
				if _, err := e.Client.ImageTag(ctx, client.ImageTagOptions{Source: "evil:1", Target: "app:1"}); err != nil {
					t.Error(err)
				}
			})
		}
		return why
	})
	made, err := e.Create(ctx, engine.Container{Image: "app:1"})
	if err != nil {
		t.Fatalf("create = %v, want the engine to make it of the other image", err)
	}
	_, err = e.Client.ContainerStart(ctx, made, client.ContainerStartOptions{})
	refusedBy(t, "start", err, "its image is evil")
	if got := status(t, e, made); got != container.StateCreated {
		t.Errorf("container is %s, want it created", got)
	}
}

// raw sends bytes to the engine and returns the status and the beginning of what
// it answers.
func raw(t *testing.T, e *engine.Engine, request io.Reader) (int, string) {
	t.Helper()
	c, err := net.Dial("unix", strings.TrimPrefix(e.Host(), "unix://"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	sent := make(chan error, 1)
	go func() {
		_, err := io.Copy(c, request)
		sent <- err
	}()
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, 4096))
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatal(err)
	}
	_ = c.Close()
	<-sent // an engine that refuses does not read to the end
	return resp.StatusCode, string(b)
}

// hidden sends what clients do not send: none of it may make a container.
func hidden(t *testing.T, e *engine.Engine, rules *law) {
	rules.set(deny("it is privileged", func(r admission.Request) bool {
		return len(r.Task.Containers) > 0 && r.Task.Containers[0].Privileged
	}))
	before := containers(t, e)
	body := `{"Image":"` + shell + `","HostConfig":{"Privileged":true,"NetworkMode":"none"}}`
	const js = "application/json"
	head := func(uri, kind, length string) string {
		return "POST " + uri + " HTTP/1.1\r\nHost: docker\r\nConnection: close\r\nContent-Type: " + kind + "\r\n" + length + "\r\n\r\n"
	}
	sized := func(b string) string { return fmt.Sprintf("Content-Length: %d", len(b)) }
	chunked := func(b string) string { return fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(b), b) }
	large := strings.TrimSuffix(body, "}") + `,"Env":["A=` + strings.Repeat("a", 1<<20) + `"]}`
	for _, tc := range []struct{ name, request string }{
		{"plain", head("/v1.41/containers/create", js, sized(body)) + body},
		{"no length", head("/v1.41/containers/create", js, "Content-Length: 0")},
		{"chunked", head("/v1.41/containers/create", js, "Transfer-Encoding: chunked") + chunked(body)},
		{"chunked with a length of 0", head("/v1.41/containers/create", js, "Transfer-Encoding: chunked\r\nContent-Length: 0") + chunked(body)},
		{"oversized", head("/v1.41/containers/create", js, sized(large)) + large},
		{"oversized and chunked", head("/v1.41/containers/create", js, "Transfer-Encoding: chunked") + chunked(large)},
		{"another type", head("/v1.41/containers/create", "application/json; charset=utf-8", sized(body)) + body},
		{"two types", head("/v1.41/containers/create", "text/plain\r\nContent-Type: "+js, sized(body)) + body},
		{"an address that ends as the login's", head("/v1.41/containers/create?x=/auth", js, sized(body)) + body},
		{"no version", head("/containers/create", js, sized(body)) + body},
		{"an unknown version", head("/v1.99999/containers/create", js, sized(body)) + body},
		{"an odd version", head("/v1.041/containers/create", js, sized(body)) + body},
		{"the oldest version", head("/v1.12/containers/create", js, sized(body)) + body},
		{"slashes", head("//v1.41//containers/create", js, sized(body)) + body},
		{"escapes", head("/v1.41/%63ontainers/cre%61te", js, sized(body)) + body},
		{"lower case", head("/v1.41/containers/create", js, sized(body)) + strings.ToLower(body)},
		{"a name twice", ""},
		{"settings beside HostConfig", ""},
		{"more after the end", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			request := tc.request
			odd := map[string]string{
				"a name twice":               `{"Image":"` + shell + `","HostConfig":{"Privileged":true},"HostConfig":{"NetworkMode":"none"}}`,
				"settings beside HostConfig": `{"Image":"` + shell + `","Privileged":true,"NetworkMode":"none"}`,
				"more after the end":         `{"Image":"` + shell + `","HostConfig":{"NetworkMode":"none"}}` + body,
			}[tc.name]
			if odd != "" {
				request = head("/v1.41/containers/create", js, sized(odd)) + odd
			}
			code, answer := raw(t, e, strings.NewReader(request))
			if code < 300 {
				t.Errorf("the engine answers %d: %s", code, answer)
			}
			t.Logf("%d %.200s", code, answer)
		})
	}
	if got := containers(t, e); got != before {
		t.Errorf("%d containers, want %d", got, before)
	}
}
