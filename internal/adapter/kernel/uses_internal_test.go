package kernel

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/fault"
)

const someMaps = `00400000-00452000 r--p 00000000 08:02 173521      /usr/bin/dbus-daemon
00452000-00652000 r-xp 00052000 08:02 173521      /usr/bin/dbus-daemon
00e03000-00e24000 rw-p 00000000 00:00 0           [heap]
35b1800000-35b1820000 r-xp 00000000 08:02 135522  /usr/lib64/ld-2.15.so
35b1a1f000-35b1a20000 r--p 0001f000 08:02 135522  /usr/lib64/ld-2.15.so
35b1a21000-35b1a22000 rw-p 00000000 00:00 0
35b1c00000-35b1dac000 r-xp 00000000 08:02 135870  /usr/lib64/with blank and\012line.so
35b1c00000-35b1dac000 r-xp 00000000 08:02 135870  /usr/lib64/old.so (deleted)
35b1c00000-35b1dac000 rwxs 00000000 00:01 135870  /memfd:jit (deleted)
35b1c00000-35b1dac000 r-xp 00000000 00:00 135870  //anon
7ffffde3f000-7ffffde40000 r-xp 00000000 00:00 0   [vdso]
7f2c6ff8c000-7f2c7078c000 r-xp 00000000 00:00 0
7f2c6ff8c000-7f2c7078c000 r-xp 00000000 08:02 1   /known.so
7f2c6ff8c000-7f2c7078c000 r-xp 00000000 08:02 1   /cut`

func notKnown(path string) bool { return path != "/known.so" }

func TestMappedCode(t *testing.T) {
	want := []string{"/usr/bin/dbus-daemon", "/usr/lib64/ld-2.15.so", "/usr/lib64/with blank and\nline.so", "/cut"}
	if diff := cmp.Diff(want, mappedCode([]byte(someMaps), notKnown)); diff != "" {
		t.Errorf("mapped code (-want +got):\n%s", diff)
	}
}

// FuzzMappedCode holds that whatever is read gives paths only, and no more than
// there are lines.
func FuzzMappedCode(f *testing.F) {
	f.Add([]byte(someMaps))
	f.Add([]byte("0-1 r-xp 0 0 0 /a\n0-1 --x"))
	f.Fuzz(func(t *testing.T, b []byte) {
		paths := mappedCode(b, notKnown)
		if lines := strings.Count(string(b), "\n") + 1; len(paths) > min(lines, usesMost) {
			t.Fatalf("%d paths of %d lines", len(paths), lines)
		}
		for _, p := range paths {
			if !isFile(p) || !notKnown(p) {
				t.Fatalf("got %q", p)
			}
		}
	})
}

func TestOpenArchives(t *testing.T) {
	folder := t.TempDir()
	for _, name := range []string{"a.jar", "b.war", "c.txt", "gone.jar"} {
		file, err := os.Create(filepath.Join(folder, name))
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
	}
	if err := os.Remove(filepath.Join(folder, "gone.jar")); err != nil {
		t.Fatal(err)
	}
	dir, err := unix.Open("/proc/self", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(dir)
	s := scan{buf: make([]byte, linkLimit)}
	got := map[string]bool{}
	for _, p := range s.openArchives(dir, notKnown) {
		got[p] = true
	}
	want := map[string]bool{filepath.Join(folder, "a.jar"): true, filepath.Join(folder, "b.war"): true}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("archives (-want +got):\n%s", diff)
	}
}

func TestIsBelow(t *testing.T) {
	folder := t.TempDir()
	for _, err := range []error{
		os.MkdirAll(filepath.Join(folder, "lib"), 0o755),
		os.WriteFile(filepath.Join(folder, "lib", "a.so"), nil, 0o644),
		os.Symlink("a.so", filepath.Join(folder, "lib", "link.so")),
		os.Symlink("lib", filepath.Join(folder, "other")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	open := func(path string) int {
		fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Close(fd) })
		return fd
	}
	root := open(folder)
	for path, want := range map[string]bool{
		"/lib/a.so": true, "/lib": false, "/lib/link.so": false, "/other/a.so": false, "/lib/b.so": false,
		"/../lib/a.so": true, // RESOLVE_IN_ROOT: as a container sees it
	} {
		if got := isBelow(root, path); got != want {
			t.Errorf("%s: got %v, want %v", path, got, want)
		}
	}
	if isBelow(open("/"), "/proc/version") {
		t.Error("a file on another mount counts")
	}
}

func TestUsedOfWhatIsNoContainer(t *testing.T) {
	h := New(Options{})
	none := func(string) bool { return false }
	if _, err := h.Used(event.Key{PID: uint32(os.Getpid()), Start: 1}, none); !fault.Is(err, fault.NotFound) {
		t.Errorf("another process of that number: got %v, want not found", err)
	}
	if _, err := h.Used(event.Key{PID: 1 << 30}, none); !fault.Is(err, fault.NotFound) {
		t.Errorf("no process: got %v, want not found", err)
	}
}
