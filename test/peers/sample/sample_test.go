package sample_test

import (
	"archive/tar"
	"bytes"
	"debug/buildinfo"
	"debug/elf"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/test/peers/sample"
)

const described = `# a comment
link etc/os-release ../usr/lib/os-release
gone usr/bin/old
-- usr/lib/os-release --
ID=debian
-- app.jar!/lib/in.jar!/META-INF/MANIFEST.MF --
Manifest-Version: 1.0
-- usr/bin/tool (go) --
go1.26.5
path	example.com/tool
mod	example.com/tool	v1.0.0	h1:x=
-- usr/bin/rusty (rust) --
{"packages":[]}
`

func load(text string) (sample.Image, error) {
	return sample.Load(fstest.MapFS{"a/1.txtar": {Data: []byte(text)}}, "a")
}

// TestLoad: an image is what its text says, and what other programs read.
func TestLoad(t *testing.T) {
	img, err := load(described)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	content := map[string][]byte{}
	r := tar.NewReader(bytes.NewReader(img.Layers[0]))
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if content[h.Name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
		names = append(names, strings.TrimSuffix(h.Name+" "+h.Linkname, " "))
	}
	want := []string{"etc/", "etc/os-release ../usr/lib/os-release", "usr/", "usr/bin/", "usr/bin/.wh.old", "usr/lib/", "usr/lib/os-release",
		"app.jar", "usr/bin/tool", "usr/bin/rusty"}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
	info, err := buildinfo.Read(bytes.NewReader(content["usr/bin/tool"]))
	if err != nil || info.Main.Path != "example.com/tool" || info.GoVersion != "go1.26.5" {
		t.Errorf("build information %+v, %v", info, err)
	}
	program, err := elf.NewFile(bytes.NewReader(content["usr/bin/rusty"]))
	if err != nil || program.Section(".dep-v0") == nil {
		t.Errorf("program with a list of crates: %v", err)
	}
}

// TestSameBytes: what is built twice is the same, and so is its digest.
func TestSameBytes(t *testing.T) {
	var digests []string
	for range 2 {
		img, err := load(described)
		if err != nil {
			t.Fatal(err)
		}
		digest, err := img.Digest()
		if err != nil {
			t.Fatal(err)
		}
		archive := filepath.Join(t.TempDir(), "a.tar")
		if err := img.WriteArchive(archive); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(archive)
		if err != nil {
			t.Fatal(err)
		}
		digests = append(digests, digest, string(b))
	}
	if digests[0] != digests[2] || digests[1] != digests[3] {
		t.Errorf("digests %s and %s, archives alike: %v", digests[0], digests[2], digests[1] == digests[3])
	}
}

func TestLoadRefuses(t *testing.T) {
	for _, tc := range []struct{ name, text, want string }{
		{"an unknown order", "move a b\n", "no such order"},
		{"an order without its words", "link a\n", "too few words"},
		{"a blob that isn't there", "blob a b.gz\n", "b.gz"},
		{"an unknown program", "-- a (cobol) --\nx\n", "cobol"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if _, err := load(tc.text); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("Load() = %v, want an error about %q", err, tc.want)
			}
		})
	}
	if _, err := sample.Load(fstest.MapFS{"a/readme": {}}, "a"); err == nil {
		t.Error("an image without layers was built")
	}
}
