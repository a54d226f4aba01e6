package docker_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/need"
	"github.com/castellan-security/castellan/internal/profile"
	"github.com/castellan-security/castellan/internal/server"
	"github.com/castellan-security/castellan/internal/server/behaviour"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/test/docker/engine"
)

// ward is an engine in the ward of the program as users run it: a server, and an
// agent that has joined it, in processes of their own that a test may kill.
type ward struct {
	t       *testing.T
	engine  *engine.Engine
	program string
	dir     string // the server's data in server, the agent's in agent
	address string // of the server, from its first start on
	server  *daemon
	agent   *daemon
	flags   []string // further ones of the agent
	api     http.Client
	// fingerprint is that of the server's authority, as an invitation tells it.
	fingerprint string
}

// daemon is a process that runs until it is told to end.
type daemon struct {
	cmd    *exec.Cmd
	ended  chan struct{} // closed when it has
	output *locked
}

// launch starts a daemon.
func launch(t *testing.T, args ...string) *daemon {
	t.Helper()
	d := &daemon{cmd: exec.Command(args[0], args[1:]...), ended: make(chan struct{}), output: &locked{}}
	d.cmd.Stdout, d.cmd.Stderr = d.output, d.output
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(d.ended)
		_ = d.cmd.Wait() // it is killed, or the test sees that it does not answer
	}()
	return d
}

// kill ends it as the kernel does when memory runs out.
func (d *daemon) kill() {
	_ = d.cmd.Process.Kill() // an error means that it has ended
	<-d.ended
}

// stop ends it as an administrator does.
func (d *daemon) stop() {
	_ = d.cmd.Process.Signal(os.Interrupt) // an error means that it has ended
	select {
	case <-d.ended:
	case <-time.After(patience):
		d.kill()
	}
}

// guardedHost puts an engine in the ward of a server and an agent until the test
// ends. Then nothing is held on this host any more, and no pin is left.
func guardedHost(t *testing.T, e *engine.Engine, flags ...string) *ward {
	t.Helper()
	need.BPF(t, "tp_btf")
	w := &ward{t: t, engine: e, program: build(t), dir: t.TempDir(), flags: flags}
	w.api.Transport = &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", server.SocketPath(w.path("server")))
	}}
	w.serve("127.0.0.1:0")
	t.Cleanup(w.end)
	w.until("the server's address", func() bool {
		m := regexp.MustCompile(`https://(127\.0\.0\.1:\d+)`).FindStringSubmatch(w.server.output.String())
		if m != nil {
			w.address = m[1]
		}
		return m != nil
	})
	var invitation struct {
		Token       string `json:"token"`
		Fingerprint string `json:"ca_fingerprint"`
	}
	if err := json.Unmarshal([]byte(w.does("agents", "invite", "-o", "json")), &invitation); err != nil {
		t.Fatal(err)
	}
	w.fingerprint = invitation.Fingerprint
	join := exec.CommandContext(t.Context(), w.program, "agent", "join", "--data-dir", w.path("agent"), "--server", "https://"+w.address,
		"--ca-fingerprint", invitation.Fingerprint)
	join.Env = append(os.Environ(), "CASTELLAN_JOIN_TOKEN="+invitation.Token)
	if out, err := join.CombinedOutput(); err != nil {
		t.Fatalf("join: %v\n%s", err, out)
	}
	w.watch()
	return w
}

func (w *ward) path(name string) string { return filepath.Join(w.dir, name) }

// serve starts the server at an address; without a port it takes any.
func (w *ward) serve(address string) {
	w.t.Helper()
	w.server = launch(w.t, w.program, "server", "--data-dir", w.path("server"), "--listen", address, "--registry-scans=0")
}

// watch starts the agent, by default of the program that was built, and returns
// when the server knows that it watches the engine.
func (w *ward) watch(program ...string) {
	w.t.Helper()
	began := time.Now().UTC()
	w.start(program...)
	w.until("the agent to watch", func() bool {
		var page struct{ Agents []asset.Agent }
		w.asks(&page, "/agents", nil)
		return slices.ContainsFunc(page.Agents, func(a asset.Agent) bool {
			return a.Started.After(began.Add(-time.Second)) && a.Engine.Connected && slices.ContainsFunc(a.Sensors, func(s asset.Sensor) bool {
				return s.Name == "process" && s.State == asset.SensorRunning
			})
		})
	})
}

// start starts the agent without waiting for it.
func (w *ward) start(program ...string) {
	w.t.Helper()
	args := append(slices.Clone(program), "agent", "--data-dir", w.path("agent"), "--docker-host", w.engine.Host(), "--scan-images=false", "--verify-images=false",
		"--pins", w.pins())
	if len(program) == 0 {
		args = append([]string{w.program}, args...)
	}
	w.agent = launch(w.t, append(args, w.flags...)...)
}

func (w *ward) pins() string {
	return "/sys/fs/bpf/castellan-test-" + filepath.Base(filepath.Dir(w.dir))
}

// end lets go of the host and ends both.
func (w *ward) end() {
	if w.t.Failed() {
		out, err := exec.Command(w.program, "agents", "-o", "yaml", "--data-dir", w.path("server")).CombinedOutput()
		w.t.Logf("the agent as the server knows it: %v\n%s", err, last(string(out)))
	}
	if w.agent != nil {
		w.agent.kill()
		release := exec.Command(w.program, "watch", "release", "--data-dir", w.path("agent"), "--pins", w.pins())
		if out, err := release.CombinedOutput(); err != nil {
			w.t.Errorf("release the host: %v\n%s", err, out)
		}
		w.unpin()
	}
	w.server.stop()
	if w.t.Failed() {
		w.t.Logf("the server wrote:\n%s", last(w.server.output.String()))
		if w.agent != nil {
			w.t.Logf("the agent wrote:\n%s", last(w.agent.output.String()))
		}
	}
}

// unpin removes what the release left, which is nothing that holds.
func (w *ward) unpin() {
	if err := os.RemoveAll(w.pins()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		w.t.Errorf("remove pins: %v", err)
	}
}

// last is the end of a long text.
func last(s string) string {
	const most = 8 << 10
	return s[max(0, len(s)-most):]
}

// until returns when ok does.
func (w *ward) until(what string, ok func() bool) {
	w.t.Helper()
	w.within(3*patience, what, ok)
}

func (w *ward) within(most time.Duration, what string, ok func() bool) {
	w.t.Helper()
	end := time.Now().Add(most)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Now().After(end) {
			w.t.Fatalf("waited %s for %s", most, what)
		}
		<-tick.C
	}
}

// does runs a command of the program against the server, as a user types it, and
// returns what it prints.
func (w *ward) does(args ...string) string {
	w.t.Helper()
	c := exec.Command(w.program, append(args, "--data-dir", w.path("server"))...)
	var out, problem bytes.Buffer
	c.Stdout, c.Stderr = &out, &problem
	if err := c.Run(); err != nil {
		w.t.Fatalf("castellan %s: %v\n%s%s", strings.Join(args, " "), err, &out, &problem)
	}
	return out.String()
}

// asks asks the server's API, as the program does, without a process each time.
func (w *ward) asks(v any, path string, query url.Values) {
	w.t.Helper()
	if err := w.ask(v, path, query); err != nil {
		w.t.Fatalf("ask for %s: %v", path, err)
	}
}

func (w *ward) ask(v any, path string, query url.Values) error {
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, "http://castellan/api/v1"+path+"?"+query.Encode(), nil)
	if err != nil {
		return err
	}
	resp, err := w.api.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("status %s", resp.Status)
	}
	return json.NewDecoder(resp.Body).Decode(v)
}

// mode puts groups into a mode, and returns when the host holds them to it.
func (w *ward) mode(mode profile.Mode, groups ...string) {
	w.t.Helper()
	for _, g := range groups {
		args := []string{"watch", "mode", mode.String(), g}
		if mode == profile.Protect {
			args = append(args, "--anyway") // nobody watches a test for a day
		}
		w.does(args...)
	}
	for _, g := range groups {
		w.holds(g)
	}
}

// holds returns when the host holds a group to the newest rules, and says how.
func (w *ward) holds(group string) (d behaviour.Detail) {
	w.t.Helper()
	w.until("the host to hold "+group, func() bool {
		return w.ask(&d, "/watch/group", url.Values{"group": {group}}) == nil && slices.ContainsFunc(d.Held, func(h behaviour.HeldBy) bool { return h.Current })
	})
	return d
}

// known returns when the server has learned of, or compared, all that a container
// did before now. The mark is a program that runs in the container from outside.
func (w *ward) known(container string) {
	w.t.Helper()
	mark := fmt.Sprintf("mark-%d", time.Now().UnixNano())
	// It may be denied: that is told, too.
	out, code, err := w.engine.Exec(w.t.Context(), container, "true", mark)
	var marked store.EventPage
	var page struct{ Progress behaviour.Progress }
	defer func() {
		if w.t.Failed() {
			w.t.Logf("the mark in %s: %v, code %d, %s; told %d times; compared up to %d", container, err, code, out, len(marked.Events), page.Progress.Position)
		}
	}()
	w.until("what "+container+" did to be known", func() bool {
		w.asks(&marked, "/events", url.Values{"text": {mark}})
		if len(marked.Events) == 0 {
			return false
		}
		w.asks(&page, "/watch/groups", nil)
		return page.Progress.Position >= marked.Events[0].ID
	})
	time.Sleep(3 * time.Second / 2) // violations are stored once a second
}

// outside are the violations of groups since a moment.
func (w *ward) outside(since time.Time) []store.BehaviourViolation {
	w.t.Helper()
	var page struct{ Violations []store.BehaviourViolation }
	w.asks(&page, "/watch/violations", url.Values{"limit": {"1000"}, "since": {since.UTC().Format(time.RFC3339)}})
	return page.Violations
}

// docker runs the docker command in the source tree and in the engine's network.
func (w *ward) docker(args ...string) (string, error) {
	return w.runs(patience, append([]string{"docker"}, args...)...)
}

// runs runs a command in the source tree and in the engine's network.
func (w *ward) runs(most time.Duration, command ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), most)
	defer cancel()
	line := w.engine.Inside(command...)
	c := exec.CommandContext(ctx, line[0], line[1:]...)
	c.Dir, c.Env, c.WaitDelay = "../..", append(os.Environ(), "DOCKER_HOST="+w.engine.Host()), 10*time.Second
	out, err := c.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}
