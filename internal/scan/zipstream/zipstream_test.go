package zipstream_test

import (
	"archive/zip"
	"bytes"
	"compress/flate"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/scan/zipstream"
)

// file is one entry of a test's archive.
type file struct {
	name, content string
	method        uint16
	sizes         bool // the header says the sizes; else a descriptor follows
}

// archive writes files as the standard library does.
func archive(t testing.TB, files ...file) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, f := range files {
		h := &zip.FileHeader{Name: f.name, Method: f.method}
		write := w.CreateHeader
		body := []byte(f.content)
		if f.sizes {
			body = compressed(t, f)
			h.CompressedSize64, h.UncompressedSize64 = uint64(len(body)), uint64(len(f.content))
			write = w.CreateRaw
		}
		e, err := write(h)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := e.Write(body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func compressed(t testing.TB, f file) []byte {
	t.Helper()
	if f.method == zip.Store {
		return []byte(f.content)
	}
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, 6)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, f.content); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// read returns the entries, with the content of those that want asks for.
func read(r io.Reader, want func(name string) bool, budget zipstream.Budget) (got []string, err error) {
	z := zipstream.NewReader(r, &budget)
	for {
		e, err := z.Next()
		if err == io.EOF {
			return got, nil
		}
		if err != nil {
			return got, err
		}
		name := string(e.Name)
		if !want(name) {
			got = append(got, name)
			continue
		}
		c, err := z.Open()
		if err != nil {
			got = append(got, name+": "+err.Error())
			continue
		}
		limit := int64(1 << 30)
		if strings.HasPrefix(name, "part") {
			limit = 3
		}
		b, err := io.ReadAll(io.LimitReader(c, limit))
		if err != nil {
			return got, err
		}
		got = append(got, name+"="+string(b))
	}
}

func all(string) bool  { return true }
func none(string) bool { return false }

var plenty = zipstream.Budget{Entries: 1000, Inflated: 1 << 30}

func noise(n int) string {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range b {
		b[i] = byte(r.Uint32())
		if i%97 == 0 {
			b[i] = 'P'
		}
		if i%97 == 1 {
			b[i] = 'K'
		}
	}
	return string(b)
}

func TestRead(t *testing.T) {
	inner := string(archive(t, file{"a", "inner", zip.Deflate, false}, file{"b", noise(1000), zip.Store, false}))
	long := noise(200 << 10)
	for _, tc := range []struct {
		name  string
		files []file
	}{
		{"empty", nil},
		{"deflated, descriptors", []file{{"a", "one", 8, false}, {"part", "twotwo", 8, false}, {"b", "", 8, false}, {"c", long, 8, false}}},
		{"deflated, sizes", []file{{"a", "one", 8, true}, {"part", "twotwo", 8, true}, {"b", "", 8, true}, {"c", long, 8, true}}},
		{"stored, descriptors", []file{{"a", "one", 0, false}, {"part", "twotwo", 0, false}, {"b", "", 0, false}, {"c", long, 0, false}, {"part2", long, 0, false}}},
		{"stored, sizes", []file{{"a", "one", 0, true}, {"part", "twotwo", 0, true}, {"b", "", 0, true}, {"c", long, 0, true}}},
		{"folders", []file{{"d/", "", 0, false}, {"d/a", "one", 8, false}, {"e/", "", 0, true}}},
		{"archives within", []file{{"a", inner, 0, false}, {"b", inner, 0, true}, {"c", inner, 8, false}, {"d", inner, 8, true}, {"e", "end", 8, false}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := archive(t, tc.files...)
			var names, contents []string
			for _, f := range tc.files {
				names = append(names, f.name)
				if strings.HasPrefix(f.name, "part") {
					f.content = f.content[:3]
				}
				contents = append(contents, f.name+"="+f.content)
			}
			for _, prefix := range []string{"", "#!/bin/sh\nexec java -jar PK $0\n" + strings.Repeat("x", 100<<10)} {
				for how, r := range map[string]io.Reader{
					"whole": strings.NewReader(prefix + string(b)), "pieces": iotest.HalfReader(strings.NewReader(prefix + string(b)))} {
					if prefix != "" && tc.files == nil {
						continue
					}
					got, err := read(r, all, plenty)
					if diff := cmp.Diff(got, contents); err != nil || diff != "" {
						t.Errorf("read, %s: %v; got, want: %s", how, err, diff)
					}
				}
			}
			got, err := read(bytes.NewReader(b), none, plenty)
			if diff := cmp.Diff(got, names); err != nil || diff != "" {
				t.Errorf("skipped: %v; got, want: %s", err, diff)
			}
		})
	}
}

// patch changes bytes of an archive.
func patch(b []byte, at int, with ...byte) []byte {
	b = bytes.Clone(b)
	copy(b[at:], with)
	return b
}

func TestBroken(t *testing.T) {
	two := archive(t, file{"a", "one", 0, true}, file{"b", "two", 8, true})
	stream := archive(t, file{"a", noise(1000), 0, false}, file{"b", "two", 8, false})
	second := bytes.LastIndex(two[:bytes.Index(two, []byte("PK\x01\x02"))], []byte("PK\x03\x04"))
	central := bytes.Index(two, []byte("PK\x01\x02"))
	noDirectory := append(bytes.Clone(two[:central]), two[bytes.Index(two, []byte("PK\x05\x06")):]...)
	gap := append(append(bytes.Clone(two[:second]), strings.Repeat("gap", 1000)...), two[second:]...)
	unsigned := bytes.Replace(stream, []byte("PK\x07\x08"), nil, 2)
	wide := append(bytes.Clone(stream[:30+1+1000+8]), 0xe8, 3, 0, 0, 0, 0, 0, 0, 0xe8, 3, 0, 0, 0, 0, 0, 0)
	wide = append(wide, stream[30+1+1000+16:]...)
	for _, tc := range []struct {
		name   string
		b      []byte
		budget zipstream.Budget
		want   []string
		err    error
	}{
		{"a text", []byte("not a zip archive"), plenty, nil, zipstream.ErrFormat},
		{"nothing", nil, plenty, nil, io.ErrUnexpectedEOF},
		{"a large text", bytes.Repeat([]byte("PK text "), 1<<18), plenty, nil, zipstream.ErrFormat},
		{"cut in a header", two[:20], plenty, nil, io.ErrUnexpectedEOF},
		{"cut in content", two[:33], plenty, []string{"a="}, io.ErrUnexpectedEOF},
		{"cut in streamed content", stream[:500], plenty, nil, io.ErrUnexpectedEOF},
		{"cut before the directory", two[:central], plenty, []string{"a=one", "b=two"}, io.ErrUnexpectedEOF},
		{"no directory", noDirectory, plenty, []string{"a=one", "b=two"}, zipstream.ErrFormat},
		{"another name in the directory", patch(two, central+46, 'x'), plenty, []string{"a=one", "b=two"}, zipstream.ErrDirectory},
		{"fewer entries than the directory", two[second:], plenty, []string{"b=two"}, zipstream.ErrDirectory},
		{"a gap", gap, plenty, []string{"a=one", "b=two"}, nil},
		{"descriptors without a signature", unsigned, plenty, []string{"a=" + noise(1000), "b=two"}, nil},
		{"a wide descriptor", wide, plenty, []string{"a=" + noise(1000), "b=two"}, nil},
		{"encrypted", patch(two, 6, 1), plenty, []string{"a: entry is encrypted", "b=two"}, nil},
		{"another method", patch(two, 8, 12), plenty, []string{"a: entry is compressed in a way that isn't read: method 12", "b=two"}, nil},
		{"too many entries", two, zipstream.Budget{Entries: 1, Inflated: 100}, []string{"a=one"}, zipstream.ErrEntries},
		{"too much content", two, zipstream.Budget{Entries: 9, Inflated: 5}, []string{"a=one"}, zipstream.ErrInflated},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := read(bytes.NewReader(tc.b), all, tc.budget)
			if !errors.Is(err, tc.err) {
				t.Errorf("error = %v, want %v", err, tc.err)
			}
			if tc.name == "cut in content" {
				return
			}
			if diff := cmp.Diff(got, tc.want); diff != "" {
				t.Errorf("got, want: %s", diff)
			}
		})
	}
	broken := errors.New("broken pipe")
	if _, err := read(io.MultiReader(bytes.NewReader(stream[:500]), iotest.ErrReader(broken)), none, plenty); !errors.Is(err, broken) {
		t.Errorf("error of the reader = %v, want %v", err, broken)
	}
}

func TestLargeSizes(t *testing.T) {
	b := archive(t, file{"a", "one", 0, true}, file{"b", "two", 0, true})
	extra := binary.LittleEndian.AppendUint16(nil, 1)
	extra = binary.LittleEndian.AppendUint16(extra, 16)
	extra = binary.LittleEndian.AppendUint64(extra, 3)
	extra = binary.LittleEndian.AppendUint64(extra, 3)
	large := patch(b, 18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff)
	large = patch(large, 28, byte(len(extra)))
	large = append(append(bytes.Clone(large[:31]), extra...), large[31:]...)
	got, err := read(bytes.NewReader(large), all, plenty)
	if diff := cmp.Diff(got, []string{"a=one", "b=two"}); err != nil || diff != "" {
		t.Errorf("%v; got, want: %s", err, diff)
	}
}

// TestArchivesOfThisMachine reads what real programs wrote.
func TestArchivesOfThisMachine(t *testing.T) {
	files, err := filepath.Glob("/usr/share/java/*.jar")
	if err != nil || len(files) == 0 {
		t.Skip("no archives in /usr/share/java")
	}
	entries := 0
	for _, path := range files[:min(len(files), 60)] {
		b, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		want, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			continue
		}
		for _, skip := range []bool{true, false} {
			z := zipstream.NewReader(bytes.NewReader(b), &zipstream.Budget{Entries: 1e6, Inflated: 1 << 32})
			for i := 0; ; i++ {
				e, err := z.Next()
				if err == io.EOF && i == len(want.File) {
					break
				}
				if err != nil || i >= len(want.File) || string(e.Name) != want.File[i].Name {
					t.Fatalf("%s: entry %d is %q, %v", path, i, e.Name, err)
				}
				entries++
				if skip {
					continue
				}
				c, err := z.Open()
				if err != nil {
					t.Fatalf("%s: %s: %v", path, e.Name, err)
				}
				if n, err := io.Copy(io.Discard, c); err != nil || n != int64(want.File[i].UncompressedSize64) {
					t.Fatalf("%s: %s: %d bytes, %v, want %d", path, e.Name, n, err, want.File[i].UncompressedSize64)
				}
			}
		}
	}
	t.Logf("%d entries", entries)
}

func FuzzRead(f *testing.F) {
	f.Add(archive(f, file{"a", "one", 8, false}, file{"b", "two", 0, false}, file{"c/", "", 0, false}))
	f.Add(archive(f, file{"a", "one", 8, true}, file{"b", "two", 0, true}))
	f.Fuzz(func(t *testing.T, b []byte) {
		budget := zipstream.Budget{Entries: 100, Inflated: 1 << 20}
		got, err := read(bytes.NewReader(b), all, budget)
		again, errAgain := read(iotest.OneByteReader(bytes.NewReader(b)), all, budget)
		if diff := cmp.Diff(got, again); diff != "" || fmt.Sprint(err) != fmt.Sprint(errAgain) {
			t.Errorf("%v, byte by byte %v: %s", err, errAgain, diff)
		}
	})
}

func BenchmarkSkip(b *testing.B) {
	var files []file
	for i := range 500 {
		files = append(files, file{fmt.Sprintf("org/example/Class%d.class", i), noise(4000), 8, false})
	}
	zipped := archive(b, files...)
	b.SetBytes(int64(len(zipped)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := read(bytes.NewReader(zipped), none, zipstream.Budget{Entries: 1e6, Inflated: 1 << 32}); err != nil {
			b.Fatal(err)
		}
	}
}
