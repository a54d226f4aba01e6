package rpm

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/scan/analyse"
)

// Unpacked is a file of testdata, which tests from outside the package read, too.
func Unpacked(t testing.TB, name string) []byte {
	t.Helper()
	f, err := os.Open("testdata/" + name + ".gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// What is held compressed shows what is held as it is.
func TestCompressedIsTheSame(t *testing.T) {
	for _, name := range []string{"rpmdb.sqlite", "Packages"} {
		t.Run(name, func(t *testing.T) {
			db := Unpacked(t, name)
			read := func(h *held) analyse.Shown {
				var shown analyse.Shown
				err := readers[name](h, &records{ended: func() error { return nil }, shown: &shown})
				h.close()
				if err != nil {
					t.Fatal(err)
				}
				return shown
			}
			m := newMemory()
			plain, err := m.hold(bytes.NewReader(db), int64(len(db)))
			if err != nil {
				t.Fatal(err)
			}
			packed := &held{memory: m}
			if err := packed.keep(bytes.NewReader(db), true); err != nil {
				t.Fatal(err)
			}
			if plain.chunks[0].packed || !packed.chunks[0].packed {
				t.Fatal("the one is compressed, or the other is not")
			}
			want := read(plain)
			if d := cmp.Diff(read(packed), want); d != "" || len(want.Packages) == 0 {
				t.Errorf("%d packages (-compressed +plain):\n%s", len(want.Packages), d)
			}
		})
	}
}

// headerOf makes the header of a package with that many files, whose digests are
// most of it.
func headerOf(name string, files int) []byte {
	type tag struct {
		id, kind, count uint32
		data            []byte
	}
	list := func(n int, text func(int) string) []byte {
		var b bytes.Buffer
		for i := range n {
			b.WriteString(text(i))
			b.WriteByte(0)
		}
		return b.Bytes()
	}
	random := rand.New(rand.NewPCG(1, uint64(files)))
	tags := []tag{
		{tagName, typeString, 1, []byte(name + "\x00")}, {tagVersion, typeString, 1, []byte("1.0\x00")}, {tagRelease, typeString, 1, []byte("1\x00")},
		{tagDirIndexes, typeInt32, uint32(files), make([]byte, 4*files)},
		{tagBaseNames, typeArray, uint32(files), list(files, func(i int) string { return fmt.Sprintf("lib%s-%d.so", name, i) })},
		{tagDirNames, typeArray, 1, []byte("/usr/lib64/\x00")},
		{1035, typeArray, uint32(files), list(files, func(int) string {
			return fmt.Sprintf("%016x%016x%016x%016x", random.Uint64(), random.Uint64(), random.Uint64(), random.Uint64())
		})},
	}
	var entries, data []byte
	for _, x := range tags {
		for len(data)%4 != 0 {
			data = append(data, 0)
		}
		for _, v := range []uint32{x.id, x.kind, uint32(len(data)), x.count} {
			entries = binary.BigEndian.AppendUint32(entries, v)
		}
		data = append(data, x.data...)
	}
	out := binary.BigEndian.AppendUint32(nil, uint32(len(tags)))
	out = binary.BigEndian.AppendUint32(out, uint32(len(data)))
	return append(append(out, entries...), data...)
}

// database puts headers together as RPM's own simple database does.
func database(headers ...[]byte) []byte {
	le := binary.LittleEndian
	pages := (ndbFirstSlot + len(headers)*ndbSlotSize + ndbPage - 1) / ndbPage
	db := make([]byte, pages*ndbPage)
	le.PutUint32(db, ndbMagic)
	le.PutUint32(db[12:], uint32(pages))
	for at := ndbFirstSlot; at < len(db); at += ndbSlotSize {
		le.PutUint32(db[at:], ndbSlot)
	}
	for i, h := range headers {
		slot := db[ndbFirstSlot+ndbSlotSize*i:]
		le.PutUint32(slot[4:], uint32(i+1))
		le.PutUint32(slot[8:], uint32(len(db)/ndbBlock))
		blob := make([]byte, ndbBlobHead)
		le.PutUint32(blob, ndbBlob)
		le.PutUint32(blob[4:], uint32(i+1))
		le.PutUint32(blob[12:], uint32(len(h)))
		db = append(append(db, blob...), h...)
		db = append(db, make([]byte, (ndbBlock-len(db)%ndbBlock)%ndbBlock)...)
	}
	return db
}

func takeFrom(t *testing.T, a Analyser, db []byte) (analyse.Shown, error) {
	t.Helper()
	var shown analyse.Shown
	err := a.Take(t.Context(), &analyse.Entry{Path: "var/lib/rpm/Packages.db", Size: int64(len(db))}, bytes.NewReader(db), &shown)
	return shown, err
}

// A database that is larger than what may be held is read whole, if it is like
// real ones; and one header that is too long spoils no other.
func TestLargeDatabases(t *testing.T) {
	one := headerOf("one", 40_000)
	var headers [][]byte
	for len(headers)*len(one) < 3*maxHeld {
		headers = append(headers, one)
	}
	shown, err := takeFrom(t, New(), database(append(headers, headerOf("last", 3))...))
	if n := len(shown.Packages); err != nil || n != len(headers)+1 || shown.Packages[n-1].Name != "last" || len(shown.Packages[n-1].Files) != 3 || len(shown.Packages[0].Files) != 40_000 {
		t.Fatalf("%d packages of %d, %v", n, len(headers)+1, err)
	}
	long := make([]byte, maxHeader+1)
	shown, err = takeFrom(t, New(), database(headerOf("a", 1), long, headerOf("b", 1)))
	if err != nil || len(shown.Packages) != 2 || len(shown.Problems) != 1 || !strings.Contains(shown.Problems[0].What, "16777217 bytes") {
		t.Errorf("%d packages, problems %v, %v, want 2 and one problem", len(shown.Packages), shown.Problems, err)
	}
}

// What a header says that it has costs nothing before it is there.
func TestHeadersThatLie(t *testing.T) {
	const most = maxHeader - 4096
	for _, tc := range []struct {
		name    string
		tag     uint32
		kind    uint32
		problem string
	}{
		{"folders", tagDirNames, typeArray, "at most 100000 are read"},
		{"files", tagBaseNames, typeArray, "header is cut off"},
		{"a name without an end", tagName, typeString, "a text of more than 65536 bytes"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			fill, count := byte(0), uint32(most)
			if tc.kind == typeString {
				fill, count = 'x', 1
			}
			entries := []uint32{
				tagName, typeString, 0, 1, tagVersion, typeString, 4, 1, tagBaseNames, typeArray, 0, 1, tagDirNames, typeArray, 0, 1, tagDirIndexes, typeInt32, 8, 1,
				tc.tag, tc.kind, 64, count, // the later one counts
			}
			h := binary.BigEndian.AppendUint32(nil, uint32(len(entries)/4))
			h = binary.BigEndian.AppendUint32(h, 64+most)
			for _, n := range entries {
				h = binary.BigEndian.AppendUint32(h, n)
			}
			data := bytes.Repeat([]byte{fill}, 64+most)
			copy(data, "name1.0\x00\x00\x00\x00\x00")
			copy(data[3:], "\x00")
			db := database(append(h, data...), headerOf("good", 2))
			var before, after runtime.MemStats
			a := New()
			runtime.ReadMemStats(&before)
			shown, err := takeFrom(t, a, db)
			runtime.ReadMemStats(&after)
			if err != nil || len(shown.Packages) != 1 || len(shown.Problems) != 1 || !strings.Contains(shown.Problems[0].What, tc.problem) {
				t.Errorf("%d packages, problems %v, %v, want the good one and %q", len(shown.Packages), shown.Problems, err, tc.problem)
			}
			if took := int64(after.TotalAlloc - before.TotalAlloc); took > maxMemory {
				t.Errorf("%d MiB were allocated", took>>20)
			}
		})
	}
}

func TestTooLargeDatabases(t *testing.T) {
	noise := make([]byte, maxHeld+(8<<20))
	_, _ = rand.NewChaCha8([32]byte{}).Read(noise) // it never fails
	_, err := takeFrom(t, New(), noise)
	if err == nil || !strings.Contains(err.Error(), "would have to be held") {
		t.Errorf("noise: %v", err)
	}
	var shown analyse.Shown
	err = New().Take(t.Context(), &analyse.Entry{Path: "var/lib/rpm/Packages.db", Size: maxRaw + 1}, strings.NewReader(""), &shown)
	if err == nil || !strings.Contains(err.Error(), "at most 536870912 are read") {
		t.Errorf("size: %v", err)
	}
	err = New().Take(t.Context(), &analyse.Entry{Path: "var/lib/rpm/Packages.db", Size: 3}, strings.NewReader("more than three"), &shown)
	if err == nil || !strings.Contains(err.Error(), "more than the 3 bytes") {
		t.Errorf("longer than told: %v", err)
	}
}

// However many databases are read at a time, all of them together take no more
// than the bound.
func TestMemoryIsShared(t *testing.T) {
	if testing.Short() {
		t.Skip("takes some seconds")
	}
	noise := make([]byte, maxHeld-1)
	_, _ = rand.NewChaCha8([32]byte{}).Read(noise) // it never fails
	copy(noise, database(make([]byte, maxHeader)))
	large := make([]byte, 100<<20)
	copy(large, database(make([]byte, maxHeader)))
	runtime.GC()
	var before, now runtime.MemStats
	runtime.ReadMemStats(&before)
	var peak atomic.Uint64
	stop := make(chan struct{})
	watched := make(chan struct{})
	go func() {
		defer close(watched)
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
	a := New()
	var wait sync.WaitGroup
	for i := range 4 {
		db := noise
		if i%2 == 0 {
			db = large
		}
		wait.Go(func() { _, _ = takeFrom(t, a, db) }) // what they show is of no interest
	}
	wait.Wait()
	close(stop)
	<-watched
	// Compressing takes some megabytes, and the pools may start anew once.
	const most = maxMemory + maxMemory/2
	if grew := int64(peak.Load()) - int64(before.HeapInuse); grew > most {
		t.Errorf("the heap grew by %d MiB, want at most %d", grew>>20, most>>20)
	} else {
		t.Logf("the heap grew by %d MiB at most; held at a time %d MiB", grew>>20, maxMemory>>20)
	}
}

// Reading ends where it must even if there is no record to take: each of these
// has only damaged ones.
func TestReadingEnds(t *testing.T) {
	pages := Unpacked(t, "Packages")
	for n := 1; n < len(pages)>>12; n++ {
		if p := pages[n<<12:][:1<<12]; p[25] == bdbOverflow {
			clear(p)
		}
	}
	rows := Unpacked(t, "rpmdb.sqlite")
	for n := len(rows) >> 13; n < len(rows)>>12; n++ { // the schema lies before
		if p := rows[n<<12:][:1<<12]; p[0] == sqliteLeaf {
			clear(p[64:]) // but for where its rows are
		}
	}
	slots := database(headerOf("a", 1))
	clear(slots[ndbPage:])
	for name, db := range map[string][]byte{"Packages": pages, "rpmdb.sqlite": rows, "Packages.db": slots} {
		t.Run(name, func(t *testing.T) {
			h, err := newMemory().hold(bytes.NewReader(db), int64(len(db)))
			if err != nil {
				t.Fatal(err)
			}
			defer h.close()
			err = readers[name](h, &records{ended: func() error { return context.Canceled }, shown: &analyse.Shown{}})
			if !errors.Is(err, context.Canceled) {
				t.Errorf("%v, want %v", err, context.Canceled)
			}
		})
	}
}

// Who waits for memory and is not wanted any more leaves nothing reserved.
func TestReserve(t *testing.T) {
	m := newMemory()
	all := maxMemory / slabSize
	if err := m.reserve(t.Context(), all-1); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	waits := make(chan error)
	go func() { waits <- m.reserve(ctx, 2) }()
	cancel()
	if err := <-waits; !errors.Is(err, context.Canceled) {
		t.Errorf("reserve() = %v, want %v", err, context.Canceled)
	}
	if err := m.reserve(t.Context(), 1); err != nil || len(m.taken) != all {
		t.Errorf("%d reserved, %v, want %d", len(m.taken), err, all)
	}
	m.release(all)
	if err := m.reserve(t.Context(), weightOf(maxRaw)); err != nil || len(m.taken) != all {
		t.Errorf("%d reserved for the largest, %v, want %d", len(m.taken), err, all)
	}
	if got := weightOf(1); got != 2 {
		t.Errorf("weightOf(1) = %d, want 2", got)
	}
}

func TestBlankDigests(t *testing.T) {
	digest := strings.Repeat("0123456789abcdef", 4)
	for _, tc := range []struct{ name, in, want string }{
		{"a digest", "a\x00" + digest + "\x00b", "a\x000123" + strings.Repeat("0", 56) + "cdef\x00b"},
		{"shorter", "x" + digest[1:] + "y", "x" + digest[1:] + "y"},
		{"at the end", "-" + digest, "-0123" + strings.Repeat("0", 56) + "cdef"},
		{"behind a page's number", "\x00\x00\x025" + digest, "\x00\x00\x025012" + strings.Repeat("0", 57) + "cdef"},
		{"before one", digest + "a\x00", "0123" + strings.Repeat("0", 57) + "defa\x00"},
		{"capitals are no digest", strings.ToUpper(digest), strings.ToUpper(digest)},
		{"nothing", "", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := []byte(tc.in)
			if blankDigests(b); string(b) != tc.want {
				t.Errorf("%q, want %q", b, tc.want)
			}
		})
	}
}
