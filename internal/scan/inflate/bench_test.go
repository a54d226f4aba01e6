package inflate_test

import (
	"archive/tar"
	"bytes"
	stdgzip "compress/gzip"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/klauspost/compress/gzip"

	"github.com/castellan-security/castellan/internal/scan/inflate"
)

// BenchmarkGzip decompresses a tar of this machine's own programs and libraries
// with this package, and with the two decoders that Go programs use else: the
// floor that scanning a layer is measured against.
func BenchmarkGzip(b *testing.B) {
	packed, size := layer(b)
	b.Run("klauspost", func(b *testing.B) {
		b.SetBytes(size)
		for b.Loop() {
			r, err := gzip.NewReader(bytes.NewReader(packed))
			if err == nil {
				_, err = io.Copy(io.Discard, r)
			}
			if err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("standard", func(b *testing.B) {
		b.SetBytes(size)
		for b.Loop() {
			r, err := stdgzip.NewReader(bytes.NewReader(packed))
			if err == nil {
				_, err = io.Copy(io.Discard, r)
			}
			if err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("inflate", func(b *testing.B) {
		b.SetBytes(size)
		for b.Loop() {
			r, err := inflate.NewGzip(bytes.NewReader(packed))
			if err == nil {
				_, err = r.WriteTo(io.Discard)
			}
			if err != nil {
				b.Fatal(err)
			}
		}
	})
}

// layer returns up to 64 MiB of files as a compressed tar, and its size.
func layer(b *testing.B) ([]byte, int64) {
	const most = 64 << 20
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	w := tar.NewWriter(z)
	var size int64
	err := filepath.WalkDir("/usr", func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err != nil || size+info.Size() > most {
			return err
		}
		text, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		size += int64(len(text))
		return errors.Join(w.WriteHeader(&tar.Header{Name: p, Mode: 0o644, Size: int64(len(text))}), func() error {
			_, err := w.Write(text)
			return err
		}())
	})
	if err = errors.Join(err, w.Close(), z.Close()); err != nil {
		b.Fatal(err)
	}
	return packed.Bytes(), size
}
