package kernel_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/castellan-security/castellan/internal/adapter/kernel"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/need"
)

const (
	taskID      = "6e1f0b3f5d0a4b9e8c7d6e5f4a3b2c1d"
	containerID = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	otherID     = "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210"
)

// boot is when the machines of these tests were started.
var boot = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// process is one process of a fake proc file system; empty parts take a
// default, "-" leaves the file out.
type process struct {
	comm, state, stat string
	parent, flags     int
	threads, ticks    int
	cgroup, cmdline   string
	exe, root, status string
}

// write makes the folder of process pid below proc.
func (p process) write(t *testing.T, proc string, pid int) {
	t.Helper()
	dir := filepath.Join(proc, fmt.Sprint(pid))
	if p.stat == "" {
		p.stat = fmt.Sprintf("%d (%s) %s %d 1 1 0 -1 %d 0 0 0 0 0 0 0 0 20 0 %d 0 %d 1000 20 18446744073709551615\n",
			pid, p.comm, def(p.state, "S"), p.parent, p.flags, max(p.threads, 1), p.ticks)
	}
	status := def(p.status, fmt.Sprintf(
		"Name:\tx\nUid:\t1000\t0\t0\t0\nGid:\t100\t0\t0\t0\nGroups:\t1 2\nNSpid:\t%d\t7\nCapEff:\t0000000000000000\n", pid))
	files := map[string]string{
		"stat": p.stat, "status": status, "cgroup": def(p.cgroup, "0::/init.scope\n"), "cmdline": p.cmdline,
	}
	for name, content := range files {
		if content != "-" {
			write(t, filepath.Join(dir, name), content)
		}
	}
	if p.exe != "" {
		link(t, p.exe, filepath.Join(dir, "exe"))
	}
	link(t, def(p.root, "/"), filepath.Join(dir, "root"))
}

func def(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

func write(t testing.TB, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func link(t *testing.T, target, path string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, path); err != nil {
		t.Fatal(err)
	}
}

// processes lists a fake proc file system.
func processes(t *testing.T, proc string) []event.Running {
	t.Helper()
	h := kernel.New(kernel.Options{Proc: proc, Sys: t.TempDir(), Booted: func() time.Time { return boot }})
	got, err := h.Processes(t.Context())
	if err != nil {
		t.Fatalf("Processes: %v", err)
	}
	return got
}

func TestProcessesWhole(t *testing.T) {
	proc := t.TempDir()
	write(t, filepath.Join(proc, "version"), "not a process\n")
	process{comm: "systemd", ticks: 3}.write(t, proc, 1)
	process{
		comm: "nginx", parent: 1, ticks: 250, cgroup: "0::/docker/" + containerID + "\n",
		cmdline: "nginx\x00-g\x00daemon off;\x00", exe: "/usr/sbin/nginx",
	}.write(t, proc, 42)
	process{comm: "kthreadd", flags: 0x208040, ticks: 1}.write(t, proc, 2)
	process{comm: "gone", state: "Z", ticks: 5}.write(t, proc, 9)

	want := []event.Running{
		{
			Process: event.Process{
				Key: event.Key{PID: 1, Start: 30_000_000}, ContainerPID: 7, Name: "systemd", UID: 1000, GID: 100,
			},
			Origin: event.OriginHost, Started: boot.Add(30 * time.Millisecond),
		},
		{
			WorkloadID: containerID,
			Process: event.Process{
				Key: event.Key{PID: 42, Start: 2_500_000_000}, Parent: event.Key{PID: 1, Start: 30_000_000},
				ContainerPID: 7, Name: "nginx", Executable: "/usr/sbin/nginx", UID: 1000, GID: 100,
			},
			Args: []string{"nginx", "-g", "daemon off;"}, Started: boot.Add(2500 * time.Millisecond),
		},
	}
	byPID := cmpopts.SortSlices(func(a, b event.Running) bool { return a.Process.Key.PID < b.Process.Key.PID })
	if diff := cmp.Diff(want, processes(t, proc), byPID); diff != "" {
		t.Errorf("Processes (-want +got):\n%s", diff)
	}
}

func TestProcessesNames(t *testing.T) {
	tests := []struct {
		name    string
		process process
		want    event.Process // Name, Executable
		origin  event.Origin
		args    []string
	}{
		{name: "parentheses and blanks", process: process{comm: "a) R 1 (b"},
			want: event.Process{Name: "a) R 1 (b"}, origin: event.OriginHost},
		{name: "newline", process: process{comm: "a\n9 (x) S"},
			want: event.Process{Name: "a\n9 (x) S"}, origin: event.OriginHost},
		{name: "not UTF-8", process: process{comm: "\xff\xfe", cmdline: "\xff\x00b"},
			want: event.Process{Name: "\uFFFD"}, origin: event.OriginHost, args: []string{"\uFFFD", "b"}},
		{name: "deleted file", process: process{comm: "x", exe: "/no/such/file (deleted)"},
			want: event.Process{Name: "x", Executable: "/no/such/file"}, origin: event.OriginHost},
		{name: "memfd", process: process{comm: "x", exe: "/memfd:payload (deleted)", cgroup: "0::/docker/" + containerID},
			want: event.Process{Name: "x", Executable: "/memfd:payload"}, origin: event.OriginMemory},
		{name: "below its own root", process: process{comm: "x", exe: "/srv/jail/bin/x", root: "/srv/jail"},
			want: event.Process{Name: "x", Executable: "/bin/x"}, origin: event.OriginHost},
		{name: "beside its own root", process: process{comm: "x", exe: "/srv/jailer/x", root: "/srv/jail"},
			want: event.Process{Name: "x", Executable: "/srv/jailer/x"}, origin: event.OriginHost},
		{name: "leader ended before its threads", process: process{comm: "x", state: "Z", threads: 2},
			want: event.Process{Name: "x"}, origin: event.OriginHost},
		{name: "empty argument within", process: process{comm: "sh", cmdline: "sh\x00\x00-c\x00\x00\x00"},
			want: event.Process{Name: "sh"}, origin: event.OriginHost, args: []string{"sh", "", "-c"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			proc := t.TempDir()
			tt.process.write(t, proc, 42)
			got := processes(t, proc)
			if len(got) != 1 {
				t.Fatalf("Processes returned %d, want 1", len(got))
			}
			p := got[0].Process
			if diff := cmp.Diff(tt.want, event.Process{Name: p.Name, Executable: p.Executable}); diff != "" {
				t.Errorf("process (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.args, got[0].Args); diff != "" {
				t.Errorf("args (-want +got):\n%s", diff)
			}
			if got[0].Origin != tt.origin {
				t.Errorf("origin = %q, want %q", got[0].Origin, tt.origin)
			}
		})
	}
}

func TestProcessesFileReallyCalledDeleted(t *testing.T) {
	proc := t.TempDir()
	file := filepath.Join(t.TempDir(), "tool (deleted)")
	write(t, file, "")
	process{comm: "x", exe: file}.write(t, proc, 42)
	if got := processes(t, proc)[0].Process.Executable; got != file {
		t.Errorf("executable = %q, want %q", got, file)
	}
}

func TestProcessesContainer(t *testing.T) {
	v1 := func(path string) string {
		return "12:memory:" + path + "\n11:pids:" + path + "\n1:name=systemd:" + path + "\n"
	}
	tests := []struct{ name, cgroup, want string }{
		{"v1 docker", v1("/docker/" + containerID), containerID},
		{"v1 ecs", v1("/ecs/" + taskID + "/" + containerID), containerID},
		{"hybrid", v1("/") + "0::/docker/" + containerID + "\n", containerID},
		{"hybrid with containers in v1 alone", v1("/docker/"+containerID) + "0::/system.slice/docker.service\n", containerID},
		{"v2 docker", "0::/docker/" + containerID + "\n", containerID},
		{"v2 systemd", "0::/system.slice/docker-" + containerID + ".scope\n", containerID},
		{"v2 ecs", "0::/ecstasks.slice/ecstasks-" + taskID + ".slice/docker-" + containerID + ".scope\n", containerID},
		{"v2 containerd", "0::/kubepods.slice/cri-containerd-" + containerID + ".scope\n", containerID},
		{"seen from another cgroup namespace", "0::/../" + containerID + "\n", containerID},
		{"below the container", "0::/docker/" + containerID + "/init.scope\n", containerID},
		{"container within a container", "0::/docker/" + containerID + "/docker/" + otherID + "\n", containerID},
		{"removed", "0::/docker/" + containerID + " (deleted)\n", containerID},
		{"colon in path", "0::/docker/a:b/" + containerID + "\n", containerID},
		{"v2 before v1", "5:pids:/docker/" + otherID + "\n0::/docker/" + containerID + "\n", containerID},
		{"host", "0::/system.slice/ssh.service\n", ""},
		{"upper case", "0::/docker/" + strings.ToUpper(containerID) + "\n", ""},
		{"65 digits", "0::/docker/" + containerID + "0\n", ""},
		{"dash without scope", "0::/docker/docker-" + containerID + "\n", ""},
		{"scope without dash", "0::/docker/" + containerID + ".scope\n", ""},
		{"63 digits", "0::/docker/" + containerID[1:] + "\n", ""},
		{"not a cgroup file", "docker/" + containerID, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			proc := t.TempDir()
			process{comm: "x", cgroup: tt.cgroup}.write(t, proc, 42)
			if got := processes(t, proc)[0].WorkloadID; got != tt.want {
				t.Errorf("container = %q, want %q", got, tt.want)
			}
		})
	}
}

func TestProcessesParent(t *testing.T) {
	tests := []struct {
		name   string
		parent process
		want   event.Key
	}{
		{"older", process{comm: "p", ticks: 5}, event.Key{PID: 7, Start: 50_000_000}},
		{"kernel thread", process{comm: "p", ticks: 5, flags: 0x200000}, event.Key{PID: 7, Start: 50_000_000}},
		{"process id used again", process{comm: "p", ticks: 11}, event.Key{}},
		{"gone", process{stat: "-", ticks: 5}, event.Key{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			proc := t.TempDir()
			tt.parent.write(t, proc, 7)
			process{comm: "child", parent: 7, ticks: 10}.write(t, proc, 42)
			for _, r := range processes(t, proc) {
				if r.Process.Key.PID == 42 && r.Process.Parent != tt.want {
					t.Errorf("parent = %v, want %v", r.Process.Parent, tt.want)
				}
			}
		})
	}
}

func TestProcessesVanishing(t *testing.T) {
	for _, file := range []string{"stat", "status", "cgroup", "cmdline"} {
		t.Run("before "+file, func(t *testing.T) {
			proc := t.TempDir()
			process{comm: "stays"}.write(t, proc, 1)
			process{comm: "goes"}.write(t, proc, 42)
			if err := os.Remove(filepath.Join(proc, "42", file)); err != nil {
				t.Fatal(err)
			}
			got := processes(t, proc)
			if len(got) != 1 || got[0].Process.Name != "stays" {
				t.Errorf("Processes = %+v, want only the one that stays", got)
			}
		})
	}
}

func TestProcessesBounded(t *testing.T) {
	proc := t.TempDir()
	process{
		comm: "x", cmdline: strings.Repeat("a\x00", 1<<20),
		status: "Uid:\t1\t2\t2\t2\nGroups:\t" + strings.Repeat("4294967294 ", 65536) + "\nNSpid:\t42\t3\n",
	}.write(t, proc, 42)
	process{comm: "y", cmdline: strings.Repeat("b", 1<<20)}.write(t, proc, 43)
	for _, r := range processes(t, proc) {
		size := 0
		for _, a := range r.Args {
			size += len(a)
		}
		if len(r.Args) > 128 || size > 8192 {
			t.Errorf("%s has %d arguments of %d bytes, want at most 128 of 8192", r.Process.Name, len(r.Args), size)
		}
		if r.Process.Name == "x" && r.Process.ContainerPID != 3 {
			t.Errorf("container pid behind 65536 groups = %d, want 3", r.Process.ContainerPID)
		}
	}
}

func TestProcessesErrors(t *testing.T) {
	absent := kernel.New(kernel.Options{Proc: filepath.Join(t.TempDir(), "none")})
	if _, err := absent.Processes(t.Context()); fault.Of(err) != fault.Unavailable || fault.Remedy(err) == "" {
		t.Errorf("without a proc file system: %v (%v), want unavailable with a remedy", err, fault.Of(err))
	}
	proc := t.TempDir()
	process{stat: "42 (x) S"}.write(t, proc, 42)
	strange := kernel.New(kernel.Options{Proc: proc})
	if _, err := strange.Processes(t.Context()); err == nil || !strings.Contains(err.Error(), "read process 42") {
		t.Errorf("cut stat: %v, want an error that names process 42", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := kernel.New(kernel.Options{Proc: proc}).Processes(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("after cancel: %v, want %v", err, context.Canceled)
	}
}

// On the real proc file system a process finds itself as it knows itself.
func TestProcessesFindsItself(t *testing.T) {
	before := time.Now()
	got, err := kernel.New(kernel.Options{}).Processes(t.Context())
	if err != nil {
		t.Fatalf("Processes: %v", err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range got {
		if int(r.Process.Key.PID) != os.Getpid() {
			continue
		}
		if r.Process.Executable != self || int(r.Process.Parent.PID) != os.Getppid() || int(r.Process.UID) != os.Getuid() {
			t.Errorf("found %+v, want %s with parent %d and uid %d", r.Process, self, os.Getppid(), os.Getuid())
		}
		if diff := cmp.Diff(os.Args, r.Args); diff != "" {
			t.Errorf("args (-want +got):\n%s", diff)
		}
		if r.Started.After(before) {
			t.Errorf("started = %v, want before %v", r.Started, before)
		}
		return
	}
	t.Errorf("process %d is not among the %d listed", os.Getpid(), len(got))
}

// BenchmarkProcesses lists 5,000 processes more than run anyway.
func BenchmarkProcesses(b *testing.B) {
	need.Root(b)
	sleep := need.Program(b, "sleep", "apt-get install coreutils")
	const many = 5000
	ctx, cancel := context.WithCancel(context.Background())
	var started []*exec.Cmd
	b.Cleanup(func() {
		cancel()
		for _, c := range started {
			_ = c.Wait() // killed: that is its only way to end
		}
	})
	for range many {
		c := exec.CommandContext(ctx, sleep, "infinity")
		if err := c.Start(); err != nil {
			b.Fatal(err)
		}
		started = append(started, c)
	}
	h := kernel.New(kernel.Options{})
	for b.Loop() {
		got, err := h.Processes(ctx)
		if err != nil || len(got) < many {
			b.Fatalf("Processes returned %d (%v), want at least %d", len(got), err, many)
		}
	}
}
