package bpf_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/castellan-security/castellan/internal/adapter/bpf"
	"github.com/castellan-security/castellan/internal/event"
)

// startAgain starts a program n times and waits for each.
func startAgain(count string, argv []string) error {
	n, err := strconv.Atoi(count)
	if err != nil {
		return err
	}
	for range n {
		cmd := exec.Command(argv[0])
		cmd.Args = argv
		cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr // no /dev/null, which a root may lack
		var status *exec.ExitError
		if err := cmd.Run(); err != nil && !errors.As(err, &status) {
			return err
		}
	}
	return nil
}

// forkAgain makes n processes that end at once, with code 0 and 1 in turn.
func forkAgain(count string) error {
	n, err := strconv.Atoi(count)
	if err != nil {
		return err
	}
	for i := range n {
		pid, _, errno := syscall.RawSyscall(syscall.SYS_CLONE, uintptr(syscall.SIGCHLD), 0, 0)
		if errno != 0 {
			return errno
		}
		if pid == 0 {
			syscall.RawSyscall(syscall.SYS_EXIT_GROUP, uintptr(i%2), 0, 0)
		}
		if _, err := syscall.Wait4(int(pid), nil, 0, nil); err != nil {
			return err
		}
	}
	return nil
}

// forkAndHold makes a process that lives as long as we do, and says its id.
func forkAndHold() error {
	var ends [2]int
	if err := unix.Pipe(ends[:]); err != nil {
		return err
	}
	pid, _, errno := syscall.RawSyscall(syscall.SYS_CLONE, uintptr(syscall.SIGCHLD), 0, 0)
	if errno != 0 {
		return errno
	}
	if pid == 0 {
		var b [1]byte
		syscall.RawSyscall(syscall.SYS_CLOSE, uintptr(ends[1]), 0, 0)
		syscall.RawSyscall(syscall.SYS_READ, uintptr(ends[0]), uintptr(unsafe.Pointer(&b)), 1)
		syscall.RawSyscall(syscall.SYS_EXIT_GROUP, 0, 0, 0)
	}
	fmt.Println(pid)
	return nil
}

// tally is what of one container was told: how often each happened, and by how
// many events.
type tally struct {
	times  map[string]uint64
	events map[string]int
}

// tally counts what happened in a container, by kind with command line or
// status.
func (w *watcher) tally(id string) tally {
	t := tally{map[string]uint64{}, map[string]int{}}
	found, _ := w.seen(func(e event.Event) bool { return e.WorkloadID == id })
	for _, e := range found {
		if e.Exec != nil && e.Exec.Args[0] == helperName {
			continue // put into the container while it was executed, or before
		}
		what := string(e.Kind)
		switch {
		case e.Exec != nil:
			what += " " + strings.Join(e.Exec.Args, " ")
		case e.Exit != nil:
			what += fmt.Sprintf(" %d/%d", e.Exit.Code, e.Exit.Signal)
		}
		t.times[what] += e.Times()
		t.events[what]++
	}
	return t
}

// inNewContainer runs a helper to its end in a new container.
func inNewContainer(t *testing.T, words ...string) (id string) {
	t.Helper()
	v2, _ := hierarchies()
	id = newID(t)
	startIn(t, v2, "castellan-test-repeat-"+id[:8]+"/docker/"+id, words...).finish()
	return id
}

// Whatever is alike is counted, and the sums are what happened. The exit of the
// helper is one more with status 0; where it starts others with os/exec, that
// tries out a process once, which executes nothing.
func TestRepeatsAreCounted(t *testing.T) {
	const n = 200
	again := "again=" + strconv.Itoa(n)
	tests := []struct {
		name  string
		words []string
		want  map[string]uint64
		most  int // events for one row of want
	}{
		{"one program", []string{again, "/bin/true", "x"},
			map[string]uint64{"process.exec /bin/true x": n, "process.exit 0/0": n + 2, "process.fork": 1}, 5},
		{"a program that fails", []string{again, "/bin/sh", "-c", "exit 3"},
			map[string]uint64{"process.exec /bin/sh -c exit 3": n, "process.exit 3/0": n, "process.exit 0/0": 2, "process.fork": 1}, 5},
		{"a program that is killed", []string{again, "/bin/sh", "-c", "kill -9 $$"},
			map[string]uint64{"process.exec /bin/sh -c kill -9 $$": n, "process.exit 0/9": n, "process.exit 0/0": 2, "process.fork": 1}, 5},
		{"one that executes another", []string{again, "/bin/sh", "-c", "exec /bin/true y"},
			map[string]uint64{"process.exec /bin/sh -c exec /bin/true y": n, "process.exec /bin/true y": n, "process.exit 0/0": n + 2, "process.fork": 1}, 6},
		{"a loop of a shell", []string{"exec=/bin/sh", "sh", "-c", "i=0; while [ $i -lt 200 ]; do /bin/true z; i=$((i+1)); done"},
			map[string]uint64{"process.exec sh -c i=0; while [ $i -lt 200 ]; do /bin/true z; i=$((i+1)); done": 1,
				"process.exec /bin/true z": n, "process.exit 0/0": n + 1}, 5},
		{"subshells", []string{"exec=/bin/sh", "sh", "-c", "i=0; while [ $i -lt 200 ]; do (exit 4); i=$((i+1)); done"},
			map[string]uint64{"process.exec sh -c i=0; while [ $i -lt 200 ]; do (exit 4); i=$((i+1)); done": 1,
				"process.fork": n, "process.exit 4/0": n, "process.exit 0/0": 1}, 5},
		{"forks", []string{"forks=" + strconv.Itoa(n), "exit=0"},
			map[string]uint64{"process.fork": n, "process.exit 0/0": n/2 + 1, "process.exit 1/0": n / 2}, 6},
		{"many parents", []string{again, "/bin/sh", "-c", "/bin/true q; :"},
			map[string]uint64{"process.exec /bin/sh -c /bin/true q; :": n, "process.exec /bin/true q": n, "process.exit 0/0": 2*n + 2, "process.fork": 1}, 2*n + 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := watchWith(t, processAlone())
			id := inNewContainer(t, tt.words...)
			w.stop()
			got := w.tally(id)
			if d := cmp.Diff(got.times, tt.want); d != "" {
				t.Errorf("what happened (-got +want):\n%s", d)
			}
			for what, events := range got.events {
				if events > tt.most {
					t.Errorf("%s was told by %d events, want %d at most", what, events, tt.most)
				}
			}
			if lost := w.sensors.Status()[0].Lost; lost != 0 {
				t.Errorf("%d records lost", lost)
			}
		})
	}
}

// What differs in anything that an exec tells is told.
func TestOnlyAlikeIsCounted(t *testing.T) {
	w := watchWith(t, processAlone())
	dir := t.TempDir()
	link := dir + "/truth"
	if err := os.Symlink("/bin/true", link); err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("x", 1_500)
	for _, script := range []string{
		"/bin/true a; /bin/true b; /bin/true a b; /bin/true 'a b'; :",
		"/bin/true; cd /; /bin/true; cd " + dir + "; /bin/true; :",
		link + "; /bin/true; :",
		"/bin/true " + long + "1; /bin/true " + long + "2; :",
		"/bin/true xxxxxxxx; /bin/true xxxxxxx; /bin/true xxxxxx; :",
	} {
		id := inNewContainer(t, "exec=/bin/sh", "sh", "-c", script)
		shell := w.wait("exec of the shell", func(e event.Event) bool { return e.WorkloadID == id && e.Kind == event.KindExec })
		w.exit(int(shell.Process.Key.PID))
		found, _ := w.seen(func(e event.Event) bool { return e.WorkloadID == id && e.Kind == event.KindExec })
		if want := strings.Count(script, ";") - strings.Count(script, "cd "); len(found) != 1+want {
			t.Errorf("%.60s: %d execs told, want the shell's and %d", script, len(found), want)
			for _, e := range found {
				t.Logf("told: %d of %d, %.80q in %s, %d times", e.Process.Key.PID, e.Process.Parent.PID, e.Exec.Args, e.Exec.Cwd, e.Count)
			}
		}
	}
}

// A process that lives on is told by itself, though its exec was like another.
func TestRepeatThatLivesOnIsTold(t *testing.T) {
	w := watchWith(t, processAlone())
	v2, _ := hierarchies()
	id := newID(t)
	dir := cgroup(t, v2, "castellan-test-long/docker/"+id)
	const script = "/bin/sleep 1000 & /bin/sleep 1000 & read x; kill -9 %1 %2; wait 2>/dev/null"
	h := start(t, nil, "exec=/bin/bash", "bash", "-c", "set -m; "+script)
	put(t, dir, h.pid())
	if _, err := h.stdin.Write([]byte("\n")); err != nil {
		t.Fatal(err)
	}
	isSleep := func(e event.Event) bool {
		return e.WorkloadID == id && e.Exec != nil && e.Exec.Args[0] == "/bin/sleep"
	}
	first := w.wait("exec", isSleep)
	second := w.wait("exec of the other", func(e event.Event) bool { return isSleep(e) && e.Process.Key != first.Process.Key })
	if second.Count != 0 || second.Process.Parent != first.Process.Parent || second.Process.Executable != first.Process.Executable {
		t.Errorf("told as %+v, want once, like %+v", second.Process, first.Process)
	}
	h.finish()
	for _, e := range []event.Event{first, second} {
		if got := w.exit(int(e.Process.Key.PID)); got.Process.Key != e.Process.Key || got.Exit.Signal != 9 {
			t.Errorf("exit of %v by signal %d, want %v by 9", got.Process.Key, got.Exit.Signal, e.Process.Key)
		}
	}
	w.stop()
	if got := w.tally(id).times["process.exec /bin/sleep 1000"]; got != 2 {
		t.Errorf("%d execs told, want 2", got)
	}
}

// A process that was forked, lives on and executes nothing is told.
func TestForkThatLivesOnIsTold(t *testing.T) {
	w := watchWith(t, processAlone())
	v2, _ := hierarchies()
	id := newID(t)
	h := startIn(t, v2, "castellan-test-hold/docker/"+id, "hold", "wait", "exit=0")
	if _, err := h.stdin.Write([]byte("\n")); err != nil {
		t.Fatal(err)
	}
	fork := w.wait("fork", func(e event.Event) bool { return e.Kind == event.KindFork && e.WorkloadID == id })
	if fork.Process.Parent.PID != uint32(h.pid()) || fork.Time.IsZero() {
		t.Errorf("forked %+v, want a child of %d", fork.Process, h.pid())
	}
	h.finish()
	if got := w.exit(int(fork.Process.Key.PID)); got.Process.Key != fork.Process.Key {
		t.Errorf("exit of %v, want %v", got.Process.Key, fork.Process.Key)
	}
}

// Whoever is told as a parent has been told before.
func TestParentsAreToldFirst(t *testing.T) {
	const n = 30
	w := watchWith(t, processAlone())
	// The inner shell forks once more, so there is a fork between two execs.
	id := inNewContainer(t, "again="+strconv.Itoa(n), "/bin/sh", "-c", "( /bin/echo $$ >/dev/null; : ); :")
	w.stop()
	found, _ := w.seen(func(e event.Event) bool { return e.WorkloadID == id && e.Count == 0 })
	known := map[event.Key]bool{}
	echoes := 0
	for _, e := range found {
		if e.Exec != nil && e.Exec.Args[0] == "/bin/echo" {
			echoes++
			for i, a := range e.Exec.Ancestors[:2] {
				if !known[a.Key] {
					t.Fatalf("ancestor %d of %v was not told", i, e.Exec.Args)
				}
			}
		}
		if e.Kind != event.KindExit {
			known[e.Process.Key] = true
		}
	}
	if got := w.tally(id); echoes != n || got.times["process.exec /bin/sh -c ( /bin/echo $$ >/dev/null; : ); :"] != n || got.times["process.fork"] != n+1 {
		t.Errorf("%d children told one by one, %d shells and %d forks in all; want %d, and a fork more", echoes,
			got.times["process.exec /bin/sh -c ( /bin/echo $$ >/dev/null; : ); :"], got.times["process.fork"], n)
	}
}

// Whatever another sensor tells of a process, its exec was told before, though
// it was like others.
func TestExecIsToldBeforeWhatItDoes(t *testing.T) {
	const n = 10
	w := watch(t)
	dir := t.TempDir()
	id := inNewContainer(t, "again="+strconv.Itoa(n), "/bin/sh", "-c", "echo > "+dir+"/$$; exit 5")
	w.stop()
	found, _ := w.seen(func(e event.Event) bool { return e.WorkloadID == id && e.Count == 0 })
	known := map[event.Key]bool{}
	made := 0
	for _, e := range found {
		switch {
		case e.Exec != nil:
			known[e.Process.Key] = true
		case e.Kind == event.KindFileCreate && strings.HasPrefix(e.File.Path, dir):
			made++
			if !known[e.Process.Key] {
				t.Errorf("%s was made by a process that nobody told of", e.File.Path)
			}
		}
	}
	if made != n {
		t.Errorf("%d files told, want %d", made, n)
	}
	execs := w.tally(id).times["process.exec /bin/sh -c echo > "+dir+"/$$; exit 5"]
	if execs != n {
		t.Errorf("%d execs told, want %d", execs, n)
	}
}

// With no window each event is told by itself.
func TestWithoutWindowEachIsTold(t *testing.T) {
	const n = 50
	w := watchEach(t)
	id := inNewContainer(t, "again="+strconv.Itoa(n), "/bin/true")
	w.stop()
	got := w.tally(id)
	for what, want := range map[string]int{"process.fork": n + 1, "process.exec /bin/true": n, "process.exit 0/0": n + 2} {
		if got.events[what] != want || got.times[what] != uint64(want) {
			t.Errorf("%s: %d in %d events, want %d each", what, got.times[what], got.events[what], want)
		}
	}
}

// While nobody reads and the ring is full, each exec is told, counted or lost.
func TestRepeatsInAFlood(t *testing.T) {
	const n = 300
	o := processAlone()
	o.RingBytes = os.Getpagesize()
	s := open(t, o)
	id := inNewContainer(t, "again="+strconv.Itoa(n), "/bin/sh", "-c", "/bin/echo $$ >/dev/null; :")
	w := readOut(t, s)
	got := w.tally(id)
	var told uint64
	for what, times := range got.times {
		if strings.HasPrefix(what, "process.exec") {
			told += times
		}
	}
	if lost := s.Status()[0].Lost; told > 2*n || told+lost < 2*n {
		t.Errorf("%d execs told, %d records lost, want %d execs in all", told, lost, 2*n)
	}
}

// readOut reads what there is and what was counted.
func readOut(t *testing.T, s *bpf.Sensors) *watcher {
	t.Helper()
	w := &watcher{t: t, sensors: s, news: make(chan struct{})}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Run(ctx, w.see); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	return w
}
