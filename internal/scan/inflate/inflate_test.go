package inflate_test

import (
	"bytes"
	"compress/flate"
	stdgzip "compress/gzip"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"
	"testing/iotest"

	"github.com/castellan-security/castellan/internal/scan/inflate"
)

// texts are contents that lead compressors into all kinds of block and code.
func texts() map[string][]byte {
	random := rand.New(rand.NewPCG(1, 2))
	noise := make([]byte, 300_000)
	for i := range noise {
		noise[i] = byte(random.Uint32())
	}
	skewed := make([]byte, 500_000) // codes of up to 15 bits
	for i := range skewed {
		skewed[i] = byte(random.ExpFloat64() * 9)
	}
	var mixed bytes.Buffer
	for mixed.Len() < 2<<20 {
		fmt.Fprintf(&mixed, "/usr/share/doc/package-%d/changelog %x\n", random.IntN(5000), random.Uint64())
		if random.IntN(20) == 0 {
			mixed.Write(noise[:random.IntN(5000)])
		}
		if random.IntN(50) == 0 {
			mixed.Write(make([]byte, random.IntN(3000)))
		}
	}
	return map[string][]byte{
		"nothing":      {},
		"one byte":     {7},
		"zeros":        make([]byte, 1<<20),
		"noise":        noise,
		"skewed":       skewed,
		"mixed":        mixed.Bytes(),
		"short period": bytes.Repeat([]byte("abc"), 100_000),
		"far back":     append(append(bytes.Clone(noise[:32768]), noise[:300]...), noise[:32768]...),
	}
}

func deflated(t testing.TB, b []byte, level int) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := flate.NewWriter(&out, level)
	if err == nil {
		_, err = w.Write(b)
	}
	if err = errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestReader(t *testing.T) {
	for name, text := range texts() {
		for _, level := range []int{flate.HuffmanOnly, 0, 1, 6, 9} {
			packed := append(deflated(t, text, level), "what follows"...)
			for how, src := range map[string]io.Reader{
				"at once":     bytes.NewReader(packed),
				"byte a time": iotest.OneByteReader(bytes.NewReader(packed)),
				"halves":      iotest.HalfReader(bytes.NewReader(packed)),
				"end at once": iotest.DataErrReader(bytes.NewReader(packed)),
			} {
				t.Run(fmt.Sprintf("%s/%d/%s", name, level, how), func(t *testing.T) {
					r := inflate.NewReader(src)
					got, err := io.ReadAll(r)
					if err != nil {
						t.Fatal(err)
					}
					if !bytes.Equal(got, text) {
						t.Fatalf("%d bytes, want the %d that were compressed", len(got), len(text))
					}
					rest, err := io.ReadAll(src)
					if err != nil {
						t.Fatal(err)
					}
					if rest = append(bytes.Clone(r.Rest()), rest...); string(rest) != "what follows" {
						t.Errorf("Rest() = %.40q", rest)
					}
				})
			}
		}
	}
}

func TestWriteTo(t *testing.T) {
	for name, text := range texts() {
		t.Run(name, func(t *testing.T) {
			var got bytes.Buffer
			n, err := inflate.NewReader(bytes.NewReader(deflated(t, text, 6))).WriteTo(&got)
			if err != nil || n != int64(len(text)) || !bytes.Equal(got.Bytes(), text) {
				t.Errorf("WriteTo() = %d, %v, want %d", n, err, len(text))
			}
		})
	}
}

// A stream that ends too early says so, wherever that is, and never gives more
// than it has.
func TestCutOff(t *testing.T) {
	text := texts()["mixed"][:4000]
	packed := deflated(t, text, 6)
	for n := range packed {
		got, err := io.ReadAll(inflate.NewReader(bytes.NewReader(packed[:n])))
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatalf("cut off after %d of %d bytes: %v, want unexpected EOF", n, len(packed), err)
		}
		if !bytes.HasPrefix(text, got) {
			// The last bits may be read together with zeros; not more than a
			// match of the longest kind comes of it.
			if len(got) > len(text)+300 {
				t.Fatalf("cut off after %d bytes: %d bytes of output", n, len(got))
			}
		}
	}
}

func TestDamage(t *testing.T) {
	for _, tc := range []struct {
		name string
		data []byte
	}{
		{"kind of block", []byte{0b111}},
		{"length of a stored block", []byte{1, 5, 0, 0, 0, 'a'}},
		{"match before the beginning", []byte{0x63, 0x04, 0x42, 0x00, 0x00, 0x00}},
		{"lengths that make no code", []byte{0x05, 0xc0, 0x81, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, want := io.ReadAll(flate.NewReader(bytes.NewReader(tc.data)))
			if want == nil {
				t.Fatal("compress/flate takes it")
			}
			if _, err := io.ReadAll(inflate.NewReader(bytes.NewReader(tc.data))); err == nil {
				t.Error("no error, want one")
			}
		})
	}
}

func TestSourceFails(t *testing.T) {
	broken := errors.New("line cut")
	packed := deflated(t, texts()["mixed"], 6)
	src := io.MultiReader(bytes.NewReader(packed[:len(packed)/2]), iotest.ErrReader(broken))
	got, err := io.ReadAll(inflate.NewReader(src))
	if !errors.Is(err, broken) {
		t.Errorf("error %v, want the source's", err)
	}
	if len(got) == 0 {
		t.Error("nothing of what came before")
	}
}

func gzipped(t testing.TB, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := stdgzip.NewWriter(&out)
	w.Name, w.Comment, w.Extra = "layer.tar", "a comment", []byte("extra")
	_, err := w.Write(b)
	if err = errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestGzip(t *testing.T) {
	text := texts()["mixed"]
	one := gzipped(t, text)
	two := append(bytes.Clone(one), gzipped(t, []byte("second"))...)
	flipped := bytes.Clone(one)
	flipped[len(flipped)-8] ^= 1
	longer := bytes.Clone(one)
	longer[len(longer)-4] ^= 1
	for _, tc := range []struct {
		name string
		data []byte
		want []byte
		ok   bool
	}{
		{"one member", one, text, true},
		{"two members", two, append(bytes.Clone(text), "second"...), true},
		{"padded with zeros", append(bytes.Clone(one), make([]byte, 70_000)...), text, true},
		{"garbage behind", append(bytes.Clone(one), "garbage behind"...), text, false},
		{"half a header behind", append(bytes.Clone(one), 0x1f, 0x8b, 8), text, false},
		{"checksum", flipped, text, false},
		{"size", longer, text, false},
		{"no trailer", one[:len(one)-8], text, false},
		{"half a trailer", one[:len(one)-3], text, false},
		{"half", one[:len(one)/2], nil, false},
		{"header alone", one[:12], nil, false},
		{"nothing", nil, nil, false},
		{"no gzip", []byte("PK\x03\x04 something else"), nil, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for how, read := range map[string]func(*inflate.Gzip) ([]byte, error){
				"Read": func(g *inflate.Gzip) ([]byte, error) { return io.ReadAll(g) },
				"WriteTo": func(g *inflate.Gzip) ([]byte, error) {
					var b bytes.Buffer
					_, err := g.WriteTo(&b)
					return b.Bytes(), err
				},
			} {
				var got []byte
				g, err := inflate.NewGzip(bytes.NewReader(tc.data))
				if err == nil {
					got, err = read(g)
				}
				if (err == nil) != tc.ok || err == io.EOF {
					t.Errorf("%s: error %v, want ok: %v", how, err, tc.ok)
				}
				if tc.want != nil && !bytes.Equal(got, tc.want) {
					t.Errorf("%s: %d bytes, want %d", how, len(got), len(tc.want))
				}
			}
		})
	}
}

// Whatever the bytes are, the answer is that of the standard library: the same
// output, and an error where it has one.
func FuzzReader(f *testing.F) {
	for _, text := range texts() {
		f.Add(deflated(f, text[:min(len(text), 3000)], 6))
	}
	f.Add([]byte{0x4b, 0x04, 0x42, 0x00, 0x00})
	f.Fuzz(func(t *testing.T, data []byte) {
		const most = 1 << 22 // of output: 4 KB of input can make more
		want, wantErr := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(data)), most))
		r := inflate.NewReader(iotest.HalfReader(bytes.NewReader(data)))
		got, err := io.ReadAll(io.LimitReader(r, most))
		if (err == nil) != (wantErr == nil) {
			t.Fatalf("error %v, compress/flate says %v", err, wantErr)
		}
		if err == nil && !bytes.Equal(got, want) {
			t.Fatalf("%d bytes that differ from the %d of compress/flate", len(got), len(want))
		}
	})
}
