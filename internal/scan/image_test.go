package scan_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/need"
	"github.com/castellan-security/castellan/internal/scan"
	"github.com/castellan-security/castellan/internal/scan/analyse"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sys/unix"
)

// mustScan scans an image and returns its inventory with the numbers of the
// layers that were read for it.
func mustScan(t *testing.T, s *scan.Scanner, im *image) (inventory.Inventory, []int) {
	t.Helper()
	im.reads = nil
	inv, err := s.Image(t.Context(), im)
	if err != nil {
		t.Fatal(err)
	}
	return inv, im.reads
}

func TestOnlyNewLayersAreRead(t *testing.T) {
	o := scan.Options{Cache: filepath.Join(t.TempDir(), "cache")}
	base, app := []string{"file db one", "link d e"}, []string{"file a pkg:1", "gone x"}
	im := imageOf(t, base, app)
	first, reads := mustScan(t, scanner(o), im)
	if !slices.Equal(reads, []int{1, 2}) {
		t.Fatalf("layers %v were read, want both", reads)
	}
	second, reads := mustScan(t, scanner(o), im)
	if len(reads) > 0 {
		t.Errorf("layers %v were read again", reads)
	}
	if diff := cmp.Diff(first, second); diff != "" {
		t.Errorf("from the cache (-read +kept):\n%s", diff)
	}
	changed := imageOf(t, base, []string{"file a pkg:2"})
	if inv, reads := mustScan(t, scanner(o), changed); !slices.Equal(reads, []int{2}) || len(inv.Packages) != 2 {
		t.Errorf("layers %v were read, want the changed one", reads)
	}
	other := o
	other.Analysers = []analyse.Analyser{content{}}
	if _, reads := mustScan(t, scanner(other), im); len(reads) != 2 {
		t.Errorf("layers %v were read with other analysers, want both", reads)
	}
	if _, reads := mustScan(t, scanner(scan.Options{}), im); len(reads) != 2 {
		t.Errorf("layers %v were read without a cache, want both", reads)
	}
}

func TestDamagedCacheIsWrittenAnew(t *testing.T) {
	dir := t.TempDir()
	im := imageOf(t, []string{"file a pkg:1"})
	want, _ := mustScan(t, scanner(scan.Options{Cache: dir}), im)
	file := keptLayer(t, dir)
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string][]byte{
		"empty": {}, "cut off": whole[:len(whole)-1], "foreign": []byte("hello"), "one bit": append(bytes.Clone(whole[:len(whole)-1]), whole[len(whole)-1]^1),
		"another layer": keptOf(t, []string{"file b pkg:2"}),
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(file, bad, 0o600); err != nil {
				t.Fatal(err)
			}
			for _, reads := range [][]int{{1}, nil} {
				keptLayer(t, dir) // without the image, the layer is looked up
				got, read := mustScan(t, scanner(scan.Options{Cache: dir}), im)
				if diff := cmp.Diff(want, got); diff != "" || !slices.Equal(read, reads) {
					t.Errorf("layers %v were read, want %v; (-want +got):\n%s", read, reads, diff)
				}
			}
		})
	}
}

// keptOf is what a cache keeps of an image of one layer.
func keptOf(t *testing.T, lines []string) []byte {
	t.Helper()
	dir := t.TempDir()
	mustScan(t, scanner(scan.Options{Cache: dir}), imageOf(t, lines))
	b, err := os.ReadFile(keptLayer(t, dir))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// keptLayer is the file that a cache keeps of an image's only layer. What it keeps
// of the image as a whole is removed.
func keptLayer(t *testing.T, dir string) (layer string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*", "sha256-*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if strings.HasSuffix(f, "-image") {
			if err := os.Remove(f); err != nil {
				t.Fatal(err)
			}
			continue
		}
		layer = f
	}
	return layer
}

// TestAnImageIsKeptAsAWhole: and read again if that is damaged.
func TestAnImageIsKeptAsAWhole(t *testing.T) {
	dir := t.TempDir()
	im := imageOf(t, []string{"file a pkg:1"}, []string{"file db one"})
	for i := range im.info.Layers {
		im.info.Layers[i].DiffID = ""
	}
	want, _ := mustScan(t, scanner(scan.Options{Cache: dir}), im)
	files, err := filepath.Glob(filepath.Join(dir, "*", "*-image"))
	if err != nil || len(files) != 1 {
		t.Fatalf("kept images %v, %v", files, err)
	}
	whole, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range [][]byte{whole, whole[1:], keptOf(t, []string{"file a pkg:1"})} {
		if err := os.WriteFile(files[0], b, 0o600); err != nil {
			t.Fatal(err)
		}
		got, reads := mustScan(t, scanner(scan.Options{Cache: dir}), im)
		if diff := cmp.Diff(want, got); diff != "" || len(reads) > 0 {
			t.Errorf("layers %v were read; (-want +got):\n%s", reads, diff)
		}
	}
	im.info.Reference = "another name"
	if got, _ := mustScan(t, scanner(scan.Options{Cache: dir}), im); got.Subject.Name != "another name" || got.Image.Reference != "another name" {
		t.Errorf("subject %v, want the name that was asked for", got.Subject)
	}
}

func TestCacheStaysWithinItsLimit(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "not ours"), make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	s := scanner(scan.Options{Cache: dir, CacheBytes: 40 << 10})
	text := strings.Repeat("x", 3000)
	old := imageOf(t, []string{"file a pkg:old" + text})
	mustScan(t, s, old)
	for i := range 30 {
		mustScan(t, s, imageOf(t, []string{"file a pkg:" + string(rune('a'+i)) + text}))
		kept, err := filepath.Glob(filepath.Join(dir, "*", "sha256-*"))
		if err != nil {
			t.Fatal(err)
		}
		// The clock of the file system may be coarser than the test is fast.
		before := time.Now().Add(time.Duration(i-100) * time.Minute)
		newest := filepath.Join(dir, filepath.Base(filepath.Dir(kept[0])), strings.Replace(sha(archive(t, "file a pkg:"+string(rune('a'+i))+text)), ":", "-", 1))
		if err := os.Chtimes(newest, before, before); err != nil {
			t.Fatal(err)
		}
	}
	var total int64
	files, err := filepath.Glob(filepath.Join(dir, "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		info, err := os.Stat(f)
		if err != nil {
			t.Fatal(err)
		}
		total += info.Size()
	}
	if total > 44<<10 || len(files) < 4 {
		t.Errorf("%d files of %d bytes are kept, want about 40 KiB", len(files), total)
	}
	if _, reads := mustScan(t, s, imageOf(t, []string{"file a pkg:" + string(rune('a'+29)) + text})); len(reads) > 0 {
		t.Error("the layer used last is not kept")
	}
	if _, err := os.Stat(filepath.Join(dir, "not ours")); err != nil {
		t.Errorf("what is not the cache's was removed: %v", err)
	}
}

func TestSeveralScansShareACache(t *testing.T) {
	o := scan.Options{Cache: t.TempDir(), CacheBytes: 10 << 10}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 10 {
				im := imageOf(t, []string{"file a pkg:" + string(rune('a'+i))}, []string{"file b pkg:z"})
				inv, err := scanner(o).Image(t.Context(), im)
				if err != nil || len(inv.Packages) != 2 {
					t.Errorf("%d packages, %v; want two", len(inv.Packages), err)
				}
			}
		})
	}
	wg.Wait()
}

func TestACacheThatCannotBeWrittenIsNoError(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if inv, _ := mustScan(t, scanner(scan.Options{Cache: file}), imageOf(t, []string{"file a pkg:1"})); len(inv.Packages) != 1 {
		t.Errorf("%d packages, want one", len(inv.Packages))
	}
}

// TestSecondReadingIsKept: for the files behind a link, and only of the layers
// that have them.
func TestSecondReadingIsKept(t *testing.T) {
	o := scan.Options{Cache: t.TempDir()}
	im := imageOf(t, []string{"file opt/pkg/status one"}, []string{"file a pkg:1"}, []string{"link var/lib/pkg ../../opt/pkg"})
	want, reads := mustScan(t, scanner(o), im)
	if !slices.Equal(reads, []int{1, 2, 3, 1}) || len(want.Packages) != 2 {
		t.Fatalf("layers %v were read, want the first twice; packages %v", reads, listing(want))
	}
	got, reads := mustScan(t, scanner(o), im)
	if diff := cmp.Diff(want, got); diff != "" || len(reads) > 0 {
		t.Errorf("layers %v were read again; (-want +got):\n%s", reads, diff)
	}
	im.stream = true
	got, _ = mustScan(t, scanner(scan.Options{}), im)
	if diff := cmp.Diff(listing(want), listing(got)); diff != "" {
		t.Errorf("from a stream (-want +got):\n%s", diff)
	}
}

func TestAStreamIsMatchedAtItsEnd(t *testing.T) {
	im := imageOf(t, []string{"file db one"}, []string{"file db one two"})
	im.stream = true
	for i := range im.info.Layers {
		im.info.Layers[i].Digest, im.info.Layers[i].Size = "", 0
	}
	inv, _ := mustScan(t, scanner(scan.Options{}), im)
	if diff := cmp.Diff([]string{"named one /db 1", "named two /db 2"}, listing(inv)); diff != "" {
		t.Errorf("packages (-want +got):\n%s", diff)
	}
	if l := inv.Image.Layers[0]; l.Size != int64(len(im.blobs[0])) {
		t.Errorf("size %d, want what was read", l.Size)
	}
}

func TestErrorsNameTheLayer(t *testing.T) {
	for _, tc := range []struct {
		name  string
		harm  func(im *image)
		limit scan.Limits
		kind  fault.Kind
		says  string
	}{
		{"wrong digest", func(im *image) { im.blobs[1] = []byte("other") }, scan.Limits{}, fault.Corrupt, "layer 2, sha256:"},
		{"cut off", func(im *image) { im.blobs[1] = im.blobs[1][:100] }, scan.Limits{}, fault.Corrupt, "layer 2, sha256:"},
		{"no archive", func(im *image) {
			im.blobs[1] = bytes.Repeat([]byte("html "), 300)
			im.info.Layers[1] = inventory.Layer{Digest: sha(im.blobs[1])}
		}, scan.Limits{}, fault.Corrupt, "layer is damaged"},
		{"wrong DiffID", func(im *image) { im.info.Layers[1].DiffID = sha([]byte("other")) }, scan.Limits{}, fault.Corrupt, "configuration says"},
		{"too large", func(*image) {}, scan.Limits{Bytes: 1000}, fault.Exhausted, "layer 1, sha256:"},
		{"too much of all layers", func(*image) {}, scan.Limits{Held: 1000}, fault.Exhausted, "1000 bytes of memory"},
		{"a layer is missing", func(im *image) {
			im.info.Layers = append(im.info.Layers, im.info.Layers[0])
			im.info.Layers[2].Digest, im.info.Layers[2].DiffID = sha([]byte("x")), ""
			im.blobs = append(im.blobs, nil)
			im.stream = true
		}, scan.Limits{}, fault.Corrupt, "layer 3, sha256:"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			im := imageOf(t, []string{"file a pkg:1"}, []string{"file b pkg:2"})
			tc.harm(im)
			inv, err := scanner(scan.Options{Limits: tc.limit}).Image(t.Context(), im)
			if fault.Of(err) != tc.kind || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("error %v, want kind %v and %q", err, tc.kind, tc.says)
			}
			if len(inv.Packages) > 0 {
				t.Errorf("%d packages with an error: a gate might take them for all", len(inv.Packages))
			}
		})
	}
}

// TestAWrongDiffIDOfAKeptLayer: that a layer is known does not make true whatever
// another image says of it.
func TestAWrongDiffIDOfAKeptLayer(t *testing.T) {
	o := scan.Options{Cache: t.TempDir()}
	im := imageOf(t, []string{"file a pkg:1"}, []string{"file b pkg:2"})
	mustScan(t, scanner(o), im)
	im.info.Layers[1].DiffID = im.info.Layers[0].DiffID
	if _, err := scanner(o).Image(t.Context(), im); !fault.Is(err, fault.Corrupt) {
		t.Errorf("error %v, want one about the DiffID", err)
	}
	other := imageOf(t, []string{"file a pkg:1"}, []string{"file c pkg:3"})
	other.info.Layers[0].DiffID = sha([]byte("x"))
	if _, err := scanner(o).Image(t.Context(), other); !fault.Is(err, fault.Corrupt) {
		t.Errorf("in another image: error %v, want one about the DiffID", err)
	}
}

// TestKeptLayersCount: what is kept of layers may not fill the memory either.
func TestKeptLayersCount(t *testing.T) {
	o := scan.Options{Cache: t.TempDir()}
	im := imageOf(t, []string{"file a pkg:1"}, []string{"file b pkg:2"})
	mustScan(t, scanner(o), im)
	keptLayer(t, o.Cache)
	o.Limits.Held = 1000
	if _, err := scanner(o).Image(t.Context(), im); !fault.Is(err, fault.Exhausted) {
		t.Errorf("error %v, want that a limit is reached", err)
	}
}

func TestInstructionsAndProgress(t *testing.T) {
	im := imageOf(t, []string{"file a pkg:1"}, []string{"file b pkg:2"})
	im.info.History = []inventory.Step{{Instruction: "ADD base"}, {Instruction: "ENV x", Empty: true}, {Instruction: "RUN install"}}
	var last scan.Progress
	s := scanner(scan.Options{Progress: func(p scan.Progress) { last = p }})
	inv, _ := mustScan(t, s, im)
	if got := []string{inv.Image.Layers[0].Instruction, inv.Image.Layers[1].Instruction}; !slices.Equal(got, []string{"ADD base", "RUN install"}) {
		t.Errorf("instructions %q", got)
	}
	if want := im.info.Layers[0].Size + im.info.Layers[1].Size; last.Read != want || last.Total != want {
		t.Errorf("progress %+v, want %d of %d", last, want, want)
	}
	if im.info.Layers[0].Instruction != "" {
		t.Error("the source's own layers were changed")
	}
	im.info.History = im.info.History[:1]
	if inv, _ := mustScan(t, s, im); inv.Image.Layers[0].Instruction != "" {
		t.Errorf("instruction %q of a history that does not fit", inv.Image.Layers[0].Instruction)
	}
}

// broken says that every file is not what it claims to be.
type broken struct{ content }

func (broken) Name() string { return "broken" }
func (broken) Take(context.Context, *analyse.Entry, io.Reader, *analyse.Shown) error {
	return errors.New("not what it claims to be")
}

func TestProblemsGoWithTheirFiles(t *testing.T) {
	s := scanner(scan.Options{Analysers: []analyse.Analyser{broken{}, named{}}})
	inv, _ := mustScan(t, s, imageOf(t, []string{"file a pkg:1", "file b pkg:2", "file " + strings.Repeat("n", 300) + " x"}, []string{"gone a", "file db one"}))
	want := []inventory.Problem{
		{Place: inventory.Place{Path: "/b", Layer: 1}, What: "broken: not what it claims to be"},
		{Place: inventory.Place{Path: "/" + strings.Repeat("n", 255), Layer: 1}, What: "left out: a name in the path is longer than 255 bytes"},
	}
	if diff := cmp.Diff(want, inv.Problems); diff != "" || len(inv.Packages) != 1 {
		t.Errorf("%d packages, want one; problems (-want +got):\n%s", len(inv.Packages), diff)
	}
}

func TestWorkload(t *testing.T) {
	upper := fstest.MapFS{"db": {Data: []byte("one two")}, "new": {Data: []byte("pkg:new")}, "etc/.wh.x": {Data: []byte("pkg:x")}}
	inv, err := scanner(scan.Options{}).Workload(t.Context(), "shop/web", imageOf(t, []string{"file db one", "file a pkg:1"}), upper)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"content pkg:1 /a 1", "content pkg:new /new written", "content pkg:x /etc/.wh.x written", "named one /db 1", "named two /db written"}
	if diff := cmp.Diff(want, listing(inv)); diff != "" {
		t.Errorf("packages (-want +got):\n%s", diff)
	}
	if want := (inventory.Subject{Kind: inventory.KindWorkload, Name: "shop/web"}); inv.Subject != want || inv.Image == nil {
		t.Errorf("subject %v, want %v with its image", inv.Subject, want)
	}
}

func TestWorkloadThatRemovedAFile(t *testing.T) {
	need.Root(t)
	dir := t.TempDir()
	if err := unix.Mknod(filepath.Join(dir, "a"), unix.S_IFCHR, 0); err != nil {
		t.Fatal(err)
	}
	folder, err := scan.OpenFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer folder.Close()
	inv, err := scanner(scan.Options{}).Workload(t.Context(), "w", imageOf(t, []string{"file a pkg:1", "file b pkg:2"}), folder)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"content pkg:2 /b 1"}, listing(inv)); diff != "" {
		t.Errorf("packages (-want +got):\n%s", diff)
	}
}

func TestTree(t *testing.T) {
	files := fstest.MapFS{}
	for _, name := range []string{"a", "proc/1/x", "var/lib/docker/x", "run/x", "src/.git/objects/ab", "src/.git/config", "node_modules/m/x", "mine/x"} {
		files[name] = &fstest.MapFile{Data: []byte("pkg:1")}
	}
	for _, tc := range []struct {
		kind inventory.Kind
		want []string
	}{
		{inventory.KindRoot, []string{"/a", "/node_modules/m/x", "/run/x", "/src/.git/config", "/src/.git/objects/ab", "/var/lib/docker/x"}},
		{inventory.KindHost, []string{"/a", "/node_modules/m/x", "/src/.git/config", "/src/.git/objects/ab"}},
		{inventory.KindSource, []string{"/a", "/node_modules/m/x", "/proc/1/x", "/run/x", "/src/.git/config", "/var/lib/docker/x"}},
	} {
		t.Run(string(tc.kind), func(t *testing.T) {
			inv, err := scanner(scan.Options{}).Tree(t.Context(), files, scan.Target{Kind: tc.kind, Name: "here", Skip: []string{"mine"}})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, p := range inv.Packages[0].Places {
				got = append(got, p.Path)
			}
			if diff := cmp.Diff(tc.want, got, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("places (-want +got):\n%s", diff)
			}
		})
	}
}

// TestTreeFollowsLinksWithinIt: a fixed place behind a symbolic link, absolute as
// the system that is in the folder sees it.
func TestTreeFollowsLinksWithinIt(t *testing.T) {
	dir := t.TempDir()
	if err := errors.Join(os.MkdirAll(filepath.Join(dir, "opt/pkg"), 0o755), os.MkdirAll(filepath.Join(dir, "var/lib"), 0o755),
		os.WriteFile(filepath.Join(dir, "opt/pkg/status"), []byte("one"), 0o644), os.Symlink("/opt/pkg", filepath.Join(dir, "var/lib/pkg")),
		os.Symlink("/etc/passwd", filepath.Join(dir, "db"))); err != nil {
		t.Fatal(err)
	}
	folder, err := scan.OpenFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer folder.Close()
	inv, err := scanner(scan.Options{}).Tree(t.Context(), folder, scan.Target{Kind: inventory.KindRoot, Name: dir})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"fixed one /opt/pkg/status 0"}, listing(inv)); diff != "" {
		t.Errorf("packages (-want +got):\n%s", diff)
	}
}

// A layer that only its publisher may distribute is told of where it is not there,
// and read where it is; any other must be there.
func TestLayersOfPublishers(t *testing.T) {
	const why = "only its publisher may distribute this layer"
	for _, tc := range []struct {
		name           string
		foreign, there bool
		packages       []string
		problems       []inventory.Problem
		err            string
	}{
		{"foreign and not there", true, false, []string{"content pkg:app /b 2"},
			[]inventory.Problem{{Place: inventory.Place{Layer: 1}, What: "layer 1 was not read: " + why, Lost: true}}, ""},
		{"foreign and there", true, true, []string{"content pkg:app /b 2", "content pkg:base /a 1"}, nil, ""},
		{"not foreign and not there", false, false, nil, nil, "is not in the image"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o := scan.Options{Cache: t.TempDir()}
			whole := imageOf(t, []string{"file a pkg:base"}, []string{"file b pkg:app"})
			im := imageOf(t, []string{"file a pkg:base"}, []string{"file b pkg:app"})
			if tc.foreign {
				im.info.Layers[0].Missing = why
			}
			if !tc.there {
				im.blobs[0] = nil
			}
			inv, err := scanner(o).Image(t.Context(), im)
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) {
					t.Fatalf("error = %v, want %s", err, tc.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(listing(inv), tc.packages); diff != "" {
				t.Errorf("got, want: %s", diff)
			}
			if diff := cmp.Diff(inv.Problems, tc.problems); diff != "" {
				t.Errorf("problems, got, want: %s", diff)
			}
			if lost := inv.Image.Layers[0].Missing != ""; lost == tc.there {
				t.Errorf("the layer is missing: %v, and it is there: %v", lost, tc.there)
			}
			// What was not there is not remembered as being empty.
			if got, _ := mustScan(t, scanner(o), whole); len(got.Problems) > 0 || len(got.Packages) != 2 {
				t.Errorf("from a source that has it: %v, problems %v", listing(got), got.Problems)
			}
			// And once it is known, it need not be there.
			if got, _ := mustScan(t, scanner(o), im); len(got.Problems) > 0 || len(got.Packages) != 2 || got.Image.Layers[0].Missing != "" {
				t.Errorf("once it is known: %v, problems %v", listing(got), got.Problems)
			}
		})
	}
}
