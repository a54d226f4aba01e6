package layer_test

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"runtime"
	"sync/atomic"
	"testing"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan/analyse"
	"github.com/castellan-security/castellan/internal/scan/layer"
	"github.com/klauspost/compress/zstd"
)

// piped hands over what write writes, compressed with zstd.
func piped(t *testing.T, write func(w *tar.Writer) error) io.Reader {
	pr, pw := io.Pipe()
	buffered := bufio.NewWriterSize(pw, 1<<20)
	z, err := zstd.NewWriter(buffered, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		w := tar.NewWriter(z)
		err := write(w)
		for _, end := range []func() error{w.Close, z.Close, buffered.Flush} {
			if err == nil {
				err = end()
			}
		}
		pw.CloseWithError(err)
	}()
	t.Cleanup(func() {
		pr.Close()
		<-done
	})
	return pr
}

// peakHeap returns what the heap grew by at its highest while do ran.
func peakHeap(do func()) uint64 {
	runtime.GC()
	var before runtime.MemStats
	runtime.ReadMemStats(&before)
	var peak atomic.Uint64
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		var now runtime.MemStats
		for {
			select {
			case <-stop:
				return
			default:
			}
			runtime.ReadMemStats(&now)
			peak.Store(max(peak.Load(), now.HeapInuse))
			runtime.Gosched()
		}
	}()
	do()
	close(stop)
	<-done
	return max(peak.Load(), before.HeapInuse) - before.HeapInuse
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

// TestMemoryIsBounded: what a layer costs depends on what is found in it, not on
// its size. The bounds are generous: the writer of the test is in them too.
func TestMemoryIsBounded(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	const mib = 1 << 20
	for _, tc := range []struct {
		name    string
		bound   uint64
		entries int64
		write   func(w *tar.Writer) error
	}{
		{"4 GiB of zeros", 64 * mib, 1, func(w *tar.Writer) error {
			const size = 4 << 30
			if err := w.WriteHeader(&tar.Header{Name: "zeros", Mode: 0o644, Size: size}); err != nil {
				return err
			}
			_, err := io.CopyN(w, zeros{}, size)
			return err
		}},
		{"a million files", 96 * mib, 1_000_000, func(w *tar.Writer) error {
			for i := range 1_000_000 {
				h := &tar.Header{Name: fmt.Sprintf("srv/%03d/%03d/file-%d", i%100, i/1000, i), Mode: 0o644, Size: 3}
				if err := w.WriteHeader(h); err != nil {
					return err
				}
				if _, err := io.WriteString(w, "abc"); err != nil {
					return err
				}
			}
			return nil
		}},
		{"one name a million times", 64 * mib, 1_000_000, func(w *tar.Writer) error {
			for range 1_000_000 {
				if err := w.WriteHeader(&tar.Header{Name: "d/same", Mode: 0o644}); err != nil {
					return err
				}
			}
			return nil
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := piped(t, tc.write)
			var res *layer.Result
			var err error
			peak := peakHeap(func() {
				res, err = layer.Read(t.Context(), inventory.Layer{Digest: "", DiffID: ""}, r, layer.Options{Analysers: []analyse.Analyser{byContent(), sizes{}}})
			})
			if err != nil || res.Entries != tc.entries {
				t.Fatalf("%v; want %d entries", err, tc.entries)
			}
			t.Logf("peak heap %d MiB", peak/mib)
			if peak > tc.bound {
				t.Errorf("peak heap %d MiB, want at most %d", peak/mib, tc.bound/mib)
			}
		})
	}
}

// TestOnlyFindingsAreKept: of a file that an analyser does not read to its end
// nothing is held until the layer ends but what it shows.
func TestOnlyFindingsAreKept(t *testing.T) {
	const files, each = 5000, 4 << 10 // a finding takes less than a KiB, a block 32
	first := odd{"first", func(e *analyse.Entry, head []byte) bool { return len(head) > 0 },
		func(_ context.Context, _ *analyse.Entry, r io.Reader, shown *analyse.Shown) error {
			var b [8]byte
			_, err := io.ReadFull(r, b[:])
			shown.Packages = append(shown.Packages, inventory.Package{Type: "npm", Name: string(b[:]), Version: "1"})
			return err
		}}
	r := piped(t, func(w *tar.Writer) error {
		for i := range files {
			if err := w.WriteHeader(&tar.Header{Name: fmt.Sprint("f", i), Mode: 0o644, Size: 1000}); err != nil {
				return err
			}
			if _, err := fmt.Fprintf(w, "%08d%992d", i, i); err != nil {
				return err
			}
		}
		return nil
	})
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	res, err := layer.Read(t.Context(), inventory.Layer{}, r, layer.Options{Analysers: []analyse.Analyser{first}})
	runtime.GC()
	runtime.ReadMemStats(&after)
	if err != nil || len(res.Files) != files {
		t.Fatalf("%v, %d files, want %d", err, len(res.Files), files)
	}
	if grew := int64(after.HeapAlloc) - int64(before.HeapAlloc); grew > files*each {
		t.Errorf("%d findings keep %d KiB, want at most %d", files, grew>>10, files*each>>10)
	} else {
		t.Logf("%d findings keep %d KiB", files, grew>>10)
	}
}

// TestABombIsStopped: by the limit that the caller sets.
func TestABombIsStopped(t *testing.T) {
	r := piped(t, func(w *tar.Writer) error {
		const size = 1 << 40
		if err := w.WriteHeader(&tar.Header{Name: "bomb", Mode: 0o644, Size: size}); err != nil {
			return err
		}
		_, err := io.CopyN(w, zeros{}, size)
		return err
	})
	_, err := layer.Read(t.Context(), inventory.Layer{}, r, layer.Options{Limits: layer.Limits{Bytes: 64 << 20}})
	if !fault.Is(err, fault.Exhausted) {
		t.Errorf("error %v, want that a limit is reached", err)
	}
}

// TestHolesAreNotMade: a sparse file of 8 EiB costs nothing, also if somebody
// wants it.
func TestHolesAreNotMade(t *testing.T) {
	var size int64
	huge := odd{"huge", func(e *analyse.Entry, _ []byte) bool { size = e.Size; return true }, func(_ context.Context, _ *analyse.Entry, r io.Reader, _ *analyse.Shown) error {
		_, err := io.Copy(io.Discard, r)
		return err
	}}
	r, err := layer.Read(t.Context(), inventory.Layer{}, hole(t), layer.Options{Analysers: []analyse.Analyser{huge, byContent()}, Limits: layer.Limits{FileBytes: 32 << 20}})
	if err != nil || size != 1<<63-1 {
		t.Fatalf("%v; size %d", err, size)
	}
	if got := listing(r); len(got) != 1 || !bytes.Contains([]byte(got[0]), []byte("huge: (huge: file is larger")) {
		t.Errorf("files %.200q, want that it is too large", got)
	}
}

// hole is an archive of one sparse file of 8 EiB.
func hole(t *testing.T) io.Reader {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	// The writer refuses the records of sparse files: they are put in by hand.
	records := pax("GNU.sparse.major", "1") + pax("GNU.sparse.minor", "0") + pax("GNU.sparse.realsize", "9223372036854775807")
	for _, h := range []struct {
		header  tar.Header
		content string
	}{
		{tar.Header{Typeflag: 'x', Name: "p", Size: int64(len(records)), Format: tar.FormatUSTAR}, records},
		{tar.Header{Name: "sparse", Size: 1024, Mode: 0o644, Format: tar.FormatUSTAR}, "1\n0\n512\n" + string(make([]byte, 504)) + "pkg:" + string(make([]byte, 508))},
	} {
		typ := h.header.Typeflag
		h.header.Typeflag = tar.TypeReg
		start := b.Len()
		if err := w.WriteHeader(&h.header); err != nil {
			t.Fatal(err)
		}
		if typ == 'x' {
			resealAs(b.Bytes()[start:start+512], typ)
		}
		if _, err := io.WriteString(w, h.content); err != nil {
			t.Fatal(err)
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	return &b
}

func pax(key, value string) string {
	n := len(key) + len(value) + 3
	for len(fmt.Sprint(n))+len(key)+len(value)+3 != n {
		n = len(fmt.Sprint(n)) + len(key) + len(value) + 3
	}
	return fmt.Sprintf("%d %s=%s\n", n, key, value)
}

// resealAs gives a header another type, and the checksum that it then has.
func resealAs(b []byte, typ byte) {
	b[156] = typ
	copy(b[148:], "        ")
	sum := 0
	for _, c := range b {
		sum += int(c)
	}
	copy(b[148:], fmt.Sprintf("%06o\x00 ", sum))
}
