package feeds

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"runtime"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/klauspost/compress/zstd"

	"github.com/castellan-security/castellan/internal/fault"
)

// read reads a source from files and returns the identifiers that come out, in
// their order, and the errors.
func read(t *testing.T, name string, files map[string]string, tally *Tally) (ids []string, failed []error) {
	t.Helper()
	s, _ := Named(name)
	fsys := fstest.MapFS{}
	for n, text := range files {
		fsys[s.Dir+"/"+n] = &fstest.MapFile{Data: []byte(text)}
	}
	for a, err := range Parse(t.Context(), s, fsys, tally) {
		if fault.Is(err, fault.Invalid) { // a document: counted
			continue
		}
		if err != nil {
			failed = append(failed, err)
			continue
		}
		ids = append(ids, a.ID)
	}
	return ids, failed
}

func TestDocumentsComeInTheOrderOfTheArchive(t *testing.T) {
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	const n = 5000
	for i := range n {
		w, err := z.Create(fmt.Sprintf("A-%d.json", i))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(osvDocument(fmt.Sprintf("A-%d", i), "1"))); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	var tally Tally
	ids, failed := read(t, "osv/npm", map[string]string{"all.zip": b.String()}, &tally)
	if len(failed) > 0 || len(ids) != n {
		t.Fatalf("%d advisories, %v", len(ids), failed)
	}
	for i, id := range ids {
		if id != fmt.Sprintf("A-%d", i) {
			t.Fatalf("%d is %s", i, id)
		}
	}
}

func TestABrokenDocumentCostsOnlyItself(t *testing.T) {
	files := map[string]string{"A-1.json": osvDocument("A-1", "1"), "A-3.json": osvDocument("A-3", "1"), "README.md": "x", ".hidden.json": "x", "dir/A-4.json": osvDocument("A-4", "1")}
	for i := range maxFailures + 5 {
		files[fmt.Sprintf("B-%d.json", i)] = `{"id":`
	}
	var tally Tally
	ids, failed := read(t, "osv/npm", map[string]string{"all.zip": zipOf(t, files)}, &tally)
	if len(ids) != 3 || len(failed) != 0 || tally.Failed != maxFailures+5 || len(tally.Failures) != maxFailures || tally.Documents != 3+tally.Failed {
		t.Errorf("%q, %v, %+v", ids, failed, tally)
	}
	told := 0
	s, _ := Named("osv/npm")
	for _, err := range Parse(t.Context(), s, fstest.MapFS{"osv/npm/all.zip": {Data: []byte(zipOf(t, files))}}, &Tally{}) {
		if err != nil {
			if told++; !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "osv/npm/all.zip/B-") {
				t.Errorf("got %v (%v)", err, fault.Of(err))
			}
		}
	}
	if told != maxFailures+5 {
		t.Errorf("told of %d", told)
	}
	if f := tally.Failures[0]; !strings.HasPrefix(f.Document, "osv/npm/all.zip/B-") || !strings.Contains(f.Err.Error(), "too early") {
		t.Errorf("%+v", f)
	}
}

func TestBrokenArchives(t *testing.T) {
	good := zipOf(t, map[string]string{"A-1.json": osvDocument("A-1", "1")})
	damaged := []byte(zipOf(t, map[string]string{"A-1.json": osvDocument("A-1", strings.Repeat("1", 500)), "A-2.json": osvDocument("A-2", "1")}))
	damaged[60] ^= 0xff
	for _, tc := range []struct {
		name, source, file, content, want string
		good                              int
	}{
		{"a zip that is cut off", "osv/npm", "all.zip", good[:len(good)-30], "not a whole zip", 0},
		{"no zip", "osv/npm", "all.zip", "<html>", "not a whole zip", 0},
		{"nothing", "osv/npm", "all.zip", "", "not a whole zip", 0},
		{"no tar", "osv/npm", "all.tar", strings.Repeat("x", 2000), "tar", 0},
		{"a tar.zst that is cut off", "redhat/vex", "a.tar.zst", tarZst(t, map[string]string{"a.json": vexDocument("CVE-1", "1")})[:100], "EOF", 0},
		{"no gzip", "osv/npm", "all.tar.gz", "\x1f\x8bxxxxxxxxxxx", "gzip", 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var tally Tally
			ids, failed := read(t, tc.source, map[string]string{tc.file: tc.content}, &tally)
			if len(failed) != 1 || !strings.Contains(failed[0].Error(), tc.want) || !strings.Contains(failed[0].Error(), tc.file) || len(ids) != tc.good {
				t.Errorf("got %q, %v", ids, failed)
			}
		})
	}
	t.Run("damage within", func(t *testing.T) {
		var tally Tally
		ids, failed := read(t, "osv/npm", map[string]string{"all.zip": string(damaged)}, &tally)
		if len(failed) != 0 || len(ids) != 1 || tally.Failed != 1 {
			t.Errorf("got %q, %v, %+v", ids, failed, tally)
		}
	})
	t.Run("the next file is read all the same", func(t *testing.T) {
		var tally Tally
		ids, failed := read(t, "osv/npm", map[string]string{"a.zip": "x", "b.zip": good}, &tally)
		if len(failed) != 1 || len(ids) != 1 {
			t.Errorf("got %q, %v", ids, failed)
		}
	})
}

// TestBombs unpacks what claims to be small and isn't, with the memory that it
// takes.
func TestBombs(t *testing.T) {
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, name := range []string{"bomb.json", "A-1.json"} {
		w, err := z.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		if name == "A-1.json" {
			_, err = w.Write([]byte(osvDocument("A-1", "1")))
		} else {
			block := bytes.Repeat([]byte{' '}, 1<<20)
			for range maxDocument>>20 + 16 {
				_, err = w.Write(block)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	honest := b.Bytes()
	lying := bytes.Clone(honest)
	// The directory's entry of the bomb says that it is small.
	entry := bytes.Index(lying, []byte("PK\x01\x02"))
	copy(lying[entry+24:], []byte{100, 0, 0, 0})
	for name, content := range map[string][]byte{"honest": honest, "lying": lying} {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			var tally Tally
			ids, failed := read(t, "osv/npm", map[string]string{"all.zip": string(content)}, &tally)
			runtime.ReadMemStats(&after)
			if len(ids) != 1 || tally.Failed != 1 || len(failed) != 0 {
				t.Errorf("got %q, %v, %+v", ids, failed, tally)
			}
			if spent := after.TotalAlloc - before.TotalAlloc; spent > 6*maxDocument {
				t.Errorf("%d MiB were allocated", spent>>20)
			}
		})
	}
}

func TestAWindowOfZstdThatTakesAllMemory(t *testing.T) {
	var b bytes.Buffer
	w, err := zstd.NewWriter(&b, zstd.WithWindowSize(512<<20), zstd.WithSingleSegment(false))
	if err != nil {
		t.Fatal(err)
	}
	for range 600 {
		if _, err := w.Write(make([]byte, 1<<20)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	var tally Tally
	_, failed := read(t, "redhat/vex", map[string]string{"a.tar.zst": b.String()}, &tally)
	if len(failed) != 1 || !strings.Contains(failed[0].Error(), "window") {
		t.Errorf("got %v", failed)
	}
}

func TestSingleDocumentsSupersedeThoseInArchives(t *testing.T) {
	var tally Tally
	ids, failed := read(t, "osv/AlmaLinux", map[string]string{
		"all.zip":            zipOf(t, map[string]string{"ALSA-2024_1.json": osvDocument("old", "1"), "ALSA-2024_2.json": osvDocument("other", "1")}),
		"ALSA-2024:1.json":   osvDocument("new", "1"),
		"x.json.part":        "{",
		".state.json":        "{",
		"modified_id.csv":    "x",
		"all.zip.part":       "PK",
		".git/objects/a.zip": "x",
	}, &tally)
	if len(failed) > 0 || strings.Join(ids, " ") != "new other" || tally.Skipped[SkipSuperseded] != 1 {
		t.Errorf("got %q, %v, %+v", ids, failed, tally)
	}
}

func TestStopsWhenItIsToldTo(t *testing.T) {
	files := map[string]string{}
	for i := range 2000 {
		files[fmt.Sprintf("A-%d.json", i)] = osvDocument(fmt.Sprintf("A-%d", i), "1")
	}
	s, _ := Named("osv/npm")
	fsys := fstest.MapFS{"osv/npm/all.zip": {Data: []byte(zipOf(t, files))}}
	before := runtime.NumGoroutine()
	t.Run("by the caller", func(t *testing.T) {
		var tally Tally
		n := 0
		for range Parse(t.Context(), s, fsys, &tally) {
			if n++; n == 3 {
				break
			}
		}
		if n != 3 || tally.Advisories != 3 {
			t.Errorf("%d advisories, %+v", n, tally)
		}
	})
	t.Run("by its context", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var tally Tally
		var failed error
		n := 0
		for _, err := range Parse(ctx, s, fsys, &tally) {
			if err != nil {
				failed = err
				continue
			}
			if n++; n == 3 {
				cancel()
			}
		}
		if !errors.Is(failed, context.Canceled) || n == len(files) {
			t.Errorf("%d advisories, %v", n, failed)
		}
	})
	for range 10_000 { // one that has ended is counted for a moment
		if runtime.NumGoroutine() <= before {
			return
		}
		runtime.Gosched()
	}
	t.Errorf("%d goroutines are left of %d", runtime.NumGoroutine(), before)
}

func TestAFolderThatIsNotThere(t *testing.T) {
	s, _ := Named("osv/npm")
	var tally Tally
	var failed error
	for _, err := range Parse(t.Context(), s, fstest.MapFS{}, &tally) {
		failed = err
	}
	if !errors.Is(failed, fs.ErrNotExist) {
		t.Errorf("got %v", failed)
	}
	for name, fsys := range map[string]fstest.MapFS{
		"osv/npm":  {"osv/npm/modified_id.csv": {Data: []byte("x")}},
		"amazon/2": {"amazon/2/extras-catalog.json": {Data: []byte("{}")}},
	} {
		s, _ := Named(name)
		for _, err := range Parse(t.Context(), s, fsys, &tally) {
			failed = err
		}
		if !fault.Is(failed, fault.NotFound) || !strings.Contains(failed.Error(), name) {
			t.Errorf("a folder without feeds: %v", failed)
		}
	}
	kev, _ := Named("kev")
	for _, err := range Parse(t.Context(), kev, fstest.MapFS{}, &tally) {
		failed = err
	}
	if failed == nil || !strings.Contains(failed.Error(), "has no advisories") {
		t.Errorf("got %v", failed)
	}
}

func TestSources(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range All() {
		if seen[s.Name] || seen[s.Dir] && s.Dir != "" {
			t.Errorf("%s is there twice", s.Name)
		}
		seen[s.Name], seen[s.Dir] = true, true
		if s.Title == "" || s.Format.String() == "" || s.Dir == "" || s.Licence == "" || s.Attribution == "" ||
			!strings.HasPrefix(s.Base, "https://") || !strings.HasPrefix(s.Home, "https://") || s.Advisories() && len(s.Ecosystems) == 0 {
			t.Errorf("incomplete: %+v", s)
		}
		if got, ok := Named(s.Name); !ok || got.Dir != s.Dir {
			t.Errorf("Named(%s) = %+v", s.Name, got)
		}
	}
	if _, ok := Named("osv/Nowhere"); ok {
		t.Error("a source that is none was found")
	}
}
