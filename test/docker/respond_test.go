package docker_test

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/client"

	"github.com/castellan-security/castellan/internal/adapter/bpf"
	"github.com/castellan-security/castellan/internal/adapter/docker"
	"github.com/castellan-security/castellan/internal/adapter/kernel"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/need"
	"github.com/castellan-security/castellan/internal/respond"
	"github.com/castellan-security/castellan/internal/response"
	"github.com/castellan-security/castellan/test/docker/engine"
)

// responding is a responder with its real doors.
type responding struct {
	*respond.Responder
	host    *kernel.Host
	network *bpf.Quarantine
	n       int
}

func responder(t *testing.T, e *engine.Engine) *responding {
	t.Helper()
	need.Root(t)
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	pins := filepath.Join("/sys/fs/bpf", fmt.Sprintf("castellan-test-%d-%s", os.Getpid(), filepath.Base(t.Name())))
	t.Cleanup(func() {
		if err := os.RemoveAll(pins); err != nil {
			t.Error(err)
		}
	})
	door, err := docker.New(docker.Options{Host: e.Host()}, log)
	if err != nil {
		t.Fatal(err)
	}
	r := &responding{host: kernel.New(kernel.Options{}), network: bpf.NewQuarantine(pins)}
	r.Responder, err = respond.New(respond.Options{
		Processes: r.host, Freezer: r.host, Cgroups: r.host, Network: r.network, Engine: door,
		File: filepath.Join(t.TempDir(), "quarantine.json"), Log: log,
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// do does a deed, which must end in a state.
func (r *responding) do(t *testing.T, want response.State, d response.Deed) response.Answer {
	t.Helper()
	r.n++
	d.ID, d.By, d.Asked = fmt.Sprint("deed", r.n), "test", time.Now()
	d.Until = d.Asked.Add(time.Minute)
	a := r.Do(t.Context(), d, asset.Workload{ID: d.Workload, Group: "shop/storefront/web"})
	t.Logf("%s: %s %q %q %s", d.Kind, a.State, a.Did, a.Lacks, a.Error)
	if a.State != want {
		t.Fatalf("%s ended as %s (%s), want %s", d.Kind, a.State, a.Error, want)
	}
	return a
}

// called waits until a container runs a process with these arguments.
func (r *responding) running(t *testing.T, id string, args ...string) event.Key {
	t.Helper()
	var found event.Key
	until(t, fmt.Sprintf("%q runs", args), func() bool {
		all, err := r.host.Processes(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range all {
			if p.WorkloadID == id && slices.Equal(p.Args, args) {
				found = p.Process.Key
				return true
			}
		}
		return false
	})
	return found
}

// until asks again and again whether something is so.
func until(t *testing.T, what string, so func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for !so() {
		select {
		case <-ctx.Done():
			t.Fatalf("waited in vain until %s", what)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func TestKillEndsOneProcessAndNobodyElse(t *testing.T) {
	e := start(t, engine.Options{})
	r := responder(t, e)
	id := run(t, e, engine.Container{Name: "web", Cmd: []string{"sh", "-c", "sleep 1001 & sleep 1002 & wait"}})
	other := run(t, e, engine.Container{Name: "other"})
	bad, good := r.running(t, id, "sleep", "1001"), r.running(t, id, "sleep", "1002")

	// Somebody else has the pid by now: that is a process with another start.
	reused := event.Key{PID: good.PID, Start: good.Start + uint64(time.Second)}
	r.do(t, response.Failed, response.Deed{Kind: response.Kill, Workload: id, Process: reused})
	r.do(t, response.Refused, response.Deed{Kind: response.Kill, Workload: other, Process: bad})
	host := event.Key{PID: uint32(os.Getpid()), Start: 1}
	r.do(t, response.Failed, response.Deed{Kind: response.Kill, Workload: id, Process: host})
	r.do(t, response.Done, response.Deed{Kind: response.Kill, Workload: id, Process: bad, DryRun: true})
	if again := r.running(t, id, "sleep", "1001"); again != bad {
		t.Errorf("the process is %v after a dry run, was %v", again, bad)
	}

	r.do(t, response.Done, response.Deed{Kind: response.Kill, Workload: id, Process: bad})
	until(t, "the process has ended", func() bool {
		_, err := r.host.Kill(t.Context(), id, bad, true)
		return err != nil
	})
	if _, err := r.host.Kill(t.Context(), id, good, true); err != nil {
		t.Errorf("the other process: %v", err)
	}
	r.do(t, response.Done, response.Deed{Kind: response.Kill, Workload: id})
	if _, err := r.host.Kill(t.Context(), id, good, true); err == nil {
		t.Error("a process of a container that was killed runs")
	}
	r.do(t, response.Done, response.Deed{Kind: response.Stop, Workload: other})
	r.do(t, response.Failed, response.Deed{Kind: response.Kill, Workload: other})
}

// address is that of a container on the engine's bridge.
func address(t *testing.T, e *engine.Engine, id string) string {
	t.Helper()
	in, err := e.Client.ContainerInspect(t.Context(), id, client.ContainerInspectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range in.Container.NetworkSettings.Networks {
		if n.IPAddress.IsValid() {
			return n.IPAddress.String()
		}
	}
	t.Fatal("the container has no address")
	return ""
}

// silence is how long nothing must come where nothing may.
const silence = 300 * time.Millisecond

func TestQuarantineCutsAndGivesBack(t *testing.T) {
	e := start(t, engine.Options{Bridge: true})
	r := responder(t, e)
	id := run(t, e, engine.Container{Name: "web", Cmd: []string{"/bin/busybox", "nc", "-ll", "-p", "9000", "-e", "/bin/cat"}})
	at := net.JoinHostPort(address(t, e, id), "9000")
	var open net.Conn
	until(t, "the container listens", func() (ok bool) {
		var err error
		open, err = net.DialTimeout("tcp", at, time.Second)
		return err == nil
	})
	defer open.Close()
	echo := bufio.NewReader(open)
	says := func(line string, within time.Duration) error {
		if _, err := fmt.Fprintln(open, line); err != nil {
			return err
		}
		if err := open.SetReadDeadline(time.Now().Add(within)); err != nil {
			return err
		}
		got, err := echo.ReadString('\n')
		if err == nil && got != line+"\n" {
			err = fmt.Errorf("got %q", got)
		}
		return err
	}
	if err := says("before", time.Minute); err != nil {
		t.Fatal(err)
	}
	r.do(t, response.Done, response.Deed{Kind: response.Quarantine, Workload: id, DryRun: true})
	if err := says("dry", time.Minute); err != nil {
		t.Fatalf("after a dry run: %v", err)
	}

	a := r.do(t, response.Done, response.Deed{Kind: response.Quarantine, Workload: id})
	if a.Undo != response.Release || len(a.Lacks) != 1 || !strings.Contains(a.Lacks[0], "CAP_NET_RAW") {
		t.Errorf("undo %q, lacks %q; want release, and a word on raw frames", a.Undo, a.Lacks)
	}
	if err := says("cut", silence); err == nil {
		t.Error("an open connection goes on")
	}
	if c, err := net.DialTimeout("tcp", at, silence); err == nil {
		t.Error("a new connection to the container succeeds")
		c.Close()
	}
	gateway := at[:strings.LastIndexByte(at, '.')] + ".1"
	for _, cmd := range [][]string{
		{"/bin/busybox", "nc", "-w", "1", gateway, "9"},
		{"/bin/busybox", "nslookup", "example.com", "127.0.0.1"},
		{"/bin/busybox", "ping", "-c", "1", "-W", "1", gateway},
	} {
		out, code, err := e.Exec(t.Context(), id, cmd...)
		if err != nil || code == 0 || !(strings.Contains(out, "not permitted") || strings.Contains(out, "permission denied")) {
			t.Errorf("%q in the container: %d, %q, %v; want not permitted", cmd[1:], code, out, err)
		}
	}
	if again := r.do(t, response.Done, response.Deed{Kind: response.Quarantine, Workload: id}); again.Undo != response.Release {
		t.Errorf("undo of a second one: %q", again.Undo)
	}

	r.do(t, response.Done, response.Deed{Kind: response.Release, Workload: id})
	if err := open.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if got, err := echo.ReadString('\n'); err != nil || got != "cut\n" {
		t.Errorf("the open connection after the release: %q, %v; want what was sent while it was cut", got, err)
	}
	c, err := net.DialTimeout("tcp", at, time.Minute)
	if err != nil {
		t.Fatalf("a new connection after the release: %v", err)
	}
	c.Close()
}

// A container that its engine starts anew has another cgroup: it is cut off again,
// by a responder that was made anew, too.
func TestQuarantineOutlastsAStart(t *testing.T) {
	e := start(t, engine.Options{Bridge: true})
	r := responder(t, e)
	id := run(t, e, engine.Container{Name: "web", Cmd: []string{"sleep", "3600"}})
	r.do(t, response.Done, response.Deed{Kind: response.Quarantine, Workload: id, Freeze: true})
	if _, err := e.Client.ContainerKill(t.Context(), id, client.ContainerKillOptions{Signal: "KILL"}); err != nil {
		t.Fatal(err)
	}
	until(t, "it has ended", func() bool {
		_, err := r.host.Unified(id)
		return err != nil
	})
	if _, err := e.Client.ContainerStart(t.Context(), id, client.ContainerStartOptions{}); err != nil {
		t.Fatal(err)
	}
	r.Renew(t.Context(), map[string]string{})
	if !frozen(t, r, id) {
		t.Error("it is not frozen after it started anew")
	}
	r.do(t, response.Done, response.Deed{Kind: response.Release, Workload: id})
	if frozen(t, r, id) {
		t.Error("it is frozen after it was released")
	}
	if out, code, err := e.Exec(t.Context(), id, "/bin/busybox", "ping", "-c", "1", "127.0.0.1"); err != nil || code != 0 {
		t.Errorf("its network after it was released: %d, %q, %v", code, out, err)
	}
	r.Renew(t.Context(), map[string]string{})
	if frozen(t, r, id) {
		t.Error("it is frozen again after it was released")
	}
}

func frozen(t *testing.T, r *responding, id string) bool {
	t.Helper()
	dir, err := r.host.Unified(id)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, "cgroup.events"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Contains(string(b), "frozen 1")
}

// What an engine began in a container that was frozen since stands still, and the
// engine waits for it: it is stopped all the same, with what was begun.
func TestStopOfAFrozenContainer(t *testing.T) {
	e := start(t, engine.Options{})
	r := responder(t, e)
	id := run(t, e, engine.Container{Name: "web", Cmd: []string{"sleep", "3600"}})
	r.do(t, response.Done, response.Deed{Kind: response.Quarantine, Workload: id, Freeze: true})
	ctx, cancel := context.WithCancel(t.Context())
	hung := make(chan struct{})
	go func() { // it ends when the container does, or with the test
		defer close(hung)
		_, _, _ = e.Exec(ctx, id, "/bin/busybox", "true")
	}()
	t.Cleanup(func() { cancel(); <-hung })
	dir, err := r.host.Unified(id)
	if err != nil {
		t.Fatal(err)
	}
	until(t, "the engine has begun something in it, or refused to, as runtimes do that look", func() bool {
		select {
		case <-hung:
			return true
		default:
		}
		b, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
		return err == nil && strings.Count(string(b), "\n") > 1
	})
	a := r.do(t, response.Done, response.Deed{Kind: response.Stop, Workload: id})
	if len(a.Did) != 2 || !strings.Contains(a.Did[0], "which was frozen") {
		t.Errorf("did %q", a.Did)
	}
	if _, err := r.host.Unified(id); err == nil {
		until(t, "nothing of it is left", func() bool { _, err := r.host.Unified(id); return err != nil })
	}
}

// The quarantine of a container that its engine removed ends, and nothing is left pinned.
func TestQuarantineEndsWhenAContainerIsRemoved(t *testing.T) {
	e := start(t, engine.Options{Bridge: true})
	r := responder(t, e)
	id := run(t, e, engine.Container{Name: "web", Cmd: []string{"sleep", "3600"}})
	r.do(t, response.Done, response.Deed{Kind: response.Quarantine, Workload: id, Freeze: true})
	if err := e.Remove(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	until(t, "it is let go of", func() bool {
		r.Renew(t.Context(), map[string]string{})
		held, err := r.Quarantined()
		if err != nil {
			t.Fatal(err)
		}
		return len(held) == 0
	})
	left, err := filepath.Glob(filepath.Join("/sys/fs/bpf", fmt.Sprintf("castellan-test-%d-%s", os.Getpid(), filepath.Base(t.Name())), "quarantine", "*"))
	if err != nil || len(left) != 0 {
		t.Errorf("pinned still: %q, %v", left, err)
	}
}
