package oci_test

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/go-containerregistry/pkg/name"

	"github.com/castellan-security/castellan/internal/adapter/oci"
	"github.com/castellan-security/castellan/internal/inventory"
)

// content is an entry of an archive.
type content struct {
	tar.Header
	body []byte
}

// pack makes a tar archive of files, folders and links.
func pack(all ...content) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, c := range all {
		if c.Typeflag == 0 {
			c.Typeflag = tar.TypeReg
		}
		if c.Size == 0 {
			c.Size = int64(len(c.body))
		}
		c.Mode = 0o644
		must(w.WriteHeader(&c.Header))
		_, err := w.Write(c.body)
		must(err)
	}
	must(w.Close())
	return b.Bytes()
}

func file(name string, body []byte) content {
	return content{tar.Header{Name: name}, body}
}

func link(kind byte, name, to string) content {
	return content{tar.Header{Name: name, Linkname: to, Typeflag: kind}, nil}
}

func folder(name string) content {
	return content{tar.Header{Name: name + "/", Typeflag: tar.TypeDir}, nil}
}

// savedOld is an archive as docker save before 25 wrote it: a folder a layer,
// in the order of their ids, and a layer that is there already as a link.
func savedOld(arch string, layers []layer, tags ...string) []byte {
	c := asJSON(config(arch, layers))
	id := strings.TrimPrefix(digest(c), "sha256:")
	var all []content
	var names []string
	first := map[string]string{}
	for n, l := range layers {
		dir := strings.Repeat(string("fa3c8012"[n]), 64)
		names = append(names, dir+"/layer.tar")
		all = append(all, folder(dir), file(dir+"/VERSION", []byte("1.0")), file(dir+"/json", []byte(`{"id":"x"}`)))
		if twin := first[string(l.tar)]; twin != "" {
			all = append(all, link(tar.TypeSymlink, dir+"/layer.tar", "../"+twin+"/layer.tar"))
			continue
		}
		first[string(l.tar)] = dir
		all = append(all, file(dir+"/layer.tar", l.tar))
	}
	// Folders come in the order of their names, not of the layers.
	for i, j := 0, len(all)-4; i < j; i, j = i+4, j-4 {
		for k := range 4 {
			all[i+k], all[j+k] = all[j+k], all[i+k]
		}
	}
	all = append(all, file(id+".json", c),
		file("manifest.json", asJSON([]object{{"Config": id + ".json", "RepoTags": tags, "Layers": names}})),
		file("repositories", []byte(`{}`)))
	return pack(all...)
}

// savedNew is one as docker save since 25 writes it: a layout with a table of
// contents beside its index.
func savedNew(arch string, layers []layer, tags ...string) []byte {
	s := blobs{}
	var plain []layer
	for _, l := range layers {
		plain = append(plain, layer{ociLayer, l.tar, l.tar})
	}
	d := s.image(arch, plain)
	var m struct {
		Config struct{ Digest string }
		Layers []struct{ Digest string }
	}
	must(json.Unmarshal(s[d["digest"].(string)], &m))
	var entries []object
	for _, tag := range tags {
		entries = append(entries, with(d, object{"annotations": object{"io.containerd.image.name": name.DefaultRegistry + "/library/" + tag}}))
	}
	if tags == nil {
		entries = []object{d}
	}
	files := s.files(entries...)
	blob := func(d string) string { return "blobs/" + strings.Replace(d, ":", "/", 1) }
	var names []string
	for _, l := range m.Layers {
		names = append(names, blob(l.Digest))
	}
	files["manifest.json"] = asJSON([]object{{"Config": blob(m.Config.Digest), "RepoTags": tags, "Layers": names}})
	return archive(files)
}

// savedBySkopeo is one as tools write it that keep layers under their digests.
func savedBySkopeo(arch string, layers []layer, ending string, stored func(layer) []byte, tags ...string) []byte {
	c := asJSON(config(arch, layers))
	id := strings.TrimPrefix(digest(c), "sha256:") + ".json"
	all := []content{file("./"+id, c)}
	var names []string
	for _, l := range layers {
		name := strings.TrimPrefix(digest(l.tar), "sha256:") + ending
		names = append(names, name)
		all = append(all, file("./"+name, stored(l)))
	}
	return pack(append(all, file("./manifest.json", asJSON([]object{{"Config": id, "RepoTags": tags, "Layers": names}})))...)
}

// asSaved is how layers are stored by docker save.
func asSaved(layers []layer) []layer {
	var out []layer
	seen := map[string]bool{}
	for _, l := range layers {
		if !seen[string(l.tar)] {
			out = append(out, layer{ociLayer, l.tar, l.tar})
		}
		seen[string(l.tar)] = true
	}
	return out
}

func TestArchivesOfAllAges(t *testing.T) {
	layers := threeLayers("")
	tarred := asSaved(layers)
	zipped := func(l layer) []byte { return gzipped(l.tar) }
	var asZipped []layer
	for _, l := range layers {
		asZipped = append(asZipped, layer{ociLayer + "+gzip", l.tar, gzipped(l.tar)})
	}
	for _, tc := range []struct {
		name    string
		archive []byte
		layers  []layer
	}{
		{"docker before 25", savedOld(runtime.GOARCH, layers, "shop:1"), tarred},
		{"docker since 25", savedNew(runtime.GOARCH, layers, "shop:1"), tarred},
		{"by digest alone", savedNew(runtime.GOARCH, layers), tarred},
		{"skopeo", savedBySkopeo(runtime.GOARCH, layers, ".tar", func(l layer) []byte { return l.tar }, "shop:1"), tarred},
		{"compressed layers", savedBySkopeo(runtime.GOARCH, layers, ".tar.gz", zipped, "shop:1"), asZipped},
	} {
		want := described(runtime.GOARCH, tc.layers)
		check := func(t *testing.T, i *oci.Image) {
			t.Helper()
			checkLayers(t, i, tc.layers)
			got := i.Image()
			for n := range got.Layers {
				// Where neither name nor manifest tells it, the digest is unknown.
				if strings.HasSuffix(got.Layers[n].MediaType, "gzip") && got.Layers[n].Digest == "" {
					got.Layers[n].Digest = want.Layers[n].Digest
				}
			}
			ignored := cmpopts.IgnoreFields(inventory.Image{}, "Reference", "Digest", "ID")
			if diff := cmp.Diff(want, got, ignored); diff != "" {
				t.Errorf("Image() (-want +got):\n%s", diff)
			}
			if err := inventory.CheckDigest(got.ID); err != nil {
				t.Errorf("ID: %v", err)
			}
		}
		t.Run(tc.name+"/file", func(t *testing.T) { check(t, open(t, writeFile(t, tc.archive), oci.Choice{})) })
		t.Run(tc.name+"/file.gz", func(t *testing.T) { check(t, open(t, writeFile(t, gzipped(tc.archive)), oci.Choice{})) })
		t.Run(tc.name+"/pipe", func(t *testing.T) {
			r, w := io.Pipe()
			go func() { // ends when all is read or the reader is closed
				_, err := w.Write(tc.archive)
				_ = w.CloseWithError(err)
			}()
			i := oci.OpenStream(r, oci.Choice{})
			check(t, i)
			if err := i.Close(); err != nil {
				t.Errorf("Close() = %v", err)
			}
		})
	}
}

// A layer that is there twice is a link in old archives, one blob in new ones,
// and handed over once.
func TestLayerTwice(t *testing.T) {
	one, two := gzipLayer("a", "1"), gzipLayer("b", "2")
	layers := []layer{one, two, one}
	for name, archive := range map[string][]byte{
		"docker before 25": savedOld(runtime.GOARCH, layers, "shop:1"),
		"docker since 25":  savedNew(runtime.GOARCH, layers, "shop:1"),
	} {
		for _, form := range []string{"file", "pipe"} {
			t.Run(name+"/"+form, func(t *testing.T) {
				i := oci.OpenStream(io.NopCloser(bytes.NewReader(archive)), oci.Choice{})
				if form == "file" {
					i = open(t, writeFile(t, archive), oci.Choice{})
				}
				var k taken
				if err := i.Each(t.Context(), 2, nothing, k.take); err != nil {
					t.Fatal(err)
				}
				if len(k.calls) != 2 || len(i.Image().Layers) != 3 {
					t.Errorf("%d layers handed over of %d, want 2 of 3", len(k.calls), len(i.Image().Layers))
				}
				if l := i.Image().Layers; l[0].DiffID != l[2].DiffID || l[0].DiffID != digest(one.tar) {
					t.Errorf("layers = %+v", l)
				}
			})
		}
	}
}

func TestWhichImageOfAnArchive(t *testing.T) {
	web, db := []layer{plainLayer("web", "1")}, []layer{plainLayer("db", "1")}
	two := func() []byte {
		c1, c2 := asJSON(config("amd64", web)), asJSON(config("amd64", db))
		return pack(file("1.json", c1), file("2.json", c2), file("1/layer.tar", web[0].tar), file("2/layer.tar", db[0].tar),
			file("manifest.json", asJSON([]object{
				{"Config": "1.json", "RepoTags": []string{"shop/web:1", "shop/web:latest"}, "Layers": []string{"1/layer.tar"}},
				{"Config": "2.json", "RepoTags": nil, "Layers": []string{"2/layer.tar"}},
			})))
	}()
	for _, tc := range []struct {
		name   string
		choice oci.Choice
		want   []layer
		words  []string
	}{
		{"by tag", oci.Choice{Name: "shop/web:1"}, web, nil},
		{"without a tag it is latest", oci.Choice{Name: "shop/web"}, web, nil},
		{"by none", oci.Choice{Platform: inventory.Platform{Architecture: "amd64"}}, nil, []string{"several images", "shop/web:1"}},
		{"by another", oci.Choice{Name: "shop/db:1"}, nil, []string{`no image "shop/db:1"`, "shop/web:1 shop/web:latest"}},
		{"for another platform", oci.Choice{Name: "shop/web:1", Platform: inventory.Platform{Architecture: "arm64"}}, nil, []string{"linux/arm64", "linux/amd64"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			i, err := oci.OpenPath(t.Context(), writeFile(t, two), tc.choice)
			if tc.want == nil {
				checkError(t, err, tc.words...)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = i.Close() }()
			checkLayers(t, i, tc.want)
		})
	}
}

// An image of an archive is also known by the id under which engines know it.
func TestArchiveByID(t *testing.T) {
	layers := threeLayers("")
	path := writeFile(t, savedOld("amd64", layers, "shop:1"))
	checkLayers(t, open(t, path, oci.Choice{Name: digest(asJSON(config("amd64", layers)))}), asSaved(layers))
	_, err := oci.OpenPath(t.Context(), path, oci.Choice{Name: digest([]byte("another"))})
	checkError(t, err, "no image", "shop:1")
}

// Layers that skip names are not handed over, and those that fail end it.
func TestSkipAndFail(t *testing.T) {
	layers := threeLayers("")
	for name, archive := range map[string][]byte{"old": savedOld("amd64", layers), "new": savedNew("amd64", layers)} {
		t.Run(name, func(t *testing.T) {
			i := open(t, writeFile(t, archive), oci.Choice{})
			var k taken
			first := func(l inventory.Layer) bool { return l.DiffID == digest(layers[0].tar) }
			if err := i.Each(t.Context(), 4, first, k.take); err != nil {
				t.Fatal(err)
			}
			if len(k.calls) != 2 {
				t.Errorf("%d layers handed over, want 2", len(k.calls))
			}
			err := i.Each(t.Context(), 4, nothing, func(context.Context, inventory.Layer, io.Reader) error { return io.ErrNoProgress })
			if err == nil || !strings.Contains(err.Error(), io.ErrNoProgress.Error()) {
				t.Errorf("Each() = %v, want the error of take", err)
			}
		})
	}
}

// A pipe can be read once; a compressed file again, as often as it takes.
func TestStreamAgain(t *testing.T) {
	layers := threeLayers("")
	saved := savedNew("amd64", layers, "shop:1")
	pipe := oci.OpenStream(io.NopCloser(bytes.NewReader(saved)), oci.Choice{Name: "shop:1"})
	path := writeFile(t, gzipped(saved))
	file := open(t, path, oci.Choice{Name: "shop:1"})
	for name, i := range map[string]*oci.Image{"-:shop:1": pipe, path + ":shop:1": file} {
		checkLayers(t, i, asSaved(layers))
		if got := i.Image().Reference; got != name {
			t.Errorf("reference = %s, want %s", got, name)
		}
	}
	checkLayers(t, file, asSaved(layers))
	var k taken
	checkError(t, pipe.Each(t.Context(), 1, nothing, k.take), "read once")
}

// What an engine sends is checked against what was asked for.
func TestReadArchive(t *testing.T) {
	layers := threeLayers("")
	id := digest(asJSON(config("amd64", layers)))
	for _, tc := range []struct {
		name  string
		known inventory.Image
		words []string
	}{
		{"the image asked for", inventory.Image{Reference: "shop:1", ID: id, Platform: inventory.Platform{OS: "linux", Architecture: "amd64"}}, nil},
		{"another image", inventory.Image{ID: digest([]byte("x"))}, []string{"was asked for"}},
		{"another platform", inventory.Image{ID: id, Platform: inventory.Platform{OS: "linux", Architecture: "arm64"}}, []string{"no image for linux/arm64"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var k taken
			got, err := oci.ReadArchive(t.Context(), bytes.NewReader(savedOld("amd64", layers)), tc.known, nothing, k.take)
			if tc.words != nil {
				checkError(t, err, tc.words...)
				return
			}
			if err != nil || got.ID != id || got.Reference != "shop:1" || len(got.Layers) != 3 {
				t.Errorf("ReadArchive() = %+v, %v", got, err)
			}
		})
	}
}
