package bpf_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/castellan-security/castellan/internal/event"
)

// from is what tests look at of where a file came from.
type from struct {
	Path   string
	Origin event.Origin
	Layer  event.Layer
}

func image(path string, number uint16) from {
	return from{path, event.OriginImage, event.Layer{Number: number, Of: 3}}
}

// newLayers lays out an image of three layers. Programs are named after the
// layers that they are in; "again" was deleted in the second and came back with
// the third.
func newLayers(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for _, sub := range []string{"lower1/bin", "lower1/etc", "lower1/volume", "lower1/proc", "lower2/bin", "lower3/bin"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{
		"lower1/bin/one", "lower1/bin/again", "lower1/bin/onetwo", "lower2/bin/onetwo", "lower2/bin/two",
		"lower3/bin/again", "lower3/bin/three",
	} {
		copyOf(t, "/proc/self/exe", filepath.Join(dir, filepath.Dir(file)), filepath.Base(file))
	}
	if err := unix.Mknod(filepath.Join(dir, "lower2/bin/again"), unix.S_IFCHR, 0); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "lower1/etc/shadow"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

// above lays out the root of a container over the layers of an image.
func above(t *testing.T, image string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for _, sub := range []string{"upper", "work", "merged", "volume"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	layers, err := os.ReadDir(image)
	if err != nil {
		t.Fatal(err)
	}
	for _, layer := range layers {
		if err := os.Symlink(filepath.Join(image, layer.Name()), filepath.Join(dir, layer.Name())); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// An exec says which layer of the image its file is from, and nothing of a file
// that the container wrote.
func TestExecLayer(t *testing.T) {
	w := watchEach(t)
	v2, _ := hierarchies()
	layers := newLayers(t)
	const mode = "|0755"
	tests := []struct {
		name  string
		words []string // how the program is executed
		want  from
	}{
		{"base", []string{"exec=/bin/one"}, image("/bin/one", 1)},
		{"in between", []string{"exec=/bin/two"}, image("/bin/two", 2)},
		{"topmost", []string{"exec=/bin/three"}, image("/bin/three", 3)},
		{"changed by a later layer", []string{"exec=/bin/onetwo"}, image("/bin/onetwo", 2)},
		{"deleted and made again by later layers", []string{"exec=/bin/again"}, image("/bin/again", 3)},
		{"by another name", []string{"script=symlinkat|two|" + at + "|/bin/link", "exec=/bin/link"}, image("/bin/two", 2)},
		{"copied up", []string{"script=chmod|/bin/two" + mode, "exec=/bin/two"}, from{Path: "/bin/two", Origin: event.OriginWritten}},
		{"copied up by a further name", []string{"script=link|/bin/two|/bin/name", "exec=/bin/name"}, from{Path: "/bin/name", Origin: event.OriginWritten}},
		{"deleted and made again", []string{"made=/bin/two"}, from{Path: "/bin/two", Origin: event.OriginWritten}},
		{"in a folder that was made again", []string{"script=mkdirat|" + at + "|/new|0755\nrename|/bin/two|/new/two", "exec=/new/two"}, from{Path: "/new/two", Origin: event.OriginWritten}},
		{"in a folder that was written to", []string{"script=mkdirat|" + at + "|/bin/new|0755", "exec=/bin/two"}, image("/bin/two", 2)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			words := append([]string{"overlay=" + above(t, layers)}, tt.words...)
			h := startIn(t, v2, "castellan-test-layer/docker/"+newID(t), append(words, "tool", "exit=7")...)
			h.finish()
			e := w.exec(h.pid())
			if got := (from{e.Process.Executable, e.Exec.Origin, e.Exec.Layer}); got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

// An image without layers below it, as engines that keep one folder make it.
func TestExecOnlyLayer(t *testing.T) {
	w := watchEach(t)
	v2, _ := hierarchies()
	h := startIn(t, v2, "castellan-test-layer/docker/"+newID(t), "overlay="+newRoot(t), "exec=/bin/tool", "tool", "exit=0")
	h.finish()
	if got, want := w.exec(h.pid()).Exec.Layer, (event.Layer{Number: 1, Of: 1}); got != want {
		t.Errorf("layer %+v, want %+v", got, want)
	}
}

// Layers that hold data alone (since 6.5) are not what images are made of:
// which one a file is from is not told there.
func TestExecDataLayer(t *testing.T) {
	w := watchEach(t)
	v2, _ := hierarchies()
	layers := newLayers(t)
	if err := os.Mkdir(filepath.Join(layers, "data"), 0o755); err != nil {
		t.Fatal(err)
	}
	root := above(t, layers)
	probe := t.TempDir()
	option, err := lowerDirs(root)
	if err != nil {
		t.Fatal(err)
	}
	err = unix.Mount("overlay", probe, "overlay", unix.MS_RDONLY, "lowerdir="+option)
	if errors.Is(err, unix.EINVAL) {
		t.Skip("this kernel knows no layers of data alone")
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Unmount(probe, 0); err != nil {
		t.Fatal(err)
	}
	h := startIn(t, v2, "castellan-test-layer/docker/"+newID(t), "overlay="+root, "exec=/bin/two", "tool", "exit=0")
	h.finish()
	if got, want := w.exec(h.pid()).Exec, event.OriginImage; got.Origin != want || !got.Layer.IsZero() {
		t.Errorf("origin %q, layer %+v, want %q and none", got.Origin, got.Layer, want)
	}
}

// Files and memory say it as execs do.
func TestFileLayer(t *testing.T) {
	w := watch(t)
	v2, _ := hierarchies()
	layers := newLayers(t)
	open := func(path, flags string) string { return "openat|" + at + "|" + path + "|" + flags }
	tests := []struct {
		name   string
		script []string
		want   from
	}{
		{"read", []string{open("/etc/shadow", "0")}, image("/etc/shadow", 1)},
		{"read after its folder was written to", []string{"mkdirat|" + at + "|/etc/new|0755", open("/etc/shadow", "0")}, image("/etc/shadow", 1)},
		{"written", []string{open("/etc/shadow", wronly)}, from{Path: "/etc/shadow", Origin: event.OriginWritten}},
		{"read after it was written", []string{open("/etc/shadow", wronly), open("/etc/shadow", "0")}, from{Path: "/etc/shadow", Origin: event.OriginWritten}},
		{"mapped to write and execute", []string{open("/bin/onetwo", "0"), "mmap|0|4096|7|2|$0|0"}, image("/bin/onetwo", 2)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			script := append(tt.script, "mkdirat|"+at+"|"+lastFile+"|0700")
			h := startIn(t, v2, "castellan-test-layer/docker/"+newID(t), "overlay="+above(t, layers), "script="+strings.Join(script, "\n"), "wait", "exit=0")
			if _, err := io.WriteString(h.stdin, "\n"); err != nil {
				t.Fatal(err)
			}
			w.filesOf(h.pid())
			h.finish()
			events, _ := w.seen(func(e event.Event) bool {
				return e.Process.Key.PID == uint32(h.pid()) && e.Kind != event.KindFileCreate && (e.File != nil || e.Memory != nil)
			})
			if len(events) == 0 {
				t.Fatal("nothing was told")
			}
			e := events[len(events)-1]
			got := from{Layer: e.Layer()}
			if e.File != nil {
				got.Path, got.Origin = e.File.Path, e.File.Origin
			} else {
				got.Path, got.Origin = e.Memory.Path, e.Memory.Origin
			}
			if got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}
