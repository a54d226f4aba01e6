package bpf_test

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/need"
)

// A 32-bit program has its own numbers of calls, and its own registers.
func TestFileCompat(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("32-bit programs are followed on amd64 alone")
	}
	w := watch(t)
	root := newRoot(t)
	if err := os.MkdirAll(filepath.Join(root, "lower/tmp"), 0o777); err != nil {
		t.Fatal(err)
	}
	goTool := need.Program(t, "go", "see https://go.dev/doc/install")
	buildCompat(t, goTool, filepath.Join(root, "upper/bin/compat"))
	v2, _ := hierarchies()
	h := startIn(t, v2, "castellan-test-compat/docker/"+newID(t), "overlay="+root, "exec=/bin/compat", "compat")
	h.finish()
	w.exit(h.pid())
	got, _ := w.seen(func(e event.Event) bool { return e.Process.Key.PID == uint32(h.pid()) && e.File != nil })
	type seen struct {
		Kind event.Kind
		Path string
	}
	var all []seen
	for _, e := range got {
		all = append(all, seen{e.Kind, e.File.Path})
	}
	want := []seen{
		{event.KindFileCreate, "/tmp/made"}, {event.KindFileChmod, "/tmp/made"},
		{event.KindFileChown, "/tmp/made"}, {event.KindFileDelete, "/tmp/made"},
	}
	if d := cmp.Diff(all, want); d != "" {
		t.Errorf("told (-got +want):\n%s", d)
	}
}
