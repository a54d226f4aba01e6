package guest_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/castellan-security/castellan/internal/adapter/bpf"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/profile"
	"github.com/castellan-security/castellan/test/vm/guest"
)

const (
	heldGroup = "a/b/c"
	ran       = 5 // the exit code of a program that was to be held
	// Programs of every image, see overlay.
	otherProgram = "/bin/other" // which the profile does not have
	shellProgram = "/bin/sh"
	otherShell   = "/bin/other-sh"
	loader       = "/lib/ld.so"
)

// interpreters are programs of every image that do what is in a file.
func interpreters() []string { return []string{"/bin/python3.11", "/bin/node", "/bin/java"} }

// hasShell reports whether the images have programs that are linked as they run: those
// of the machine that built the tests.
func hasShell() bool {
	_, err := os.Stat(guest.Image)
	return err == nil
}

// refusing reports whether this kernel refuses programs, and does not kill them: the
// one for arm64 has no trampolines.
func refusing() bool {
	list, err := os.ReadFile("/sys/kernel/security/lsm")
	return runtime.GOARCH == "amd64" && err == nil && strings.Contains(string(list), "bpf")
}

// holder holds containers to their programs.
type holder struct {
	*bpf.Guard
	t *testing.T

	mu   sync.Mutex
	told []event.Event
}

// pins is a folder for what is pinned, until the test ends.
func pins(t *testing.T) string {
	t.Helper()
	mountAt(t, "/sys/fs/bpf", "bpf", "")
	dir := filepath.Join("/sys/fs/bpf", "castellan")
	t.Cleanup(func() {
		if _, err := bpf.Release(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// hold opens what holds programs until the test ends, and reads what it tells.
func hold(t *testing.T, dir string, rules profile.Rules) *holder {
	t.Helper()
	h := &holder{t: t}
	g, err := bpf.OpenExecGuard(dir, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	h.Guard = g
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- g.Run(ctx, h.see) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run: %v", err)
		}
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	})
	h.set(rules)
	return h
}

func (h *holder) see(batch []event.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.told = append(h.told, batch...)
}

func (h *holder) set(r profile.Rules) {
	h.t.Helper()
	if err := h.Set(r); err != nil {
		h.t.Fatal(err)
	}
	want := "signal"
	if refusing() {
		want = "BPF LSM"
	}
	if held := h.Controls(r.Answers)[0]; held.Answer != r.Answers[profile.ControlExec] || !strings.Contains(held.Rung, want) {
		h.t.Fatalf("held as %+v, want by %s", held, want)
	}
}

// new is a container that is held from before its start.
func (h *holder) new(t *testing.T, roots []string) container {
	t.Helper()
	id := newID(t)
	if err := h.Hold(id, heldGroup); err != nil {
		t.Fatal(err)
	}
	return newContainer(t, id, roots)
}

// tells waits for an event of a container.
func (h *holder) tells(t *testing.T, id string) {
	t.Helper()
	reaction := event.ReactionKilled
	if refusing() {
		reaction = event.ReactionDenied
	}
	eventually(t, "tell what was held", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		for _, e := range h.told {
			if e.WorkloadID == id && e.Reaction == reaction {
				return true
			}
		}
		return false
	})
}

// execRules deny all that is not said.
func execRules(x profile.ExecRules) profile.Rules {
	r := profile.Rules{Group: heldGroup, Answers: map[profile.Control]profile.Answer{}, Exec: x}
	for _, c := range profile.Controls() {
		r.Answers[c] = profile.Off
	}
	r.Answers[profile.ControlExec] = profile.Deny
	return r
}

// ours are the rules of a service that has a shell.
func ours() profile.ExecRules {
	x := profile.ExecRules{
		Paths:   []profile.Pattern{guest.Subject, shellProgram, loader},
		Written: []profile.Pattern{"/srv/plugin-*"},
	}
	for _, i := range interpreters() {
		x.Paths = append(x.Paths, profile.Pattern(i))
	}
	return x
}

// stopped says how what was held ended: refused with EPERM, or killed, itself or as a
// child.
func stopped(code int) bool {
	if refusing() {
		return code == int(unix.EPERM)
	}
	return code == -1 || code == 128+int(unix.SIGKILL)
}

// attempt is something done in a container, as steps of the subject.
type attempt struct {
	name  string
	steps []string
	shell bool // needs what only images for this processor have
	lsm   bool // held by BPF LSM alone
	amd64 bool // takes a call or instructions of that processor
}

// Whatever brings new code into a container, it does not run.
func TestNothingNewRuns(t *testing.T) {
	if runtime.GOARCH == "amd64" && !refusing() {
		t.Fatal("BPF is no security module of this kernel")
	}
	nothingNew(t)
}

// By signals, too, where there are security hooks and where there are none.
func TestNothingNewRunsBySignals(t *testing.T) {
	if !refusing() {
		t.Skip("by signals it is done already")
	}
	withoutModule(t)
	nothingNew(t)
}

func nothingNew(t *testing.T) {
	l := layouts()[3]
	roots := l.mount(t)
	h := hold(t, pins(t), execRules(ours()))
	const own = guest.Subject
	for _, a := range []attempt{
		{name: "a copy", steps: []string{"copy=" + own + ",/tmp/x", "exec=/tmp/x,exit,5"}},
		{name: "a copy by a child that shares memory", steps: []string{"copy=" + own + ",/tmp/x", "spawn=/tmp/x,exit,5"}},
		{name: "in memory", steps: []string{"memfd=x,exit,5"}},
		{name: "in memory that is sealed", steps: []string{"sealed=x,exit,5"}},
		{name: "in memory that is mapped", steps: []string{"memorymap", "exit=5"}},
		{name: "a file that never had a name", steps: []string{"tmpfs=/mnt", "unnamed=/mnt/x,exit,5"}},
		{name: "a file that was made without a name", steps: []string{"tmpfs=/mnt", "named=/mnt/x,exit,5"}},
		{name: "with a name of two lines", steps: []string{"copy=" + own + ",/tmp/x\n" + own, "exec=/tmp/x\n" + own + ",exit,5"}},
		{name: "with a name that is not text", steps: []string{"copy=" + own + ",/tmp/\xff\x01", "exec=/tmp/\xff\x01,exit,5"}},
		{name: "shared memory mapped twice", steps: []string{"duplicated", "exit=5"}},
		{name: "moved over a program", steps: []string{"copy=" + own + ",/tmp/x", "rename=/tmp/x," + own, "exec=" + own + ",exit,5"}},
		{name: "a program made anew", steps: []string{"copy=" + own + ",/tmp/x", "remove=" + own, "copy=/tmp/x," + own, "exec=" + own + ",exit,5"}},
		{name: "a program changed", steps: []string{"append=" + shellProgram, "exec=" + shellProgram + ",exit,5"}, shell: true},
		{name: "another name of a program", steps: []string{"link=" + otherProgram + ",/bin/linked", "exec=/bin/linked,exit,5"}},
		{name: "a program under the name of one that may run", steps: []string{"rename=" + otherProgram + "," + shellProgram, "exec=" + shellProgram + ",exit,5"}},
		{name: "a program that the profile lacks", steps: []string{"exec=" + otherProgram + ",exit,5"}},
		{name: "the same by a link", steps: []string{"symlink=" + otherProgram + ",/tmp/x", "exec=/tmp/x,exit,5"}},
		{name: "the same mounted over one that may run", steps: []string{"unshare", "bind=" + otherProgram + "," + own, "exec=" + own + ",exit,5"}},
		{name: "in shared memory", steps: []string{"tmpfs=/dev/shm", "copy=" + own + ",/dev/shm/x", "exec=/dev/shm/x,exit,5"}},
		{name: "by its number", steps: []string{"copy=" + own + ",/tmp/x", "fdexec=/tmp/x,exit,5"}},
		{name: "by its number alone", steps: []string{"copy=" + own + ",/tmp/x", "execveat=/tmp/x,exit,5"}},
		{name: "without a name any more", steps: []string{"copy=" + own + ",/tmp/x", "unlinkexec=/tmp/x,exit,5"}},
		{name: "a script", steps: []string{"put=/tmp/x,#!" + own + " script,exit=5", "exec=/tmp/x"}, lsm: true},
		{name: "below another root", steps: []string{"copy=" + own + ",/tmp/x" + own, "chroot=/tmp/x", "exec=" + own + ",exit,5"}},
		{name: "a program below another root", steps: []string{"mkdir=/tmp/x/bin", "link=" + otherProgram + ",/tmp/x" + own, "chroot=/tmp/x", "exec=" + own + ",exit,5"}},
		{name: "a file system as another root", steps: []string{"tmpfs=/tmp/x", "copy=" + own + ",/tmp/x" + own, "chroot=/tmp/x", "exec=" + own + ",exit,5"}},
		{name: "what may run written below another root", steps: []string{"copy=" + own + ",/tmp/x/srv/plugin-x", "chroot=/tmp/x", "exec=/srv/plugin-x,exit,5"}},
		{name: "what may run written on a file system as another root", steps: []string{"tmpfs=/tmp/x", "copy=" + own + ",/tmp/x/srv/plugin-x", "chroot=/tmp/x", "exec=/srv/plugin-x,exit,5"}},
		{name: "with mounts of its own", steps: []string{"unshare", "tmpfs=/mnt", "copy=" + own + ",/mnt/x", "exec=/mnt/x,exit,5"}},
		{name: "what may run written on own mounts", steps: []string{"unshare", "tmpfs=/srv", "copy=" + own + ",/srv/plugin-x", "exec=/srv/plugin-x,exit,5"}},
		{name: "an overlay over programs", steps: []string{"unshare", "tmpfs=/mnt", "copy=" + own + ",/mnt" + own, "overlay=" + filepath.Dir(own) + ",/mnt" + filepath.Dir(own) + "," + filepath.Dir(own), "exec=" + own + ",exit,5"}},
		{name: "a file system as the root of all", steps: []string{"unshare", "tmpfs=/mnt", "copy=" + own + ",/mnt" + own, "chdir=/mnt", "turn", "exec=" + own + ",exit,5"}},
		{name: "on a file system that is mounted nowhere", steps: []string{"nowhere=" + own + ",exit,5"}},
		{name: "mapped", steps: []string{"copy=" + own + ",/tmp/x", "map=/tmp/x", "exit=5"}},
		{name: "mapped and then code", steps: []string{"copy=" + own + ",/tmp/x", "mapthen=/tmp/x", "exit=5"}},
		{name: "memory that can be written and run", steps: []string{"wx", "exit=5"}},
		{name: "mapped by a personality", steps: []string{"copy=" + own + ",/tmp/x", "implied=/tmp/x", "exit=5"}},
		{name: "shared memory of System V", steps: []string{"attach", "exit=5"}},
		{name: "shared memory that can be written and run", steps: []string{"shared", "exit=5"}},
		{name: "memory written and then run", steps: []string{"written", "exit=5"}},
		{name: "by the dynamic loader", steps: []string{"copy=" + otherShell + ",/tmp/x", "exec=" + loader + ",/tmp/x,-c,exit 5"}, shell: true},
		{name: "another program by the dynamic loader", steps: []string{"exec=" + loader + "," + otherShell + ",-c,exit 5"}, shell: true},
		{name: "a script as an argument", steps: []string{"put=/tmp/x,exit 5", "exec=" + shellProgram + ",/tmp/x"}, shell: true, lsm: true},
		{name: "a script as an argument behind an option", steps: []string{"put=/tmp/x,exit 5", "exec=" + shellProgram + ",-o,errexit,/tmp/x"}, shell: true, lsm: true},
		{name: "a script as an argument by a link", steps: []string{"put=/tmp/x,exit 5", "symlink=/tmp/x,/tmp/y", "exec=" + shellProgram + ",/tmp/y"}, shell: true, lsm: true},
		{name: "a script of Python", steps: []string{"put=/tmp/x.py,,exit=5", "exec=/bin/python3.11,-u,-W,ignore,/tmp/x.py"}, lsm: true},
		{name: "a script behind two dashes", steps: []string{"put=/tmp/x.py,,exit=5", "exec=/bin/python3.11,--,/tmp/x.py"}, lsm: true},
		{name: "a script of Node", steps: []string{"put=/tmp/x.js,,exit=5", "exec=/bin/node,--require,/app,--no-warnings,/tmp/x.js"}, lsm: true},
		{name: "an archive of Java", steps: []string{"put=/tmp/x.jar,,exit=5", "exec=/bin/java,-cp,/lib,-jar,/tmp/x.jar"}, lsm: true},
		{name: "a script by the name of one of the image", steps: []string{"put=/tmp/app,,exit=5", "exec=/bin/python3.11,/tmp/app"}, lsm: true},
		{name: "a script on a file system of its own", steps: []string{"tmpfs=/mnt", "put=/mnt/app,,exit=5", "exec=/bin/python3.11,/mnt/app"}, lsm: true},
	} {
		t.Run(a.name, func(t *testing.T) {
			if a.shell && !hasShell() {
				t.Skip("no shell for this processor")
			}
			c := h.new(t, roots)
			got := c.run(t, append([]string{"steps"}, a.steps...)...)
			if a.lsm && !refusing() {
				if got != ran {
					t.Errorf("ended with %d, want %d: the documents say that it is not held", got, ran)
				}
				return
			}
			// A shell and a loader that may not have a file say so in their own way.
			if got == ran || got == 0 || !a.shell && !stopped(got) {
				t.Errorf("ended with %d", got)
			}
			h.tells(t, c.id)
		})
	}
}

// The ordinary work of programs of the image is not disturbed.
func TestOrdinaryWorkGoesOn(t *testing.T) {
	roots := layouts()[3].mount(t)
	const own = guest.Subject
	h := hold(t, pins(t), execRules(ours()))
	for _, a := range []attempt{
		{name: "a program", steps: []string{"exec=" + own + ",exit,5"}},
		{name: "a child", steps: []string{"spawn=" + own + ",exit,5"}},
		{name: "a program by its number", steps: []string{"fdexec=" + own + ",exit,5"}},
		{name: "itself once more", steps: []string{"exec=/proc/self/exe,exit,5"}},
		{name: "a link to a program", steps: []string{"symlink=" + own + ",/tmp/applet", "exec=/tmp/applet,exit,5"}},
		{name: "threads", steps: []string{"threads=20", "exit=5"}},
		{name: "a script of the image", steps: []string{"exec=/script"}},
		{name: "a program mapped", steps: []string{"map=" + otherProgram, "exit=5"}},
		{name: "a program that is linked", steps: []string{"exec=" + shellProgram + ",-c,exit 5"}, shell: true},
		{name: "a script as an argument", steps: []string{"exec=" + shellProgram + ",/plain"}, shell: true},
		{name: "a file read by a shell", steps: []string{"put=/tmp/x,v=5", "exec=" + shellProgram + ",-c,read l < /tmp/x; exit ${l#v=}"}, shell: true},
		{name: "a file read by a script", steps: []string{"put=/tmp/x,v=5", "exec=" + shellProgram + ",/reads,/tmp/x"}, shell: true},
		{name: "data of a script", steps: []string{"put=/tmp/x,,exit=5", "exec=/bin/python3.11,-u,/app,/tmp/x"}},
		{name: "data of a program in an argument", steps: []string{"put=/tmp/x,,exit=5", "exec=/bin/python3.11,-c,pass,/tmp/x"}},
		{name: "data of a module", steps: []string{"put=/tmp/x,,exit=5", "exec=/bin/python3.11,-um,http.server,/tmp/x"}},
		{name: "data of a class", steps: []string{"put=/tmp/x,,exit=5", "exec=/bin/java,-cp,/lib,Main,/tmp/x"}},
		{name: "a script that may be anywhere", steps: []string{"put=/srv/plugin-x.py,,exit=5", "exec=/bin/python3.11,/srv/plugin-x.py"}},
		{name: "by the dynamic loader", steps: []string{"exec=" + loader + "," + shellProgram + ",-c,exit 5"}, shell: true},
		{name: "what may run written", steps: []string{"copy=" + own + ",/srv/plugin-x", "exec=/srv/plugin-x,exit,5"}},
		{name: "a program below another root", steps: []string{"chroot=/", "exec=" + own + ",exit,5"}},
		{name: "a program below the folder that it is in", steps: []string{"chroot=" + filepath.Dir(own), "exec=/" + filepath.Base(own) + ",exit,5"}},
		{name: "what may run written below the folder that it is in", steps: []string{"copy=" + own + ",/srv/plugin-x", "chroot=/srv", "exec=/plugin-x,exit,5"}},
		{name: "the same on a file system", steps: []string{"tmpfs=/srv", "copy=" + own + ",/srv/plugin-x", "chroot=/srv", "exec=/plugin-x,exit,5"}},
		{name: "a program with mounts of its own", steps: []string{"unshare", "exec=" + own + ",exit,5"}},
	} {
		t.Run(a.name, func(t *testing.T) {
			if a.shell && !hasShell() {
				t.Skip("no shell for this processor")
			}
			if got := h.new(t, roots).run(t, append([]string{"steps"}, a.steps...)...); got != ran {
				t.Errorf("ended with %d, want %d", got, ran)
			}
		})
	}
	heap := ours()
	heap.CodeHeap, heap.Memfd = true, true
	h.set(execRules(heap))
	for name, steps := range map[string][]string{"compiled code": {"wx", "written", "shared", "attach", "exit=5"}, "programs in memory": {"memfd=x,exit,5"}} {
		t.Run(name+" of the profile", func(t *testing.T) {
			if got := h.new(t, roots).run(t, append([]string{"steps"}, steps...)...); got != ran {
				t.Errorf("ended with %d, want %d", got, ran)
			}
		})
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, e := range h.told {
		t.Errorf("told as outside: %s of %s, %+v %+v", e.Kind, e.Process.Executable, e.Exec, e.Memory)
	}
}

// holdEnv has the test program hold a container until it is killed.
const holdEnv = "CASTELLAN_GUEST_HOLD"

func holdUntilKilled(id string) error {
	g, err := bpf.OpenExecGuard("/sys/fs/bpf/castellan", slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	if err := errors.Join(g.Set(execRules(ours())), g.Hold(id, heldGroup)); err != nil {
		return err
	}
	fmt.Println("held")
	return g.Run(context.Background(), func([]event.Event) {})
}

// A container is held from its first instruction on, also when the program that holds
// it was killed, and while another takes it up.
func TestHeldWithoutAnybody(t *testing.T) {
	roots := layouts()[3].mount(t)
	dir := pins(t)
	c := newContainer(t, newID(t), roots)
	keeper := exec.CommandContext(t.Context(), guest.Tests)
	keeper.Env = append(os.Environ(), holdEnv+"="+c.id)
	output, err := keeper.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := keeper.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(output).ReadString('\n'); line != "held\n" {
		t.Fatalf("the keeper said %q, %v", line, err)
	}
	attack := func(when string) {
		if cmd := c.program(t, otherProgram, "exit", "5"); cmd.Run() == nil || cmd.ProcessState.ExitCode() == ran {
			t.Errorf("%s: the first program of the container runs", when)
		}
		if got := c.run(t, "steps", "copy="+guest.Subject+",/tmp/x", "exec=/tmp/x,exit,5"); !stopped(got) {
			t.Errorf("%s: a copy ended with %d", when, got)
		}
		if got := c.run(t, "exit", "5"); got != ran {
			t.Errorf("%s: a program of the profile ended with %d", when, got)
		}
	}
	attack("by the keeper")
	if err := keeper.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := keeper.Wait(); err == nil {
		t.Error("the keeper ended by itself")
	}
	attack("by nobody")
	var attacks sync.WaitGroup
	attacks.Go(func() {
		for range 4 {
			attack("while it is taken up")
		}
	})
	h := hold(t, dir, execRules(ours()))
	attacks.Wait()
	if held, err := h.Containers(); err != nil || held[c.id] != heldGroup {
		t.Errorf("these are held: %v, %v", held, err)
	}
	attack("by the next")
	h.tells(t, c.id)
}

// What programs cost the kernel's verifier, which refuses more than a million steps:
// less than a fifth of that, so that there is room on kernels that were not tried.
func TestVerifierHasRoom(t *testing.T) {
	const most = 200_000
	dir := pins(t)
	hold(t, dir, execRules(ours()))
	links, err := filepath.Glob(filepath.Join(dir, "*", "*", "link_*"))
	if err != nil || len(links) == 0 {
		t.Fatalf("no programs are pinned: %v", err)
	}
	for _, pin := range links {
		name := strings.TrimPrefix(filepath.Base(pin), "link_")
		steps := verified(t, pin)
		t.Logf("%s: %d", name, steps)
		if steps == 0 || steps > most {
			t.Errorf("%s takes the verifier %d steps, want at most %d", name, steps, most)
		}
	}
}

// verified returns how many instructions the verifier looked at for a program that is
// pinned with its link.
func verified(t *testing.T, pin string) uint32 {
	t.Helper()
	l, err := link.LoadPinnedLink(pin, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	of, err := l.Info()
	if err != nil {
		t.Fatal(err)
	}
	p, err := ebpf.NewProgramFromID(of.Program)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	info, err := p.Info()
	if err != nil {
		t.Fatal(err)
	}
	n, ok := info.VerifiedInstructions()
	if !ok {
		t.Fatalf("%s: the kernel does not say what it cost", pin)
	}
	return n
}
