package xz_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/castellan-security/castellan/internal/adapter/feeds/xz"
)

func sample(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name+".xz"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func unpack(r io.Reader) ([]byte, error) {
	x, err := xz.NewReader(r)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(x)
}

// TestUnpacks holds what comes out against the sums of what the samples were made
// of, by xz 5.
func TestUnpacks(t *testing.T) {
	for _, tc := range []struct {
		name, sum string
		size      int
	}{
		{"text", "68acac96fd413b11", 39457},
		{"fast", "68acac96fd413b11", 39457},
		{"noise", "b44830b03c5f5631", 19100},
		{"properties", "c37a0a9d69516430", 20000},
		{"literals", "c37a0a9d69516430", 20000},
		{"blocks", "68acac96fd413b11", 39457},
		{"empty", "e3b0c44298fc1c14", 0},
		{"extreme", "88f40bba04459227", 30000},
		{"zeros", "b39781589c4403fb", 5000000},
		{"fastzeros", "b39781589c4403fb", 5000000},
		{"small", "d4add63642793db7", 1060},
		{"streams", "e1329cb0468fba98", 9000},
	} {
		t.Run(tc.name, func(t *testing.T) {
			packed := sample(t, tc.name)
			for _, r := range []io.Reader{bytes.NewReader(packed), iotest.OneByteReader(bytes.NewReader(packed)), iotest.DataErrReader(bytes.NewReader(packed))} {
				got, err := unpack(r)
				if err != nil {
					t.Fatal(err)
				}
				if sum := sha256.Sum256(got); len(got) != tc.size || hex.EncodeToString(sum[:8]) != tc.sum {
					t.Errorf("got %d bytes with the sum %x, want %d with %s", len(got), sum[:8], tc.size, tc.sum)
				}
			}
		})
	}
}

func TestReadsPieceByPiece(t *testing.T) {
	x, err := xz.NewReader(bytes.NewReader(sample(t, "text")))
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(iotest.OneByteReader(x))
	if err != nil {
		t.Fatal(err)
	}
	want, err := unpack(bytes.NewReader(sample(t, "text")))
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("got %d bytes, want %d (%v)", len(got), len(want), err)
	}
	if n, err := x.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("behind the end: %d, %v", n, err)
	}
}

func TestRefuses(t *testing.T) {
	for _, tc := range []struct {
		name, sample, want string
	}{
		{"more memory than is given", "huge", "wants a dictionary of more than 67108864 bytes"},
		{"a filter for programs", "program", "filters that this version does not know"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got, err := unpack(bytes.NewReader(sample(t, tc.sample))); err == nil || !strings.Contains(err.Error(), tc.want) || len(got) > 0 {
				t.Errorf("got %d bytes and %v, want an error with %q", len(got), err, tc.want)
			}
		})
	}
}

// TestDamageIsSeen cuts a file at every place, and changes every byte: what comes
// out is never taken for whole.
func TestDamageIsSeen(t *testing.T) {
	for _, name := range []string{"properties", "blocks", "streams", "noise"} {
		t.Run(name, func(t *testing.T) {
			packed := sample(t, name)
			whole, err := unpack(bytes.NewReader(packed))
			if err != nil {
				t.Fatal(err)
			}
			// Behind the first of two streams, and the padding after it, a file is whole.
			first := bytes.LastIndex(packed, packed[:6])
			for i := 0; i < len(packed); i += 1 + len(packed)/1000 {
				got, err := unpack(bytes.NewReader(packed[:i]))
				if err == nil && (i == 0 || i != first && i != first-4 && i != first-8) {
					t.Errorf("cut at %d of %d: %d bytes and no error", i, len(packed), len(got))
				}
				if name == "properties" {
					continue // has no checksum
				}
				changed := bytes.Clone(packed)
				changed[i] ^= 0x10
				if got, err := unpack(bytes.NewReader(changed)); err == nil && !bytes.Equal(got, whole) {
					t.Errorf("byte %d changed: other content and no error", i)
				}
			}
		})
	}
}

func TestErrorsOfTheReaderAreTold(t *testing.T) {
	packed := sample(t, "text")
	broken := errors.New("the disk is gone")
	if _, err := unpack(io.MultiReader(bytes.NewReader(packed[:len(packed)/2]), iotest.ErrReader(broken))); !errors.Is(err, broken) || errors.Is(err, xz.ErrFormat) {
		t.Errorf("got %v", err)
	}
	if _, err := unpack(bytes.NewReader(packed[:len(packed)/2])); !errors.Is(err, io.ErrUnexpectedEOF) || !errors.Is(err, xz.ErrFormat) {
		t.Errorf("got %v", err)
	}
}

// TestMemoryIsBounded unpacks a file that is all zeros, and one that is small.
func TestMemoryIsBounded(t *testing.T) {
	for _, tc := range []struct {
		name string
		most uint64
	}{
		{"zeros", 32 << 20}, // all windows on the way to the 18 MiB of a dictionary of 8
		{"text", 1 << 20},
	} {
		t.Run(tc.name, func(t *testing.T) {
			packed := sample(t, tc.name)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			x, err := xz.NewReader(bytes.NewReader(packed))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.Copy(io.Discard, x); err != nil {
				t.Fatal(err)
			}
			runtime.ReadMemStats(&after)
			if got := after.TotalAlloc - before.TotalAlloc; got > tc.most {
				t.Errorf("%d bytes, want at most %d", got, tc.most)
			}
		})
	}
}

// FuzzReader reads whatever comes. It must end, within memory, and give the same
// twice.
func FuzzReader(f *testing.F) {
	for _, name := range []string{"small", "fast", "noise", "properties", "literals", "blocks", "empty", "streams", "huge", "program"} {
		f.Add(sample(f, name))
	}
	f.Fuzz(func(t *testing.T, packed []byte) {
		const enough = 8 << 20
		read := func() ([]byte, error) {
			x, err := xz.NewReader(bytes.NewReader(packed))
			if err != nil {
				return nil, err
			}
			return io.ReadAll(io.LimitReader(x, enough))
		}
		a, errA := read()
		b, errB := read()
		if !bytes.Equal(a, b) || (errA == nil) != (errB == nil) {
			t.Errorf("%d bytes and %v, then %d and %v", len(a), errA, len(b), errB)
		}
	})
}
