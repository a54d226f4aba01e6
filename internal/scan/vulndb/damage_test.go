package vulndb

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/advisory"
	"github.com/castellan-security/castellan/internal/fault"
)

// small returns a file with one of everything.
func small(t testing.TB) []byte {
	t.Helper()
	b, err := NewBuilder(Options{Dir: t.TempDir(), Details: 100, Built: time.Unix(1_700_000_000, 0)})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	list := []advisory.Advisory{
		{ID: "A", Aliases: []string{"CVE-2023-1000"}, Summary: "s", Details: "d", Weaknesses: []string{"CWE-1", "odd"},
			Scores: []advisory.Score{{Vector: "AV:N", By: "x"}}, References: []advisory.Reference{{Kind: "web", URL: "u"}},
			Affected: []advisory.Affected{
				{Ecosystem: "npm", Package: "p", Ranges: []advisory.Range{{Fixed: "1.0.0"}, {Introduced: "2.0.0", Last: "2.1.0"}}, Versions: []string{"3.0.0", "latest"}},
				{Ecosystem: "Debian:12", Package: "q", Of: advisory.OfSource, Arches: []string{"amd64"}, Note: "n", Repository: "r", Rating: advisory.Low,
					Ranges: []advisory.Range{{}}, Status: advisory.Deferred},
			}},
		{ID: "B", Upstream: []string{"CVE-2023-1000"}, Affected: []advisory.Affected{{Ecosystem: "npm", Package: "p", Ranges: []advisory.Range{{Fixed: "1.5.0"}}}}},
	}
	feed := func(yield func(advisory.Advisory, error) bool) {
		for _, a := range list {
			if !yield(a, nil) {
				return
			}
		}
	}
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	must(b.AddAll(context.Background(), Source{Name: "s"}, feed))
	must(b.AddExploited(Source{Name: "kev"}, []advisory.Exploited{{CVE: "CVE-2023-1000", Name: "n"}}))
	must(b.AddProbabilities(Source{Name: "epss"}, time.Unix(1_700_000_000, 0), func(yield func(advisory.Probability, error) bool) {
		yield(advisory.Probability{CVE: "CVE-2023-1000", EPSS: 0.5}, nil)
	}))
	path := filepath.Join(t.TempDir(), "db")
	must(b.Write(context.Background(), path))
	data, err := os.ReadFile(path)
	must(err)
	return data
}

// mended makes the header of a damaged file look right, so that what is behind
// the header is read.
func mended(data []byte) []byte {
	if len(data) < headerSize {
		return data
	}
	data = bytes.Clone(data)
	copy(data, magic)
	binary.LittleEndian.PutUint32(data[8:], format)
	binary.LittleEndian.PutUint32(data[12:], orders)
	binary.LittleEndian.PutUint64(data[32:], uint64(len(data)))
	sum := sha256.Sum256(data[:digestAt])
	copy(data[digestAt:], sum[:])
	return data
}

// readAll reads whatever can be read. It must come to an end and must not panic;
// errors are what damage is for.
func readAll(db *DB) (read int) {
	_ = db.Info()
	for _, blk := range db.blocks() {
		name := db.names[blk.ecosystem]
		p, _ := db.Lookup(name, string(blk.name))
		for _, v := range []string{"1.2.3", "latest"} {
			at := blk.Position(v)
			_ = p.db != nil && p.Position(v) == at
			var e Entries
			for e.Of(blk.Package); e.Next(); read++ {
				if e.Holds(at) {
					_ = e.Fix(at)
				}
				_, _ = e.affected(name, string(blk.name))
			}
		}
	}
	texts := db.Texts()
	for n := range db.Advisories() {
		r, err := db.Record(Number(n))
		if err != nil {
			continue
		}
		if _, err := texts.Read(r); err == nil {
			read++
		}
		for range db.Named(r.ID) {
			read++
		}
	}
	for i := range db.kev.n {
		_ = db.Exploited(db.kev.read(i).CVE)
	}
	for i := range db.epss.n {
		_ = db.Probability(db.epss.read(i).CVE)
	}
	return read
}

func TestDamage(t *testing.T) {
	data := small(t)
	db, err := FromBytes(data)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Verify(t.Context()); err != nil {
		t.Fatal(err)
	}
	whole := readAll(db)
	if whole < 10 {
		t.Fatalf("readAll() = %d, want more of the whole file", whole)
	}
	for at := headerSize; at < len(data); at++ {
		for _, bits := range []byte{0x01, 0x80, 0xFF} {
			bad := bytes.Clone(data)
			bad[at] ^= bits
			// A section's digest tells; the header is still right.
			db, err := FromBytes(bad)
			if err != nil {
				continue
			}
			if err := db.Verify(t.Context()); !fault.Is(err, fault.Corrupt) {
				t.Fatalf("byte %d changed: Verify() = %v, want %v", at, err, fault.Corrupt)
			}
			if n := readAll(db); n > 100*whole {
				t.Errorf("byte %d changed: %d things read, of %d", at, n, whole)
			}
		}
	}
	for size := headerSize; size < len(data); size++ {
		if db, err := FromBytes(mended(data[:size])); err == nil {
			readAll(db)
		}
	}
}

// TestSectionsThatOverlap points every section at every other's bytes.
func TestSectionsThatOverlap(t *testing.T) {
	data := small(t)
	for a := range sections {
		for b := range sections {
			bad := bytes.Clone(data)
			copy(bad[sectionsAt+a*sectionSize:][:16], data[sectionsAt+b*sectionSize:][:16])
			if db, err := FromBytes(mended(bad)); err == nil {
				readAll(db)
			}
		}
		for _, extent := range [][2]uint64{{0, 10}, {headerSize, 1 << 63}, {1 << 63, 1}, {^uint64(0), ^uint64(0)}, {uint64(len(data)), 1}} {
			bad := bytes.Clone(data)
			binary.LittleEndian.PutUint64(bad[sectionsAt+a*sectionSize:], extent[0])
			binary.LittleEndian.PutUint64(bad[sectionsAt+a*sectionSize+8:], extent[1])
			if _, err := FromBytes(mended(bad)); !fault.Is(err, fault.Corrupt) {
				t.Errorf("section %d at %d, %d bytes: %v, want %v", a, extent[0], extent[1], err, fault.Corrupt)
			}
		}
	}
}

// TestKeepFromDamage copies advisories out of damaged files: an error or not, but
// no panic, and what comes out is a whole file.
func TestKeepFromDamage(t *testing.T) {
	data := small(t)
	r := rand.New(rand.NewPCG(5, 6))
	for range 200 {
		bad := bytes.Clone(data)
		for range 3 {
			bad[headerSize+r.IntN(len(bad)-headerSize)] = byte(r.IntN(256))
		}
		db, err := FromBytes(bad)
		if err != nil {
			continue
		}
		keep(t, db)
	}
}

func keep(t *testing.T, db *DB) {
	b, err := NewBuilder(Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	path := filepath.Join(t.TempDir(), "db")
	for _, name := range []string{"s", "kev", "epss"} {
		if err := b.Keep(t.Context(), db, name); err != nil {
			return
		}
	}
	if err := b.Write(t.Context(), path); err != nil {
		return
	}
	again, err := Open(path)
	if err != nil {
		t.Fatalf("a file made of a damaged one cannot be opened: %v", err)
	}
	defer again.Close()
	if err := again.Verify(t.Context()); err != nil {
		t.Error(err)
	}
	readAll(again)
}

func FuzzFile(f *testing.F) {
	data := small(f)
	whole := data
	f.Add(data)
	f.Add(data[:len(data)/2])
	for s := range sections {
		bad := bytes.Clone(data)
		copy(bad[sectionsAt+s*sectionSize:][:16], data[sectionsAt+(s+1)%sections*sectionSize:][:16])
		f.Add(bad)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		db, err := FromBytes(mended(data))
		if err != nil && len(data) > headerSize {
			// Most changes hit the list of sections, and nothing is read. Try
			// again with a list that fits.
			data = bytes.Clone(data)
			copy(data[:headerSize], whole[:headerSize])
			db, err = FromBytes(mended(data))
		}
		if err != nil {
			return
		}
		readAll(db)
		_ = db.Verify(t.Context())
	})
}

func TestSorter(t *testing.T) {
	for _, tc := range []struct {
		run, n int
		spills bool
	}{{1 << 20, 1000, false}, {1, 50, true}, {1000, 3000, true}, {1000, 0, false}} {
		t.Run(fmt.Sprint(tc.run, tc.n), func(t *testing.T) {
			s := sorter{dir: t.TempDir(), runSize: tc.run}
			r := rand.New(rand.NewPCG(1, uint64(tc.n)))
			for range tc.n {
				key := fmt.Sprintf("%03d", r.IntN(500))
				if err := s.add([]byte(key), []byte(fmt.Sprint(r.IntN(1000)))); err != nil {
					t.Fatal(err)
				}
			}
			if spilled := len(s.runs) > 0; spilled != tc.spills {
				t.Errorf("%d runs, want some: %v", len(s.runs), tc.spills)
			}
			var last pair
			n := 0
			for p, err := range s.sorted() {
				if err != nil {
					t.Fatal(err)
				}
				if comparePairs(last, p) > 0 {
					t.Fatalf("%q %q behind %q %q", p.key, p.value, last.key, last.value)
				}
				last = pair{bytes.Clone(p.key), bytes.Clone(p.value)}
				n++
			}
			if n != tc.n {
				t.Errorf("%d pairs, want %d", n, tc.n)
			}
			if err := s.close(); err != nil {
				t.Error(err)
			}
			if left, _ := os.ReadDir(s.dir); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

func TestClip(t *testing.T) {
	for _, tc := range []struct{ text, want string }{
		{"short", "short"},
		{"exactly 12 b", "exactly 12 b"},
		{"cut at a blank if one is near", "cut at a…"},
		{"cutwithinawordelse", "cutwithin…"},
		{"äöüäöüäöü", "äöüä…"},
		{"\xff\xfe", "\uFFFD"},
	} {
		t.Run(tc.text, func(t *testing.T) {
			if got := clip(tc.text, 12); got != tc.want || len(got) > 12 {
				t.Errorf("clip() = %q (%d bytes), want %q", got, len(got), tc.want)
			}
		})
	}
}

func TestFirstSentence(t *testing.T) {
	for _, tc := range []struct{ details, want string }{
		{"", ""},
		{"One. Two.", "One."},
		{"## Impact\n\nIt is bad.", "It is bad."},
		{"No stop", "No stop"},
		{"See 1.2.3 of it.\nMore.", "See 1.2.3 of it.\nMore."},
		{"# only a heading", ""},
		{"urllib3 is an HTTP client. It leaks cookies. More.", "It leaks cookies."},
		{"The flow is a mess. More.", "More."},
		{"It is an error.", "It is an error."},
		{"Headers, e.g. cookies, leak. More.", "Headers, e.g. cookies, leak."},
	} {
		t.Run(tc.details, func(t *testing.T) {
			if got := firstSentence(tc.details); got != tc.want {
				t.Errorf("firstSentence() = %q, want %q", got, tc.want)
			}
		})
	}
}
