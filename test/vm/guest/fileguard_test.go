package guest_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/castellan-security/castellan/internal/adapter/bpf"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/profile"
	"github.com/castellan-security/castellan/test/vm/guest"
)

// guard holds containers to one control until the test ends.
type guard struct {
	*bpf.Guard
	t       *testing.T
	dir     string
	control profile.Control
	open    func(string, *slog.Logger) (*bpf.Guard, error)

	mu   sync.Mutex
	told []event.Event
}

func guardBy(t *testing.T, control profile.Control, open func(string, *slog.Logger) (*bpf.Guard, error)) *guard {
	t.Helper()
	mountAt(t, "/sys/fs/bpf", "bpf", "")
	g := &guard{t: t, dir: filepath.Join("/sys/fs/bpf", "castellan"), control: control, open: open}
	t.Cleanup(func() {
		if _, err := bpf.Release(g.dir); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(g.start())
	return g
}

// start opens the programs and reads what they tell; what it returns lets go of them.
func (g *guard) start() (stop func()) {
	g.t.Helper()
	opened, err := g.open(g.dir, slog.New(slog.DiscardHandler))
	if err != nil {
		g.t.Fatal(err)
	}
	g.Guard = opened
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- opened.Run(ctx, g.see) }()
	return sync.OnceFunc(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			g.t.Errorf("Run: %v", err)
		}
		if err := opened.Close(); err != nil {
			g.t.Error(err)
		}
	})
}

func (g *guard) see(batch []event.Event) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.told = append(g.told, batch...)
}

// set holds the group to rules with an answer for this control alone.
func (g *guard) set(answer profile.Answer, r profile.Rules) {
	g.t.Helper()
	r.Group, r.Answers = "a/b/c", map[profile.Control]profile.Answer{}
	for _, c := range profile.Controls() {
		r.Answers[c] = profile.Off
	}
	r.Answers[g.control] = answer
	if err := g.Set(r); err != nil {
		g.t.Fatal(err)
	}
	if held := g.Controls(r.Answers)[0]; held.Control != g.control || held.Answer != answer || held.Rung == "" {
		g.t.Fatalf("held as %+v", held)
	}
}

// new is a container that is held from before its start.
func (g *guard) new(t *testing.T, roots []string) container {
	t.Helper()
	id := newID(t)
	if err := g.Hold(id, "a/b/c"); err != nil {
		t.Fatal(err)
	}
	c := newContainer(t, id, roots)
	for _, folder := range []string{"data/tls", "var/log", "tmp", "run", "dev", "usr/share/doc"} {
		if err := os.MkdirAll(filepath.Join(c.root, folder), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{"usr/share/doc/example.key", "data/id_rsa", "data/tls/own.key"} {
		if err := os.WriteFile(filepath.Join(c.root, file), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, device := range map[string]uint32{"null": 3, "kmsg": 11} {
		if err := unix.Mknod(filepath.Join(c.root, "dev", name), unix.S_IFCHR|0o666, int(unix.Mkdev(1, device))); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// beside is another container with the same root: to make one takes an emulated machine
// a second.
func (g *guard) beside(t *testing.T, c container, roots []string) container {
	t.Helper()
	next := container{id: newID(t), root: c.root}
	if err := g.Hold(next.id, "a/b/c"); err != nil {
		t.Fatal(err)
	}
	for _, root := range roots {
		dir := filepath.Join(root, "docker", next.id)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		next.cgroups = append(next.cgroups, dir)
		t.Cleanup(func() { removeCgroup(t, dir) })
	}
	return next
}

// steps has a program of the container do one thing after the other, and returns its
// exit code: that of the first that fails. It comes into its cgroup as one that a
// runtime starts, so that what it does before its program runs is the runtime's.
func (g *guard) steps(t *testing.T, c container, steps ...string) int {
	t.Helper()
	into, err := os.Open(c.cgroups[0])
	if err != nil {
		t.Fatal(err)
	}
	defer into.Close()
	args := append([]string{"enter", "", c.root, guest.Subject, "steps"}, steps...)
	cmd := exec.CommandContext(t.Context(), guest.Subject, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS, UseCgroupFD: true, CgroupFD: int(into.Fd())}
	cmd.Stderr = os.Stdout
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatalf("run subject: %v", err)
	}
	return cmd.ProcessState.ExitCode()
}

// tells waits for what a container did, and returns it.
func (g *guard) tells(t *testing.T, id string, kind event.Kind, r event.Reaction) event.Event {
	t.Helper()
	var found event.Event
	eventually(t, "tell "+string(kind), func() bool {
		g.mu.Lock()
		defer g.mu.Unlock()
		for _, e := range g.told {
			if e.WorkloadID == id && e.Kind == kind && e.Reaction == r {
				found = e
				return true
			}
		}
		return false
	})
	return found
}

// silent fails if anything of a container was told.
func (g *guard) silent(t *testing.T, id string) {
	t.Helper()
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, e := range g.told {
		if e.WorkloadID == id {
			t.Errorf("told as outside: %s: %s", e.Kind, e.Words())
		}
	}
}

// refusesCalls reports whether this kernel has security hooks for BPF programs: the one
// for arm64 has no trampolines for them (Linux 6.4 has).
func refusesCalls() bool { return runtime.GOARCH == "amd64" }

func needLSM(t *testing.T) {
	t.Helper()
	if !refusesCalls() {
		t.Skip("this kernel has no trampolines for security hooks")
	}
}

// fileRules are those of a service that writes its data and its logs, and reads one key.
func fileRules() profile.Rules {
	return profile.Rules{File: profile.FileRules{
		Writes: []profile.Pattern{"/data/**", "/var/log/app.log*", "/tmp/app-*", "/tmp/#*", "/run/app.pid", "/proc/*/comm"},
		Reads:  []profile.Pattern{"/data/tls/own.key"},
	}}
}

// deed is something done to files, with the steps that come before it by the same
// process and the one that counts.
type fileDeed struct {
	name  string
	steps []string
	kind  event.Kind // that it is told as; empty where it is permitted
	path  string     // that it is told of
}

// numbered puts a number in the place of each @, so that deeds below one root are not in
// each other's way.
func (d fileDeed) numbered(i int) fileDeed {
	for j := range d.steps {
		d.steps[j] = strings.ReplaceAll(d.steps[j], "@", strconv.Itoa(i))
	}
	d.path = strings.ReplaceAll(d.path, "@", strconv.Itoa(i))
	return d
}

// outsideFiles are what fileRules do not have.
func outsideFiles() []fileDeed {
	return []fileDeed{
		{"write", []string{"write=/etc/shadow"}, event.KindFileWrite, "/etc/shadow"},
		{"write and read", []string{"update=/etc/shadow"}, event.KindFileWrite, "/etc/shadow"},
		{"cut by an open", []string{"empty=/etc/shadow"}, event.KindFileWrite, "/etc/shadow"},
		{"cut by name", []string{"truncate=/etc/shadow"}, event.KindFileWrite, "/etc/shadow"},
		{"by openat2", []string{"openat2=/etc/shadow"}, event.KindFileWrite, "/etc/shadow"},
		{"by a 32-bit call", []string{"narrow=write,/etc/shadow"}, event.KindFileWrite, "/etc/shadow"},
		{"by an io_uring", []string{"ring=/etc/shadow"}, event.KindFileWrite, "/etc/shadow"},
		{"by the root of the process", []string{"around=/etc/shadow"}, event.KindFileWrite, "/etc/shadow"},
		{"by a symbolic link", []string{"symlink=/etc/shadow,/data/@x", "write=/data/@x"}, event.KindFileWrite, "/etc/shadow"},
		{"by a folder that is a link", []string{"symlink=/etc,/data/@e", "write=/data/@e/shadow"}, event.KindFileWrite, "/etc/shadow"},
		{"by another name", []string{"link=/etc/shadow,/data/@x", "write=/data/@x"}, event.KindFileLink, "/etc/shadow"},
		{"by another root", []string{"chroot=/etc", "write=/shadow"}, event.KindFileWrite, "/etc/shadow"},
		{"mounted elsewhere", []string{"folder=/data/@e", "bind=/etc,/data/@e", "write=/data/@e/shadow"}, event.KindFileWrite, "/etc/shadow"},
		{"from its folder", []string{"chdir=/etc", "write=shadow"}, event.KindFileWrite, "/etc/shadow"},
		{"make", []string{"make=/etc/@cron"}, event.KindFileCreate, "/etc/@cron"},
		{"make a folder", []string{"folder=/opt"}, event.KindFileCreate, "/opt"},
		{"make a pipe", []string{"fifo=/etc/pipe"}, event.KindFileCreate, "/etc/pipe"},
		{"make without a name", []string{"tmpfs=/usr/share/doc", "nameless=/usr/share/doc"}, event.KindFileCreate, ""},
		{"make elsewhere and move in", []string{"make=/data/@x", "rename=/data/@x,/etc/@cron"}, event.KindFileRename, "/data/@x"},
		{"move out", []string{"rename=/etc/shadow,/data/@x"}, event.KindFileRename, "/etc/shadow"},
		{"exchange", []string{"make=/data/@x", "exchange=/data/@x,/etc/shadow"}, event.KindFileRename, "/data/@x"},
		{"move its folder", []string{"rename=/etc,/data/@etc"}, event.KindFileRename, "/etc"},
		{"link in", []string{"make=/data/@x", "link=/data/@x,/etc/@cron"}, event.KindFileLink, "/data/@x"},
		{"link in without a name", []string{"tmpfs=/tmp", "nameless=/tmp,/tmp/other"}, event.KindFileLink, ""},
		{"symbolic link", []string{"symlink=/data/@x,/etc/@cron"}, event.KindFileLink, "/data/@x"},
		{"delete", []string{"unlink=/etc/shadow"}, event.KindFileDelete, "/etc/shadow"},
		{"delete a folder", []string{"unfolder=/bin"}, event.KindFileDelete, "/bin"},
		{"set-uid", []string{"chmod=/bin/subject,4755"}, event.KindFileChmod, "/bin/subject"},
		{"give away", []string{"chown=/etc/shadow,1"}, event.KindFileChown, "/etc/shadow"},
		{"read what is sensitive", []string{"read=/etc/shadow"}, event.KindFileRead, "/etc/shadow"},
		{"read it by a link", []string{"symlink=/etc/shadow,/data/@x", "read=/data/@x"}, event.KindFileRead, "/etc/shadow"},
		{"read another's environment", []string{"read=/proc/1/environ"}, event.KindFileRead, ""},
		{"read a key", []string{"read=/data/id_rsa"}, event.KindFileRead, "/data/id_rsa"},
		{"a name that begins alike", []string{"make=/run/app.pid.x"}, event.KindFileCreate, "/run/app.pid.x"},
		{"below a name that ends the pattern", []string{"folder=/tmp/app-@", "make=/tmp/app-@/x"}, event.KindFileCreate, "/tmp/app-@/x"},
	}
}

func TestFilesAreHeld(t *testing.T) {
	needLSM(t)
	roots := layouts()[3].mount(t)
	g := guardBy(t, profile.ControlFile, bpf.OpenFileGuard)
	g.set(profile.Deny, fileRules())
	first := g.new(t, roots)
	for i, d := range outsideFiles() {
		t.Run(d.name, func(t *testing.T) {
			c := g.beside(t, first, roots)
			d = d.numbered(i)
			if got := g.steps(t, c, d.steps...); got != int(unix.EPERM) {
				t.Errorf("ended with %v, want EPERM", unix.Errno(got))
			}
			e := g.tells(t, c.id, d.kind, event.ReactionDenied)
			if d.path != "" && e.File.Path != d.path || e.File.Error != "EPERM" || e.Process.Name == "" {
				t.Errorf("told as %s, %+v of %q; want %s", e.Words(), e.File, e.Process.Name, d.path)
			}
		})
	}
}

// What is only looked at is done, and told as what would have been denied.
func TestFilesAreAudited(t *testing.T) {
	needLSM(t)
	roots := layouts()[3].mount(t)
	g := guardBy(t, profile.ControlFile, bpf.OpenFileGuard)
	g.set(profile.Audit, fileRules())
	c := g.new(t, roots)
	got := g.steps(t, c, "write=/etc/shadow", "make=/etc/a", "rename=/etc/a,/etc/b", "link=/etc/b,/etc/c", "symlink=x,/etc/d", "chmod=/etc/b,755",
		"chown=/etc/b,1", "unlink=/etc/b", "read=/etc/shadow", "exit=5")
	if got != 5 {
		t.Errorf("ended with %v", unix.Errno(got))
	}
	for _, k := range []event.Kind{
		event.KindFileWrite, event.KindFileCreate, event.KindFileRename, event.KindFileLink, event.KindFileChmod, event.KindFileChown,
		event.KindFileDelete, event.KindFileRead,
	} {
		if e := g.tells(t, c.id, k, event.ReactionAudited); e.File.Error != "" {
			t.Errorf("%s failed: %+v", k, e.File)
		}
	}
}

// The ordinary work of a service within its profile goes on, and nothing is told of it.
func TestFilesOfTheProfilePass(t *testing.T) {
	needLSM(t)
	roots := layouts()[3].mount(t)
	g := guardBy(t, profile.ControlFile, bpf.OpenFileGuard)
	g.set(profile.Deny, fileRules())
	first := g.new(t, roots)
	for name, steps := range map[string][]string{
		"data":                    {"make=/data/a", "write=/data/a", "folder=/data/d", "rename=/data/a,/data/d/a", "link=/data/d/a,/data/b", "unlink=/data/b", "unlink=/data/d/a", "unfolder=/data/d"},
		"rotation of a log":       {"make=/var/log/app.log", "rename=/var/log/app.log,/var/log/app.log.1", "make=/var/log/app.log", "unlink=/var/log/app.log.1"},
		"temporary files":         {"make=/tmp/app-83jd2", "rename=/tmp/app-83jd2,/data/x", "chmod=/data/x,755", "chown=/data/x,1"},
		"a journal":               {"make=/data/db", "make=/data/db-journal", "update=/data/db-journal", "truncate=/data/db-journal", "unlink=/data/db-journal"},
		"without a name":          {"tmpfs=/data/t", "nameless=/data/t,/data/t/named"},
		"many files":              {"burst=/data,300"},
		"a file in memory":        {"memfd=x,exit,0"},
		"a mode that is harmless": {"chmod=/etc/shadow,600"},
		"a socket":                {"socket=/run/app.sock", "unlink=/run/app.sock", "socket=/run/app.sock"},
		"reading":                 {"read=/bin/subject", "read=/proc/self/stat", "read=/dev/null"},
		"its own key":             {"write=/data/tls/own.key", "read=/data/tls/own.key"},
		"keys of packages":        {"read=/usr/share/doc/example.key"},
		"a file of its process":   {"write=/proc/self/comm"},
		"a harmless device":       {"write=/dev/null"},
	} {
		t.Run(name, func(t *testing.T) {
			c := g.beside(t, first, roots)
			if got := g.steps(t, c, steps...); got != 0 && got != int(unix.ENOENT) {
				t.Errorf("ended with %v", unix.Errno(got))
			}
			g.silent(t, c.id)
		})
	}
}

// What is held stays held when who set it up has died, and the next takes it up.
func TestFilesStayHeld(t *testing.T) {
	needLSM(t)
	roots := layouts()[3].mount(t)
	g := guardBy(t, profile.ControlFile, bpf.OpenFileGuard)
	g.set(profile.Deny, fileRules())
	c := g.new(t, roots)
	held := func(when string) {
		t.Helper()
		if got := g.steps(t, c, "make=/etc/"+strings.ReplaceAll(when, " ", "-")); got != int(unix.EPERM) {
			t.Errorf("%s: %v", when, unix.Errno(got))
		}
		if got := g.steps(t, c, "make=/data/"+strings.ReplaceAll(when, " ", "-")); got != 0 {
			t.Errorf("%s, of the profile: %v", when, unix.Errno(got))
		}
	}
	held("at first")
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	held("without a program")
	t.Cleanup(g.start())
	held("after a restart")
	if all, err := g.Containers(); err != nil || all[c.id] != "a/b/c" {
		t.Errorf("held are %v, %v", all, err)
	}
	if err := g.Remove("a/b/c"); err != nil {
		t.Fatal(err)
	}
	if got := g.steps(t, c, "make=/etc/free"); got != 0 {
		t.Errorf("let go: %v", unix.Errno(got))
	}
}
