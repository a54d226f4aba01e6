package bpf_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/adapter/bpf"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/profile"
)

// execGuard is one that runs until the test ends.
func execGuard(t testing.TB, dir string) *netGuard {
	t.Helper()
	return guardOf(t, dir, bpf.OpenExecGuard)
}

// guardOf is a guard that runs until the test ends.
func guardOf(t testing.TB, dir string, open func(string, *slog.Logger) (*bpf.Guard, error)) *netGuard {
	t.Helper()
	g, err := open(dir, quiet())
	if err != nil {
		t.Fatal(err)
	}
	n := &netGuard{Guard: g, t: t}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() {
		done <- g.Run(ctx, func(batch []event.Event) {
			n.mu.Lock()
			defer n.mu.Unlock()
			n.told = append(n.told, batch...)
		})
	}()
	var once sync.Once
	stop := func() {
		once.Do(func() {
			cancel()
			if err := <-done; !errors.Is(err, context.Canceled) {
				t.Errorf("Run: %v", err)
			}
			if err := g.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	t.Cleanup(stop)
	n.stop = stop
	return n
}

func execRules(a profile.Answer, x profile.ExecRules) profile.Rules {
	r := profile.Rules{Group: netGroup, Revision: 1, Exec: x, Answers: map[profile.Control]profile.Answer{}}
	for _, c := range profile.Controls() {
		r.Answers[c] = profile.Off
	}
	r.Answers[profile.ControlExec] = a
	return r
}

// ran tells how the last program of a container's first process ended: it does what
// words say in a new overlay.
func ran(t *testing.T, id string, words ...string) (killed bool, code int) {
	t.Helper()
	v2, _ := hierarchies()
	h := startIn(t, v2, "castellan-test-held-"+newID(t)[:8]+"/docker/"+id, append([]string{"overlay=" + newRoot(t)}, words...)...)
	h.finish()
	status, ok := h.cmd.ProcessState.Sys().(syscall.WaitStatus)
	if !ok {
		t.Fatal("no wait status")
	}
	return status.Signaled() && status.Signal() == syscall.SIGKILL, status.ExitStatus()
}

func TestExecGuardHoldsToPrograms(t *testing.T) {
	g := execGuard(t, pins(t))
	check(t, g.Set(execRules(profile.Deny, profile.ExecRules{Paths: []profile.Pattern{"/bin/tool"}, Written: []profile.Pattern{"/tmp/ours-*"}})))
	for _, tc := range []struct {
		name   string
		words  []string
		killed bool
	}{
		{"of the image and in the profile", []string{"exec=/bin/tool", "tool", "exit=3"}, false},
		{"in memory", []string{"memfd=/bin/tool", "payload", "exit=3"}, true},
		{"made anew", []string{"made=/bin/tool", "tool", "exit=3"}, true},
		{"deleted", []string{"exec=/bin/tool", "tool", "deleted=/bin/tool", "tool", "exit=3"}, false},
	} {
		id := newID(t)
		check(t, g.Hold(id, netGroup))
		killed, code := ran(t, id, tc.words...)
		if killed != tc.killed || !killed && code != 3 {
			t.Errorf("%s: killed %v with code %d, want killed %v", tc.name, killed, code, tc.killed)
		}
		if !tc.killed {
			continue
		}
		e := g.await(tc.name, func(e event.Event) bool { return e.WorkloadID == id })
		if e.Kind != event.KindExec || e.Reaction != event.ReactionKilled || e.Exec.Origin == event.OriginImage || e.Process.Executable == "" {
			t.Errorf("%s is told as %+v %+v", tc.name, e, e.Exec)
		}
		// Whose doing it was: this test's, which is outside.
		want := []event.Ancestor{{Key: e.Process.Parent, Name: ownName(t)}}
		if e.Process.Parent.PID != uint32(os.Getpid()) || !e.Exec.Entered || !slices.Equal(e.Exec.Ancestors, want) {
			t.Errorf("%s is told as the doing of %+v, entered %t, want of %+v", tc.name, e.Exec.Ancestors, e.Exec.Entered, want)
		}
	}
	// What is in the image and not in the profile.
	check(t, g.Set(execRules(profile.Deny, profile.ExecRules{Paths: []profile.Pattern{"/bin/other"}})))
	id := newID(t)
	check(t, g.Hold(id, netGroup))
	if killed, _ := ran(t, id, "exec=/bin/tool", "tool", "exit=3"); !killed {
		t.Error("a program of the image that the profile does not have runs")
	}
	// Looked at only.
	check(t, g.Set(execRules(profile.Audit, profile.ExecRules{})))
	id = newID(t)
	check(t, g.Hold(id, netGroup))
	if killed, code := ran(t, id, "exec=/bin/tool", "tool", "exit=3"); killed || code != 3 {
		t.Errorf("audited: killed %v, code %d", killed, code)
	}
	g.await("an audited program", func(e event.Event) bool { return e.WorkloadID == id && e.Reaction == event.ReactionAudited })
	// Let go.
	check(t, g.Set(execRules(profile.Deny, profile.ExecRules{})))
	check(t, g.Forget(id))
	if killed, code := ran(t, id, "exec=/bin/tool", "tool", "exit=3"); killed || code != 3 {
		t.Errorf("let go: killed %v, code %d", killed, code)
	}
	if held := g.Controls(execRules(profile.Deny, profile.ExecRules{}).Answers); held[0].Answer != profile.Deny || held[0].Rung == "" {
		t.Errorf("held as %+v", held)
	}
}

// ownName is what the kernel calls this process.
func ownName(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("/proc/self/comm")
	check(t, err)
	return strings.TrimSpace(string(b))
}

// Whoever runs what it may not is named, and did not come in from outside.
func TestExecGuardNamesTheParent(t *testing.T) {
	g := execGuard(t, pins(t))
	check(t, g.Set(execRules(profile.Deny, profile.ExecRules{Paths: []profile.Pattern{"/bin/tool"}})))
	id := newID(t)
	check(t, g.Hold(id, netGroup))
	v2, _ := hierarchies()
	h := startIn(t, v2, "castellan-test-parent-"+id[:8]+"/docker/"+id, "overlay="+newRoot(t), "exec=/bin/tool", "tool", "run", "memfd=/bin/tool", "payload", "exit=3")
	h.finish()
	e := g.await("the payload", func(e event.Event) bool { return e.WorkloadID == id })
	if e.Exec == nil || len(e.Exec.Ancestors) != 1 || e.Exec.Ancestors[0].Name != "tool" || e.Exec.Ancestors[0].Key.PID != uint32(h.pid()) || e.Exec.Entered {
		t.Errorf("told as %+v of %+v", e.Exec, e.Process)
	}
}

// What another program left in force holds on, between programs too.
func TestExecGuardSurvives(t *testing.T) {
	dir := pins(t)
	g := execGuard(t, dir)
	id := newID(t)
	check(t, g.Set(execRules(profile.Deny, profile.ExecRules{})))
	check(t, g.Hold(id, netGroup))
	killed := func(when string) {
		t.Helper()
		if is, code := ran(t, id, "exec=/bin/tool", "tool", "exit=3"); !is {
			t.Errorf("%s it runs, code %d", when, code)
		}
	}
	killed("at first")
	g.stop()
	killed("without a program")
	g = execGuard(t, dir)
	killed("after a restart")
	if held, err := g.Containers(); err != nil || held[id] != netGroup {
		t.Errorf("after a restart these are held: %v, %v", held, err)
	}
	g.stop()
	next, err := bpf.OpenExecGuardAs(dir, "another", quiet())
	check(t, err)
	t.Cleanup(func() { check(t, next.Close()) })
	killed("beside the former version")
	check(t, next.Set(execRules(profile.Deny, profile.ExecRules{})))
	check(t, next.Settle())
	killed("by the next version alone")
	if held, err := next.Containers(); err != nil || held[id] != netGroup {
		t.Errorf("by the next version these are held: %v, %v", held, err)
	}
	if n, err := bpf.Held(dir); err != nil || n != 1 {
		t.Errorf("%d groups are held, %v", n, err)
	}
	if _, err := bpf.Release(dir); err != nil {
		t.Error(err)
	}
	if is, code := ran(t, id, "exec=/bin/tool", "tool", "exit=3"); is || code != 3 {
		t.Errorf("released, another having the programs open: killed %v, code %d", is, code)
	}
}

// While somebody attacks all the time, programs come and go, and none gets through.
func TestExecGuardHasNoGap(t *testing.T) {
	dir := pins(t)
	g := execGuard(t, dir)
	check(t, g.Set(execRules(profile.Deny, profile.ExecRules{})))
	ids := make([]string, 12)
	for i := range ids {
		ids[i] = newID(t)
		check(t, g.Hold(ids[i], netGroup))
	}
	var wg sync.WaitGroup
	var through []int
	var mu sync.Mutex
	wg.Go(func() {
		for i, id := range ids {
			if killed, _ := ran(t, id, "exec=/bin/tool", "tool", "exit=3"); !killed {
				mu.Lock()
				through = append(through, i)
				mu.Unlock()
			}
		}
	})
	for i := range 6 {
		g.stop()
		g = execGuard(t, dir)
		check(t, g.Set(execRules(profile.Deny, profile.ExecRules{Paths: slices.Repeat([]profile.Pattern{"/bin/x"}, i)})))
		time.Sleep(time.Millisecond)
	}
	wg.Wait()
	if len(through) > 0 {
		t.Errorf("these got through: %v of %d", through, len(ids))
	}
}

// BenchmarkHold tells what it costs to tie two hundred containers one by one, each
// with a look at all tasks, and together.
func BenchmarkHold(b *testing.B) {
	if os.Geteuid() != 0 {
		b.Skip("needs root")
	}
	dir := filepath.Join(bpf.DefaultPins+"-bench", newID(b)[:12])
	g, err := bpf.OpenExecGuard(dir, quiet())
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		if err := errors.Join(g.Remove(netGroup), g.Close(), os.RemoveAll(filepath.Dir(dir))); err != nil {
			b.Error(err)
		}
	}()
	if err := g.Set(execRules(profile.Deny, profile.ExecRules{})); err != nil {
		b.Fatal(err)
	}
	containers := func() map[string]asset.Group {
		all := map[string]asset.Group{}
		for range 200 {
			all[newID(b)] = netGroup
		}
		return all
	}
	forget := func(all map[string]asset.Group) {
		for id := range all {
			if err := g.Forget(id); err != nil {
				b.Fatal(err)
			}
		}
	}
	for name, hold := range map[string]func(map[string]asset.Group) error{
		"together": g.HoldAll,
		"each": func(all map[string]asset.Group) error {
			var errs []error
			for id, group := range all {
				errs = append(errs, g.Hold(id, group))
			}
			return errors.Join(errs...)
		},
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				all := containers()
				if err := hold(all); err != nil {
					b.Fatal(err)
				}
				forget(all)
			}
		})
	}
}
