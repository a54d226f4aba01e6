package bpf_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sys/unix"

	"github.com/castellan-security/castellan/internal/event"
)

func TestContainerOfCgroup(t *testing.T) {
	w := watchEach(t)
	v2, v1 := hierarchies()
	id, other := newID(t), newID(t)
	tests := []struct {
		name, hierarchy, cgroup, want string
	}{
		{"cgroupfs driver", v2, "castellan-test-a/docker/" + id, id},
		{"below an ECS task", v2, "castellan-test-b/ecs/" + id[:32] + "/" + id, id},
		{"systemd driver", v2, "castellan-test-c/docker-" + id + ".scope", id},
		{"other engine", v2, "castellan-test-d/cri-containerd-" + id + ".scope", id},
		{"made inside the container", v2, "castellan-test-e/docker/" + id + "/init.scope", id},
		{"container in a container", v2, "castellan-test-f/docker/" + id + "/docker/" + other, id},
		{"version 1 alone", v1, "castellan-test-g/docker/" + id, id},
		{"version 1, systemd driver", v1, "castellan-test-h/docker-" + id + ".scope", id},
		{"no id", v2, "castellan-test-i/sshd.service", ""},
		{"no hex digits", v2, "castellan-test-j/docker/" + strings.Repeat("g", 64), ""},
		{"upper case", v2, "castellan-test-k/docker/" + strings.ToUpper(id[:63]) + "F", ""},
		{"one digit short", v2, "castellan-test-l/docker/" + id[:63], ""},
		{"other suffix", v2, "castellan-test-m/docker-" + id + ".slices", ""},
		{"name of the greatest length", v2, "castellan-test-n/" + strings.Repeat("x", 255), ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := startIn(t, tt.hierarchy, tt.cgroup, "exec=/bin/true", "true")
			h.finish()
			if got := w.exec(h.pid()).WorkloadID; got != tt.want {
				t.Errorf("exec is of workload %q, want %q", got, tt.want)
			}
			if got := w.exit(h.pid()).WorkloadID; got != tt.want {
				t.Errorf("exit is of workload %q, want %q", got, tt.want)
			}
		})
	}
}

func TestExecOnHost(t *testing.T) {
	w := watchEach(t)
	h := start(t, nil, "exec=/bin/true", "true", "two words", "", "-x")
	h.finish()
	got := w.exec(h.pid())

	true_, err := filepath.EvalSymlinks("/bin/true")
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(true_)
	if err != nil {
		t.Fatal(err)
	}
	cwd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	want := event.Event{
		Kind: event.KindExec,
		Process: event.Process{
			Key:          event.Key{PID: uint32(h.pid())},
			ContainerPID: uint32(h.pid()),
			Parent:       event.Key{PID: uint32(os.Getpid())},
			Name:         "true",
			Executable:   true_,
		},
		Exec: &event.Exec{
			Args:   []string{"true", "two words", "", "-x"},
			Cwd:    cwd,
			Origin: event.OriginHost,
			Inode:  info.Sys().(*syscall.Stat_t).Ino,
		},
	}
	if true_ != "/bin/true" {
		want.Exec.Requested = "/bin/true"
	}
	opts := cmp.Options{
		cmpopts.IgnoreFields(event.Key{}, "Start"),
		cmpopts.IgnoreFields(event.Event{}, "Time"),
		cmpopts.IgnoreFields(event.Exec{}, "Ancestors", "Device", "Capabilities", "Stdio"),
	}
	if d := cmp.Diff(got, want, opts); d != "" {
		t.Errorf("exec (-got +want):\n%s", d)
	}
	if got.Process.Key.Start == 0 || got.Process.Key.Start <= got.Process.Parent.Start {
		t.Errorf("started at %d, parent at %d", got.Process.Key.Start, got.Process.Parent.Start)
	}
}

func TestExecCredentials(t *testing.T) {
	w := watchEach(t)
	all := start(t, nil, "exec=/bin/true", "true")
	all.finish()
	if got := w.exec(all.pid()).Exec.Capabilities; got != ownCapabilities(t) {
		t.Errorf("capabilities of root: %v, want %v", got.Names(), ownCapabilities(t).Names())
	}
	// Credentials take effect before the helper itself is executed, which must
	// be readable to all; it is the exec of the helper that we look at.
	dir := t.TempDir()
	for d := dir; d != "/tmp" && d != "/"; d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	attr := &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 1234, Gid: 2345}}
	h := start(t, attr, "exec=/bin/true", "true")
	h.finish()
	got := w.exec(h.pid())
	if p := got.Process; p.UID != 1234 || p.EUID != 1234 || p.GID != 2345 {
		t.Errorf("uid, euid, gid: %d, %d, %d, want 1234, 1234, 2345", p.UID, p.EUID, p.GID)
	}
	if got.Exec.Capabilities != 0 {
		t.Errorf("capabilities of an ordinary user: %v, want none", got.Exec.Capabilities.Names())
	}
}

// ownCapabilities reads the effective set from /proc.
func ownCapabilities(t *testing.T) event.Capabilities {
	t.Helper()
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), "CapEff:\t")
	line, _, _ := strings.Cut(rest, "\n")
	n, err := strconv.ParseUint(line, 16, 64)
	if err != nil {
		t.Fatal(err)
	}
	return event.Capabilities(n)
}

func TestExecSetUID(t *testing.T) {
	w := watchEach(t)
	path := copyOf(t, "/bin/true", t.TempDir(), "both")
	if err := os.Chmod(path, 0o755|os.ModeSetuid|os.ModeSetgid); err != nil {
		t.Fatal(err)
	}
	h := start(t, nil, "exec="+path, "both")
	h.finish()
	if x := w.exec(h.pid()).Exec; !x.SetUID || !x.SetGID {
		t.Errorf("setuid %v, setgid %v, want both", x.SetUID, x.SetGID)
	}
}

func TestExecScript(t *testing.T) {
	w := watchEach(t)
	script := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(script, []byte("#!/bin/sh -e\nexit 3\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	h := start(t, nil, "exec="+script, "script", "argument")
	h.finish()
	got := w.exec(h.pid())
	sh, err := filepath.EvalSymlinks("/bin/sh")
	if err != nil {
		t.Fatal(err)
	}
	if got.Process.Executable != sh || got.Exec.Requested != script {
		t.Errorf("executable %q, requested %q, want %q, %q", got.Process.Executable, got.Exec.Requested, sh, script)
	}
	if d := cmp.Diff(got.Exec.Args, []string{"/bin/sh", "-e", script, "argument"}); d != "" {
		t.Errorf("arguments (-got +want):\n%s", d)
	}
	if x := w.exit(h.pid()).Exit; x.Code != 3 {
		t.Errorf("exit code %d, want 3", x.Code)
	}
}

func TestExecMemfd(t *testing.T) {
	w := watchEach(t)
	v2, _ := hierarchies()
	h := startIn(t, v2, "castellan-test-memfd/docker/"+newID(t), "overlay="+newRoot(t), "memfd=/bin/tool", "payload", "exit=4")
	h.finish()
	got := w.exec(h.pid())
	if got.Process.Executable != "/memfd:payload" || got.Exec.Origin != event.OriginMemory || !got.Exec.Deleted {
		t.Errorf("executable %q, origin %q, deleted %v", got.Process.Executable, got.Exec.Origin, got.Exec.Deleted)
	}
	if !strings.HasPrefix(got.Exec.Requested, "/proc/self/fd/") {
		t.Errorf("requested %q, want the descriptor", got.Exec.Requested)
	}
}

func TestExecDeleted(t *testing.T) {
	w := watchEach(t)
	path := copyOf(t, "/bin/true", t.TempDir(), "gone")
	h := start(t, nil, "deleted="+path, "gone")
	h.finish()
	got := w.exec(h.pid())
	if got.Process.Executable != path || !got.Exec.Deleted {
		t.Errorf("executable %q, deleted %v, want %q, true", got.Process.Executable, got.Exec.Deleted, path)
	}
}

func TestExecOrigin(t *testing.T) {
	w := watchEach(t)
	v2, v1 := hierarchies()
	tests := []struct {
		name, hierarchy, path string
		want                  event.Origin
	}{
		{"lower layer", v2, "/bin/tool", event.OriginImage},
		{"upper layer", v2, "/bin/dropped", event.OriginWritten},
		{"upper over lower layer", v2, "/bin/changed", event.OriginWritten},
		{"bind mount", v2, "/volume/tool", event.OriginMount},
		{"version 1", v1, "/bin/tool", event.OriginImage},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			id := newID(t)
			h := startIn(t, tt.hierarchy, "castellan-test-origin/docker/"+id, "overlay="+newRoot(t), "exec="+tt.path, "tool", "exit=7")
			h.finish()
			got := w.exec(h.pid())
			if got.Exec.Origin != tt.want || got.Process.Executable != tt.path || got.Exec.Cwd != "/bin" {
				t.Errorf("origin %q of %q in %q, want %q of %q in /bin",
					got.Exec.Origin, got.Process.Executable, got.Exec.Cwd, tt.want, tt.path)
			}
			if got.WorkloadID != id {
				t.Errorf("workload %q, want %q", got.WorkloadID, id)
			}
			if x := w.exit(h.pid()).Exit; x.Code != 7 {
				t.Errorf("exit code %d, want 7", x.Code)
			}
		})
	}
}

// A program that runs below another root is told by its path below the container's, by
// which guards hold it: else a profile would not have it, and would have what is called
// alike elsewhere.
func TestExecBelowAnotherRoot(t *testing.T) {
	w := watchEach(t)
	v2, _ := hierarchies()
	for _, tt := range []struct{ name, root, bound, path string }{
		{"a folder", "/bin", "", "/bin/tool"},
		{"a mount", "/volume", "", "/volume/tool"},
		{"the same root again", "/bin/..", "", "/bin/tool"},
		{"a folder of a mount", "/volume/deep", "", "/volume/deep/tool"},
		{"a mount of the container's own files", "/deep", "mount|/bin|/deep|none|4096|0\n", "/bin/tool"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root := newRoot(t)
			if err := errors.Join(os.Mkdir(filepath.Join(root, "volume/deep"), 0o755), os.Mkdir(filepath.Join(root, "lower/deep"), 0o755)); err != nil {
				t.Fatal(err)
			}
			copyOf(t, "/proc/self/exe", filepath.Join(root, "volume/deep"), "tool")
			program := "/tool"
			if tt.root == "/bin/.." {
				program = tt.path
			}
			id := newID(t)
			h := startIn(t, v2, "castellan-test-jail/docker/"+id, "overlay="+root, "exec=/bin/tool", "tool",
				"script="+tt.bound+"chroot|"+tt.root, "exec="+program, "jailed", "wait", "exit=7")
			if _, err := io.WriteString(h.stdin, "\n"); err != nil {
				t.Fatal(err)
			}
			got := w.wait("exec below another root", func(e event.Event) bool {
				return e.Kind == event.KindExec && e.WorkloadID == id && e.Exec.Args[0] == "jailed"
			})
			if got.Process.Executable != tt.path || got.Exec.Cwd != "/bin" {
				t.Errorf("told as %q in %q, want %q in /bin", got.Process.Executable, got.Exec.Cwd, tt.path)
			}
			running, err := w.sensors.Running(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range running {
				if r.WorkloadID == id && (r.Process.Executable != tt.path || r.Origin != got.Exec.Origin) {
					t.Errorf("listed as %q of %q, want %q of %q", r.Process.Executable, r.Origin, tt.path, got.Exec.Origin)
				}
			}
			h.finish()
		})
	}
}

// A file of the host that a container's process runs while it still sees the
// host's mounts is no file of the image.
func TestExecBeforeRootChanges(t *testing.T) {
	w := watchEach(t)
	v2, _ := hierarchies()
	h := startIn(t, v2, "castellan-test-setup/docker/"+newID(t), "exec=/bin/true", "true")
	h.finish()
	if x := w.exec(h.pid()).Exec; x.Origin != event.OriginHost || x.Entered {
		t.Errorf("origin %q, entered %v, want host, false", x.Origin, x.Entered)
	}
}

// newRoot lays out what an engine makes of an image: files of a lower layer,
// an upper layer with one new file and one changed, and a volume.
func newRoot(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	for _, sub := range []string{"lower/bin", "lower/volume", "lower/proc", "upper/bin", "work", "merged", "volume"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{"lower/bin/tool", "lower/bin/changed", "upper/bin/changed", "upper/bin/dropped", "volume/tool"} {
		copyOf(t, "/proc/self/exe", filepath.Join(dir, filepath.Dir(file)), filepath.Base(file))
	}
	return dir
}

func copyOf(t testing.TB, source, dir, name string) string {
	t.Helper()
	b, err := os.ReadFile(source)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, b, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestEntered(t *testing.T) {
	w := watchEach(t)
	v2, _ := hierarchies()
	root := newRoot(t)
	dir := cgroup(t, v2, "castellan-test-entered/docker/"+newID(t))

	first := start(t, nil, "overlay="+root, "exec=/bin/tool", "first", "run=child", "exit=0")
	put(t, dir, first.pid())
	first.finish()
	second := start(t, nil, "overlay="+newRoot(t), "exec=/bin/tool", "second", "run=child", "exit=0")
	put(t, dir, second.pid())
	second.finish()

	for _, tt := range []struct {
		name string
		h    *helper
		want bool
	}{{"the container's first", first, false}, {"one that came in", second, true}} {
		if got := w.exec(tt.h.pid()).Exec.Entered; got != tt.want {
			t.Errorf("%s: entered %v, want %v", tt.name, got, tt.want)
		}
		child := w.wait("exec of the child", func(e event.Event) bool {
			return e.Kind == event.KindExec && e.Process.Parent.PID == uint32(tt.h.pid())
		})
		if child.Exec.Entered {
			t.Errorf("child of %s: entered, want not", tt.name)
		}
		if got := child.Exec.Ancestors; len(got) < 2 || got[0].Key.PID != uint32(tt.h.pid()) || got[1].Key.PID != uint32(os.Getpid()) {
			t.Errorf("child of %s has ancestors %v, want %d and %d first", tt.name, got, tt.h.pid(), os.Getpid())
		} else if got[0].Key != child.Process.Parent {
			t.Errorf("first ancestor is %v, parent %v", got[0].Key, child.Process.Parent)
		}
	}
}

// What ran in a container before the sensors did, was first in it.
func TestEnteredAfterLateStart(t *testing.T) {
	v2, _ := hierarchies()
	dir := cgroup(t, v2, "castellan-test-late/docker/"+newID(t))
	early := start(t, nil, "overlay="+newRoot(t), "exec=/bin/tool", "early", "wait", "exit=0")
	put(t, dir, early.pid())
	if _, err := early.stdin.Write([]byte("\n")); err != nil {
		t.Fatal(err)
	}
	untilName(t, early.pid(), "tool")

	w := watchEach(t)
	late := start(t, nil, "overlay="+newRoot(t), "exec=/bin/tool", "late", "exit=0")
	put(t, dir, late.pid())
	late.finish()
	if !w.exec(late.pid()).Exec.Entered {
		t.Error("the second process of the container: not entered, want entered")
	}
	early.finish()
}

func TestArguments(t *testing.T) {
	w := watchEach(t)
	long := strings.Repeat("x", 9_000)
	h := start(t, nil, "exec=/bin/true", "true", "\xff\xfe", long)
	h.finish()
	x := w.exec(h.pid()).Exec
	if !x.ArgsTruncated {
		t.Error("arguments are not marked as cut")
	}
	if len(x.Args) != 3 {
		t.Fatalf("%d arguments, want 3", len(x.Args))
	}
	if got, want := x.Args[1], "\uFFFD"; got != want {
		t.Errorf("argument that is no UTF-8: %q, want %q", got, want)
	}
	if got := x.Args[2]; len(got) < 8_000 || !strings.HasPrefix(long, got) {
		t.Errorf("long argument has %d bytes, want more than 8000 of its beginning", len(got))
	}
}

func TestPaths(t *testing.T) {
	w := watchEach(t)
	base := t.TempDir()
	tests := []struct {
		name, dir string
		cut       bool
	}{
		{"no UTF-8", "a\xffb", false},
		{"line break", "a\nb", false},
		{"long names", strings.Repeat("n", 255) + "/" + strings.Repeat("m", 255), false},
		{"deep", strings.Repeat("d/", 40) + "d", false},
		{"too deep", strings.Repeat("d/", 80) + "d", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := filepath.Join(base, tt.dir)
			if err := os.MkdirAll(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			path := copyOf(t, "/bin/true", dir, "tool")
			h := start(t, nil, "exec="+path, "tool")
			h.finish()
			got := w.exec(h.pid())
			if got.Exec.PathTruncated != tt.cut {
				t.Fatalf("path cut: %v, want %v", got.Exec.PathTruncated, tt.cut)
			}
			want := strings.ToValidUTF8(path, "\uFFFD")
			if tt.cut && (got.Process.Executable[0] == '/' || !strings.HasSuffix(want, got.Process.Executable)) {
				t.Errorf("executable %q, want an end of %q", got.Process.Executable, want)
			}
			if !tt.cut && got.Process.Executable != want {
				t.Errorf("executable %q, want %q", got.Process.Executable, want)
			}
		})
	}
}

// So are files that it makes, names and maps there.
func TestFilesBelowAnotherRoot(t *testing.T) {
	w := watch(t)
	v2, _ := hierarchies()
	id := newID(t)
	script := []string{
		"chroot|/volume", "openat|" + at + "|/made|" + creat + "|0600", "unlinkat|" + at + "|/made|0", "openat|" + at + "|/tool|0",
		fmt.Sprintf("mmap|0|4096|%d|%d|$3|0", unix.PROT_READ|unix.PROT_EXEC, unix.MAP_PRIVATE),
		"mkdirat|" + at + "|" + lastFile + "|0700",
	}
	h := startIn(t, v2, "castellan-test-jail/docker/"+id, "overlay="+newRoot(t), "exec=/bin/tool", "tool", "script="+strings.Join(script, "\n"), "wait", "exit=0")
	if _, err := io.WriteString(h.stdin, "\n"); err != nil {
		t.Fatal(err)
	}
	files := w.filesOf(h.pid())
	mapped := w.wait("what was mapped", func(e event.Event) bool { return e.WorkloadID == id && e.Kind == event.KindExecMap })
	h.finish()
	var got []string
	for _, f := range files {
		got = append(got, f.File.Path)
	}
	got = append(got, mapped.Memory.Path)
	if d := cmp.Diff(got, []string{"/volume/made", "/volume/made", "/volume/tool"}); d != "" {
		t.Errorf("paths (-got +want):\n%s", d)
	}
}
