package scan_test

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan"
	"github.com/castellan-security/castellan/internal/scan/analyse"
)

// crowd shows as much as a large image does: a database of 435 packages with
// their files, and a package for each manifest.
type crowd struct{}

func (crowd) Name() string { return "crowd" }
func (crowd) Wants(e *analyse.Entry, head []byte) bool {
	return head != nil && (e.Path == "status" || strings.HasSuffix(e.Path, ".list") || strings.HasSuffix(e.Path, "package.json"))
}

func (crowd) Take(_ context.Context, e *analyse.Entry, r io.Reader, shown *analyse.Shown) error {
	switch {
	case e.Path == "status":
		for i := range 435 {
			shown.Packages = append(shown.Packages, inventory.Package{Type: "deb", Name: fmt.Sprintf("lib-%d", i), Version: "1.2.3-4+deb12u1", Arch: "amd64",
				Source: inventory.Source{Name: fmt.Sprintf("source-%d", i), Version: "1.2.3-4"}, Found: inventory.Installed})
		}
	case strings.HasSuffix(e.Path, ".list"):
		name := strings.TrimSuffix(e.Path, ".list")
		o := analyse.Owned{Type: "deb", Name: name}
		for i := range 40 {
			o.Files = append(o.Files, fmt.Sprintf("/usr/lib/x86_64-linux-gnu/%s-%d.so.1", name, i))
		}
		shown.Owned = []analyse.Owned{o}
	default:
		b, err := io.ReadAll(r)
		shown.Packages = []inventory.Package{{Type: "npm", Name: string(b), Version: "1.0.0", Ecosystem: "npm", Licenses: []string{"MIT"}, Found: inventory.Installed}}
		return err
	}
	return nil
}

// crowded is an image of six layers with 120,000 files and 2,000 links.
func crowded(b *testing.B) *image {
	im := &image{}
	for k := range 6 {
		var buf bytes.Buffer
		w := tar.NewWriter(&buf)
		put := func(name, content string, typ byte, link string) {
			if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content)), Typeflag: typ, Linkname: link}); err != nil {
				b.Fatal(err)
			}
			if _, err := io.WriteString(w, content); err != nil {
				b.Fatal(err)
			}
		}
		put("status", "x", tar.TypeReg, "")
		if k == 0 {
			put("lib", "", tar.TypeSymlink, "usr/lib")
			for i := range 435 {
				put(fmt.Sprintf("lib-%d.list", i), "x", tar.TypeReg, "")
			}
		}
		for i := range 20_000 {
			put(fmt.Sprintf("usr/share/%d/%d/file-%d", k, i/50, i), "", tar.TypeReg, "")
			if i%50 == 0 {
				put(fmt.Sprintf("srv/%d/node_modules/m%d/package.json", k, i), fmt.Sprintf("module-%d-%d", k, i), tar.TypeReg, "")
				put(fmt.Sprintf("usr/link/%d-%d", k, i), "", tar.TypeSymlink, fmt.Sprintf("../share/%d/%d", k, i))
			}
		}
		if err := w.Close(); err != nil {
			b.Fatal(err)
		}
		im.add(buf.Bytes())
	}
	return im
}

// BenchmarkNothingChanged is a scan of which no layer is read.
func BenchmarkNothingChanged(b *testing.B) {
	im := crowded(b)
	o := scan.Options{Cache: b.TempDir(), Analysers: []analyse.Analyser{crowd{}}}
	if _, err := scan.New(o).Image(b.Context(), im); err != nil {
		b.Fatal(err)
	}
	im.reads = nil
	for b.Loop() {
		inv, err := scan.New(o).Image(b.Context(), im)
		if err != nil || len(inv.Packages) != 435+6*400 || len(im.reads) > 0 {
			b.Fatalf("%d packages, %v, layers %v were read", len(inv.Packages), err, im.reads)
		}
	}
}
