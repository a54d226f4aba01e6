package bpf_test

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/adapter/bpf"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/need"
)

// patience is how long a test waits for something that must happen.
const patience = 20 * time.Second

// watcher collects what running sensors see.
type watcher struct {
	t       *testing.T
	sensors *bpf.Sensors

	mu     sync.Mutex
	events []event.Event
	news   chan struct{} // closed and replaced when events come

	stop func() // ends the reading, after what was counted is told
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// open opens the sensors, or fails if the process sensor does not run.
func open(t *testing.T, o bpf.Options) *bpf.Sensors {
	t.Helper()
	need.Root(t)
	need.BPF(t, "tp_btf")
	s, err := bpf.Open(t.Context(), o, quiet())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close sensors: %v", err)
		}
	})
	if st := s.Status()[0]; st.State != asset.SensorRunning {
		t.Fatalf("process sensor is %s: %s", st.State, st.Reason)
	}
	return s
}

// watch opens the sensors and collects until the test ends.
func watch(t *testing.T) *watcher {
	t.Helper()
	return watchWith(t, bpf.Options{})
}

// watchEach opens the process sensor alone, to tell each event by itself.
func watchEach(t *testing.T) *watcher {
	t.Helper()
	o := processAlone()
	o.Settings.Window = -1
	return watchWith(t, o)
}

// processAlone are options for the process sensor alone.
func processAlone() bpf.Options {
	return bpf.Options{Off: slices.DeleteFunc(bpf.Names(), func(name string) bool { return name == "process" })}
}

func watchWith(t *testing.T, o bpf.Options) *watcher {
	t.Helper()
	w := &watcher{t: t, sensors: open(t, o), news: make(chan struct{})}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- w.sensors.Run(ctx, w.see) }()
	w.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run ended with %v, want the context's error", err)
		}
	})
	t.Cleanup(w.stop)
	return w
}

func (w *watcher) see(batch []event.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = append(w.events, batch...)
	close(w.news)
	w.news = make(chan struct{})
}

// seen returns the events that match so far, and a channel closed by the next.
func (w *watcher) seen(match func(event.Event) bool) ([]event.Event, <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []event.Event
	for _, e := range w.events {
		if match(e) {
			out = append(out, e)
		}
	}
	return out, w.news
}

// wait returns the first event that matches.
func (w *watcher) wait(what string, match func(event.Event) bool) event.Event {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	for {
		found, news := w.seen(match)
		if len(found) > 0 {
			return found[0]
		}
		select {
		case <-news:
		case <-ctx.Done():
			w.t.Fatalf("no %s was seen within %s", what, patience)
		}
	}
}

// exec waits for the exec of pid that is not the helper itself.
func (w *watcher) exec(pid int) event.Event {
	w.t.Helper()
	return w.wait("exec", func(e event.Event) bool {
		return e.Kind == event.KindExec && e.Process.Key.PID == uint32(pid) && e.Exec.Args[0] != helperName
	})
}

// exit waits for the exit of pid.
func (w *watcher) exit(pid int) event.Event {
	w.t.Helper()
	return w.wait("exit", func(e event.Event) bool {
		return e.Kind == event.KindExit && e.Process.Key.PID == uint32(pid)
	})
}

const helperName = "castellan-helper"

// helper is the test binary, acting as a small program that waits for go_.
type helper struct {
	t      testing.TB
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stdout strings.Builder
}

// start starts a helper with the words behind "wait", and returns when it runs:
// os/exec does so earlier, before the kernel tells sensors of the exec, which
// then finds the helper where the test has put it.
func start(t testing.TB, attr *syscall.SysProcAttr, words ...string) *helper {
	t.Helper()
	h := &helper{t: t, cmd: exec.CommandContext(t.Context(), "/proc/self/exe")}
	h.cmd.Args = append([]string{helperName, "wait"}, words...)
	h.cmd.Env = []string{helperEnv + "=" + helperTells}
	h.cmd.SysProcAttr = attr
	h.cmd.Stdout = &h.stdout
	h.cmd.Stderr = os.Stderr
	stdin, err := h.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	h.stdin = stdin
	up, tells, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer up.Close()
	h.cmd.ExtraFiles = []*os.File{tells}
	if err = errors.Join(h.cmd.Start(), tells.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err = io.Copy(io.Discard, up); err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *helper) pid() int { return h.cmd.Process.Pid }

// finish lets the helper go on and waits for its end, whichever it is.
func (h *helper) finish() {
	h.t.Helper()
	if _, err := io.WriteString(h.stdin, "\n"); err != nil {
		h.t.Fatal(err)
	}
	var status *exec.ExitError
	if err := h.cmd.Wait(); err != nil && !errors.As(err, &status) {
		h.t.Fatal(err)
	}
	if h.cmd.ProcessState.ExitCode() == 99 {
		h.t.Fatal("the helper could not do what it was told")
	}
}

// newID returns an id as container engines make them.
func newID(t testing.TB) string {
	t.Helper()
	var b [32]byte
	if _, err := rand.Read(b[:]); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(b[:])
}

// hierarchies returns where cgroup hierarchies are mounted: the default one
// and, where it is of version 1, that of the pids controller.
func hierarchies() (v2, v1 string) {
	for _, dir := range []string{"/sys/fs/cgroup/unified", "/sys/fs/cgroup"} {
		if _, err := os.Stat(filepath.Join(dir, "cgroup.controllers")); err == nil {
			v2 = dir
			break
		}
	}
	const pids = "/sys/fs/cgroup/pids"
	if _, err := os.Stat(filepath.Join(pids, "tasks")); err == nil {
		v1 = pids
	}
	return v2, v1
}

// cgroup makes the cgroup below a hierarchy and removes it with the test,
// folders on the way included.
func cgroup(t testing.TB, hierarchy, name string) string {
	t.Helper()
	if hierarchy == "" {
		t.Skip("this host has no such cgroup hierarchy: skipped, see test/vm for the others")
	}
	dir := filepath.Join(hierarchy, name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for d := dir; d != hierarchy; d = filepath.Dir(d) {
			if err := removeCgroup(d); err != nil {
				// A folder that others use too (docker) stays.
				if d == dir {
					t.Errorf("remove cgroup: %v", err)
				}
				return
			}
		}
	})
	return dir
}

// removeCgroup retries while processes that ended are still being removed.
func removeCgroup(dir string) error {
	deadline := time.Now().Add(2 * time.Second)
	for {
		err := os.Remove(dir)
		if err == nil || errors.Is(err, fs.ErrNotExist) || time.Now().After(deadline) || !errors.Is(err, syscall.EBUSY) {
			return err
		}
		procs, _ := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
		entries, _ := filepath.Glob(filepath.Join(dir, "*", "cgroup.procs"))
		if len(procs) == 0 && len(entries) > 0 {
			return err // not ours to empty
		}
	}
}

// put moves a process into a cgroup.
func put(t testing.TB, cgroup string, pid int) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(cgroup, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0); err != nil {
		t.Fatal(err)
	}
}

// startIn starts a helper in a new cgroup of the given name, by which the
// kernel takes it for one in a container.
func startIn(t testing.TB, hierarchy, name string, words ...string) *helper {
	t.Helper()
	dir := cgroup(t, hierarchy, name)
	h := start(t, nil, words...)
	put(t, dir, h.pid())
	return h
}

// untilName waits until a process is called name.
func untilName(t *testing.T, pid int, name string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "comm"))
		if err != nil {
			t.Fatal(err)
		}
		if strings.TrimSpace(string(b)) == name {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("process %d did not become %s within %s", pid, name, patience)
		}
	}
}
