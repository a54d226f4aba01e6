package scan_test

import (
	"strings"
	"testing"

	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// mergeCases are images, each with what a container sees and which layer brought
// it. The oracle holds what is seen; the layers are told here.
func mergeCases() []mergeCase {
	type layers = [][]string
	return []mergeCase{
		{"one layer", layers{{"file a pkg:1"}}, []string{"content pkg:1 /a 1"}},
		{"two layers", layers{{"file a pkg:1"}, {"file b pkg:2"}}, []string{"content pkg:1 /a 1", "content pkg:2 /b 2"}},
		{"whiteout", layers{{"file a pkg:1", "file b pkg:2"}, {"gone a"}}, []string{"content pkg:2 /b 1"}},
		{"whiteout of a folder", layers{{"file d/e/a pkg:1"}, {"gone d"}}, nil},
		{"whiteout and a new one", layers{{"file a pkg:1"}, {"gone a", "file a pkg:1"}}, []string{"content pkg:1 /a 2"}},
		{"whiteout, later a new one", layers{{"file a pkg:1"}, {"gone a"}, {"file a pkg:1"}}, []string{"content pkg:1 /a 3"}},
		{"opaque folder", layers{{"file d/a pkg:1", "file e pkg:2"}, {"dir d", "opaque d", "file d/b pkg:3"}}, []string{"content pkg:2 /e 1", "content pkg:3 /d/b 2"}},
		{"opaque root", layers{{"file d/a pkg:1"}, {"opaque .", "file b pkg:3"}}, []string{"content pkg:3 /b 2"}},
		{"replaced by a file that shows nothing", layers{{"file a pkg:1"}, {"file a other"}}, nil},
		{"replaced, and back again", layers{{"file a pkg:1"}, {"file a other"}, {"file a pkg:1"}}, []string{"content pkg:1 /a 3"}},
		{"replaced by a link", layers{{"file a pkg:1"}, {"link a b"}}, nil},
		{"replaced by a folder", layers{{"file a pkg:1"}, {"dir a", "file a/b pkg:2"}}, []string{"content pkg:2 /a/b 2"}},
		{"folder replaced by a file", layers{{"file a/b/c pkg:1"}, {"file a pkg:2"}}, []string{"content pkg:2 /a 2"}},
		{"folder replaced by a link", layers{{"file a/b pkg:1", "file c/d pkg:2"}, {"link a c"}}, []string{"content pkg:2 /c/d 1"}},
		{"folder and its entry again", layers{{"file a/b pkg:1"}, {"dir a"}}, []string{"content pkg:1 /a/b 1"}},
		{"the same file in three layers", layers{{"file a pkg:1"}, {"file a pkg:1"}, {"file a pkg:1"}}, []string{"content pkg:1 /a 1"}},
		{"a database rewritten in each layer", layers{{"file db one two"}, {"file db one two three"}, {"file db one three four"}},
			[]string{"named four /db 3", "named one /db 1", "named three /db 2"}},
		{"a package that went and came back", layers{{"file db one"}, {"file db two"}, {"file db one two"}}, []string{"named one /db 3", "named two /db 2"}},
		{"a layer between knows nothing of it", layers{{"file db one"}, {"file x y"}, {"file db one two"}}, []string{"named one /db 1", "named two /db 3"}},
		{"duplicates in a layer", layers{{"file a pkg:1", "file a pkg:2"}, {"file b pkg:3", "file b no"}}, []string{"content pkg:2 /a 1"}},
		{"hard link in a layer", layers{{"file a pkg:1", "hard b a"}}, []string{"content pkg:1 /a 1", "content pkg:1 /b 1"}},
		{"hard link outlives its file", layers{{"file a pkg:1", "hard b a"}, {"gone a"}}, []string{"content pkg:1 /b 1"}},
		{"hard link to a lower layer", layers{{"file a pkg:1"}, {"hard b a"}, {"gone a"}}, []string{"content pkg:1 /b 2"}},
		{"hard link with a wanted name", layers{{"file copy one", "hard d/db copy"}}, []string{"named one /d/db 1"}},
		{"hard link with a wanted name to a lower layer", layers{{"file copy one"}, {"hard d/db copy"}}, []string{"named one /d/db 2"}},
		{"symbolic link with a wanted name", layers{{"file copy one"}, {"link db copy"}}, []string{"named one /copy 1"}},
		{"symbolic link with a wanted name that went", layers{{"file copy one", "link db copy"}, {"gone db"}}, nil},
		{"usrmerge, a folder of the link's name on the way", layers{{"dir usr/lib", "link lib usr/lib"}, {"file lib/a pkg:1"}}, []string{"content pkg:1 /usr/lib/a 2"}},
		{"usrmerge, replaced through the link", layers{{"file usr/lib/a pkg:1", "link lib usr/lib"}, {"file lib/a other"}}, nil},
		{"usrmerge, whiteout through the link", layers{{"file usr/lib/a pkg:1", "link lib usr/lib"}, {"gone lib/a"}}, nil},
		{"usrmerge, opaque through the link", layers{{"file usr/lib/a pkg:1", "link lib usr/lib"}, {"opaque lib", "file lib/b pkg:2"}}, []string{"content pkg:2 /usr/lib/b 2"}},
		{"usrmerge, the link is replaced by a folder", layers{{"file usr/lib/a pkg:1", "link lib usr/lib"}, {"dir lib", "file lib/a pkg:2"}},
			[]string{"content pkg:1 /usr/lib/a 1", "content pkg:2 /lib/a 2"}},
		{"usrmerge, updated through the link", layers{{"file usr/lib/db one", "link lib usr/lib"}, {"file lib/db one two"}}, []string{"named one /usr/lib/db 1", "named two /usr/lib/db 2"}},
		{"a link through a link", layers{{"link lib usr/lib", "link usr/lib ../data"}, {"file lib/a pkg:1"}}, []string{"content pkg:1 /data/a 2"}},
		{"an absolute link", layers{{"link var/lib /data/lib"}, {"file var/lib/a pkg:1"}}, []string{"content pkg:1 /data/lib/a 2"}},
		{"a link that leads out", layers{{"link l ../../../.."}, {"file l/a pkg:1"}}, []string{"content pkg:1 /a 2"}},
		{"a link of a lower layer that a later one turns", layers{{"link l a", "file a/x pkg:1"}, {"link l b"}, {"file l/y pkg:2"}}, []string{"content pkg:1 /a/x 1", "content pkg:2 /b/y 3"}},
		{"a fixed place behind a link", layers{{"file opt/pkg/status one"}, {"link var/lib/pkg ../../opt/pkg"}, {"file opt/pkg/status one two"}},
			[]string{"fixed one /opt/pkg/status 1", "fixed two /opt/pkg/status 3"}},
		{"a fixed place behind a link to its parent", layers{{"file data/pkg/status one", "link var/lib /data"}}, []string{"fixed one /data/pkg/status 1"}},
		{"names that lead out", layers{{"file ../../a pkg:1", "file /b pkg:2"}, {"gone /b"}}, []string{"content pkg:1 /a 1"}},
	}
}

type mergeCase struct {
	name   string
	layers [][]string
	want   []string
}

func TestMerge(t *testing.T) {
	for _, tc := range mergeCases() {
		t.Run(tc.name, func(t *testing.T) {
			inv, err := scanner(scan.Options{}).Image(t.Context(), imageOf(t, tc.layers...))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, listing(inv), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("packages (-want +got):\n%s", diff)
			}
			if seen := unpack(t, tc.layers); !cmp.Equal(withoutLayer(tc.want), seen, cmpopts.EquateEmpty()) {
				t.Errorf("the test is wrong: unpacked, the image shows %q", seen)
			}
		})
	}
}

// withoutLayer is a listing without its last word, as the oracle makes it.
func withoutLayer(lines []string) []string {
	var out []string
	for _, l := range lines {
		out = append(out, l[:strings.LastIndexByte(l, ' ')])
	}
	return out
}

func TestHardLinkNamesItsOwnPlace(t *testing.T) {
	inv, err := scanner(scan.Options{}).Image(t.Context(), imageOf(t, []string{"file a pkg:1", "hard b a"}))
	if err != nil {
		t.Fatal(err)
	}
	want := []inventory.Package{{Type: "content", Name: "pkg:1", Found: inventory.Installed,
		Places: []inventory.Place{{Path: "/a", Layer: 1}, {Path: "/b", Layer: 1}}}}
	if diff := cmp.Diff(want, inv.Packages); diff != "" {
		t.Errorf("packages (-want +got):\n%s", diff)
	}
}
