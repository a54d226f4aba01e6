package bpf_test

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sys/unix"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
)

// made is what tests look at of a file event.
type made struct {
	Kind    event.Kind
	File    event.File
	Told    event.Privilege
	Account uint64 // how many times
}

// lastFile is made by scripts in the end, below their root: when it was told, all was told.
const lastFile = "/last"

// filesOf returns what a process did to files before it made lastFile.
func (w *watcher) filesOf(pid int) []made {
	w.t.Helper()
	mine := func(e event.Event) bool {
		return e.Process.Key.PID == uint32(pid) && (e.File != nil || e.Privilege != nil)
	}
	w.wait("last file", func(e event.Event) bool {
		return mine(e) && e.File != nil && strings.HasSuffix(e.File.Path, lastFile)
	})
	events, _ := w.seen(mine)
	var out []made
	for _, e := range events {
		m := made{Kind: e.Kind, Account: e.Times()}
		if e.File != nil {
			if strings.HasSuffix(e.File.Path, lastFile) {
				break
			}
			m.File = *e.File
			m.File.Inode, m.File.Device = 0, 0
		}
		if e.Privilege != nil {
			if e.Kind != event.KindKernelKnob && e.Kind != event.KindDevice {
				continue
			}
			m.Told = *e.Privilege
		}
		out = append(out, m)
	}
	return out
}

// inContainer makes system calls in an imitated container, which lives on until
// they were told, and returns what was told of them.
func inContainer(t *testing.T, w *watcher, root string, script ...string) []made {
	t.Helper()
	v2, _ := hierarchies()
	script = append(script, "mkdirat|"+at+"|"+lastFile+"|0700")
	h := startIn(t, v2, "castellan-test-file/docker/"+newID(t), "overlay="+root, "script="+strings.Join(script, "\n"), "wait", "exit=0")
	if _, err := io.WriteString(h.stdin, "\n"); err != nil {
		t.Fatal(err)
	}
	got := w.filesOf(h.pid())
	h.finish()
	return got
}

const at = "-100" // AT_FDCWD

// flags of open(2) as the scripts have them.
var (
	wronly  = fmt.Sprint(unix.O_WRONLY)
	rdwr    = fmt.Sprint(unix.O_RDWR)
	creat   = fmt.Sprint(unix.O_WRONLY | unix.O_CREAT)
	trunc   = fmt.Sprint(unix.O_WRONLY | unix.O_TRUNC)
	tmpfile = fmt.Sprint(unix.O_WRONLY | unix.O_TMPFILE)
	opath   = fmt.Sprint(unix.O_PATH)
)

// newFiles is newRoot with files to do things to.
func newFiles(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	for _, dir := range []string{"bin", "volume", "proc", "../upper", "../work", "../merged", "../volume", "etc", "tmp", "etc/keys", "run/secrets", "root/.aws", "root/.ssh", "usr/share", "data/a/deep", "run/empty", "etc/private", "private"} {
		if err := os.MkdirAll(filepath.Join(root, "lower", dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{
		"etc/shadow", "etc/passwd", "run/secrets/db", "root/.aws/credentials", "root/.ssh/id_rsa", "etc/keys/tls.key",
		"etc/keys/cert.pem", "usr/share/demo.key", "data/a/plan.txt", "data/a/deep/plan.txt", "tmp/shadow",
	} {
		if err := os.WriteFile(filepath.Join(root, "lower", file), []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{"etc/private", "private"} {
		if err := os.Chmod(filepath.Join(root, "lower", dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/etc", filepath.Join(root, "lower/tmp/e")); err != nil {
		t.Fatal(err)
	}
	return root
}

func has(script ...string) bool {
	for _, line := range script {
		name, _, _ := strings.Cut(line, "|")
		if _, ok := callNumber(name); !ok {
			return false
		}
	}
	return true
}

func file(kind event.Kind, f event.File) made {
	if f.FileSystem == "" && !strings.HasPrefix(f.Path, "/proc") && f.Error == "" && len(f.Flags) > 0 && f.Flags[0] == "write" {
		f.FileSystem = "overlay"
	}
	return made{Kind: kind, File: f, Account: 1}
}

func TestFileOpen(t *testing.T) {
	w := watch(t)
	write, create := []string{"write"}, []string{"write", "create"}
	tests := []struct {
		name   string
		script []string
		want   []made
	}{
		{"open of the image's", []string{"open|/etc/passwd|" + wronly}, []made{file(event.KindFileWrite, event.File{Path: "/etc/passwd", Origin: event.OriginWritten, Mode: 0o644, Flags: write})}},
		{"openat", []string{"openat|" + at + "|/etc/passwd|" + rdwr}, []made{file(event.KindFileWrite, event.File{Path: "/etc/passwd", Origin: event.OriginWritten, Mode: 0o644, Flags: write})}},
		{"openat2", []string{"openat2|" + at + "|/etc/passwd|how:" + wronly + "|24"}, []made{file(event.KindFileWrite, event.File{Path: "/etc/passwd", Origin: event.OriginWritten, Mode: 0o644, Flags: write})}},
		{"creat", []string{"creat|/tmp/new|384"}, []made{file(event.KindFileCreate, event.File{Path: "/tmp/new", Origin: event.OriginWritten, Mode: 0o600, Flags: []string{"write", "truncate", "create"}})}},
		{"creation", []string{"openat|" + at + "|/tmp/new|" + creat + "|0600"}, []made{file(event.KindFileCreate, event.File{Path: "/tmp/new", Origin: event.OriginWritten, Mode: 0o600, Flags: create})}},
		{"creation to read", []string{"openat|" + at + "|/tmp/new|0100|0600"}, []made{{Kind: event.KindFileCreate, Account: 1, File: event.File{Path: "/tmp/new", Origin: event.OriginWritten, Mode: 0o600, FileSystem: "overlay", Flags: []string{"create"}}}}},
		{"creation by openat2", []string{"openat2|" + at + "|/tmp/new|how:" + creat + "|24"}, []made{file(event.KindFileCreate, event.File{Path: "/tmp/new", Origin: event.OriginWritten, Mode: 0o600, Flags: create})}},
		{"no creation", []string{"openat|" + at + "|/etc/passwd|" + creat + "|0600"}, []made{file(event.KindFileWrite, event.File{Path: "/etc/passwd", Origin: event.OriginWritten, Mode: 0o644, Flags: create})}},
		{"cut", []string{"openat|" + at + "|/etc/passwd|" + trunc}, []made{file(event.KindFileWrite, event.File{Path: "/etc/passwd", Origin: event.OriginWritten, Mode: 0o644, Flags: []string{"write", "truncate"}})}},
		{"relative", []string{"chdir|/tmp", "openat|" + at + "|../etc/passwd|" + wronly}, []made{file(event.KindFileWrite, event.File{Path: "/etc/passwd", Origin: event.OriginWritten, Mode: 0o644, Flags: write})}},
		{"from a folder", []string{"openat|" + at + "|/etc|" + opath, "openat|$0|passwd|" + wronly}, []made{file(event.KindFileWrite, event.File{Path: "/etc/passwd", Origin: event.OriginWritten, Mode: 0o644, Flags: write})}},
		{"through a link", []string{"openat|" + at + "|/tmp/e/passwd|" + wronly}, []made{file(event.KindFileWrite, event.File{Path: "/etc/passwd", Origin: event.OriginWritten, Mode: 0o644, Flags: write})}},
		{"through /proc/self/root", []string{"openat|" + at + "|/proc/self/root/etc/passwd|" + wronly}, []made{file(event.KindFileWrite, event.File{Path: "/etc/passwd", Origin: event.OriginWritten, Mode: 0o644, Flags: write})}},
		{"below another root", []string{"chroot|/data", "openat|" + at + "|/a/plan.txt|" + wronly}, []made{file(event.KindFileWrite, event.File{Path: "/data/a/plan.txt", Origin: event.OriginWritten, Mode: 0o644, Flags: write})}},
		{"on a volume", []string{"openat|" + at + "|/volume/new|" + creat + "|0600"}, []made{file(event.KindFileCreate, event.File{Path: "/volume/new", Origin: event.OriginMount, Mode: 0o600, Flags: create, FileSystem: rootType(t)})}},
		{"without a name", []string{"openat|" + at + "|/volume|" + tmpfile + "|0600"}, []made{file(event.KindFileCreate, event.File{Path: "/volume/#", Origin: event.OriginMount, Mode: 0o600, Flags: write, FileSystem: rootType(t)})}},
		{"sensitive and written", []string{"openat|" + at + "|/etc/shadow|" + wronly}, []made{file(event.KindFileWrite, event.File{Path: "/etc/shadow", Origin: event.OriginWritten, Mode: 0o644, Flags: write, Sensitive: "shadow"})}},
		{"own place in procfs", []string{"openat|" + at + "|/proc/self/oom_score_adj|" + wronly}, []made{{Kind: event.KindFileWrite, Account: 1, File: event.File{Path: "/proc/PID/oom_score_adj", Origin: event.OriginMount, FileSystem: "proc", Mode: 0o644, Flags: write}}}},

		{"read", []string{"openat|" + at + "|/etc/passwd|0"}, nil},
		{"read of a folder", []string{"openat|" + at + "|/run/secrets|0"}, nil},
		{"name only", []string{"openat|" + at + "|/etc/shadow|" + opath}, nil},
		{"not there", []string{"openat|" + at + "|/etc/missing|" + wronly}, nil},
		{"a pipe", []string{"mknodat|" + at + "|/tmp/p|010600", "openat|" + at + "|/tmp/p|" + rdwr}, []made{{Kind: event.KindFileCreate, Account: 1, File: event.File{Path: "/tmp/p", Type: "fifo", Mode: 0o600}}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if !has(tt.script...) {
				t.Skip("this architecture has no such call")
			}
			got := inContainer(t, w, newFiles(t), tt.script...)
			for i := range got {
				got[i].File.Path = anonymous(got[i].File.Path)
			}
			if d := cmp.Diff(got, tt.want, cmpopts.EquateEmpty()); d != "" {
				t.Errorf("told (-got +want):\n%s", d)
			}
		})
	}
}

// plain is a file event without what opens alone know.
func plain(kind event.Kind, f event.File) made {
	return made{Kind: kind, File: f, Account: 1}
}

func TestFilePaths(t *testing.T) {
	w := watch(t)
	one, two := uint32(1), uint32(2)
	mkdir := plain(event.KindFileCreate, event.File{Path: "/tmp/d", Type: "folder", Mode: 0o700})
	tests := []struct {
		name   string
		script []string
		want   []made
	}{
		{"rename", []string{"rename|/etc/passwd|/tmp/p"}, []made{plain(event.KindFileRename, event.File{Path: "/etc/passwd", To: "/tmp/p", Mode: 0o644})}},
		{"renameat", []string{"openat|" + at + "|/etc|" + opath, "renameat|$0|passwd|" + at + "|/tmp/p"}, []made{plain(event.KindFileRename, event.File{Path: "/etc/passwd", To: "/tmp/p", Mode: 0o644})}},
		{"renameat2", []string{"chdir|/tmp", "renameat2|" + at + "|../etc/passwd|" + at + "|p|1"}, []made{plain(event.KindFileRename, event.File{Path: "/etc/passwd", To: "/tmp/p", Mode: 0o644})}},
		{"rename onto a sensitive one through a link", []string{"renameat2|" + at + "|/etc/passwd|" + at + "|/tmp/e/shadow|0"}, []made{plain(event.KindFileRename, event.File{Path: "/etc/passwd", To: "/etc/shadow", Mode: 0o644, Sensitive: "shadow"})}},
		{"link", []string{"link|/etc/passwd|/tmp/p"}, []made{plain(event.KindFileLink, event.File{Path: "/etc/passwd", To: "/tmp/p", Mode: 0o644})}},
		{"linkat", []string{"linkat|" + at + "|/etc/passwd|" + at + "|/tmp/p|0"}, []made{plain(event.KindFileLink, event.File{Path: "/etc/passwd", To: "/tmp/p", Mode: 0o644})}},
		{"linkat of a descriptor", []string{"openat|" + at + "|/etc/passwd|" + opath, "linkat|$0||" + at + "|/tmp/p|0x1000"}, []made{plain(event.KindFileLink, event.File{Path: "/etc/passwd", To: "/tmp/p", Mode: 0o644})}},
		{"symlink", []string{"symlink|../x|/tmp/s"}, []made{plain(event.KindFileLink, event.File{Path: "../x", To: "/tmp/s", Type: "link", Mode: 0o777, Flags: []string{"symbolic"}})}},
		{"symlinkat", []string{"symlinkat|/etc/shadow|" + at + "|/tmp/s"}, []made{plain(event.KindFileLink, event.File{Path: "/etc/shadow", To: "/tmp/s", Type: "link", Mode: 0o777, Flags: []string{"symbolic"}, Sensitive: "shadow"})}},
		{"unlink", []string{"unlink|/tmp/e/passwd"}, []made{plain(event.KindFileDelete, event.File{Path: "/etc/passwd"})}},
		{"unlinkat", []string{"chdir|/etc", "unlinkat|" + at + "|passwd|0"}, []made{plain(event.KindFileDelete, event.File{Path: "/etc/passwd"})}},
		{"rmdir", []string{"mkdirat|" + at + "|/tmp/d|0700", "rmdir|/tmp/d"}, nil},
		{"folder removed by unlinkat", []string{"unlinkat|" + at + "|/run/empty|0x200"}, []made{plain(event.KindFileDelete, event.File{Path: "/run/empty", Type: "folder"})}},
		{"mkdir", []string{"mkdir|/tmp/d|0700"}, []made{mkdir}},
		{"mkdirat", []string{"mkdirat|" + at + "|/tmp/d|0700"}, []made{mkdir}},
		{"mknod of a disk", []string{"mknod|/tmp/sda|060600|0x800"}, []made{plain(event.KindFileCreate, event.File{Path: "/tmp/sda", Type: "block", Mode: 0o600})}},
		{"mknodat", []string{"mknodat|" + at + "|/tmp/f|0100600"}, []made{plain(event.KindFileCreate, event.File{Path: "/tmp/f", Mode: 0o600})}},
		{"chmod", []string{"chmod|/tmp/e/passwd|04755"}, []made{plain(event.KindFileChmod, event.File{Path: "/etc/passwd", Mode: 0o4755})}},
		{"fchmod", []string{"openat|" + at + "|/etc/passwd|0", "fchmod|$0|0755"}, []made{plain(event.KindFileChmod, event.File{Path: "/etc/passwd", Mode: 0o755, Origin: event.OriginWritten, FileSystem: "overlay"})}},
		{"fchmodat", []string{"fchmodat|" + at + "|/etc/passwd|02755"}, []made{plain(event.KindFileChmod, event.File{Path: "/etc/passwd", Mode: 0o2755})}},
		{"fchmodat2", []string{"fchmodat2|" + at + "|/etc/passwd|0711|0"}, []made{plain(event.KindFileChmod, event.File{Path: "/etc/passwd", Mode: 0o711})}},
		{"chown", []string{"chown|/etc/passwd|1|2"}, []made{plain(event.KindFileChown, event.File{Path: "/etc/passwd", Mode: 0o644, UID: &one, GID: &two})}},
		{"lchown of a link", []string{"lchown|/tmp/e|1|-1"}, []made{plain(event.KindFileChown, event.File{Path: "/tmp/e", Type: "link", Mode: 0o777, UID: &one})}},
		{"fchown", []string{"openat|" + at + "|/etc/passwd|0", "fchown|$0|-1|2"}, []made{plain(event.KindFileChown, event.File{Path: "/etc/passwd", Mode: 0o644, GID: &two, Origin: event.OriginWritten, FileSystem: "overlay"})}},
		{"fchownat", []string{"fchownat|" + at + "|/tmp/e/passwd|1|2|0"}, []made{plain(event.KindFileChown, event.File{Path: "/etc/passwd", Mode: 0o644, UID: &one, GID: &two})}},
		{"fchownat of a descriptor", []string{"openat|" + at + "|/etc/passwd|" + opath, "fchownat|$0||1|2|0x1000"}, []made{plain(event.KindFileChown, event.File{Path: "/etc/passwd", Mode: 0o644, UID: &one, GID: &two, Origin: event.OriginWritten, FileSystem: "overlay"})}},
		{"truncate", []string{"truncate|/tmp/e/passwd|0"}, []made{plain(event.KindFileWrite, event.File{Path: "/etc/passwd", Mode: 0o644, Flags: []string{"truncate"}})}},
		{"below another root", []string{"chroot|/data", "chdir|/", "unlinkat|" + at + "|a/plan.txt|0"}, []made{plain(event.KindFileDelete, event.File{Path: "/data/a/plan.txt"})}},
		{"named from another root", []string{"chroot|/data", "rename|/a/plan.txt|/a/done.txt"}, []made{plain(event.KindFileRename, event.File{Path: "/data/a/plan.txt", To: "/data/a/done.txt", Mode: 0o644})}},
		{"through /proc/self/root", []string{"unlinkat|" + at + "|/proc/self/root/tmp/e/passwd|0"}, []made{plain(event.KindFileDelete, event.File{Path: "/etc/passwd"})}},
		{"refused write", []string{"setresuid|1000|1000|1000", "openat|" + at + "|/tmp/e/passwd|" + wronly}, []made{plain(event.KindFileWrite, event.File{Path: "/etc/passwd", Mode: 0o644, Flags: []string{"write"}, Error: "EACCES"})}},
		{"refused removal", []string{"setresuid|1000|1000|1000", "unlinkat|" + at + "|/etc/passwd|0"}, []made{plain(event.KindFileDelete, event.File{Path: "/etc/passwd", Mode: 0o644, Error: "EACCES"})}},
		{"too long", []string{"unlinkat|" + at + "|/" + strings.Repeat("x/", 3_000) + "|0"}, nil},

		{"not to be executed", []string{"fchmodat|" + at + "|/etc/passwd|0600"}, nil},
		{"folder to be entered", []string{"fchmodat|" + at + "|/data/a|0755"}, nil},
		{"not there", []string{"unlinkat|" + at + "|/etc/missing|0", "fchmodat|" + at + "|/etc/missing|0755"}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if !has(tt.script...) {
				t.Skip("this architecture has no such call")
			}
			got := inContainer(t, w, newFiles(t), tt.script...)
			if tt.name == "rmdir" {
				if len(got) != 2 || got[1].Kind != event.KindFileDelete || got[1].File.Path != "/tmp/d" || got[1].File.Type != "folder" {
					t.Errorf("told %+v, want the folder made and deleted", got)
				}
				return
			}
			if d := cmp.Diff(got, tt.want, cmpopts.EquateEmpty()); d != "" {
				t.Errorf("told (-got +want):\n%s", d)
			}
		})
	}
}

// readOf is the reading of a sensitive file, without what its place decides.
type readOf struct{ Path, Rule, Error string }

func TestFileSensitive(t *testing.T) {
	w := watch(t)
	settings := asset.AgentSettings{SensitivePaths: []string{"/data/*/plan.txt", "/data/a/*", "relative", "/*/*"}}
	if err := w.sensors.Apply(t.Context(), settings); err != nil {
		t.Fatal(err)
	}
	read := func(path string) string { return "openat|" + at + "|" + path + "|0" }
	tests := []struct {
		name   string
		script []string
		want   []readOf
	}{
		{"shadow", []string{read("/etc/shadow")}, []readOf{{"/etc/shadow", "shadow", ""}}},
		{"shadow through a link", []string{read("/tmp/e/shadow")}, []readOf{{"/etc/shadow", "shadow", ""}}},
		{"shadow through /proc/self/root", []string{read("/proc/self/root/etc/shadow")}, []readOf{{"/etc/shadow", "shadow", ""}}},
		{"mounted secret", []string{read("/run/secrets/db")}, []readOf{{"/run/secrets/db", "secrets", ""}}},
		{"cloud", []string{read("/root/.aws/credentials")}, []readOf{{"/root/.aws/credentials", "cloud", ""}}},
		{"key", []string{read("/root/.ssh/id_rsa")}, []readOf{{"/root/.ssh/id_rsa", "keys", ""}}},
		{"key by its end", []string{read("/etc/keys/tls.key")}, []readOf{{"/etc/keys/tls.key", "keys", ""}}},
		{"environment", []string{read("/proc/self/environ")}, []readOf{{"/proc/PID/environ", "environ", ""}}},
		{"memory", []string{read("/proc/self/mem")}, []readOf{{"/proc/PID/mem", "memory", ""}}},
		{"configured", []string{read("/data/a/plan.txt")}, []readOf{{"/data/a/plan.txt", "/data/*/plan.txt", ""}}},
		{"refused", []string{"setresuid|1000|1000|1000", read("/private/shadow"), read("/etc/private/id_rsa")}, []readOf{{"/etc/private/id_rsa", "keys", "EACCES"}}},

		{"certificate", []string{read("/etc/keys/cert.pem")}, nil},
		{"brought by a package", []string{read("/usr/share/demo.key")}, nil},
		{"other shadow", []string{read("/tmp/shadow")}, nil},
		{"deeper than configured", []string{read("/data/a/deep/plan.txt")}, nil},
		{"ordinary", []string{read("/etc/passwd"), read("/proc/self/status"), read("/proc/meminfo")}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got []readOf
			for _, m := range inContainer(t, w, newFiles(t), tt.script...) {
				if m.Kind != event.KindFileRead {
					t.Errorf("told %+v", m)
				}
				got = append(got, readOf{anonymous(m.File.Path), m.File.Sensitive, m.File.Error})
			}
			if d := cmp.Diff(got, tt.want, cmpopts.EquateEmpty()); d != "" {
				t.Errorf("told (-got +want):\n%s", d)
			}
		})
	}
}

// toldOf is a privilege event, as far as tests look at it.
type toldOf struct {
	Kind          event.Kind
	Call, Target  string
	Device        uint32
	Flags, Errors string
}

// disk returns the number of a block device that this machine has.
func disk(t *testing.T) (major, minor uint32) {
	t.Helper()
	found, err := filepath.Glob("/sys/block/*/dev")
	if err != nil || len(found) == 0 {
		t.Fatalf("no block device: %v", err)
	}
	b, err := os.ReadFile(found[len(found)-1])
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Sscanf(string(b), "%d:%d", &major, &minor); err != nil {
		t.Fatal(err)
	}
	return major, minor
}

func TestFileKnobs(t *testing.T) {
	w := watch(t)
	const knob = "/proc/sys/kernel/ns_last_pid"
	major, minor := disk(t)
	tests := []struct {
		name   string
		script []string
		want   []toldOf
	}{
		{"knob", []string{"openat|" + at + "|" + knob + "|" + wronly}, []toldOf{{event.KindKernelKnob, "openat", knob, 0, "write", ""}}},
		{"knob through a link", []string{"openat|" + at + "|/proc/self/root" + knob + "|" + wronly}, []toldOf{{event.KindKernelKnob, "openat", knob, 0, "write", ""}}},
		{"refused", []string{"setresuid|1000|1000|1000", "openat|" + at + "|/proc/sys/kernel/core_pattern|" + wronly}, []toldOf{{event.KindKernelKnob, "openat", "/proc/sys/kernel/core_pattern", 0, "write", "EACCES"}}},
		{"disk", []string{fmt.Sprintf("mknodat|%s|/tmp/x|060600|%d", at, unix.Mkdev(major, minor)), "openat|" + at + "|/tmp/x|0"}, []toldOf{{event.KindDevice, "openat", "/tmp/x", major<<20 | minor, "read", ""}}},
		{"kernel log", []string{"mknodat|" + at + "|/tmp/x|020600|0x10b", "openat|" + at + "|/tmp/x|" + rdwr}, []toldOf{{event.KindDevice, "openat", "/tmp/x", 1<<20 | 11, "read write", ""}}},

		{"null", []string{"mknodat|" + at + "|/tmp/x|020600|0x103", "openat|" + at + "|/tmp/x|" + rdwr, "openat|" + at + "|/tmp/x|0"}, nil},
		{"read", []string{"openat|" + at + "|" + knob + "|0"}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got []toldOf
			for _, m := range inContainer(t, w, newFiles(t), tt.script...) {
				if m.Kind == event.KindFileCreate {
					continue // the node of the device
				}
				p := m.Told
				got = append(got, toldOf{m.Kind, p.Call, p.Target, p.Device, strings.Join(p.Flags, " "), p.Error})
			}
			if d := cmp.Diff(got, tt.want, cmpopts.EquateEmpty()); d != "" {
				t.Errorf("told (-got +want):\n%s", d)
			}
		})
	}
}

// anonymous takes numbers out of paths that differ in every run.
func anonymous(path string) string {
	parts := strings.Split(path, "/")
	for i, p := range parts {
		if strings.HasPrefix(p, "#") {
			parts[i] = "#"
		}
		if i > 0 && parts[i-1] == "proc" && strings.Trim(p, "0123456789") == "" {
			parts[i] = "PID"
		}
	}
	return strings.Join(parts, "/")
}

// rootType is the kernel's name of the file system that tests write to.
func rootType(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	best, kind := "", ""
	for line := range strings.Lines(string(b)) {
		head, tail, _ := strings.Cut(line, " - ")
		at := strings.Fields(head)[4]
		if strings.HasPrefix(os.TempDir()+"/", strings.TrimSuffix(at, "/")+"/") && len(at) >= len(best) {
			best, kind = at, strings.Fields(tail)[0]
		}
	}
	return kind
}
