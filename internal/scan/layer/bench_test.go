package layer_test

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan/analyse"
	"github.com/castellan-security/castellan/internal/scan/layer"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// benchBytes is how much of this machine's /usr makes the layer that is
// measured with.
const benchBytes = 240 << 20

// benchFolders give a third each: many small files, libraries, programs.
var benchFolders = [...]string{"/usr/share", "/usr/lib", "/usr/bin"}

// realLayer makes a layer of this machine's files, compressed as builders of
// images do it by default, and returns where it is.
func realLayer(b *testing.B, compress func(io.Writer) io.WriteCloser) string {
	b.Helper()
	out, err := os.Create(filepath.Join(b.TempDir(), "layer"))
	if err != nil {
		b.Fatal(err)
	}
	z := compress(out)
	w := tar.NewWriter(z)
	for _, folder := range benchFolders {
		if err := addFolder(w, folder, benchBytes/int64(len(benchFolders))); err != nil {
			b.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), z.Close(), out.Close()); err != nil {
		b.Fatal(err)
	}
	return out.Name()
}

// addFolder adds at least size bytes of a folder's files.
func addFolder(w *tar.Writer, folder string, size int64) error {
	err := filepath.WalkDir(folder, func(p string, d fs.DirEntry, err error) error {
		if err != nil || size <= 0 {
			return errors.Join(err, fs.SkipAll)
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		link := ""
		if info.Mode()&fs.ModeSymlink != 0 {
			if link, err = os.Readlink(p); err != nil {
				return err
			}
		}
		h, err := tar.FileInfoHeader(info, link)
		if err != nil {
			return err
		}
		h.Name = p[1:]
		if err := w.WriteHeader(h); err != nil || !info.Mode().IsRegular() {
			return err
		}
		f, err := os.Open(p)
		if err != nil {
			return err
		}
		defer f.Close()
		n, err := io.Copy(w, f)
		size -= n
		return err
	})
	if errors.Is(err, fs.SkipAll) {
		return nil
	}
	return err
}

func BenchmarkLayerGzip(b *testing.B) {
	benchmark(b, func(w io.Writer) io.WriteCloser { return gzip.NewWriter(w) }, func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) })
}

func BenchmarkLayerZstd(b *testing.B) {
	benchmark(b, func(w io.Writer) io.WriteCloser {
		z, err := zstd.NewWriter(w)
		if err != nil {
			b.Fatal(err)
		}
		return z
	}, func(r io.Reader) (io.Reader, error) { return zstd.NewReader(r, zstd.WithDecoderConcurrency(1)) })
}

// benchmark measures the CPU time of reading a layer against merely
// decompressing it, one after the other so that a busy machine slows both.
func benchmark(b *testing.B, compress func(io.Writer) io.WriteCloser, decompress func(io.Reader) (io.Reader, error)) {
	name := realLayer(b, compress)
	data, err := os.ReadFile(name)
	if err != nil {
		b.Fatal(err)
	}
	l := inventory.Layer{Digest: sha(data), DiffID: sha(nil), Size: int64(len(data))}
	o := layer.Options{Analysers: usualAnalysers()}
	var floor, ours time.Duration
	var r *layer.Result
	for b.Loop() {
		start := cpuTime()
		z, err := decompress(bufio.NewReaderSize(bytes.NewReader(data), 128<<10))
		if err != nil {
			b.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, z); err != nil {
			b.Fatal(err)
		}
		middle := cpuTime()
		if r, err = layer.Read(context.Background(), l, bytes.NewReader(data), o); err != nil {
			b.Fatal(err)
		}
		floor += middle - start
		ours += cpuTime() - middle
	}
	n := float64(b.N)
	b.ReportMetric(floor.Seconds()/n, "floor-cpu-s")
	b.ReportMetric(ours.Seconds()/n, "cpu-s")
	b.ReportMetric(ours.Seconds()/floor.Seconds(), "x-floor")
	b.ReportMetric(float64(r.Entries), "entries")
	b.ReportMetric(float64(len(r.Files)), "files-shown")
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// usualAnalysers ask as many questions as the real ones do: fifteen by name,
// one by content that takes programs and reads their beginning.
func usualAnalysers() []analyse.Analyser {
	list := []analyse.Analyser{odd{"programs", func(_ *analyse.Entry, head []byte) bool { return bytes.HasPrefix(head, []byte("\x7fELF")) },
		func(_ context.Context, _ *analyse.Entry, r io.Reader, _ *analyse.Shown) error {
			_, err := io.ReadFull(r, make([]byte, 4096))
			return ignoreEOF(err)
		}}}
	for i := range 15 {
		suffix := fmt.Sprintf("METADATA%d", i)
		if i == 0 {
			suffix = "package.json"
		}
		list = append(list, odd{suffix, func(e *analyse.Entry, _ []byte) bool { return strings.HasSuffix(e.Path, suffix) },
			func(_ context.Context, e *analyse.Entry, r io.Reader, shown *analyse.Shown) error {
				n, err := io.Copy(io.Discard, r)
				shown.Packages = []inventory.Package{{Name: e.Path, Version: fmt.Sprint(n)}}
				return err
			}})
	}
	return list
}
