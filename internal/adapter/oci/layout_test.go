package oci_test

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/go-containerregistry/pkg/name"

	"github.com/castellan-security/castellan/internal/adapter/oci"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/inventory"
)

// described is what config and image describe, for the layers of an image.
func described(arch string, layers []layer) inventory.Image {
	want := inventory.Image{
		Platform: inventory.Platform{OS: "linux", Architecture: arch},
		Created:  time.Date(2026, 1, 2, 3, 4, 6, 500_000_000, time.UTC),
		Config: inventory.Config{
			User: "1000", Env: []string{"PATH=/bin", "A=b"}, Entrypoint: []string{"/app/server"}, Cmd: []string{"--port", "80"},
			WorkingDir: "/app", ExposedPorts: []string{"443/tcp", "80/tcp"}, Volumes: []string{"/data"},
			Labels: map[string]string{"maintainer": "me"}, Healthcheck: []string{"CMD", "/app/server", "-check"},
		},
		History: []inventory.Step{
			{Created: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Instruction: "ADD file:1 in /"},
			{Instruction: "ENV A=b", Comment: "buildkit.dockerfile.v0", Empty: true},
			{Instruction: "RUN make", Author: "me"},
			{Instruction: "COPY app/config /app # 2"},
		},
	}
	for n, step := range []string{"ADD file:1 in /", "RUN make", "COPY app/config /app # 2"} {
		l := layers[n]
		want.Layers = append(want.Layers, inventory.Layer{
			Digest: digest(l.stored), DiffID: digest(l.tar), MediaType: l.mediaType, Size: int64(len(l.stored)), Instruction: step,
		})
	}
	return want
}

// The ways in which one layout can come.
func TestLayoutInEveryForm(t *testing.T) {
	s := blobs{}
	layers := threeLayers("")
	d := s.image(runtime.GOARCH, layers)
	files := s.files(d)
	packed := archive(files)
	for _, tc := range []struct {
		name string
		open func(t *testing.T) *oci.Image
	}{
		{"folder", func(t *testing.T) *oci.Image { return open(t, writeFolder(t, files), oci.Choice{}) }},
		{"tar", func(t *testing.T) *oci.Image { return open(t, writeFile(t, packed), oci.Choice{}) }},
		{"tar.gz", func(t *testing.T) *oci.Image { return open(t, writeFile(t, gzipped(packed)), oci.Choice{}) }},
		{"tar.zst", func(t *testing.T) *oci.Image { return open(t, writeFile(t, zstandard(packed)), oci.Choice{}) }},
		{"pipe", func(t *testing.T) *oci.Image {
			return oci.OpenStream(io.NopCloser(io.MultiReader(bytes.NewReader(packed))), oci.Choice{})
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			i := tc.open(t)
			checkLayers(t, i, layers)
			want := described(runtime.GOARCH, layers)
			want.Digest, want.ID = d["digest"].(string), i.Image().ID
			if s[want.ID] == nil {
				t.Errorf("ID = %s, want that of the configuration", want.ID)
			}
			if diff := cmp.Diff(want, i.Image(), cmpopts.IgnoreFields(inventory.Image{}, "Reference")); diff != "" {
				t.Errorf("Image() (-want +got):\n%s", diff)
			}
			if err := i.Close(); err != nil {
				t.Errorf("Close() = %v", err)
			}
		})
	}
}

func open(t *testing.T, path string, c oci.Choice) *oci.Image {
	t.Helper()
	i, err := oci.OpenPath(t.Context(), path, c)
	if err != nil {
		t.Fatalf("OpenPath() = %v", err)
	}
	t.Cleanup(func() { _ = i.Close() })
	return i
}

func named(d object, name string) object {
	return with(d, object{"annotations": object{"org.opencontainers.image.ref.name": name}})
}

func TestWhichImageOfALayout(t *testing.T) {
	s := blobs{}
	both := s.twoPlatforms()
	web := s.image("amd64", []layer{plainLayer("web", "1")})
	web2 := s.image("amd64", []layer{plainLayer("web", "2")})
	armV6 := s.image("arm", []layer{plainLayer("arm", "6")})
	armV7 := s.image("arm", []layer{plainLayer("arm", "7")})
	arms := s.index(forPlatform(armV6, "linux", "arm", "v6"), forPlatform(armV7, "linux", "arm", "v7"))
	chart := s.addJSON(ociManifest, object{"schemaVersion": 2, "mediaType": ociManifest,
		"config": s.add("application/vnd.cncf.helm.config.v1+json", []byte("{}")), "layers": []object{s.add("application/tar+gzip", []byte("x"))}})
	of := func(d object, arch string) string { return d["digest"].(string) + " linux/" + arch }
	platform := func(arch, variant string) inventory.Platform {
		return inventory.Platform{OS: "linux", Architecture: arch, Variant: variant}
	}
	for _, tc := range []struct {
		name    string
		entries []object
		choice  oci.Choice
		want    string // digest and platform; empty for an error
		errors  []string
	}{
		{"the only one, whatever its platform", []object{s.image("s390x", nil)}, oci.Choice{}, of(s.image("s390x", nil), "s390x"), nil},
		{"the only one is for another platform than asked", []object{web}, oci.Choice{Platform: platform("arm64", "")}, "", []string{"no image for linux/arm64", "linux/amd64"}},
		{"platform of this machine's index", []object{both}, oci.Choice{Platform: platform("arm64", "")}, "linux/arm64/v8", nil},
		{"platform with its variant", []object{both}, oci.Choice{Platform: platform("arm64", "v8")}, "linux/arm64/v8", nil},
		{"platform without its system", []object{both}, oci.Choice{Platform: inventory.Platform{Architecture: "amd64"}}, "linux/amd64", nil},
		{"a platform that is not there", []object{both}, oci.Choice{Platform: platform("riscv64", "")}, "", []string{"linux/riscv64", "linux/amd64, linux/arm64/v8"}},
		{"attestations are no image", []object{both}, oci.Choice{Platform: inventory.Platform{OS: "unknown", Architecture: "unknown"}}, "", []string{"no image for unknown/unknown"}},
		{"newest arm", []object{arms}, oci.Choice{Platform: platform("arm", "")}, of(armV7, "arm/v7"), nil},
		{"older arm runs on newer", []object{s.index(forPlatform(armV6, "linux", "arm", "v6"))}, oci.Choice{Platform: platform("arm", "v7")}, of(armV6, "arm/v6"), nil},
		{"newer arm does not run on older", []object{s.index(forPlatform(armV7, "linux", "arm", "v7"))}, oci.Choice{Platform: platform("arm", "v6")}, "", []string{"linux/arm/v6"}},
		{"an entry says that it is an image", []object{s.index(with(forPlatform(web, "linux", "amd64", ""), object{"artifactType": ociConfig}))}, oci.Choice{Platform: platform("amd64", "")}, of(web, "amd64"), nil},
		{"by tag", []object{named(web, "1"), named(web2, "2")}, oci.Choice{Name: "2"}, of(web2, "amd64"), nil},
		{"by digest", []object{named(web, "1"), named(web2, "2")}, oci.Choice{Name: web["digest"].(string)}, of(web, "amd64"), nil},
		{"by the digest of an index", []object{named(arms, "1"), named(web2, "2")}, oci.Choice{Name: arms["digest"].(string), Platform: platform("arm", "v7")}, of(armV7, "arm/v7"), nil},
		{"by a name that is shorter than there", []object{with(web, object{"annotations": object{"io.containerd.image.name": name.DefaultRegistry + "/library/web:latest"}}), named(web2, "2")},
			oci.Choice{Name: "web"}, of(web, "amd64"), nil},
		{"by no name where there are two", []object{named(web, "1"), named(web2, "2")}, oci.Choice{Platform: platform("amd64", "")}, "", []string{"several images", "1 linux/amd64, 2 linux/amd64"}},
		{"two names of one image", []object{named(web, "1"), named(web, "2")}, oci.Choice{}, of(web, "amd64"), nil},
		{"by a name that is not there", []object{named(web, "1"), named(web2, "2")}, oci.Choice{Name: "3"}, "", []string{`no image "3"`, "1", "2"}},
		{"a chart beside an image", []object{named(chart, "chart"), named(web, "web")}, oci.Choice{}, of(web, "amd64"), nil},
		{"a chart", []object{named(chart, "chart")}, oci.Choice{}, "", []string{"no image but an artifact", "helm"}},
		{"nothing", nil, oci.Choice{}, "", []string{"no image in it"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := writeFolder(t, s.files(tc.entries...))
			i, err := oci.OpenPath(t.Context(), dir, tc.choice)
			if tc.want == "" {
				checkError(t, err, tc.errors...)
				return
			}
			if err != nil {
				t.Fatalf("OpenPath() = %v", err)
			}
			defer func() { _ = i.Close() }()
			if got := i.Image().Digest + " " + i.Image().Platform.String(); !strings.HasSuffix(got, tc.want) {
				t.Errorf("opened %s, want %s", got, tc.want)
			}
		})
	}
}

// checkError wants an error that a person can act on, with all these words.
func checkError(t *testing.T, err error, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	if fault.Of(err) == fault.Unknown || fault.Remedy(err) == "" {
		t.Errorf("%q has kind %v and remedy %q, want both", err, fault.Of(err), fault.Remedy(err))
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("error %q, want it to contain %q", err, w)
		}
	}
	if strings.ContainsRune(err.Error(), '\n') || len(err.Error()) > 3000 {
		t.Errorf("error of %d bytes in several lines: %q", len(err.Error()), err)
	}
}

func TestAllPlatforms(t *testing.T) {
	s := blobs{}
	both := s.twoPlatforms()
	files := s.files(both)
	for _, tc := range []struct {
		name   string
		path   string
		choice oci.Choice
		want   []string
	}{
		{"folder", writeFolder(t, files), oci.Choice{}, []string{"linux/amd64", "linux/arm64/v8"}},
		{"tar", writeFile(t, archive(files)), oci.Choice{}, []string{"linux/amd64", "linux/arm64/v8"}},
		{"those that suit", writeFile(t, archive(files)), oci.Choice{Platform: inventory.Platform{Architecture: "arm64"}}, []string{"linux/arm64/v8"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			all, err := oci.OpenPathAll(t.Context(), tc.path, tc.choice)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, i := range all {
				got = append(got, i.Image().Platform.String())
				// Each can be read when others are closed already.
				checkLayers(t, i, threeLayers(i.Image().Platform.Architecture))
				if err := i.Close(); err != nil {
					t.Error(err)
				}
			}
			if !slices.Equal(got, tc.want) {
				t.Errorf("platforms = %q, want %q", got, tc.want)
			}
		})
	}
	_, err := oci.OpenPathAll(t.Context(), writeFile(t, gzipped(archive(files))), oci.Choice{})
	checkError(t, err, "read once")
}

// A copy of one platform still has the index of all.
func TestPartialCopy(t *testing.T) {
	s := blobs{}
	both := s.twoPlatforms()
	armOnly := s.image("arm64", threeLayers("arm64"))
	files := s.files(both)
	for d := range s {
		if d != both["digest"] && !reaches(s, armOnly, d) {
			delete(files, "blobs/"+strings.Replace(d, ":", "/", 1))
		}
	}
	dir := writeFolder(t, files)
	all, err := oci.OpenPathAll(t.Context(), dir, oci.Choice{})
	if err != nil || len(all) != 1 || all[0].Image().Platform.Architecture != "arm64" {
		t.Fatalf("OpenPathAll() = %v, %v, want the one that is there", all, err)
	}
	_ = all[0].Close()
	_, err = oci.OpenPath(t.Context(), dir, oci.Choice{Platform: inventory.Platform{Architecture: "amd64"}})
	checkError(t, err, "is not in it")
}

// reaches says whether the manifest that d names leads to a digest.
func reaches(s blobs, d object, to string) bool {
	name := d["digest"].(string)
	return name == to || bytes.Contains(s[name], []byte(to))
}

func TestPathsThatAreNoImage(t *testing.T) {
	for _, tc := range []struct {
		name  string
		path  string
		words []string
	}{
		{"nothing there", filepath.Join(t.TempDir(), "none"), []string{"there is no"}},
		{"empty folder", t.TempDir(), []string{"neither index.json nor manifest.json"}},
		{"empty file", writeFile(t, nil), []string{"neither index.json nor manifest.json"}},
		{"text", writeFile(t, []byte("hello")), []string{"no archive"}},
		{"another archive", writeFile(t, tarOf("a", "b")), []string{"neither index.json nor manifest.json"}},
		{"another compressed archive", writeFile(t, gzipped(tarOf("a", "b"))), []string{"neither index.json nor manifest.json"}},
		{"bzip2", writeFile(t, append([]byte("BZh91AY&SY"), make([]byte, 600)...)), []string{"gzip or zstd"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			i, err := oci.OpenPath(t.Context(), tc.path, oci.Choice{})
			if err == nil {
				var k taken
				err = i.Each(t.Context(), 1, nothing, k.take)
				_ = i.Close()
			}
			checkError(t, err, tc.words...)
		})
	}
}

// A layout cannot have a file of the host read.
func TestLayoutStaysInside(t *testing.T) {
	s := blobs{}
	layers := threeLayers("")
	dir := writeFolder(t, s.files(s.image("amd64", layers)))
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, layers[0].stored, 0o600); err != nil {
		t.Fatal(err)
	}
	blob := filepath.Join(dir, "blobs", "sha256", strings.TrimPrefix(digest(layers[0].stored), "sha256:"))
	if err := os.Remove(blob); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(secret, blob); err != nil {
		t.Fatal(err)
	}
	var k taken
	if err := open(t, dir, oci.Choice{}).Each(t.Context(), 1, nothing, k.take); err == nil {
		t.Error("a link out of the layout was followed")
	}
}
