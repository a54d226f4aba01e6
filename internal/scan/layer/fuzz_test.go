package layer_test

import (
	"bytes"
	"testing"

	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan/analyse"
	"github.com/castellan-security/castellan/internal/scan/layer"
	"github.com/google/go-cmp/cmp"
)

// FuzzLayer reads any bytes as a layer: it must end, within its limits, and say
// the same twice.
func FuzzLayer(f *testing.F) {
	tar := archive(f, "dir a", "file a/b pkg:1", "link l a", "file l/c pkg:2", "hard h a/b", "file a/.wh.x ", "file a/.wh..wh..opq ", "null n",
		"file a no", "file db x", "hard d/db a/b")
	for _, data := range [][]byte{tar, gzipped(f, tar), zstded(f, tar), tar[:700], nil} {
		f.Add(data)
	}
	limits := layer.Limits{Bytes: 8 << 20, Entries: 10_000, Held: 4 << 20, FileBytes: 1 << 20}
	f.Fuzz(func(t *testing.T, data []byte) {
		read := func() (*layer.Result, string) {
			r, err := layer.Read(t.Context(), inventory.Layer{Digest: sha(data)}, bytes.NewReader(data),
				layer.Options{Analysers: []analyse.Analyser{byContent(), byName()}, Limits: limits})
			if err != nil {
				return nil, err.Error()
			}
			return r, ""
		}
		first, firstErr := read()
		second, secondErr := read()
		if diff := cmp.Diff(first, second); diff != "" || firstErr != secondErr {
			t.Fatalf("two readings differ: %q, %q\n%s", firstErr, secondErr, diff)
		}
		if first == nil {
			return
		}
		for _, file := range first.Files {
			if file.Path == "" || file.Path != layer.Clean(file.Path) {
				t.Errorf("path %q is not clean", file.Path)
			}
			if file.Same != "" && first.File(file.Same) == nil {
				t.Errorf("%q is the same as %q, which is not there", file.Path, file.Same)
			}
		}
	})
}
