package layer_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan/analyse"
	"github.com/castellan-security/castellan/internal/scan/layer"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestTakesWhatEnginesTake(t *testing.T) {
	tar := archive(t, "file a pkg:a", "file b other", "file c/d pkg:d")
	half := len(tar) / 2
	skippable := []byte("\x50\x2a\x4d\x18\x03\x00\x00\x00abc")
	whole := []string{"a content: pkg:a", "c/d content: pkg:d"}
	for _, tc := range []struct {
		name string
		data []byte
		want []string
		kind fault.Kind
	}{
		{"plain", tar, whole, 0},
		{"gzip", gzipped(t, tar), whole, 0},
		{"zstd", zstded(t, tar), whole, 0},
		{"gzip in two members", append(gzipped(t, tar[:half]), gzipped(t, tar[half:])...), whole, 0},
		{"zstd in two frames", append(zstded(t, tar[:half]), zstded(t, tar[half:])...), whole, 0},
		{"zstd behind a frame to skip", append(bytes.Clone(skippable), zstded(t, tar)...), whole, 0},
		{"zstd before a frame to skip", append(zstded(t, tar), skippable...), whole, 0},
		{"nothing", nil, nil, 0},
		{"without an end mark", tar[:len(tar)-1024], whole, 0},
		{"bytes behind the tar", append(bytes.Clone(tar), "more"...), whole, 0},
		{"bytes behind the gzip", append(gzipped(t, tar), "more"...), whole, 0},
		{"bytes behind the zstd", append(zstded(t, tar), "more"...), whole, 0},
		{"bytes behind a gzip without an end mark", append(gzipped(t, tar[:len(tar)-1024]), "more"...), nil, fault.Corrupt},
		{"one byte behind the gzip", append(gzipped(t, tar), '.'), whole, 0},
		{"one byte of a header behind the gzip", append(gzipped(t, tar), 0x1f), whole, 0},
		{"half a header behind the gzip", append(gzipped(t, tar), "\x1f\x8b\x08\x00"...), whole, 0},
		{"zeros behind the gzip", append(gzipped(t, tar), make([]byte, 5000)...), whole, 0},
		{"zeros and more behind the gzip", append(append(gzipped(t, tar), 0, 0), "more"...), whole, 0},
		{"half a header behind a gzip without an end mark", append(gzipped(t, tar[:len(tar)-1024]), 0x1f), nil, fault.Corrupt},
		{"half a member behind the gzip", append(gzipped(t, tar), gzipped(t, tar)[:20]...), nil, fault.Corrupt},
		{"one byte behind the zstd", append(zstded(t, tar), '.'), whole, 0},
		{"zeros behind the zstd", append(zstded(t, tar), make([]byte, 5000)...), whole, 0},
		{"three zeros behind the zstd", append(zstded(t, tar), 0, 0, 0), whole, 0},
		{"half of what begins a frame behind the zstd", append(zstded(t, tar), "\x28\xb5\x2f"...), whole, 0},
		{"bytes behind two frames and one to skip", append(append(append(zstded(t, tar[:1000]), zstded(t, tar[1000:])...), skippable...), '.'), whole, 0},
		{"one byte behind a zstd without an end mark", append(zstded(t, tar[:len(tar)-1024]), '.'), nil, fault.Corrupt},
		{"half a frame behind the zstd", append(zstded(t, tar), zstded(t, tar)[:12]...), nil, fault.Corrupt},
		{"gzip cut off behind the end of the tar", gzipped(t, tar)[:len(gzipped(t, tar))-9], nil, fault.Corrupt},
		{"gzip cut off in its checksum", gzipped(t, tar)[:len(gzipped(t, tar))-3], nil, fault.Corrupt},
		{"gzip with a wrong checksum behind the end of the tar", gzipWithWrongSum(t, tar), nil, fault.Corrupt},
		{"second gzip member cut off", append(gzipped(t, tar), gzipped(t, tar)[:30]...), nil, fault.Corrupt},
		{"zstd cut off behind the end of the tar", zstded(t, tar)[:len(zstded(t, tar))-5], nil, fault.Corrupt},
		{"second zstd frame cut off", append(zstded(t, tar), zstded(t, tar)[:30]...), nil, fault.Corrupt},
		{"cut off", tar[:514], nil, fault.Corrupt},
		{"gzip cut off", gzipped(t, tar)[:60], nil, fault.Corrupt},
		{"zstd cut off", zstded(t, tar)[:60], nil, fault.Corrupt},
		{"gzip with a wrong checksum", gzipWithWrongSum(t, tar[:len(tar)-1024]), nil, fault.Corrupt},
		{"no tar", []byte(strings.Repeat("<html>no such blob</html>", 99)), nil, fault.Corrupt},
		{"xz", []byte("\xfd7zXZ\x00 and more"), nil, fault.Unsupported},
		{"bzip2", []byte("BZh91AY&SY"), nil, fault.Unsupported},
		{"zstd with a window of 4 GiB", []byte("\x28\xb5\x2f\xfd\x00\xb0\x01\x00\x00"), nil, fault.Unsupported},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := inventory.Layer{Digest: sha(tc.data)}
			r, err := layer.Read(t.Context(), l, iotest.HalfReader(bytes.NewReader(tc.data)), layer.Options{Analysers: []analyse.Analyser{byContent()}})
			if fault.Of(err) != tc.kind || (err == nil) != (tc.kind == 0) {
				t.Fatalf("error %v, want kind %v", err, tc.kind)
			}
			if err != nil {
				return
			}
			if diff := cmp.Diff(tc.want, listing(r), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("files (-want +got):\n%s", diff)
			}
		})
	}
}

func gzipWithWrongSum(t *testing.T, data []byte) []byte {
	z := gzipped(t, data)
	z[len(z)-8]++
	return z
}

// TestDiffIDOfZstd: where there is a digest, that is what is verified.
func TestDiffIDOfZstd(t *testing.T) {
	tar := archive(t, "file a pkg:a")
	z, other := zstded(t, tar), sha([]byte("other"))
	for _, tc := range []struct {
		name string
		l    inventory.Layer
		kind fault.Kind
		want string // DiffID of the result
	}{
		{"both known", inventory.Layer{Digest: sha(z), DiffID: sha(tar)}, 0, ""},
		{"only the digest", inventory.Layer{Digest: sha(z)}, 0, sha(tar)},
		{"only a wrong DiffID", inventory.Layer{DiffID: other}, fault.Corrupt, ""},
		{"wrong digest", inventory.Layer{Digest: other, DiffID: sha(tar)}, fault.Corrupt, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r, err := layer.Read(t.Context(), tc.l, bytes.NewReader(z), layer.Options{})
			if fault.Of(err) != tc.kind {
				t.Fatalf("error %v, want kind %v", err, tc.kind)
			}
			if err == nil && r.DiffID != tc.want {
				t.Errorf("DiffID %q, want %q", r.DiffID, tc.want)
			}
		})
	}
}

func TestVerifiesDigestsAndSizes(t *testing.T) {
	tar := archive(t, "file a pkg:a")
	z := gzipped(t, tar)
	other := sha([]byte("other"))
	size := int64(len(z))
	for _, tc := range []struct {
		name  string
		l     inventory.Layer
		kind  fault.Kind
		says  string
		wants inventory.Layer // digests of the result
	}{
		{"right", inventory.Layer{Digest: sha(z), Size: size}, 0, "", inventory.Layer{Digest: sha(z), DiffID: sha(tar)}},
		{"right in SHA-512", inventory.Layer{Digest: sha512of(z)}, 0, "", inventory.Layer{Digest: sha512of(z), DiffID: sha(tar)}},
		{"both known", inventory.Layer{Digest: sha(z), DiffID: sha(tar)}, 0, "", inventory.Layer{Digest: sha(z), DiffID: sha(tar)}},
		{"right digest, wrong DiffID", inventory.Layer{Digest: sha(z), DiffID: other}, fault.Corrupt, "configuration says", inventory.Layer{}},
		{"only the DiffID", inventory.Layer{DiffID: sha(tar)}, 0, "", inventory.Layer{DiffID: sha(tar)}},
		{"nothing known", inventory.Layer{}, 0, "", inventory.Layer{DiffID: sha(tar)}},
		{"wrong digest", inventory.Layer{Digest: other}, fault.Corrupt, sha(z) + ", not " + other, inventory.Layer{}},
		{"wrong DiffID", inventory.Layer{DiffID: other}, fault.Corrupt, sha(tar) + " when decompressed", inventory.Layer{}},
		{"shorter than said", inventory.Layer{Digest: sha(z), Size: size + 1}, fault.Corrupt, "manifest says", inventory.Layer{}},
		{"longer than said", inventory.Layer{Digest: sha(z), Size: size - 1}, fault.Corrupt, "more than", inventory.Layer{}},
		{"no digest", inventory.Layer{Digest: "sha256:../../x"}, fault.Invalid, "hex", inventory.Layer{}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r, err := layer.Read(t.Context(), tc.l, bytes.NewReader(z), layer.Options{})
			if fault.Of(err) != tc.kind || err != nil && !strings.Contains(err.Error(), tc.says) {
				t.Fatalf("error %v, want kind %v and %q", err, tc.kind, tc.says)
			}
			if err != nil {
				return
			}
			if got := (inventory.Layer{Digest: r.Digest, DiffID: r.DiffID}); !cmp.Equal(got, tc.wants) {
				t.Errorf("digests %v, want %v", got, tc.wants)
			}
			if r.Size != size || r.TarBytes != int64(len(tar)) {
				t.Errorf("%d bytes stored, %d in the archive; want %d, %d", r.Size, r.TarBytes, size, len(tar))
			}
		})
	}
}

// A digest that is wrong is the finding; that the bytes make no archive follows
// from it.
func TestAWrongDigestIsSaidFirst(t *testing.T) {
	for _, data := range [][]byte{[]byte("<html>"), gzipped(t, archive(t, "file a x"))[:50]} {
		_, err := layer.Read(t.Context(), inventory.Layer{Digest: sha([]byte("other"))}, bytes.NewReader(data), layer.Options{})
		if !fault.Is(err, fault.Corrupt) || !strings.Contains(err.Error(), ", not sha256:") || fault.Remedy(err) == "" {
			t.Errorf("error %v with remedy %q, want one about the digest", err, fault.Remedy(err))
		}
	}
}

func TestASourceThatBreaksOff(t *testing.T) {
	z := gzipped(t, archive(t, "file a pkg:a"))
	broken := io.MultiReader(bytes.NewReader(z[:20]), iotest.ErrReader(errBroken))
	if _, err := layer.Read(t.Context(), inventory.Layer{Digest: sha(z)}, broken, layer.Options{}); !errors.Is(err, errBroken) || fault.Of(err) != fault.Unknown {
		t.Errorf("error %v, want the source's own", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := layer.Read(ctx, inventory.Layer{}, bytes.NewReader(z), layer.Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want the context's", err)
	}
}

func TestLimitsNameTheirOption(t *testing.T) {
	tar := archive(t, "file a pkg:a", "file b pkg:b", "file c pkg:c")
	for _, tc := range []struct {
		name   string
		limits layer.Limits
		option string
	}{
		{"bytes", layer.Limits{Bytes: 1000}, "bytes=N"},
		{"entries", layer.Limits{Entries: 2}, "entries=N"},
		{"held", layer.Limits{Held: 700}, "held=N"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := layer.Read(t.Context(), inventory.Layer{Digest: sha(tar)}, bytes.NewReader(tar),
				layer.Options{Analysers: []analyse.Analyser{byContent()}, Limits: tc.limits})
			if !fault.Is(err, fault.Exhausted) || !strings.Contains(fault.Remedy(err), tc.option) {
				t.Errorf("error %v with remedy %q, want one that names %s", err, fault.Remedy(err), tc.option)
			}
		})
	}
}

// entriesCase is a layer and what is to come of it.
type entriesCase struct {
	name              string
	lines             []string
	files             []string
	whiteouts, opaque []string
	links, hard       []layer.Link
	missed            []layer.Missed
	problems          []string
}

func TestEntries(t *testing.T) {
	long := strings.Repeat("n", 256)
	deep := strings.Repeat("d/", 300)
	for _, tc := range []entriesCase{
		{name: "names are cleaned", lines: []string{"file /abs pkg:1", "file ./dot pkg:2", "file ../../up pkg:3", "file a/../b//c pkg:4", "dir /", "dir ./"},
			files: []string{"abs content: pkg:1", "b/c content: pkg:4", "dot content: pkg:2", "up content: pkg:3"}},
		{name: "names that no engine can make", lines: []string{"file " + long + " pkg:1", "file " + deep + "f pkg:2", "file ok pkg:3"},
			files: []string{"ok content: pkg:3"}, problems: []string{"longer than 255", "256 folders deep"}},
		{name: "duplicates: the last counts", lines: []string{"file a pkg:1", "file a pkg:2", "file b pkg:1", "file b no", "file c no", "file c pkg:3"},
			files: []string{"a content: pkg:2", "c content: pkg:3"}},
		{name: "a file becomes a folder", lines: []string{"file a pkg:1", "dir a", "file a/b pkg:2"}, files: []string{"a/b content: pkg:2"}},
		{name: "a folder becomes a file", lines: []string{"dir a", "file a/b/c pkg:1", "file a pkg:2"}, files: []string{"a content: pkg:2"}},
		{name: "a folder becomes a file and a folder", lines: []string{"file a/b pkg:1", "file a no", "dir a", "file a/c pkg:2"},
			files: []string{"a/c content: pkg:2"}},
		{name: "a folder becomes a link", lines: []string{"file a/b pkg:1", "link a c", "file a/d pkg:2"},
			files: []string{"c/d content: pkg:2"}, links: []layer.Link{{Path: "a", Target: "c"}}},
		{name: "links on the way", lines: []string{"link lib usr/lib", "dir usr/lib", "link up /usr/lib/../..", "file lib/x pkg:1", "file up/y pkg:2"},
			files: []string{"usr/lib/x content: pkg:1", "y content: pkg:2"},
			links: []layer.Link{{Path: "lib", Target: "usr/lib"}, {Path: "up", Target: "/usr/lib/../.."}}},
		{name: "links that lead out stay in", lines: []string{"link l ../../../..", "file l/x pkg:1"},
			files: []string{"x content: pkg:1"}, links: []layer.Link{{Path: "l", Target: "../../../.."}}},
		{name: "links in a circle", lines: []string{"link a b", "link b a", "file a/x pkg:1", "file y pkg:2"},
			files: []string{"y content: pkg:2"}, links: []layer.Link{{Path: "a", Target: "b"}, {Path: "b", Target: "a"}}, problems: []string{"circle"}},
		{name: "links to files are left out", lines: []string{"file lib.so.1 x", "link lib.so lib.so.1", "link d/lib.so ../lib.so.1", "link dir nowhere"},
			links: []layer.Link{{Path: "dir", Target: "nowhere"}}},
		{name: "a link to a folder that was a link", lines: []string{"link a x", "dir a", "link b a"}, links: []layer.Link{{Path: "b", Target: "a"}}},
		{name: "a link that is replaced", lines: []string{"link a b", "dir a", "file a/x pkg:1"}, files: []string{"a/x content: pkg:1"}},
		{name: "a new link turns a way round", lines: []string{"link a m/n", "file a/x pkg:1", "link m k", "file a/y pkg:2"},
			files: []string{"k/n/y content: pkg:2"}, links: []layer.Link{{Path: "a", Target: "m/n"}, {Path: "m", Target: "k"}}},
		{name: "whiteouts", lines: []string{"file d/.wh.gone ", "file .wh..wh..opq ", "file e/.wh..wh..opq ", "file .wh..wh.plnk ", "file .wh. ", "file .wh... ",
			"null n", "opaque o", "file d/gone pkg:1"},
			whiteouts: []string{"d/gone", "n"}, opaque: []string{"", "e", "o"}, files: []string{"d/gone content: pkg:1"},
			problems: []string{"whiteout of nothing", "whiteout of nothing"}},
		{name: "a hard link shows what its file shows", lines: []string{"file a pkg:1", "hard b a", "hard c b"},
			files: []string{"a content: pkg:1", "b = a", "c = a"}},
		{name: "a hard link outlives its first name", lines: []string{"file a pkg:1", "hard b a", "file a pkg:2"},
			files: []string{"a content: pkg:2", "b content: pkg:1"}},
		{name: "a hard link that is replaced", lines: []string{"file a pkg:1", "hard b a", "file b no"}, files: []string{"a content: pkg:1"}},
		{name: "a name is not shared by hard links", lines: []string{"file d/db x", "hard copy d/db"}, files: []string{"d/db name: x"}},
		{name: "a wanted name for an unwanted file", lines: []string{"file copy x", "hard d/db copy"},
			missed: []layer.Missed{{Analyser: "name", Path: "d/db", Target: "copy", Hard: true, Entry: 2}}},
		{name: "a wanted name that is a symbolic link", lines: []string{"link d/db ../copy"}, links: []layer.Link{{Path: "d/db", Target: "../copy"}},
			missed: []layer.Missed{{Analyser: "name", Path: "d/db", Target: "copy"}}},
		{name: "a hard link to a lower layer", lines: []string{"hard b x/a"}, hard: []layer.Link{{Path: "b", Target: "x/a"}}},
		{name: "a hard link to a symbolic link", lines: []string{"link a t", "hard b a", "file b/x pkg:1"},
			files: []string{"t/x content: pkg:1"}, links: []layer.Link{{Path: "a", Target: "t"}, {Path: "b", Target: "t"}}},
		{name: "both analysers", lines: []string{"file db pkg:1"}, files: []string{"db content: pkg:1 name: pkg:1"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := read(t, archive(t, tc.lines...), byContent(), byName())
			for _, c := range []struct {
				what      string
				want, got any
			}{
				{"files", tc.files, listing(r)}, {"whiteouts", tc.whiteouts, r.Whiteouts}, {"opaque", tc.opaque, r.Opaque},
				{"links", tc.links, r.Links}, {"hard links", tc.hard, r.Hard}, {"missed", tc.missed, r.Missed},
			} {
				if diff := cmp.Diff(c.want, c.got, cmpopts.EquateEmpty()); diff != "" {
					t.Errorf("%s (-want +got):\n%s", c.what, diff)
				}
			}
			if len(r.Problems) != len(tc.problems) {
				t.Fatalf("problems %v, want %q", r.Problems, tc.problems)
			}
			for i, p := range r.Problems {
				if !strings.Contains(p.What, tc.problems[i]) {
					t.Errorf("problem %q, want %q", p.What, tc.problems[i])
				}
			}
		})
	}
}

func TestSetsOfNames(t *testing.T) {
	r := read(t, archive(t, "dir a", "file a/b/c x", "file a/b/c y", "link l a", "file d/.wh.e ", "file .wh.f "))
	for _, c := range []struct {
		what string
		set  layer.Set
		want []string
	}{
		{"names", r.Names, []string{"a/b/c", "l"}},
		{"folders", r.Folders, []string{"a"}},
		{"implied", r.Implied, []string{"a/b", "d"}},
	} {
		if len(c.set) != len(c.want) {
			t.Errorf("%s: %d keys, want those of %q", c.what, len(c.set), c.want)
		}
		for _, p := range c.want {
			if !c.set.Has(layer.HashPath(p).Key()) {
				t.Errorf("%s: no %s", c.what, p)
			}
		}
	}
}

func TestSecondReading(t *testing.T) {
	data := archive(t, "file opt/dpkg/db x", "file opt/dpkg/sub/db y", "file opt/other/db z", "file plain pkg:1", "hard d/db plain")
	r, err := layer.Read(t.Context(), inventory.Layer{}, bytes.NewReader(data), layer.Options{Analysers: []analyse.Analyser{byName()},
		Aliases: []layer.Alias{{Real: "opt/dpkg", As: "var/lib/dpkg"}, {Real: "plain", As: "d/db", KeepAs: true}}})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"d/db name: pkg:1", "opt/dpkg/db name: x", "opt/dpkg/sub/db name: y"}
	if diff := cmp.Diff(want, listing(r)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	first := read(t, data, byContent(), byName())
	first.Add(r)
	want = []string{"d/db content: pkg:1 name: pkg:1", "opt/dpkg/db name: x", "opt/dpkg/sub/db name: y", "opt/other/db name: z", "plain content: pkg:1"}
	if diff := cmp.Diff(want, listing(first)); diff != "" {
		t.Errorf("together (-want +got):\n%s", diff)
	}
}
