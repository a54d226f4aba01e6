package images

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/inventory"
)

func squeeze(t testing.TB, b []byte) []byte {
	t.Helper()
	z, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	return z.EncodeAll(b, nil)
}

func TestDecode(t *testing.T) {
	want := inventory.Inventory{
		Subject: inventory.Subject{Kind: inventory.KindImage, Name: "shop/web:1"},
		Image:   &inventory.Image{ID: "sha256:1", Config: inventory.Config{Labels: map[string]string{"a": "b"}}, Layers: []inventory.Layer{{Digest: "sha256:2"}}},
		Packages: []inventory.Package{
			{Type: "deb", Name: "a \\\" { [ ,", Version: "1", Places: []inventory.Place{{Path: "/x\\", Layer: 1}}, Found: inventory.Installed},
			{Type: "deb", Name: "b", Version: "1", Places: []inventory.Place{{Path: "/y", Layer: 1}}},
		},
		Analysis: 1,
	}
	b, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := decode(squeeze(t, b))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("inventory (-want +got):\n%s", diff)
	}
}

func TestDecodeMakesTextsSound(t *testing.T) {
	long := strings.Repeat("é", maxText)
	in := inventory.Inventory{
		Packages: []inventory.Package{{Name: "a\x00b", Version: long, Files: []string{"/x\x00"}, Places: []inventory.Place{{Path: long}}}},
		Image:    &inventory.Image{Config: inventory.Config{Labels: map[string]string{"k\x00": "v\x00"}}},
		Problems: []inventory.Problem{{What: long}},
	}
	b, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	got, err := decode(squeeze(t, b))
	if err != nil {
		t.Fatal(err)
	}
	p := got.Packages[0]
	if p.Name != "a\ufffdb" || p.Files[0] != "/x\ufffd" || got.Image.Config.Labels["k\ufffd"] != "v\ufffd" || len(got.Image.Config.Labels) != 1 {
		t.Errorf("got %q %q %q", p.Name, p.Files, got.Image.Config.Labels)
	}
	for name, s := range map[string]string{"version": p.Version, "place": p.Places[0].Path, "problem": got.Problems[0].What} {
		if len(s) > maxText || !utf8.ValidString(s) || len(s) < maxText-1 {
			t.Errorf("%s has %d bytes, valid %v", name, len(s), utf8.ValidString(s))
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	for _, tc := range []struct {
		name   string
		packed func(t *testing.T) []byte
		says   string
	}{
		{"nothing", func(*testing.T) []byte { return nil }, "read it"},
		{"what is not compressed", func(*testing.T) []byte { return []byte(`{"packages":[]}`) }, "decompress it"},
		{"half of it", func(t *testing.T) []byte {
			b := squeeze(t, bytes.Repeat([]byte(`{"packages":["`), 1000))
			return b[:len(b)/2]
		}, "decompress it"},
		{"a bomb", func(t *testing.T) []byte { return squeeze(t, make([]byte, maxUnpacked+1)) }, "larger than 64 MiB"},
		{"a window of 512 MiB", func(*testing.T) []byte {
			// Magic, a descriptor without sizes, a window of 2^29 bytes, one empty
			// last block.
			return []byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 19 << 3, 0x01, 0x00, 0x00}
		}, "larger than 64 MiB"},
		{"what is no JSON", func(t *testing.T) []byte { return squeeze(t, []byte("inventory")) }, "read it"},
		{"a list", func(t *testing.T) []byte { return squeeze(t, []byte("[]")) }, "read it"},
		{"many packages", func(t *testing.T) []byte {
			return squeeze(t, []byte(`{"packages":[{}`+strings.Repeat(",{}", maxPackages)+`]}`))
		}, "more than 100000 packages"},
		{"objects that grow", func(t *testing.T) []byte {
			return squeeze(t, []byte(`{"image":{"history":[{}`+strings.Repeat(",{}", maxObjects)+`]}}`))
		}, "objects"},
		{"values that grow", func(t *testing.T) []byte {
			return squeeze(t, []byte(`{"packages":[{"files":[""`+strings.Repeat(`,""`, maxValues)+`]}]}`))
		}, "values"},
		{"lists in lists", func(t *testing.T) []byte {
			return squeeze(t, []byte(`{"x":`+strings.Repeat("[", 100_000)))
		}, "read it"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := decode(tc.packed(t))
			if !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("got %v, want invalid with %q", err, tc.says)
			}
		})
	}
}

// FuzzDecode feeds both what a compressed answer may be and, because few mutations
// of such bytes decompress, what may be in one.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"packages":[{"type":"deb","name":"a","places":[{"path":"/x"}]}],"analysis":1}`))
	f.Add([]byte(`{"image":{"config":{"labels":{"a":"\u0000"}}},"problems":[{"what":"\ud800"}]}`))
	f.Add([]byte(`{"packages":[{"published":"2026-01-01T00:00:00Z","name":"\\\"{[,"}]}`))
	f.Add(squeeze(f, []byte(`{}`)))
	f.Add([]byte(`{"image":{"layers":[{"instruction":"COPY . /"}],"config":{"user":"0"}},"secrets":[{"path":"/k","layer":1,"rule":"jwt","print":"p","hidden":{"layer":9}}],"files":[{"path":"/s","layer":7,"why":"set-uid","mode":2541}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, packed := range [][]byte{b, squeeze(t, b)} {
			inv, err := decode(packed)
			if err != nil {
				if !fault.Is(err, fault.Invalid) {
					t.Errorf("got %v, want invalid", err)
				}
				continue
			}
			again, err := json.Marshal(inv)
			if err != nil {
				t.Fatalf("what was decoded can't be encoded: %v", err)
			}
			if bytes.Contains(again, []byte(`\u0000`)) {
				t.Errorf("NUL in %s", again)
			}
			for _, p := range inv.Packages {
				newInUse([]string{"/usr/lib/x", "/app/a"}).of(&p)
			}
			found := judge(&inv, nil, time.Unix(0, 0))
			if len(found) > 3*maxOfKind {
				t.Errorf("%d findings are kept", len(found))
			}
			for i := range found {
				if found[i].Key == "" || len(found[i].Instruction) > 2*maxInstruction {
					t.Errorf("finding %+v", found[i])
				}
			}
		}
	})
}
