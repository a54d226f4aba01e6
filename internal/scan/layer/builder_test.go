package layer_test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"testing"

	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan/analyse"
	"github.com/castellan-security/castellan/internal/scan/layer"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// archive makes a tar archive of lines, each "what name [more]":
//
//	file NAME CONTENT · dir NAME · link NAME TARGET · hard NAME TARGET
//	null NAME (device 0/0) · opaque NAME (folder with overlayfs's mark)
func archive(t testing.TB, lines ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, line := range lines {
		what, rest, _ := strings.Cut(line, " ")
		name, more, _ := strings.Cut(rest, " ")
		h := &tar.Header{Name: name, Mode: 0o644}
		content := ""
		switch what {
		case "file":
			content = more
			h.Size = int64(len(content))
		case "dir", "opaque":
			h.Typeflag, h.Mode = tar.TypeDir, 0o755
			if what == "opaque" {
				h.PAXRecords = map[string]string{"SCHILY.xattr.trusted.overlay.opaque": "y"}
			}
		case "link":
			h.Typeflag, h.Linkname = tar.TypeSymlink, more
		case "hard":
			h.Typeflag, h.Linkname = tar.TypeLink, more
		case "null":
			h.Typeflag = tar.TypeChar
		default:
			t.Fatalf("archive: %q", line)
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func gzipped(t testing.TB, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func zstded(t testing.TB, data []byte) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return w.EncodeAll(data, nil)
}

func sha(b []byte) string      { return fmt.Sprintf("sha256:%x", sha256.Sum256(b)) }
func sha512of(b []byte) string { return fmt.Sprintf("sha512:%x", sha512.Sum512(b)) }

// echo is an analyser that shows the content of files as a package's name: of
// those that begin with "pkg:", or that are called as it wants.
type echo struct {
	called string // base name that it wants; empty: it goes by content
	name   string
}

func (a echo) Name() string { return a.name }

func (a echo) Wants(e *analyse.Entry, head []byte) bool {
	if a.called != "" {
		return path.Base(e.Path) == a.called
	}
	return bytes.HasPrefix(head, []byte("pkg:"))
}

func (a echo) Take(_ context.Context, e *analyse.Entry, r io.Reader, shown *analyse.Shown) error {
	b, err := io.ReadAll(io.LimitReader(r, 1<<10))
	if len(b) > 0 {
		shown.Packages = append(shown.Packages, inventory.Package{Name: string(b), Places: []inventory.Place{{Path: "/" + e.Path}}})
	}
	return err
}

// byContent and byName are the two ways in which analysers choose.
func byContent() echo { return echo{name: "content"} }
func byName() echo    { return echo{name: "name", called: "db"} }

// odd is an analyser that does what it is told.
type odd struct {
	name string
	want func(*analyse.Entry, []byte) bool
	take func(context.Context, *analyse.Entry, io.Reader, *analyse.Shown) error
}

func (a odd) Name() string { return a.name }

func (a odd) Wants(e *analyse.Entry, head []byte) bool {
	if a.want == nil {
		return e.Mode.IsRegular()
	}
	return a.want(e, head)
}

func (a odd) Take(ctx context.Context, e *analyse.Entry, r io.Reader, shown *analyse.Shown) error {
	return a.take(ctx, e, r, shown)
}

// read reads a layer of which nothing is known but its bytes.
func read(t testing.TB, data []byte, analysers ...analyse.Analyser) *layer.Result {
	t.Helper()
	r, err := layer.Read(t.Context(), inventory.Layer{}, bytes.NewReader(data), layer.Options{Analysers: analysers})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// listing is what a result shows, a line a file: "path by: names; problems".
func listing(r *layer.Result) []string {
	var lines []string
	for _, f := range r.Files {
		line := f.Path
		if f.Same != "" {
			line += " = " + f.Same
		}
		for _, by := range f.By {
			line += " " + by.Analyser + ":"
			for _, p := range by.Shown.Packages {
				line += " " + p.Name
			}
			for _, p := range by.Shown.Problems {
				line += " (" + p.What + ")"
			}
		}
		lines = append(lines, line)
	}
	return lines
}

var errBroken = errors.New("broken")
