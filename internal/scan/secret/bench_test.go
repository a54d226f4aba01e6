package secret_test

import (
	"bytes"
	"context"
	"errors"
	"go/build"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/castellan-security/castellan/internal/scan/secret"
)

// benchBytes is how much one round of a benchmark reads.
const benchBytes = 16 << 20

// gathered is the content of files below a folder, in one piece.
func gathered(b *testing.B, root string, takes func(head []byte) bool) []byte {
	b.Helper()
	var all []byte
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || len(all) >= benchBytes {
			return nil //nolint:nilerr // what cannot be read is not benched
		}
		text, err := os.ReadFile(p)
		if err == nil && takes(text[:min(len(text), 8<<10)]) {
			all = append(all, text[:min(len(text), benchBytes/4)]...)
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	if len(all) < benchBytes/4 {
		b.Skipf("only %d bytes below %s", len(all), root)
	}
	return all
}

func benchFind(b *testing.B, all []byte) {
	e := engine(b)
	b.SetBytes(int64(len(all)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := e.Find(context.Background(), secret.File{Path: "file"}, bytes.NewReader(all)); err != nil && !errors.Is(err, secret.ErrMany) {
			b.Fatal(err)
		}
	}
}

// BenchmarkPrograms is what most bytes of an image are.
func BenchmarkPrograms(b *testing.B) {
	benchFind(b, gathered(b, "/usr/lib/x86_64-linux-gnu", func(head []byte) bool { return bytes.HasPrefix(head, []byte("\x7fELF")) }))
}

// BenchmarkText is source code, which has more keywords than any other text.
func BenchmarkText(b *testing.B) {
	benchFind(b, gathered(b, filepath.Join(build.Default.GOROOT, "src"), func(head []byte) bool { return bytes.IndexByte(head, 0) < 0 }))
}

// BenchmarkNew is what every scan pays before it has read a byte.
func BenchmarkNew(b *testing.B) {
	for b.Loop() {
		engine(b)
	}
}
