package layer_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"

	"github.com/castellan-security/castellan/internal/need"
	"github.com/castellan-security/castellan/internal/scan/analyse"
	"github.com/castellan-security/castellan/internal/scan/layer"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sys/unix"
)

func readTree(t *testing.T, fsys fs.FS, tree layer.Tree) *layer.Result {
	t.Helper()
	tree.Analysers = []analyse.Analyser{byContent(), byName()}
	r, err := layer.ReadTree(t.Context(), fsys, tree)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestReadTree(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string) {
		t.Helper()
		p := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(p), 0o755), os.WriteFile(p, []byte(content), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	write("a", "pkg:a")
	write("d/e/f", "pkg:"+strings.Repeat("f", 600))
	write("d/.wh.x", "pkg:no whiteout")
	write("d/other", "nothing")
	write("skipped/x", "pkg:skipped")
	if err := errors.Join(os.Symlink("/etc", filepath.Join(dir, "out")), os.Symlink("d", filepath.Join(dir, "in")),
		os.Symlink("a", filepath.Join(dir, "d/db")), syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o644)); err != nil {
		t.Fatal(err)
	}
	folder, err := layer.OpenFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer folder.Close()
	r := readTree(t, folder, layer.Tree{Skip: func(p string) bool { return p == "skipped" }})
	want := []string{"a content: pkg:a", "d/.wh.x content: pkg:no whiteout", "d/e/f content: pkg:" + strings.Repeat("f", 600)}
	if diff := cmp.Diff(want, listing(r)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]layer.Link{{Path: "in", Target: "d"}, {Path: "out", Target: "/etc"}}, without(r.Links, "d/db")); diff != "" {
		t.Errorf("links (-want +got):\n%s", diff)
	}
	if len(r.Missed) != 1 || r.Missed[0].Path != "d/db" || len(r.Whiteouts) > 0 {
		t.Errorf("missed %v, whiteouts %v; want d/db, none", r.Missed, r.Whiteouts)
	}
	second := readTree(t, folder, layer.Tree{Options: layer.Options{Aliases: []layer.Alias{{Real: "d/e", As: "x"}, {Real: "a", As: "db"}}}})
	want = []string{"a content: pkg:a name: pkg:a", "d/e/f content: pkg:" + strings.Repeat("f", 600)}
	if diff := cmp.Diff(want, listing(second)); diff != "" {
		t.Errorf("second reading (-want +got):\n%s", diff)
	}
}

func without(links []layer.Link, path string) (rest []layer.Link) {
	for _, l := range links {
		if l.Path != path {
			rest = append(rest, l)
		}
	}
	return rest
}

func TestReadTreeOfAnyFileSystem(t *testing.T) {
	r := readTree(t, fstest.MapFS{"a": {Data: []byte("pkg:a")}, "d/e": {Data: []byte("pkg:e")}}, layer.Tree{})
	if diff := cmp.Diff([]string{"a content: pkg:a", "d/e content: pkg:e"}, listing(r)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	if len(r.Whiteouts) > 0 || len(r.Problems) > 0 {
		t.Errorf("whiteouts %v, problems %v; want none", r.Whiteouts, r.Problems)
	}
}

func TestReadTreeGoesOnWithoutWhatItMayNotRead(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may read everything")
	}
	dir := t.TempDir()
	for name, mode := range map[string]fs.FileMode{"secret": 0, "open": 0o644} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("pkg:"+name), mode); err != nil {
			t.Fatal(err)
		}
	}
	r := readTree(t, os.DirFS(dir), layer.Tree{})
	if len(r.Files) != 1 || len(r.Problems) != 1 || r.Problems[0].Path != "/secret" {
		t.Errorf("files %q, problems %v", listing(r), r.Problems)
	}
}

// unreadable fails to open some files.
type unreadable struct{ fstest.MapFS }

func (u unreadable) Open(name string) (fs.File, error) {
	if strings.Contains(name, "secret") {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrPermission}
	}
	return u.MapFS.Open(name)
}

func TestReadTreeSaysWhatItCouldNotRead(t *testing.T) {
	r := readTree(t, unreadable{fstest.MapFS{"a": {Data: []byte("pkg:a")}, "secret": {Data: []byte("pkg:s")}}}, layer.Tree{})
	if len(r.Files) != 1 || len(r.Problems) != 1 || r.Problems[0].Path != "/secret" || !strings.Contains(r.Problems[0].What, "permission denied") {
		t.Errorf("files %q, problems %v; want one problem with /secret", listing(r), r.Problems)
	}
	if _, err := layer.ReadTree(t.Context(), os.DirFS(filepath.Join(t.TempDir(), "none")), layer.Tree{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a folder that isn't there: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := layer.ReadTree(ctx, fstest.MapFS{}, layer.Tree{}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want the context's", err)
	}
}

// TestUpperFolder: what a workload wrote, as overlayfs keeps it.
func TestUpperFolder(t *testing.T) {
	need.Root(t)
	dir := t.TempDir()
	if err := errors.Join(
		os.Mkdir(filepath.Join(dir, "fresh"), 0o755),
		os.WriteFile(filepath.Join(dir, "new"), []byte("pkg:new"), 0o755),
		unix.Mknod(filepath.Join(dir, "gone"), unix.S_IFCHR, 0)); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setxattr(filepath.Join(dir, "fresh"), "trusted.overlay.opaque", []byte("y"), 0); err != nil {
		t.Skipf("no trusted attributes on %s: %v", dir, err)
	}
	// cap_net_raw=ep, version 2.
	capability := []byte{1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	if err := unix.Setxattr(filepath.Join(dir, "new"), "security.capability", capability, 0); err != nil {
		t.Fatal(err)
	}
	folder, err := layer.OpenFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer folder.Close()
	capable := odd{"capable", func(e *analyse.Entry, _ []byte) bool {
		if e.Capabilities != (e.Path == "new") {
			t.Errorf("%s: capabilities %v", e.Path, e.Capabilities)
		}
		return false
	}, nil}
	r, err := layer.ReadTree(t.Context(), folder, layer.Tree{Overlay: true, Options: layer.Options{Analysers: []analyse.Analyser{byContent(), capable}}})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"new content: pkg:new"}, listing(r)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([][]string{{"gone"}, {"fresh"}}, [][]string{r.Whiteouts, r.Opaque}, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("whiteouts and opaque folders (-want +got):\n%s", diff)
	}
}
