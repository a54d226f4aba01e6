package bpf_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/castellan-security/castellan/internal/adapter/bpf"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/profile"
)

// nothingRuns are rules by which no program runs.
func nothingRuns() profile.Rules { return execRules(profile.Deny, profile.ExecRules{}) }

// toldOnce checks that sensors tell what a container does, each thing once.
func (w *watcher) toldOnce(when string) {
	w.t.Helper()
	id := newID(w.t)
	h := startInside(w.t, id, "calls=mounts:"+w.t.TempDir())
	h.finish()
	last := func(e event.Event) bool {
		return e.WorkloadID == id && e.Privilege != nil && e.Privilege.Call == "chroot"
	}
	w.wait("call "+when, last)
	calls := map[string]int{}
	all, _ := w.seen(func(e event.Event) bool {
		// Whatever this package does when it starts is not what the helper is told to.
		return e.WorkloadID == id && e.Privilege != nil && e.Kind != event.KindBPF
	})
	for _, e := range all {
		calls[fmt.Sprintf("%+v", *e.Privilege)] += int(e.Times())
	}
	for call, n := range calls {
		if n != 1 {
			w.t.Errorf("%s %s is told %d times", when, call, n)
		}
	}
}

// Sensors go on from what holds containers while that is there, stand by themselves
// otherwise, and tell everything once.
func TestSensorsGoOnFromTheGuard(t *testing.T) {
	w := watchWith(t, bpf.Options{Settings: asset.AgentSettings{Window: -1}})
	dir := pins(t)
	if bpf.IsLSM() {
		t.Skip("what holds containers has no program at the end of system calls here")
	}
	g := execGuard(t, dir)
	g.Share(w.sensors)
	id := newID(t)
	check := func(when string, goesOn, held bool) {
		t.Helper()
		if got := w.sensors.GoesOn(); got != goesOn {
			t.Errorf("%s sensors go on from it: %t, want %t", when, got, goesOn)
		}
		w.toldOnce(when)
		if killed, _ := ran(t, id, "exec=/bin/tool", "tool", "exit=3"); killed != held {
			t.Errorf("%s it is killed: %t, want %t", when, killed, held)
		}
	}
	set := func(r profile.Rules) {
		t.Helper()
		if err := g.Set(r); err != nil {
			t.Fatal(err)
		}
		if err := g.Hold(id, netGroup); err != nil {
			t.Fatal(err)
		}
	}
	check("before", false, false)
	set(nothingRuns())
	check("while it is held", true, true)
	set(execRules(profile.Off, profile.ExecRules{}))
	check("let go", false, false)
	set(nothingRuns())
	check("held again", true, true)
	g.stop()
	check("closed", false, true)
	g = execGuard(t, dir)
	g.Share(w.sensors)
	check("taken up", true, true)
	if _, err := bpf.Release(dir); err != nil { // as another program does it
		t.Error(err)
	}
	check("released by another", true, false)
	if err := g.LetGo(); err != nil {
		t.Error(err)
	}
	check("ended", false, false)
}

// serveAsAgent holds a container to rules by which nothing runs, with its sensors going on
// from what holds it, until it is killed.
func serveAsAgent(dir, id string) error {
	s, err := bpf.Open(context.Background(), bpf.Options{}, quiet())
	if err != nil {
		return err
	}
	g, err := bpf.OpenExecGuard(dir, quiet())
	if err != nil {
		return err
	}
	g.Share(s)
	if err := g.Set(nothingRuns()); err != nil {
		return err
	}
	if err := g.Hold(id, netGroup); err != nil {
		return err
	}
	if !s.GoesOn() {
		return fmt.Errorf("sensors do not go on from the guard")
	}
	fmt.Println("ready")
	_, err = os.Stdin.Read(make([]byte, 1)) // until we are killed
	return err
}

// An agent that is killed takes its sensors with it and leaves the container held; the next
// one goes on from there.
func TestAgentIsKilledWhileSensorsGoOn(t *testing.T) {
	dir, id := pins(t), newID(t)
	if bpf.IsLSM() {
		t.Skip("what holds containers has no program at the end of system calls here")
	}
	agent := exec.Command("/proc/self/exe", "agent="+dir+","+id)
	agent.Env, agent.Stderr = append(os.Environ(), helperEnv+"=1"), os.Stderr
	out, err := agent.StdoutPipe()
	check(t, err)
	in, err := agent.StdinPipe()
	check(t, err)
	defer in.Close()
	check(t, agent.Start())
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatalf("the agent says %q: %v", line, err)
	}
	if n := bpf.Listeners(t, dir); n != 1 {
		t.Errorf("%d go on from it while the agent runs", n)
	}
	check(t, agent.Process.Kill())
	if err := agent.Wait(); err == nil {
		t.Error("a killed agent ended well")
	}
	held := func(when string) {
		t.Helper()
		if killed, code := ran(t, id, "exec=/bin/tool", "tool", "exit=3"); !killed {
			t.Errorf("%s it is not killed: %d", when, code)
		}
	}
	held("with the agent killed")
	// The kernel empties the table on a worker of its own.
	for end := time.Now().Add(patience); bpf.Listeners(t, dir) != 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the killed agent's sensors stay")
		}
	}
	w := watch(t)
	g := execGuard(t, dir)
	g.Share(w.sensors)
	if !w.sensors.GoesOn() {
		t.Error("the next agent's sensors do not go on from it")
	}
	w.toldOnce("by the next agent")
	held("with the next agent")
}

// BenchmarkCall tells what a system call that nobody asks about takes at least: the
// shortest of many runs, which other work on the machine does not change.
func BenchmarkCall(b *testing.B) {
	if os.Geteuid() != 0 || bpf.IsLSM() {
		b.Skip("needs root, and a kernel without BPF LSM")
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	shortest := func(b *testing.B) {
		const calls = 1000
		least := time.Hour
		for b.Loop() {
			began := time.Now()
			for range calls {
				unix.Getppid()
			}
			least = min(least, time.Since(began))
		}
		b.ReportMetric(float64(least.Nanoseconds())/calls, "ns/call-at-least")
	}
	b.Run("bare", shortest)
	s, err := bpf.Open(b.Context(), bpf.Options{}, quiet())
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	b.Run("sensors", shortest)
	g, err := bpf.OpenExecGuard(pins(b), quiet())
	if err != nil {
		b.Fatal(err)
	}
	defer g.Close()
	if err := g.Set(nothingRuns()); err != nil {
		b.Fatal(err)
	}
	b.Run("sensors-and-guard", shortest)
	g.Share(s)
	b.Run("sensors-from-guard", shortest)
	privileges, err := bpf.OpenPrivilegeGuard(pins(b), quiet())
	if err != nil {
		b.Fatal(err)
	}
	defer privileges.Close()
	r := nothingRuns()
	r.Answers[profile.ControlPrivilege] = profile.Deny
	if err := privileges.Set(r); err != nil {
		b.Fatal(err)
	}
	b.Run("and-privileges", shortest)
}
