package bpf_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/castellan-security/castellan/internal/adapter/bpf"
	"github.com/castellan-security/castellan/internal/event"
)

// startInside starts a helper in a container as a runtime does: it is put into
// the cgroup, gets its own mount namespace and executes itself, and only then
// does what the words say.
func startInside(t *testing.T, id string, words ...string) *helper {
	t.Helper()
	v2, _ := hierarchies()
	h := start(t, nil, append([]string{"newns", "exec=/proc/self/exe", helperName}, words...)...)
	put(t, cgroup(t, v2, "castellan-test-p/docker/"+id), h.pid())
	return h
}

// openFolder is a folder of the test that others may look into.
func openFolder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for d := dir; d != "/tmp" && d != "/"; d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// privileges returns what a process was told of by now, in order, from the
// beginning of its calls.
func (w *watcher) privileges(pid int) []event.Event {
	got, _ := w.seen(func(e event.Event) bool {
		return e.Privilege != nil && e.Process.Key.PID == uint32(pid)
	})
	for i, e := range got {
		if e.Privilege.Target == beginning {
			return got[i+1:]
		}
	}
	return got
}

// results reads what raw printed: the error of each call, by its name.
func (h *helper) results() map[string]string {
	out := map[string]string{}
	for line := range strings.Lines(h.stdout.String()) {
		i := strings.LastIndex(strings.TrimSpace(line), " ")
		if i < 0 || !strings.HasPrefix(line[i+1:], "E") {
			continue
		}
		out[line[:i]] = strings.TrimSpace(line[i+1:])
	}
	return out
}

// entry is what a test expects of one event.
type entry struct {
	kind event.Kind
	p    event.Privilege
}

// check compares what a process was told of with what it did.
func (w *watcher) check(h *helper, workload string, want []entry) {
	w.t.Helper()
	w.exit(h.pid())
	var got []entry
	for _, e := range w.privileges(h.pid()) {
		if e.WorkloadID != workload {
			w.t.Errorf("%s is of workload %q, want %q", e.Kind, e.WorkloadID, workload)
		}
		got = append(got, entry{e.Kind, *e.Privilege})
	}
	if d := cmp.Diff(got, want, cmp.AllowUnexported(entry{}), cmpopts.EquateEmpty()); d != "" {
		w.t.Errorf("events (-got +want):\n%s", d)
	}
}

func TestPrivilegeMounts(t *testing.T) {
	w := watch(t)
	id, dir := newID(t), t.TempDir()
	h := startInside(t, id, "calls=mounts:"+dir)
	h.finish()
	w.check(h, id, []entry{
		{event.KindMount, event.Privilege{Call: "mount", Target: "/", Flags: []string{"rec", "private"}}},
		{event.KindMount, event.Privilege{Call: "mount", Source: "castellan", Target: dir, Type: "tmpfs", Flags: []string{"nosuid", "nodev"}}},
		{event.KindMount, event.Privilege{Call: "mount", Source: dir, Target: dir, Flags: []string{"bind"}}},
		{event.KindMount, event.Privilege{Call: "mount", Source: "x", Target: "/castellan/absent", Type: "ext4", Flags: []string{"ro"}, Error: "ENOENT"}},
		{event.KindUmount, event.Privilege{Call: "umount2", Target: dir, Flags: []string{"detach"}}},
		{event.KindPivotRoot, event.Privilege{Call: "pivot_root", Source: "/castellan/old", Target: "/castellan/absent", Error: "ENOENT"}},
		{event.KindPivotRoot, event.Privilege{Call: "chroot", Target: "/"}},
	})
}

func TestPrivilegeMountAPI(t *testing.T) {
	w := watch(t)
	id, dir := newID(t), t.TempDir()
	h := startInside(t, id, "calls=mounting:"+dir)
	h.finish()
	w.check(h, id, []entry{
		{event.KindMount, event.Privilege{Call: "fsopen", Type: "tmpfs"}},
		{event.KindMount, event.Privilege{Call: "fsconfig", Source: "castellan", Type: "tmpfs", Flags: []string{"create"}}},
		{event.KindMount, event.Privilege{Call: "fsmount", Type: "tmpfs", Flags: []string{"noexec"}}},
		{event.KindMount, event.Privilege{Call: "move_mount", Target: dir}},
		{event.KindMount, event.Privilege{Call: "open_tree", Source: dir, Flags: []string{"clone"}}},
		{event.KindMount, event.Privilege{Call: "mount_setattr", Target: dir, Flags: []string{"ro"}, Error: h.results()["mount_setattr"]}},
	})
}

func TestPrivilegeNamespaces(t *testing.T) {
	w := watch(t)
	id := newID(t)
	h := startInside(t, id, "calls=namespaces")
	h.finish()
	uts, err := os.Readlink("/proc/self/ns/uts")
	if err != nil {
		t.Fatal(err)
	}
	setns := event.Privilege{Call: "setns", Type: "uts", Target: uts, Flags: []string{"newuts"}}
	if uts == "uts:[4026531838]" { // the host's own
		setns.Flags = append(setns.Flags, "host")
	}
	w.check(h, id, []entry{
		{event.KindUnshare, event.Privilege{Call: "unshare", Flags: []string{"newuts", "newipc"}}},
		{event.KindSetns, setns},
		{event.KindClone, event.Privilege{Call: "clone", Flags: []string{"newipc"}}},
		{event.KindClone, event.Privilege{Call: "clone3", Flags: []string{"newuts"}}},
	})
}

// Who begins a process in another cgroup leaves the container.
func TestPrivilegeIntoCgroup(t *testing.T) {
	w := watch(t)
	id := newID(t)
	h := startInside(t, id, "calls=cgroup")
	h.finish()
	w.check(h, id, []entry{{event.KindClone, event.Privilege{Call: "clone3", Flags: []string{"into_cgroup"}, Error: "EBADF"}}})
}

func TestPrivilegeProcesses(t *testing.T) {
	w := watch(t)
	id := newID(t)
	h := startInside(t, id, "calls=processes")
	h.finish()
	_, after, _ := strings.Cut(h.stdout.String(), "child ")
	line, _, _ := strings.Cut(after, "\n")
	pid, err := strconv.Atoi(line)
	if err != nil {
		t.Fatal(err)
	}
	child, failed := w.exec(pid).Process.Key, h.results()
	w.check(h, id, []entry{
		{event.KindPtrace, event.Privilege{Call: "ptrace", Flags: []string{"attach"}, Process: child}},
		{event.KindPtrace, event.Privilege{Call: "ptrace", Flags: []string{"pokedata"}, Process: child}},
		{event.KindProcessWrite, event.Privilege{Call: "process_vm_writev", Process: child, Error: failed["process_vm_writev"]}},
		{event.KindPtrace, event.Privilege{Call: "pidfd_getfd", Process: child, Error: failed["pidfd_getfd"]}},
		{event.KindPtrace, event.Privilege{Call: "ptrace", Flags: []string{"attach"}, Error: "ESRCH"}},
	})
}

func TestPrivilegeKernel(t *testing.T) {
	w := watch(t)
	id := newID(t)
	h := startInside(t, id, "calls=kernel")
	h.finish()
	w.check(h, id, kernelCalls(h.results(), false))
}

// Of the host only what concerns its kernel is told.
func TestPrivilegeKernelOfHost(t *testing.T) {
	w := watch(t)
	dir := t.TempDir()
	h := start(t, nil, "newns", "calls=mounts:"+dir, "calls=kernel", "calls=namespaces")
	h.finish()
	w.check(h, "", kernelCalls(h.results(), true))
}

// kernelCalls is what callKernel leads to, with the errors that it met.
func kernelCalls(failed map[string]string, host bool) []entry {
	word := func(s string) []string { return []string{s} }
	all := []struct {
		entry
		call   string // as it was printed
		onHost bool
	}{
		{entry{event.KindModule, event.Privilege{Call: "init_module", Source: "castellan=1"}}, "", true},
		{entry{event.KindModule, event.Privilege{Call: "finit_module", Source: "a=b", Target: "/etc/passwd"}}, "", true},
		{entry{event.KindModule, event.Privilege{Call: "delete_module", Target: "castellan_absent"}}, "", true},
		{entry{event.KindKexec, event.Privilege{Call: "kexec_load", Flags: word("on_crash")}}, "", true},
		{entry{event.KindKexec, event.Privilege{Call: "kexec_file_load", Target: "/etc/passwd", Flags: word("on_crash")}}, "", true},
		{entry{event.KindBPF, event.Privilege{Call: "bpf", Type: "hash", Flags: word("map_create")}}, "bpf map_create", false},
		{entry{event.KindBPF, event.Privilege{Call: "bpf", Type: "tracepoint", Flags: word("prog_load")}}, "bpf prog_load", true},
		{entry{event.KindPerf, event.Privilege{Call: "perf_event_open", Type: "software"}}, "", false},
		{entry{event.KindKeyring, event.Privilege{Call: "keyctl", Flags: word("get_keyring_id")}}, "", false},
		{entry{event.KindKeyring, event.Privilege{Call: "add_key", Target: "a key", Type: "castellan"}}, "", false},
		{entry{event.KindKeyring, event.Privilege{Call: "request_key", Target: "castellan-absent", Type: "user"}}, "", false},
		{entry{event.KindUserfault, event.Privilege{Call: "userfaultfd", Flags: word("user_mode_only")}}, "", false},
		{entry{event.KindIOURing, event.Privilege{Call: "io_uring_setup"}}, "", false},
		{entry{event.KindKernelKnob, event.Privilege{Call: "reboot", Flags: word("power_off")}}, "", false},
		{entry{event.KindKernelKnob, event.Privilege{Call: "acct", Target: "/castellan/absent"}}, "", false},
		{entry{event.KindKernelKnob, event.Privilege{Call: "swapon", Target: "/castellan/absent"}}, "", false},
		{entry{event.KindKernelKnob, event.Privilege{Call: "settimeofday"}}, "", false},
		{entry{event.KindKernelKnob, event.Privilege{Call: "adjtimex"}}, "", false},
		{entry{event.KindKernelKnob, event.Privilege{Call: "clock_adjtime"}}, "", false},
		{entry{event.KindMount, event.Privilege{Call: "open_tree_attr", Source: "/castellan/absent"}}, "", false},
	}
	var out []entry
	for _, c := range all {
		if host && !c.onHost {
			continue
		}
		if c.call == "" {
			c.call = c.p.Call
		}
		c.p.Error = failed[c.call]
		out = append(out, c.entry)
	}
	return out
}

func TestPrivilegeUsers(t *testing.T) {
	w := watch(t)
	id := newID(t)
	program := copyOf(t, "/bin/true", openFolder(t), "set-uid")
	if err := os.Chmod(program, 0o755|os.ModeSetuid); err != nil {
		t.Fatal(err)
	}
	all := ownCapabilities(t)
	h := startInside(t, id, "calls=users:"+program)
	h.finish()
	w.check(h, id, []entry{
		{event.KindUser, event.Privilege{Call: "setresuid", OldUID: 0, NewUID: 1000}},
		{event.KindUser, event.Privilege{Call: "setresuid", OldUID: 1000, NewUID: 0}},
		{event.KindCapability, event.Privilege{Call: "setresuid", Gained: all}},
		{event.KindUser, event.Privilege{Call: "setgid", Flags: []string{"group"}, Target: "1234"}},
		{event.KindUser, event.Privilege{Call: "setuid", OldUID: 0, NewUID: 1001}},
		{event.KindUser, event.Privilege{Call: "setuid", Error: "EPERM"}},
		{event.KindUser, event.Privilege{Call: "exec", OldUID: 1001, NewUID: 0}},
		{event.KindCapability, event.Privilege{Call: "exec", Gained: all}},
	})
}

func TestPrivilegeCapset(t *testing.T) {
	w := watch(t)
	id := newID(t)
	h := startInside(t, id, "calls=caps")
	h.finish()
	w.check(h, id, []entry{
		{event.KindUser, event.Privilege{Call: "setuid", NewUID: 1001}},
		{event.KindCapability, event.Privilege{Call: "capset", Error: "EPERM"}},
	})
}

// In a user namespace of its own a process has every capability, but only
// there.
func TestPrivilegeUserNamespace(t *testing.T) {
	w := watch(t)
	id := newID(t)
	h := startInside(t, id, "calls=userns")
	h.finish()
	if failed := h.results()["unshare"]; failed != "" {
		t.Skip("this machine allows no user namespaces (" + failed + "): skipped")
	}
	w.exit(h.pid())
	got := w.privileges(h.pid())
	if len(got) != 3 {
		t.Fatalf("got %d events, want 3: %+v", len(got), got)
	}
	gain, call := got[1].Privilege, got[2].Privilege
	if got[1].Kind != event.KindCapability || gain.Gained == 0 || !slices.Equal(gain.Flags, []string{"userns"}) {
		t.Errorf("gained %v with flags %q", gain.Gained.Names(), gain.Flags)
	}
	if got[2].Kind != event.KindUnshare || !slices.Equal(call.Flags, []string{"newuser", "userns"}) {
		t.Errorf("%s with flags %q", got[2].Kind, call.Flags)
	}
}

// What the runtime does before the program of the container runs is not told;
// what the program does is, and says so when it has joined the host.
func TestPrivilegeSetupAndBreakOut(t *testing.T) {
	w := watch(t)
	id := newID(t)
	v2, _ := hierarchies()
	h := start(t, nil, "newns", "calls=mounts:"+t.TempDir(), "exec=/proc/self/exe", helperName, "calls=join:"+strconv.Itoa(os.Getpid()))
	put(t, cgroup(t, v2, "castellan-test-p/docker/"+id), h.pid())
	h.finish()
	w.exit(h.pid())
	got := w.privileges(h.pid())
	if len(got) != 2 {
		t.Fatalf("got %d events, want two: %+v", len(got), got)
	}
	if p := got[0].Privilege; got[0].Kind != event.KindSetns || p.Type != "mnt" || p.Error != "" || !slices.Contains(p.Flags, "host") {
		t.Errorf("joined the host: %+v", p)
	}
	want := event.Privilege{Call: "umount2", Target: "/castellan/broken-out", Flags: []string{"host"}, Error: "ENOENT"}
	if d := cmp.Diff(*got[1].Privilege, want, cmpopts.EquateEmpty()); d != "" {
		t.Errorf("after the break-out (-got +want):\n%s", d)
	}
	for _, e := range got {
		if e.WorkloadID != id {
			t.Errorf("%s is of workload %q, want %q", e.Kind, e.WorkloadID, id)
		}
	}
}

// A runtime can also clone its process into the container (CLONE_INTO_CGROUP)
// instead of moving it there.
func TestPrivilegeSetupByClone(t *testing.T) {
	w := watch(t)
	id := newID(t)
	v2, _ := hierarchies()
	dir, err := os.Open(cgroup(t, v2, "castellan-test-p/docker/"+id))
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	attr := &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
	h := start(t, attr, "newns", "calls=mounts:"+t.TempDir(), "exec=/proc/self/exe", helperName, "calls=repeat:1")
	h.finish()
	absent := event.Privilege{Call: "umount2", Target: "/castellan/absent", Error: "ENOENT"}
	other := event.Privilege{Call: "umount2", Target: "/castellan/other", Error: "ENOENT"}
	w.check(h, id, []entry{{event.KindUmount, absent}, {event.KindUmount, other}})
}

// A process that is known to be the container's stays so when somebody of the
// host moves it.
func TestPrivilegeOfMovedProcess(t *testing.T) {
	w := watch(t)
	id := newID(t)
	v2, _ := hierarchies()
	h := startInside(t, id, "wait", "calls=repeat:1")
	if _, err := h.stdin.Write([]byte("\n")); err != nil {
		t.Fatal(err)
	}
	w.program(h)
	put(t, cgroup(t, v2, "castellan-test-q/docker/"+id), h.pid())
	h.finish()
	absent := event.Privilege{Call: "umount2", Target: "/castellan/absent", Error: "ENOENT"}
	other := event.Privilege{Call: "umount2", Target: "/castellan/other", Error: "ENOENT"}
	w.check(h, id, []entry{{event.KindUmount, absent}, {event.KindUmount, other}})
}

// program waits until a helper that startInside started has executed itself,
// to wait again.
func (w *watcher) program(h *helper) event.Event {
	w.t.Helper()
	return w.wait("program of the container", func(e event.Event) bool {
		return e.Kind == event.KindExec && e.Process.Key.PID == uint32(h.pid()) && len(e.Exec.Args) > 1 &&
			e.Exec.Args[1] == "wait" && !slices.Contains(e.Exec.Args, "newns")
	})
}

// A host process that takes over one of a container is told, with whose it is;
// one that takes over another of the host is not.
func TestPrivilegeOfHostIntoContainer(t *testing.T) {
	w := watch(t)
	id := newID(t)
	target := startInside(t, id, "wait")
	if _, err := target.stdin.Write([]byte("\n")); err != nil {
		t.Fatal(err)
	}
	inside := w.program(target)
	other := start(t, nil)
	h := start(t, nil, "calls=attach:"+strconv.Itoa(target.pid()), "calls=attach:"+strconv.Itoa(other.pid()), "calls=join:"+strconv.Itoa(target.pid()))
	h.finish()
	mnt, err := os.Readlink("/proc/" + strconv.Itoa(target.pid()) + "/ns/mnt")
	if err != nil {
		t.Fatal(err)
	}
	target.finish()
	other.finish()
	w.check(h, "", []entry{
		{event.KindPtrace, event.Privilege{Call: "ptrace", Flags: []string{"attach"}, Process: inside.Process.Key, WorkloadID: id}},
		{event.KindPtrace, event.Privilege{Call: "ptrace", Flags: []string{"pokedata"}, Process: inside.Process.Key, WorkloadID: id}},
		{event.KindSetns, event.Privilege{Call: "setns", Type: "mnt", Target: mnt, Flags: []string{"newns"}}},
	})
}

// A call that is made again and again is told at once and then counted; the
// sum is exact, and another target is another event.
func TestPrivilegeIsCounted(t *testing.T) {
	s := open(t, bpf.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	var mu sync.Mutex
	var all []event.Event
	done, ended := make(chan error, 1), make(chan struct{}, 1)
	id := newID(t)
	h := startInside(t, id, "calls=repeat:500")
	go func() {
		done <- s.Run(ctx, func(batch []event.Event) {
			mu.Lock()
			defer mu.Unlock()
			all = append(all, batch...)
			for _, e := range batch {
				if e.Kind == event.KindExit && e.Process.Key.PID == uint32(h.pid()) {
					ended <- struct{}{}
				}
			}
		})
	}()
	h.finish()
	<-ended
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	times, events := map[string]uint64{}, map[string]int{}
	for _, e := range all {
		if e.Kind == event.KindUmount && e.WorkloadID == id && e.Privilege.Target != beginning {
			times[e.Privilege.Target] += e.Times()
			events[e.Privilege.Target]++
		}
	}
	if d := cmp.Diff(times, map[string]uint64{"/castellan/absent": 500, "/castellan/other": 1}); d != "" {
		t.Errorf("times (-got +want):\n%s", d)
	}
	if d := cmp.Diff(events, map[string]int{"/castellan/absent": 2, "/castellan/other": 1}); d != "" {
		t.Errorf("events (-got +want):\n%s", d)
	}
}
