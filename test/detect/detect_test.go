// Package detect_test has the rules of detection that are written in Go look at what
// real programs do, as the kernel's sensors tell it.
package detect_test

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/adapter/bpf"
	"github.com/castellan-security/castellan/internal/detect"
	"github.com/castellan-security/castellan/internal/detect/pattern/all"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/need"
	"github.com/castellan-security/castellan/internal/threat"
)

// patience is how long a threat may take on a machine that does much else.
const patience = time.Minute

// observer holds what sensors tell of containers against all rules.
type observer struct {
	mu      sync.Mutex
	threats map[string][]threat.Threat // by container
	ended   map[string]bool            // whose last process was told to have ended
	news    chan struct{}
}

func observe(t *testing.T) *observer {
	t.Helper()
	need.Root(t)
	need.BPF(t, "")
	engine, err := detect.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	sensors, err := bpf.Open(t.Context(), bpf.Options{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	o := &observer{threats: map[string][]threat.Threat{}, ended: map[string]bool{}, news: make(chan struct{}, 1)}
	ctx, stop := context.WithCancel(t.Context())
	var reading sync.WaitGroup
	reading.Go(func() {
		if err := sensors.Run(ctx, func(events []event.Event) { o.take(engine, events) }); !errors.Is(err, context.Canceled) {
			t.Errorf("sensors: %v", err)
		}
	})
	t.Cleanup(func() {
		stop()
		reading.Wait()
		if err := sensors.Close(); err != nil {
			t.Errorf("close sensors: %v", err)
		}
	})
	return o
}

func (o *observer) take(engine *detect.Engine, events []event.Event) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for i := range events {
		e := &events[i]
		if e.WorkloadID == "" {
			continue
		}
		e.AgentID, e.Group = "agent", "test/"+e.WorkloadID
		if e.Kind == event.KindExec && len(e.Exec.Args) > 1 && e.Exec.Args[1] == lastWord {
			o.ended[e.WorkloadID] = true
		}
		for _, t := range engine.Observe(e) {
			o.threats[t.WorkloadID] = append(o.threats[t.WorkloadID], t)
		}
	}
	select {
	case o.news <- struct{}{}:
	default:
	}
}

// lastWord is an argument of the program that a container runs in the end.
const lastWord = "that-was-all"

// wait returns when what it asks for is so, or patience has ended.
func (o *observer) wait(so func() bool) bool {
	late := time.NewTimer(patience)
	defer late.Stop()
	for {
		o.mu.Lock()
		is := so()
		o.mu.Unlock()
		if is {
			return true
		}
		select {
		case <-o.news:
		case <-late.C:
			return false
		}
	}
}

func (o *observer) rules(container string) []string {
	var out []string
	for _, t := range o.threats[container] {
		out = append(out, t.Rule)
	}
	return out
}

// container makes a cgroup that the sensors take for that of a container.
func container(t *testing.T) (id, dir string) {
	t.Helper()
	b := make([]byte, 32)
	if _, err := rand.Read(b); err != nil {
		t.Fatal(err)
	}
	id = hex.EncodeToString(b)
	for _, hierarchy := range []string{"/sys/fs/cgroup/unified", "/sys/fs/cgroup", "/sys/fs/cgroup/pids"} {
		if _, err := os.Stat(filepath.Join(hierarchy, "cgroup.procs")); err != nil {
			continue
		}
		dir = filepath.Join(hierarchy, "docker", id)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { remove(t, dir) })
		return id, dir
	}
	t.Fatal("no hierarchy of cgroups is mounted")
	return "", ""
}

// remove removes a cgroup, as soon as the kernel is done with its processes.
func remove(t *testing.T, dir string) {
	end := time.Now().Add(patience)
	for {
		err := os.Remove(dir)
		if err == nil {
			return
		}
		if !errors.Is(err, syscall.EBUSY) || time.Now().After(end) {
			t.Errorf("remove cgroup: %v", err)
			return
		}
	}
}

// does runs a deed of the table in a container, in a folder of its own.
func does(t *testing.T, dir, deed string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(t.Context(), "/bin/sh", "-c", `echo $$ > "$0/cgroup.procs" && "$1"; exec true "$2"`, dir, self, lastWord)
	c.Dir = t.TempDir()
	c.Env = append(os.Environ(), deedEnv+"="+deed)
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", deed, err, out)
	}
}

// What programs do comes as the sensors tell it: in another order than it was done,
// and what is alike as counts.
func TestRulesInGoSeeWhatProgramsDo(t *testing.T) {
	o := observe(t)
	for _, tc := range []struct{ deed, rule string }{
		{"ports", "scan-port-sweep"},
		{"names", "network-name-tunnel"},
		{"rename", "ransom-encryption"},
		{"copy", "ransom-encryption"},
		{"overwrite", "ransom-deletion"},
		{"fork", "storm-fork-bomb"},
		{"again", "storm-fork-bomb"},
		{"bind", "shell-at-port"},
	} {
		t.Run(tc.deed, func(t *testing.T) {
			id, dir := container(t)
			does(t, dir, tc.deed)
			if !o.wait(func() bool { return slices.Contains(o.rules(id), tc.rule) }) {
				t.Errorf("%s is not told, but %q", tc.rule, o.rules(id))
			}
		})
	}
	t.Run("ordinary", func(t *testing.T) { silent(t, o) })
}

// silent has a container do what looks like deeds of attackers, of which no rule in Go
// may tell anything.
func silent(t *testing.T, o *observer) {
	id, dir := container(t)
	does(t, dir, "ordinary")
	if !o.wait(func() bool { return o.ended[id] }) {
		t.Fatal("the end of the work was not told")
	}
	code := map[string]bool{}
	for _, p := range all.Patterns() {
		code[p.About().ID] = true
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, th := range o.threats[id] {
		if code[th.Rule] {
			t.Errorf("%s: %s", th.Rule, th.Summary)
		}
	}
}
