package untar_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/castellan-security/castellan/internal/scan/untar"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// entry is what both readers are compared by.
type entry struct {
	Name, Link   string
	Type         byte
	Size, Mode   int64
	UID, GID     int
	Major, Minor int64
	Capability   bool
	Content      string
}

// shown is how much of a hole the tests make: a sparse file may be of any size.
const shown = 1 << 16

// gatherer keeps all entries with the beginning of their content.
type gatherer struct{ entries []entry }

func (g *gatherer) Entry(h *untar.Header) error {
	g.entries = append(g.entries, entry{Name: h.Name, Link: h.Link, Type: h.Type, Size: h.Size, Mode: h.Mode,
		UID: h.UID, GID: h.GID, Major: h.Major, Minor: h.Minor, Capability: h.Capability})
	return nil
}

func (g *gatherer) Content(b []byte) error {
	e := &g.entries[len(g.entries)-1]
	e.Content += string(b[:min(len(b), shown-len(e.Content))])
	return nil
}

func (g *gatherer) Hole(n int64) error {
	return g.Content(make([]byte, min(n, shown)))
}

// ours reads data pushed in pieces of the given size.
func ours(data []byte, piece int) ([]entry, error) {
	var g gatherer
	p := untar.New(&g)
	for len(data) > 0 {
		n := min(piece, len(data))
		if _, err := p.Write(data[:n]); err != nil {
			return g.entries, err
		}
		data = data[n:]
	}
	return g.entries, p.Close()
}

// theirs reads data with archive/tar.
func theirs(data []byte) (entries []entry, err error) {
	r := tar.NewReader(bytes.NewReader(data))
	for {
		h, err := r.Next()
		if err == io.EOF {
			return entries, nil
		}
		if err != nil {
			return entries, err
		}
		if h.Typeflag == tar.TypeXGlobalHeader {
			continue
		}
		e := entry{Name: h.Name, Link: h.Linkname, Type: h.Typeflag, Size: h.Size, Mode: h.Mode, UID: h.Uid, GID: h.Gid,
			Major: h.Devmajor, Minor: h.Devminor, Capability: h.PAXRecords["SCHILY.xattr.security.capability"] != ""}
		if e.Type == tar.TypeGNUSparse {
			e.Type = tar.TypeReg
		}
		if e.Type >= tar.TypeLink && e.Type <= tar.TypeFifo {
			e.Size = 0
		}
		content, err := io.ReadAll(io.LimitReader(r, shown))
		if err != nil {
			return append(entries, e), err
		}
		e.Content = string(content)
		entries = append(entries, e)
	}
}

// block makes one header from fields; the checksum is set.
func block(name string, typ byte, size string, set func([]byte)) []byte {
	b := make([]byte, 512)
	copy(b, name)
	copy(b[100:], "0000644\x00")
	copy(b[108:], "0000000\x00")
	copy(b[116:], "0000000\x00")
	copy(b[124:], size)
	copy(b[136:], "00000000000\x00")
	b[156] = typ
	copy(b[257:], "ustar\x0000")
	if set != nil {
		set(b)
	}
	return seal(b)
}

func seal(b []byte) []byte {
	copy(b[148:], "        ")
	sum := 0
	for _, c := range b[:512] {
		sum += int(c)
	}
	copy(b[148:], fmt.Sprintf("%06o\x00 ", sum))
	return b
}

func octal(n int) string { return fmt.Sprintf("%011o\x00", n) }

func content(s string) []byte {
	return append([]byte(s), make([]byte, -len(s)&511)...)
}

func paxBlock(records ...string) []byte {
	var all string
	for _, r := range records {
		n := len(r) + 3
		for len(fmt.Sprint(n))+len(r)+2 != n {
			n = len(fmt.Sprint(n)) + len(r) + 2
		}
		all += fmt.Sprintf("%d %s\n", n, r)
	}
	return cat(block("PaxHeaders/x", 'x', octal(len(all)), nil), content(all))
}

func cat(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// archives are the shapes that writers and attackers make.
func archives() map[string][]byte {
	end := make([]byte, 1024)
	file := cat(block("etc/os-release", '0', octal(5), nil), content("ID=x\n"))
	gnu := func(b []byte) { copy(b[257:], "ustar  \x00") }
	long := strings.Repeat("d/", 200) + "name"
	sparseMap := "2\n0\n3\n1000\n4\n"
	return map[string][]byte{
		"empty":             {},
		"one file":          cat(file, end),
		"no end mark":       file,
		"one zero block":    cat(file, end[:512]),
		"zero block inside": cat(file, end[:512], file, end),
		"padding cut off":   file[:512+5],
		"content cut off":   file[:512+4],
		"header cut off":    file[:300],
		"after the end":     cat(file, end, file),
		"wrong checksum":    append(bytes.Replace(file[:512:512], []byte("etc"), []byte("etd"), 1), file[512:]...),
		"prefix":            cat(block("name", '0', octal(0), func(b []byte) { copy(b[345:], "a/long/prefix") }), end),
		"old folder":        cat(block("folder/", 0, octal(0), func(b []byte) { copy(b[257:], make([]byte, 8)) }), end),
		"old file":          cat(block("file", 0, octal(3), func(b []byte) { copy(b[257:], make([]byte, 8)) }), content("abc"), end),
		"GNU long name":     cat(block("././@LongLink", 'L', octal(len(long)+1), gnu), content(long+"\x00"), block("short", '0', octal(2), gnu), content("hi"), end),
		"GNU long link":     cat(block("././@LongLink", 'K', octal(len(long)+1), gnu), content(long+"\x00"), block("link", '2', octal(0), gnu), end),
		"long name too long": cat(block("././@LongLink", 'L', octal(1<<20+1), gnu), make([]byte, 1<<20+512),
			block("short", '0', octal(0), gnu), end),
		"base-256 size":          cat(block("f", '0', "\x80\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x03", nil), content("abc"), end),
		"base-256 negative size": cat(block("f", '0', "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfd", nil), content("abc"), end),
		"base-256 overflow":      cat(block("f", '0', "\x81\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfd", nil), content("abc"), end),
		"huge size":              cat(block("f", '0', "\x80\x00\x00\x00\x7f\xff\xff\xff\xff\xff\xff\xff", nil), content("abc"), end),
		"size with blanks":       cat(block("f", '0', "  3 \x00       ", nil), content("abc"), end),
		"size with junk":         cat(block("f", '0', "3 x", nil), content("abc"), end),
		"size with late junk":    cat(block("f", '0', "3\x00x", nil), content("abc"), end),
		"not octal":              cat(block("f", '0', "00000000008\x00", nil), content("abc"), end),
		"folder with a size":     cat(block("d/", '5', octal(600), nil), file, end),
		"device":                 cat(block("dev/null", '3', octal(0), func(b []byte) { copy(b[329:], "0000001\x000000003\x00") }), end),
		"unknown type":           cat(block("x", 'Z', octal(3), nil), content("abc"), file, end),
		"PAX path": cat(paxBlock("path=from/pax", "uid=5", "mtime=1.5", "SCHILY.xattr.security.capability=\x01\x02"),
			block("short", '0', octal(1), nil), content("x"), end),
		"PAX size":             cat(paxBlock("size=3"), block("f", '0', octal(0), nil), content("abc"), end),
		"PAX negative size":    cat(paxBlock("size=-3"), block("f", '0', octal(0), nil), content("abc"), end),
		"PAX size no number":   cat(paxBlock("size=3x"), block("f", '0', octal(0), nil), content("abc"), end),
		"PAX empty value":      cat(paxBlock("path=a", "path="), block("f", '0', octal(0), nil), end),
		"PAX path with zero":   cat(paxBlock("path=a\x00b"), block("f", '0', octal(0), nil), end),
		"PAX twice":            cat(paxBlock("path=a"), paxBlock("uid=7"), block("f", '0', octal(0), nil), end),
		"PAX time":             cat(paxBlock("mtime=1.x"), block("f", '0', octal(0), nil), end),
		"PAX record too long":  cat(block("p", 'x', octal(8), nil), content("99 a=b\nx"), block("f", '0', octal(0), nil), end),
		"PAX record too short": cat(block("p", 'x', octal(6), nil), content("3 a=b\n"), block("f", '0', octal(0), nil), end),
		"PAX alone":            cat(paxBlock("path=a"), end),
		"PAX too large":        cat(block("p", 'x', octal(1<<20+1), nil), make([]byte, 1<<20+512), end),
		"global header":        cat(block("g", 'g', octal(len("10 path=a\n")), nil), content("10 path=a\n"), file, end),
		"global after PAX": cat(paxBlock("path=a"), block("g", 'g', octal(len("10 path=b\n")), nil), content("10 path=b\n"),
			file, end),
		"sparse 0.0": cat(paxBlock("GNU.sparse.size=1004", "GNU.sparse.numblocks=2", "GNU.sparse.offset=0", "GNU.sparse.numbytes=3",
			"GNU.sparse.offset=1000", "GNU.sparse.numbytes=4"), block("f", '0', octal(7), nil), content("abcdefg"), file, end),
		"sparse 0.1": cat(paxBlock("GNU.sparse.major=0", "GNU.sparse.minor=1", "GNU.sparse.name=real", "GNU.sparse.size=2000",
			"GNU.sparse.numblocks=2", "GNU.sparse.map=0,3,1000,4"), block("f", '0', octal(7), nil), content("abcdefg"), file, end),
		"sparse 1.0": cat(paxBlock("GNU.sparse.major=1", "GNU.sparse.minor=0", "GNU.sparse.name=real", "GNU.sparse.realsize=2000"),
			block("f", '0', octal(512+7), nil), content(sparseMap), content("abcdefg"), file, end),
		"sparse 1.0 empty": cat(paxBlock("GNU.sparse.major=1", "GNU.sparse.minor=0", "GNU.sparse.realsize=9"),
			block("f", '0', octal(512), nil), content("0\n"), file, end),
		"sparse of 8 EiB": cat(paxBlock("GNU.sparse.major=1", "GNU.sparse.minor=0", "GNU.sparse.realsize=9223372036854775807"),
			block("f", '0', octal(512), nil), content("0\n"), file, end),
		"sparse map without end": cat(paxBlock("GNU.sparse.major=1", "GNU.sparse.minor=0", "GNU.sparse.realsize=9"),
			block("f", '0', octal(1024), nil), content("9\n1\n"), content("x"), file, end),
		"sparse out of order": cat(paxBlock("GNU.sparse.size=2000", "GNU.sparse.numblocks=2", "GNU.sparse.map=1000,3,0,4"),
			block("f", '0', octal(7), nil), content("abcdefg"), end),
		"sparse beyond its size": cat(paxBlock("GNU.sparse.size=1001", "GNU.sparse.numblocks=2", "GNU.sparse.map=0,3,1000,4"),
			block("f", '0', octal(7), nil), content("abcdefg"), end),
		"sparse with too little": cat(paxBlock("GNU.sparse.size=2000", "GNU.sparse.numblocks=2", "GNU.sparse.map=0,3,1000,5"),
			block("f", '0', octal(7), nil), content("abcdefg"), end),
		"sparse folder": cat(paxBlock("GNU.sparse.size=2000", "GNU.sparse.numblocks=0", "GNU.sparse.map=,"),
			block("f", '5', octal(0), nil), end),
		"old sparse": cat(block("f", 'S', octal(7), func(b []byte) {
			gnu(b)
			copy(b[386:], octal(0)+octal(3)+octal(1000)+octal(4))
			copy(b[483:], octal(2000))
		}), content("abcdefg"), file, end),
		"old sparse continued": cat(block("f", 'S', octal(7), func(b []byte) {
			gnu(b)
			copy(b[386:], octal(0)+octal(3))
			b[482] = 1
			copy(b[483:], octal(2000))
		}), append([]byte(octal(1000)+octal(4)), make([]byte, 512-24)...), content("abcdefg"), file, end),
		"old sparse for ever": cat(block("f", 'S', octal(7), func(b []byte) { gnu(b); b[482] = 1 }),
			bytes.Repeat(append(make([]byte, 504), append([]byte{1}, make([]byte, 7)...)...), 1<<12), end),
		"old sparse not GNU": cat(block("f", 'S', octal(0), nil), end),
		"prefix in GNU's times": cat(block("f", '0', octal(0), func(b []byte) {
			gnu(b)
			copy(b[345:], "not/a/time")
		}), end),
		"STAR": cat(block("f", '0', octal(0), func(b []byte) {
			copy(b[345:], "star/prefix")
			copy(b[476:], octal(1)+octal(1))
			copy(b[508:], "tar\x00")
		}), end),
	}
}

func TestReadsWhatEnginesRead(t *testing.T) {
	for name, data := range archives() {
		t.Run(name, func(t *testing.T) { compare(t, data) })
	}
}

// compare holds our reading, in pieces of several sizes, against archive/tar.
func compare(t *testing.T, data []byte) {
	want, wantErr := theirs(data)
	for _, piece := range []int{len(data) + 1, 512, 1000, 7} {
		got, err := ours(data, piece)
		if (err == nil) != (wantErr == nil) {
			t.Fatalf("in pieces of %d: error %v, archive/tar has %v", piece, err, wantErr)
		}
		if wantErr != nil {
			// What stands before the error must be the same; archive/tar finds
			// some errors only after it has handed out the entry.
			if len(got) < len(want)-1 {
				t.Fatalf("in pieces of %d: %d entries before the error, archive/tar has %d", piece, len(got), len(want))
			}
			got, want = got[:min(len(got), len(want))], want[:min(len(got), len(want))]
			if n := len(got); n > 0 {
				got[n-1].Content, want[n-1].Content = "", ""
			}
		}
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("in pieces of %d (-archive/tar +ours):\n%s", piece, diff)
		}
	}
}

func TestSaysWhereItBreaks(t *testing.T) {
	for _, tc := range []struct {
		name, archive string
		is            error
		at            string
	}{
		{"content cut off", "content cut off", io.ErrUnexpectedEOF, "byte 516"},
		{"checksum", "wrong checksum", untar.ErrHeader, "byte 512"},
		{"negative size", "base-256 negative size", untar.ErrHeader, "size -3"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := ours(archives()[tc.archive], 1<<20)
			if !errors.Is(err, tc.is) || !strings.Contains(err.Error(), tc.at) {
				t.Errorf("error %v, want %v with %q", err, tc.is, tc.at)
			}
		})
	}
}

type stopper struct{ gatherer }

func (s *stopper) Entry(*untar.Header) error { return io.ErrClosedPipe }

func TestStopsForItsSink(t *testing.T) {
	p := untar.New(&stopper{})
	for range 2 {
		if _, err := p.Write(archives()["one file"]); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("error %v, want the sink's", err)
		}
	}
	if err := p.Close(); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("Close() = %v, want the sink's error", err)
	}
}

func FuzzTar(f *testing.F) {
	for _, data := range archives() {
		if len(data) < 1<<16 {
			f.Add(data, byte(0))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte, fix byte) {
		// Half of what is tried gets right checksums, or nearly everything would
		// end at the first header.
		if fix%2 == 1 {
			data = bytes.Clone(data)
			for i := 0; i+512 <= len(data); i += 512 {
				if bytes.Contains(data[i:i+512], []byte("ustar")) {
					seal(data[i : i+512])
				}
			}
		}
		compare(t, data)
	})
}
