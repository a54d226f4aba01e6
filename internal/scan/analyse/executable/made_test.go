package executable_test

import (
	"bytes"
	"compress/zlib"
	"context"
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan/analyse"
	"github.com/castellan-security/castellan/internal/scan/analyse/executable"
)

const (
	infoStart   = "\x30\x77\xaf\x0c\x92\x74\x08\x02\x41\xe1\xc1\x07\xe6\xd6\x18\xe6"
	infoEnd     = "\xf9\x32\x43\x31\x86\x18\x20\x72\x00\x82\x42\x10\x41\x16\xd8\xf2"
	testModules = infoStart + "path\texample.com/app\nmod\texample.com/app\tv1.0.0\t\ndep\texample.com/dep\tv0.3.0\th1:x=\n" + infoEnd
)

// inlineInfo is build information as Go writes it since 1.18.
func inlineInfo(version, modules string) []byte {
	b := append([]byte("\xff Go buildinf:\x00\x02"), make([]byte, 16)...)
	b = append(binary.AppendUvarint(b, uint64(len(version))), version...)
	return append(binary.AppendUvarint(b, uint64(len(modules))), modules...)
}

// elfParts is an ELF program made of a segment of text at 0x1000, one of data
// behind it, what is not mapped, and a section that begins there.
type elfParts struct {
	text, data, tail []byte
	note             bool
	wide             bool
	order            binary.ByteOrder
	noSections       bool
}

const textAt, textAddr = 0x1000, 0x401000

func (p elfParts) dataAt() int { return textAt + (len(p.text)+0xfff)&^0xfff }

func (p elfParts) bytes() []byte {
	b := make([]byte, textAt)
	copy(b, "\x7fELF\x01\x01\x01")
	if p.wide {
		b[4] = 2
	}
	if p.order == nil {
		p.order = binary.LittleEndian
	}
	if p.order == binary.BigEndian {
		b[5] = 2
	}
	word := func(at, wideAt int, v int) {
		if p.wide {
			p.order.PutUint64(b[wideAt:], uint64(v))
		} else {
			p.order.PutUint32(b[at:], uint32(v))
		}
	}
	half := func(at, wideAt int, v int) {
		if p.wide {
			at = wideAt
		}
		p.order.PutUint16(b[at:], uint16(v))
	}
	dataAt := p.dataAt()
	tailAt := dataAt + len(p.data)
	sections := tailAt + len(p.tail)
	word(0x1c, 0x20, 0x40)
	half(0x2a, 0x36, 0x38)
	half(0x2c, 0x38, 3)
	if !p.noSections {
		word(0x20, 0x28, sections)
		half(0x2e, 0x3a, 0x40)
		half(0x30, 0x3c, 2)
	}
	segment := func(i int, kind, flags, offset, addr, size int) {
		at := 0x40 + i*0x38
		p.order.PutUint32(b[at:], uint32(kind))
		if p.wide {
			p.order.PutUint32(b[at+4:], uint32(flags))
		} else {
			p.order.PutUint32(b[at+24:], uint32(flags))
		}
		word(at+4, at+8, offset)
		word(at+8, at+16, addr)
		word(at+16, at+32, size)
	}
	segment(0, 1, 4, textAt, textAddr, len(p.text))
	segment(1, 1, 6, dataAt, textAddr+dataAt-textAt, len(p.data))
	if p.note {
		segment(2, 4, 4, 0x200, 0, 16)
		p.order.PutUint32(b[0x200:], 4)
		p.order.PutUint32(b[0x208:], 4)
		copy(b[0x20c:], "Go\x00\x00")
	}
	b = append(b, p.text...)
	b = append(b, make([]byte, dataAt-len(b))...)
	b = append(append(b, p.data...), p.tail...)
	table := make([]byte, 2*0x40)
	if p.wide {
		p.order.PutUint64(table[0x40+0x18:], uint64(tailAt))
	} else {
		p.order.PutUint32(table[0x40+0x10:], uint32(tailAt))
	}
	return append(b, table...)
}

func program(t testing.TB, data []byte) []byte {
	t.Helper()
	return elfParts{text: []byte("text"), data: data, note: true, wide: true}.bytes()
}

func multi(rs ...io.Reader) io.Reader { return io.MultiReader(rs...) }

// oldInfo is a program as Go wrote it before 1.18: pointers to the headers of
// strings, which lie further on in the data and point back into the text.
func oldInfo(version, modules string, size int, order binary.ByteOrder) elfParts {
	p := elfParts{order: order, wide: size == 8, note: true}
	p.text = []byte(strings.Repeat("x", 100<<10) + "some string" + version + modules + "another")
	put := func(at, v int) {
		if size == 8 {
			order.PutUint64(p.data[at:], uint64(v))
		} else {
			order.PutUint32(p.data[at:], uint32(v))
		}
	}
	p.data = append([]byte("\xff Go buildinf:\x00\x00"), make([]byte, 100<<10)...)
	p.data[14] = byte(size)
	if order == binary.BigEndian {
		p.data[15] = 1
	}
	dataAddr := textAddr + p.dataAt() - textAt
	put(16, dataAddr+0x10000)
	put(16+size, dataAddr+0x8000)
	put(0x10000, textAddr+strings.Index(string(p.text), version))
	put(0x10000+size, len(version))
	put(0x8000, textAddr+strings.Index(string(p.text), infoStart))
	put(0x8000+size, len(modules))
	return p
}

func deflated(s string) []byte { return compressed(s, zlib.DefaultCompression) }

func compressed(s string, level int) []byte {
	var b bytes.Buffer
	z, err := zlib.NewWriterLevel(&b, level)
	if err != nil {
		panic(err)
	}
	if _, err := io.WriteString(z, s); err != nil {
		panic(err)
	}
	if err := z.Close(); err != nil {
		panic(err)
	}
	return b.Bytes()
}

const crates = `{"packages":[` +
	`{"name":"adler","version":"1.0.2","source":"registry"},` +
	`{"name":"app","version":"0.1.0","source":"local","dependencies":[0,2],"root":true},` +
	`{"name":"cc","version":"1.0.79","source":"crates.io","kind":"build"},` +
	`{"name":"serde","version":"1.0.160","source":"crates.io"}]}`

func TestMadePrograms(t *testing.T) {
	goWant := []string{"golang example.com/app v1.0.0 Go", "golang example.com/dep v0.3.0 Go", "golang stdlib 1.21.3 Go"}
	oldWant := []string{"golang example.com/app v1.0.0 Go", "golang example.com/dep v0.3.0 Go", "golang stdlib 1.17.5 Go"}
	crateWant := []string{"cargo adler 1.0.2 ", "cargo app 0.1.0 crates.io", "cargo serde 1.0.160 crates.io"}
	long := infoStart + strings.Repeat("dep\texample.com/dep\tv0.3.0\t\n", 40000) + infoEnd
	info := inlineInfo("go1.21.3", testModules)
	unaligned := append([]byte("12345678"), info...)
	old := oldInfo("go1.17.5", testModules, 8, binary.LittleEndian)
	lost := old
	lost.text = bytes.Repeat([]byte("x"), len(old.text))
	noNote := old
	noNote.note = false
	list := deflated(crates)
	for _, tc := range []struct {
		name  string
		parts elfParts
		want  []string
		err   string
	}{
		{"64 bits", elfParts{data: info, wide: true}, goWant, ""},
		{"32 bits, big endian", elfParts{data: info, order: binary.BigEndian}, goWant, ""},
		{"across pieces", elfParts{data: append(make([]byte, 0x7ff0), info...), wide: true}, goWant, ""},
		{"in data that is not writable", elfParts{text: info, data: []byte("data"), wide: true}, goWant, ""},
		{"not aligned", elfParts{data: unaligned, wide: true}, nil, ""},
		{"a false mark before it", elfParts{data: append([]byte("\xff Go buildinf:\x00\x0200000000\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"), info...), wide: true}, goWant, ""},
		{"without modules", elfParts{data: inlineInfo("go1.21.3", ""), wide: true}, goWant[2:], ""},
		{"a command of Go", elfParts{data: inlineInfo("go1.21.3", infoStart+"path\tcmd/go\nbuild\t-compiler=gc\n"+infoEnd), wide: true}, []string{"golang stdlib 1.21.3 Go", "golang toolchain 1.21.3 Go"}, ""},
		{"strange modules", elfParts{data: inlineInfo("go1.21.3", infoStart+"dep\ta\n"+infoEnd), wide: true}, goWant[2:], "build information of Go: could not parse Go build info: line 1: expected 2 or 3 columns; got 1"},
		{"too many modules", elfParts{data: inlineInfo("go1.21.3", long), wide: true}, nil, "build information of Go: string of 1120032 bytes, at most 1048576 are read"},
		{"before 1.18", old, oldWant, ""},
		{"before 1.18, 32 bits, big endian", oldInfo("go1.17.5", testModules, 4, binary.BigEndian), oldWant, ""},
		{"before 1.18, strings lost", lost, nil, "build information of Go before 1.18 points to where nothing was found"},
		{"before 1.18, no note", noNote, nil, "build information of Go before 1.18 points to where nothing was found"},
		{"crates", elfParts{data: []byte("data"), tail: list, wide: true}, crateWant, ""},
		{"crates, not compressed", elfParts{data: []byte("data"), tail: compressed(crates, zlib.NoCompression), wide: true}, crateWant, ""},
		{"crates, with blanks", elfParts{data: []byte("data"), tail: deflated("{\n  \"packages\" : [" + crates[len(`{"packages":[`):]), wide: true}, crateWant, ""},
		{"crates, 32 bits, big endian", elfParts{data: []byte("data"), tail: list, order: binary.BigEndian}, crateWant, ""},
		{"crates without a section", elfParts{data: []byte("data"), tail: list, noSections: true, wide: true}, nil, ""},
		{"crates within other data", elfParts{data: []byte("data"), tail: append([]byte("xx"), list...), wide: true}, nil, ""},
		{"crates cut", elfParts{data: []byte("data"), tail: list[:len(list)/2], wide: true}, nil, ""},
		{"nothing", elfParts{data: []byte("data"), wide: true}, nil, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for _, r := range []io.Reader{bytes.NewReader(tc.parts.bytes()), iotest.HalfReader(bytes.NewReader(tc.parts.bytes()))} {
				var shown analyse.Shown
				err := (executable.Analyser{}).Take(context.Background(), &analyse.Entry{Path: "app"}, r, &shown)
				if got := errText(err); got != tc.err {
					t.Errorf("error = %q, want %q", got, tc.err)
				}
				if diff := gocmp.Diff(sorted(shown.Packages), tc.want); diff != "" {
					t.Errorf("got, want: %s", diff)
				}
			}
		})
	}
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestMemoryIsBounded(t *testing.T) {
	// A program of 256 MiB that is full of what is searched for.
	var begin = elfParts{text: make([]byte, 1<<20), note: true, wide: true}.bytes()[:textAt]
	binary.LittleEndian.PutUint64(begin[0x40+32:], 1<<40)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	var shown analyse.Shown
	noise := []byte("go1.devel x\x9c\x78\x01" + infoStart + "\xff Go buildinf:")
	if err := (executable.Analyser{}).Take(context.Background(), &analyse.Entry{}, io.MultiReader(bytes.NewReader(begin), io.LimitReader(repeat(noise), 256<<20)), &shown); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > 16<<20 {
		t.Errorf("%d bytes allocated, want at most 16 MiB", got)
	}
}

type repeat []byte

func (r repeat) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		n += copy(p[n:], r)
	}
	return n, nil
}

func FuzzTake(f *testing.F) {
	f.Add(program(f, inlineInfo("go1.21.3", testModules)))
	f.Add(oldInfo("go1.17.5", testModules, 8, binary.LittleEndian).bytes())
	f.Add(elfParts{data: []byte("data"), tail: deflated(crates), wide: true}.bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		var shown analyse.Shown
		head := b[:min(len(b), analyse.HeadSize)]
		e := &analyse.Entry{Path: "app"}
		if !(executable.Analyser{}).Wants(e, head) {
			return
		}
		_ = (executable.Analyser{}).Take(context.Background(), e, bytes.NewReader(b), &shown)
		for _, p := range shown.Packages {
			if p.Name == "" || p.Found != inventory.Compiled {
				t.Errorf("package %+v", p)
			}
		}
	})
}

// BenchmarkTake reads the largest programs of this machine: one that Go built,
// and libraries that say nothing.
func BenchmarkTake(b *testing.B) {
	for _, path := range []string{"/usr/bin/containerd", "/usr/local/bin/docker", "/usr/lib/x86_64-linux-gnu/libcrypto.so.3", "/usr/bin/node"} {
		file, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		b.Run(filepath.Base(path), func(b *testing.B) {
			b.SetBytes(int64(len(file)))
			b.ReportAllocs()
			for b.Loop() {
				var shown analyse.Shown
				if err := (executable.Analyser{}).Take(context.Background(), &analyse.Entry{}, bytes.NewReader(file), &shown); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
