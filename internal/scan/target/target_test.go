package target_test

import (
	"archive/tar"
	"bytes"
	"io/fs"
	"path"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan/target"
)

// files are those of a test. Paths are relative to a folder that is also /work.
type files struct {
	fstest.MapFS
	denied string
}

func (f files) clean(p string) string {
	if rest, ok := strings.CutPrefix(path.Clean(p), "/work"); ok {
		p = strings.TrimPrefix(rest, "/")
	}
	return path.Clean(p)
}

// Stat finds a file as the system does.
func (f files) Stat(p string) (fs.FileInfo, error) {
	if f.denied != "" && p == f.denied {
		return nil, &fs.PathError{Op: "stat", Path: p, Err: fs.ErrPermission}
	}
	return f.MapFS.Stat(f.clean(p))
}

// Head reads the beginning of a file.
func (f files) Head(p string, n int) ([]byte, error) {
	b, err := f.ReadFile(f.clean(p))
	return b[:min(n, len(b))], err
}

func text(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s)} }

func tarred() *fstest.MapFile {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	_ = w.WriteHeader(&tar.Header{Name: "manifest.json", Size: 2})
	_, _ = w.Write([]byte("[]"))
	_ = w.Close()
	return &fstest.MapFile{Data: b.Bytes()}
}

func here() files {
	return files{MapFS: fstest.MapFS{
		"image.tar":           tarred(),
		"image":               tarred(),
		"odd:name.tar":        tarred(),
		"image.tar.gz":        text("\x1f\x8b\x08" + strings.Repeat("x", 600)),
		"image.tar.xz":        text("\xfd7zXZ\x00"),
		"pipe":                &fstest.MapFile{Mode: fs.ModeNamedPipe},
		"layout/oci-layout":   text("{}"),
		"layout/index.json":   text("{}"),
		"layout/blobs/sha256": &fstest.MapFile{Mode: fs.ModeDir},
		"root/etc/os-release": text("ID=debian"),
		"app/package.json":    text("{}"),
		"bom.json":            text(` {"$schema":"x","bomFormat":"CycloneDX","specVersion":"1.6"}`),
		"bom.xml":             text(`<?xml version="1.0"?><bom xmlns="http://cyclonedx.org/schema/bom/1.6">`),
		"spdx.json":           text("\xef\xbb\xbf" + `{"SPDXID":"SPDXRef-DOCUMENT"}`),
		"statement.json":      text(`{"_type":"https://in-toto.io/Statement/v1","subject":[],"predicateType":"https://spdx.dev/Document/v2.3","predicate":{}}`),
		"provenance.json":     text(`{"_type":"https://in-toto.io/Statement/v1","subject":[],"predicateType":"https://slsa.dev/provenance/v1","predicate":{}}`),
		"spdx3.json":          text(`{"@context":"https://spdx.org/rdf/3.0.1/spdx-context.jsonld","@graph":[]}`),
		"spdx":                text("# made by hand\nSPDXVersion: SPDX-2.3\n"),
		"spdx.yaml":           text("spdxVersion: SPDX-2.3\n"),
		"cut.json":            text(`{"bomFormat":"CycloneDX","components":[` + strings.Repeat(`{"name":"x"},`, 20_000)),
		"task.json":           text(`{"taskDefinition":{"family":"shop"}}`),
		"tasks.json":          text(`[{"family":"shop","containerDefinitions":[]}]`),
		"package.json":        text(`{"name":"x"}`),
		"late.json":           text(`{"a":"` + strings.Repeat("x", 100_000) + `","bomFormat":"CycloneDX"}`),
		"notes.txt":           text("hello"),
		"empty":               text(""),
	}}
}

func TestParse(t *testing.T) {
	const digest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	is := func(k target.Kind, value string) target.Target {
		return target.Target{Kinds: []target.Kind{k}, Value: value}
	}
	of := func(k target.Kind, value, name string) target.Target {
		t := is(k, value)
		t.Name = name
		return t
	}
	image := func(name string) target.Target {
		return target.Target{Kinds: []target.Kind{target.Engine, target.Registry}, Value: name}
	}
	for _, tc := range []struct {
		target string
		want   target.Target
	}{
		{"registry:shop/web:1", is(target.Registry, "shop/web:1")},
		{"registry:registry:2", is(target.Registry, "registry:2")},
		{"docker:shop/web:1", is(target.Engine, "shop/web:1")},
		{"docker:alpine", is(target.Engine, "alpine")},
		{"docker:" + digest, is(target.Engine, digest)},
		{"oci:layout", is(target.Layout, "layout")},
		{"oci:layout:1.4", of(target.Layout, "layout", "1.4")},
		{"oci:./layout:shop/web:1", of(target.Layout, "./layout", "shop/web:1")},
		{"oci:layout@" + digest, of(target.Layout, "layout", digest)},
		{"oci:/work/layout:1", of(target.Layout, "/work/layout", "1")},
		{"archive:image.tar", is(target.Archive, "image.tar")},
		{"archive:image.tar:shop/web:1", of(target.Archive, "image.tar", "shop/web:1")},
		{"archive:odd:name.tar", is(target.Archive, "odd:name.tar")},
		{"archive:odd:name.tar:1", of(target.Archive, "odd:name.tar", "1")},
		{"archive:-", is(target.Archive, "-")},
		{"archive:-:shop/web:1", of(target.Archive, "-", "shop/web:1")},
		{"dir:nowhere", is(target.Source, "nowhere")},
		{"root:/", is(target.Root, "/")},
		{"sbom:-", is(target.SBOM, "-")},
		{"task:task.json", is(target.Task, "task.json")},
		{"workload:9bd623004556", is(target.Workload, "9bd623004556")},

		{"-", is(target.Archive, "-")},
		{"host", is(target.Host, "")},

		{"image.tar", is(target.Archive, "image.tar")},
		{"image", is(target.Archive, "image")},
		{"odd:name.tar", is(target.Archive, "odd:name.tar")},
		{"./image.tar:shop/web:1", of(target.Archive, "./image.tar", "shop/web:1")},
		{"./layout@" + digest, of(target.Layout, "./layout", digest)},
		{"image.tar.gz", is(target.Archive, "image.tar.gz")},
		{"image.tar.xz", is(target.Archive, "image.tar.xz")},
		{"pipe", is(target.Archive, "pipe")},
		{"layout", is(target.Layout, "layout")},
		{"layout/", is(target.Layout, "layout/")},
		{"root", is(target.Root, "root")},
		{"app", is(target.Source, "app")},
		{".", is(target.Source, ".")},
		{"bom.json", is(target.SBOM, "bom.json")},
		{"bom.xml", is(target.SBOM, "bom.xml")},
		{"spdx.json", is(target.SBOM, "spdx.json")},
		{"spdx3.json", is(target.SBOM, "spdx3.json")},
		{"statement.json", is(target.SBOM, "statement.json")},
		{"spdx", is(target.SBOM, "spdx")},
		{"spdx.yaml", is(target.SBOM, "spdx.yaml")},
		{"cut.json", is(target.SBOM, "cut.json")},
		{"task.json", is(target.Task, "task.json")},
		{"tasks.json", is(target.Task, "tasks.json")},

		{"alpine", image("alpine")},
		{"alpine:3.20", image("alpine:3.20")},
		{"registry.example:5000/shop/web:1@" + digest, image("registry.example:5000/shop/web:1@" + digest)},
		{"[::1]:5000/web", image("[::1]:5000/web")},
		{digest, is(target.Engine, digest)},
		{strings.TrimPrefix(digest, "sha256:"), is(target.Engine, strings.TrimPrefix(digest, "sha256:"))},
	} {
		t.Run(tc.target, func(t *testing.T) {
			got, err := target.Parse(tc.target, here())
			if err != nil {
				t.Fatal(err)
			}
			said := strings.HasPrefix(tc.target, string(got.Kinds[0])+":") || tc.target == "-" || tc.target == "host"
			if (got.Guessed == "") != said {
				t.Errorf("guessed because %q", got.Guessed)
			}
			got.Guessed = ""
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("Parse() (-want +got):\n%s", diff)
			}
		})
	}
}

func TestParseErrors(t *testing.T) {
	for _, tc := range []struct {
		target, words string
		kind          fault.Kind
	}{
		{"", "no target", fault.Invalid},
		{strings.Repeat("a", 5000), "5000 bytes", fault.Invalid},
		{"a\x1b[2Jb", "control characters", fault.Invalid},
		{"registry:", "nothing follows", fault.Invalid},
		{"registry:2", "two ways", fault.Invalid},
		{"docker:28-dind", "two ways", fault.Invalid},
		{"oci:none:1", "no file or folder none:1", fault.NotFound},
		{"archive:none.tar", "no file or folder", fault.NotFound},
		{"./none", "no file or folder", fault.NotFound},
		{"/none", "no file or folder", fault.NotFound},
		{"none.tar", "no file or folder", fault.NotFound},
		{"none.json", "no file or folder", fault.NotFound},
		{"./notes.txt:1", "neither an archive", fault.Unsupported},
		{"./app:1", "no file or folder ./app:1", fault.NotFound},
		{"notes.txt", "neither an archive", fault.Unsupported},
		{"package.json", "neither an archive", fault.Unsupported},
		{"late.json", "neither an archive", fault.Unsupported},
		{"provenance.json", "neither an archive", fault.Unsupported},
		{"empty", "neither an archive", fault.Unsupported},
		{"--help", "no image has such a name", fault.Invalid},
		{"web server", "no image has such a name", fault.Invalid},
		{"https://registry.example/web?x", "no image has such a name", fault.Invalid},
		{"secret", "permission", fault.Denied},
	} {
		t.Run(tc.target[:min(len(tc.target), 40)], func(t *testing.T) {
			f := here()
			f.denied = "secret"
			_, err := target.Parse(tc.target, f)
			if !fault.Is(err, tc.kind) || !strings.Contains(err.Error(), tc.words) || fault.Remedy(err) == "" {
				t.Errorf("Parse() = %v (%v, %q), want %v with %q", err, fault.Of(err), fault.Remedy(err), tc.kind, tc.words)
			}
		})
	}
}

func TestSniff(t *testing.T) {
	for name, want := range map[string]target.Kind{"image.tar": target.Archive, "image.tar.gz": target.Archive, "bom.json": target.SBOM, "spdx": target.SBOM,
		"task.json": target.Task, "notes.txt": "", "empty": ""} {
		head, err := here().Head(name, target.HeadSize)
		if err != nil {
			t.Fatal(err)
		}
		if got := target.Sniff(head); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

func TestParsePlatform(t *testing.T) {
	for _, tc := range []struct {
		in   string
		want inventory.Platform
		ok   bool
	}{
		{"linux/amd64", inventory.Platform{OS: "linux", Architecture: "amd64"}, true},
		{"linux/arm64/v8", inventory.Platform{OS: "linux", Architecture: "arm64", Variant: "v8"}, true},
		{"windows/amd64", inventory.Platform{OS: "windows", Architecture: "amd64"}, true},
		{"arm64", inventory.Platform{OS: "linux", Architecture: "arm64"}, true},
		{"X86_64", inventory.Platform{OS: "linux", Architecture: "amd64"}, true},
		{"linux/aarch64", inventory.Platform{OS: "linux", Architecture: "arm64"}, true},
		{"armhf", inventory.Platform{OS: "linux", Architecture: "arm", Variant: "v7"}, true},
		{"", inventory.Platform{}, false},
		{"linux", inventory.Platform{}, false},
		{"linux/", inventory.Platform{}, false},
		{"linux/arm/v7/x", inventory.Platform{}, false},
		{"linux/amd 64", inventory.Platform{}, false},
	} {
		t.Run(tc.in, func(t *testing.T) {
			got, err := target.ParsePlatform(tc.in)
			if (err == nil) != tc.ok || got != tc.want {
				t.Errorf("ParsePlatform() = %+v, %v, want %+v", got, err, tc.want)
			}
			if err != nil && fault.Remedy(err) == "" {
				t.Errorf("%q has no remedy", err)
			}
		})
	}
}

// FuzzParse wants one kind at least, a value that was given, and no image where
// a path was written.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"registry:a", "oci:layout:1", "archive:-:x", "-", "host", "./layout@sha256:", "alpine:3", "image.tar", "late.json"} {
		f.Add(s)
	}
	all := here()
	f.Fuzz(func(t *testing.T, s string) {
		got, err := target.Parse(s, all)
		if err != nil {
			if fault.Of(err) != fault.Unknown && fault.Remedy(err) == "" {
				t.Fatalf("%q has no remedy", err)
			}
			return
		}
		if len(got.Kinds) == 0 || !strings.Contains(s, got.Value) || !strings.Contains(s, got.Name) {
			t.Fatalf("Parse(%q) = %+v", s, got)
		}
		if len(got.Kinds) > 1 && (strings.HasPrefix(s, "/") || strings.HasPrefix(s, "./")) {
			t.Fatalf("Parse(%q) = %+v", s, got)
		}
	})
}

// FuzzContent looks at files of all contents.
func FuzzContent(f *testing.F) {
	for _, file := range here().MapFS {
		f.Add(file.Data)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := target.Parse("file", files{MapFS: fstest.MapFS{"file": &fstest.MapFile{Data: b}}})
		if err == nil && (len(got.Kinds) != 1 || got.Guessed == "") {
			t.Fatalf("Parse() = %+v", got)
		}
	})
}
