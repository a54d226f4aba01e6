package scan_test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan"
	"github.com/castellan-security/castellan/internal/scan/analyse"
)

// line is one entry of a layer: "what name [more]", where what is one of
//
//	file NAME CONTENT · dir NAME · link NAME TARGET · hard NAME TARGET
//	gone NAME (a whiteout) · opaque FOLDER
type line struct{ what, name, more string }

func parse(s string) line {
	what, rest, _ := strings.Cut(s, " ")
	name, more, _ := strings.Cut(rest, " ")
	return line{what, name, more}
}

// archive makes a tar archive of lines.
func archive(t testing.TB, lines ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, s := range lines {
		l := parse(s)
		h := &tar.Header{Name: l.name, Mode: 0o644}
		content := ""
		switch l.what {
		case "file":
			content = l.more
			h.Size = int64(len(content))
		case "dir":
			h.Typeflag, h.Mode = tar.TypeDir, 0o755
		case "link":
			h.Typeflag, h.Linkname = tar.TypeSymlink, l.more
		case "hard":
			h.Typeflag, h.Linkname = tar.TypeLink, l.more
		case "gone":
			folder, base := path.Split(l.name)
			h.Name = folder + ".wh." + base
		case "opaque":
			h.Name = path.Join(l.name, ".wh..wh..opq")
		default:
			t.Fatalf("line %q", s)
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

func sha(b []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(b)) }

// image is an image in memory. It counts what is read of it.
type image struct {
	info   inventory.Image
	blobs  [][]byte
	stream bool // hands over layers without saying which they are

	mu    sync.Mutex
	reads []int // numbers of the layers that were read, from 1
}

// imageOf makes an image of layers, each a list of lines.
func imageOf(t testing.TB, layers ...[]string) *image {
	t.Helper()
	im := &image{info: inventory.Image{Reference: "test"}}
	for _, lines := range layers {
		im.add(archive(t, lines...))
	}
	return im
}

func (im *image) add(blob []byte) {
	im.blobs = append(im.blobs, blob)
	im.info.Layers = append(im.info.Layers, inventory.Layer{Digest: sha(blob), DiffID: sha(blob), Size: int64(len(blob))})
}

func (im *image) Image() inventory.Image {
	info := im.info
	info.Layers = slices.Clone(info.Layers)
	return info
}

func (im *image) Each(ctx context.Context, parallel int, skip func(inventory.Layer) bool, take func(context.Context, inventory.Layer, io.Reader) error) error {
	for i, l := range im.info.Layers {
		if im.stream {
			l = inventory.Layer{}
		}
		if skip(l) || im.blobs[i] == nil {
			continue
		}
		im.mu.Lock()
		im.reads = append(im.reads, i+1)
		im.mu.Unlock()
		if err := take(ctx, l, bytes.NewReader(im.blobs[i])); err != nil {
			return err
		}
	}
	return nil
}

func (im *image) Close() error { return nil }

// content shows files that begin with "pkg:", a package a word.
type content struct{}

func (content) Name() string { return "content" }
func (content) Wants(e *analyse.Entry, head []byte) bool {
	return bytes.HasPrefix(head, []byte("pkg:"))
}
func (content) Take(_ context.Context, _ *analyse.Entry, r io.Reader, shown *analyse.Shown) error {
	return words("content", r, shown)
}

// named shows files called "db", a package a word.
type named struct{}

func (named) Name() string { return "named" }
func (named) Wants(e *analyse.Entry, head []byte) bool {
	return head != nil && path.Base(e.Path) == "db"
}
func (named) Take(_ context.Context, _ *analyse.Entry, r io.Reader, shown *analyse.Shown) error {
	return words("named", r, shown)
}

// fixed is an analyser with a place of its own.
type fixed struct{}

func (fixed) Name() string      { return "fixed" }
func (fixed) Anchors() []string { return []string{"var/lib/pkg"} }
func (fixed) Wants(e *analyse.Entry, head []byte) bool {
	return head != nil && strings.HasPrefix(e.Path, "var/lib/pkg/")
}
func (fixed) Take(_ context.Context, _ *analyse.Entry, r io.Reader, shown *analyse.Shown) error {
	return words("fixed", r, shown)
}

func words(typ string, r io.Reader, shown *analyse.Shown) error {
	b, err := io.ReadAll(io.LimitReader(r, 1<<12))
	for _, w := range strings.Fields(string(b)) {
		shown.Packages = append(shown.Packages, inventory.Package{Type: typ, Name: w, Found: inventory.Installed})
	}
	return err
}

// scanner scans with the three, and a clock that stands.
func scanner(o scan.Options) *scan.Scanner {
	if o.Analysers == nil {
		o.Analysers = []analyse.Analyser{content{}, named{}, fixed{}}
	}
	o.Now = func() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) }
	return scan.New(o)
}

// listing is what an inventory has, a line a place: "type name /path layer".
func listing(inv inventory.Inventory) []string {
	var lines []string
	for _, p := range inv.Packages {
		for _, at := range p.Places {
			where := fmt.Sprint(at.Layer)
			if at.Written {
				where = "written"
			}
			lines = append(lines, fmt.Sprintf("%s %s %s %s", p.Type, p.Name, at.Path, where))
		}
	}
	slices.Sort(lines)
	return lines
}
