package layer_test

import (
	"bytes"
	"encoding/binary"
	"strings"
	"sync"
	"testing"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan/analyse"
	"github.com/castellan-security/castellan/internal/scan/layer"
	"github.com/klauspost/compress/zstd"
)

// framed is data as a zstd frame that says that it needs a window of 1<<log
// bytes, in blocks that are not compressed.
func framed(data []byte, log byte) []byte {
	out := []byte{0x28, 0xb5, 0x2f, 0xfd, 0, (log - 10) << 3}
	const most = 1000 // the smallest window
	for {
		n := min(len(data), most)
		head := uint32(n) << 3
		if n == len(data) {
			head |= 1 // the last one
		}
		out = append(out, byte(head), byte(head>>8), byte(head>>16))
		out = append(out, data[:n]...)
		if data = data[n:]; len(data) == 0 {
			return out
		}
	}
}

// TestWindows: what the first frame may need, and what later ones.
func TestWindows(t *testing.T) {
	tar := archive(t, "file a pkg:a", "file b pkg:b")
	half := len(tar) / 2
	for _, tc := range []struct {
		name          string
		first, second byte // logarithms of windows
		want          string
	}{
		{"usual", 23, 10, ""},
		{"as large as the zstd command's highest level needs", 27, 10, ""},
		{"larger", 28, 10, "more than 128 MiB of memory"},
		{"small at first, then as large as builders use", 10, 25, ""},
		{"small at first, then larger", 10, 26, "more than 32 MiB of memory"},
		{"large, and large again", 27, 27, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			data := append(framed(tar[:half], tc.first), framed(tar[half:], tc.second)...)
			r, err := layer.Read(t.Context(), inventory.Layer{Digest: sha(data)}, bytes.NewReader(data), layer.Options{Analysers: []analyse.Analyser{sizes{}}})
			switch {
			case tc.want == "" && (err != nil || len(r.Files) != 2):
				t.Errorf("%v, want two files", err)
			case tc.want != "" && (!fault.Is(err, fault.Unsupported) || !strings.Contains(err.Error(), tc.want)):
				t.Errorf("%v, want %q", err, tc.want)
			}
		})
	}
}

// TestDecodersAreUsedAgain: what one layer did to a decoder is no matter to the
// next, however many are read at a time.
func TestDecodersAreUsedAgain(t *testing.T) {
	good := zstded(t, archive(t, "file a pkg:a"))
	large := framed(archive(t, "file a pkg:a"), 25)
	var broken bytes.Buffer
	w, err := zstd.NewWriter(&broken)
	if err != nil {
		t.Fatal(err)
	}
	w.Write([]byte("this is no archive")) //nolint:errcheck // into memory
	w.Close()                             //nolint:errcheck // into memory
	budget := layer.NewBudget(layer.Limits{})
	var wg sync.WaitGroup
	for i := range 60 {
		data := [...][]byte{good, broken.Bytes(), good[:len(good)/2], large}[i%4]
		wg.Go(func() {
			r, err := layer.Read(t.Context(), inventory.Layer{}, bytes.NewReader(data), layer.Options{Analysers: []analyse.Analyser{sizes{}}, Budget: budget})
			if ok := i%4 == 0 || i%4 == 3; ok != (err == nil) || ok && len(r.Files) != 1 {
				t.Errorf("reading %d: %v", i, err)
			}
		})
	}
	wg.Wait()
}

// TestChecksumsOfFrames are compared unless the digest of the very same bytes is.
func TestChecksumsOfFrames(t *testing.T) {
	const endMark = 1024 // with it, what is wrong behind it would not matter
	tar := archive(t, "file a pkg:a")
	data := zstded(t, tar[:len(tar)-endMark])
	sum := data[len(data)-4:]
	binary.LittleEndian.PutUint32(sum, binary.LittleEndian.Uint32(sum)+1)
	read := func(l inventory.Layer) error {
		_, err := layer.Read(t.Context(), l, bytes.NewReader(data), layer.Options{})
		return err
	}
	if err := read(inventory.Layer{Digest: sha(data)}); err != nil {
		t.Errorf("with its digest: %v", err)
	}
	if err := read(inventory.Layer{}); !fault.Is(err, fault.Corrupt) {
		t.Errorf("without a digest: %v, want that it is corrupt", err)
	}
	if err := read(inventory.Layer{Digest: sha([]byte("other"))}); !fault.Is(err, fault.Corrupt) {
		t.Errorf("with another digest: %v, want that it is corrupt", err)
	}
}
