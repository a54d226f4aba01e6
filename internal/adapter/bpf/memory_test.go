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

	"github.com/castellan-security/castellan/internal/event"
)

// mapped is what tests look at of a memory event.
type mapped struct {
	Kind             event.Kind
	Call, Path, Prot string
	Origin           event.Origin
}

// memoryOf makes system calls in an imitated container, and returns what was
// told of its memory and how many times in all.
func memoryOf(t *testing.T, w *watcher, script ...string) (told []mapped, times uint64) {
	t.Helper()
	root := newFiles(t)
	if err := os.WriteFile(filepath.Join(root, "upper", "written.so"), make([]byte, 8192), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "volume", "plugin.so"), make([]byte, 8192), 0o755); err != nil {
		t.Fatal(err)
	}
	v2, _ := hierarchies()
	script = append(script, "mkdirat|"+at+"|"+lastFile+"|0700")
	h := startIn(t, v2, "castellan-test-memory/docker/"+newID(t), "overlay="+root, "script="+strings.Join(script, "\n"), "wait", "exit=0")
	if _, err := io.WriteString(h.stdin, "\n"); err != nil {
		t.Fatal(err)
	}
	w.filesOf(h.pid())
	h.finish()
	events, _ := w.seen(func(e event.Event) bool { return e.Process.Key.PID == uint32(h.pid()) && e.Memory != nil })
	for _, e := range events {
		m := e.Memory
		told = append(told, mapped{e.Kind, m.Call, m.Path, strings.Join(m.Protection, " "), m.Origin})
		times += e.Times()
	}
	return told, times
}

func TestMemory(t *testing.T) {
	w := watch(t)
	const (
		readable   = unix.PROT_READ
		executable = unix.PROT_READ | unix.PROT_EXEC
		everything = unix.PROT_READ | unix.PROT_WRITE | unix.PROT_EXEC
	)
	open := func(path string) string { return "openat|" + at + "|" + path + "|0" }
	private := func(protection int) string {
		return fmt.Sprintf("mmap|0|4096|%d|%d|$0|0", protection, unix.MAP_PRIVATE)
	}
	anonymous := func(protection int) string {
		return fmt.Sprintf("mmap|0|4096|%d|%d|-1|0", protection, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	}
	tests := []struct {
		name   string
		script []string
		want   []mapped
	}{
		{"written file", []string{open("/written.so"), private(executable)}, []mapped{{event.KindExecMap, "mmap", "/written.so", "read execute", event.OriginWritten}}},
		{"file of a volume", []string{open("/volume/plugin.so"), private(executable)}, []mapped{{event.KindExecMap, "mmap", "/volume/plugin.so", "read execute", event.OriginMount}}},
		// It keeps the name that it had: nothing in the path says that it is gone.
		{"file that was deleted", []string{open("/written.so"), "unlinkat|" + at + "|/written.so|0", private(executable)}, []mapped{{event.KindExecMap, "mmap", "/written.so", "read execute", event.OriginWritten}}},
		{"file without a name", []string{"memfd_create|payload|0", "ftruncate|$0|4096", private(executable)}, []mapped{
			{event.KindMemfd, "memfd_create", "payload", "", event.OriginMemory},
			{event.KindExecMap, "mmap", "/memfd:payload", "read execute", event.OriginMemory},
		}},
		{"writable code", []string{anonymous(everything)}, []mapped{{event.KindExecProtect, "mmap", "", "read write execute", ""}}},
		{"code that was writable", []string{anonymous(unix.PROT_READ | unix.PROT_WRITE), fmt.Sprintf("mprotect|$0|4096|%d", executable)}, []mapped{{event.KindExecProtect, "mprotect", "", "read execute", ""}}},
		{"code behind a file", []string{
			open("/etc/passwd"), fmt.Sprintf("mmap|0|8192|%d|%d|-1|0", unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS),
			fmt.Sprintf("mmap|$1|4096|%d|%d|$0|0", readable, unix.MAP_PRIVATE|unix.MAP_FIXED), fmt.Sprintf("mprotect|$1|8192|%d", executable),
		}, []mapped{{event.KindExecProtect, "mprotect", "", "read execute", ""}}},
		{"code before a hole", []string{
			fmt.Sprintf("mmap|0|8192|%d|%d|-1|0", unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS),
			"mremap|$0|8192|4096|0", fmt.Sprintf("mprotect|$0|8192|%d", executable),
		}, []mapped{{event.KindExecProtect, "mprotect", "", "read execute", ""}}},
		{"image file to write and execute", []string{open("/etc/passwd"), private(everything)}, []mapped{{event.KindExecProtect, "mmap", "/etc/passwd", "read write execute", event.OriginImage}}},

		{"image file", []string{open("/etc/passwd"), private(executable)}, nil},
		{"image file made executable", []string{open("/etc/passwd"), private(readable), fmt.Sprintf("mprotect|$1|4096|%d", executable)}, nil},
		{"data", []string{open("/written.so"), private(readable), anonymous(unix.PROT_READ | unix.PROT_WRITE)}, nil},
		{"refused", []string{fmt.Sprintf("mprotect|0|4096|%d", everything), "memfd_create|x|0xffff"}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, _ := memoryOf(t, w, tt.script...)
			if d := cmp.Diff(got, tt.want, cmpopts.EquateEmpty()); d != "" {
				t.Errorf("told (-got +want):\n%s", d)
			}
		})
	}
}
