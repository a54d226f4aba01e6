package oci_test

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/castellan-security/castellan/internal/adapter/oci"
	"github.com/castellan-security/castellan/internal/fault"
)

// manifestOf is the manifest of an image with a change.
func manifestOf(s blobs, layers []layer, change object) object {
	var ds []object
	for _, l := range layers {
		ds = append(ds, s.add(l.mediaType, l.stored))
	}
	return with(object{
		"schemaVersion": 2, "mediaType": ociManifest, "config": s.addJSON(ociConfig, config("amd64", layers)), "layers": ds,
	}, change)
}

// repeat is n times a value.
func repeat[T any](n int, v T) []T {
	out := make([]T, n)
	for i := range out {
		out[i] = v
	}
	return out
}

// Documents that lie, contradict themselves or are too large get one error, as
// a folder, as an archive and as a stream.
func TestHostileDocuments(t *testing.T) {
	layers := threeLayers("")
	nest := func(s blobs, d object) object {
		for range oci.MaxNesting + 1 {
			d = with(s.index(d), object{"mediaType": ociIndex})
		}
		return d
	}
	for _, tc := range []struct {
		name  string
		entry func(s blobs) object
		kind  fault.Kind
		words []string
	}{
		{"manifest that is another", func(s blobs) object {
			d := s.image("amd64", layers)
			s[d["digest"].(string)][20] ^= 1
			return d
		}, fault.Corrupt, []string{"have the digest"}},
		{"configuration that is another", func(s blobs) object {
			m := manifestOf(s, layers, nil)
			s[m["config"].(object)["digest"].(string)][5] ^= 1
			return s.addJSON(ociManifest, m)
		}, fault.Corrupt, []string{"have the digest"}},
		{"wrong size of a manifest", func(s blobs) object { return with(s.image("amd64", layers), object{"size": 7}) }, fault.Corrupt, []string{"7 were announced"}},
		{"negative size", func(s blobs) object { return with(s.image("amd64", layers), object{"size": -1}) }, fault.Invalid, []string{"-1 bytes"}},
		{"huge manifest", func(s blobs) object { return with(s.image("amd64", layers), object{"size": oci.MaxManifest + 1}) }, fault.Invalid, []string{"at most"}},
		{"digest that is a path", func(s blobs) object {
			return with(s.image("amd64", layers), object{"digest": "sha256:../../../../../../../../../../../../../../../../../etc/passwd"})
		}, fault.Invalid, []string{"hex digits"}},
		{"manifest that is missing", func(s blobs) object {
			d := s.image("amd64", layers)
			delete(s, d["digest"].(string))
			return d
		}, fault.NotFound, []string{"is not in it"}},
		{"not JSON", func(s blobs) object { return s.add(ociManifest, []byte("hello")) }, fault.Invalid, []string{"manifest"}},
		{"cut JSON", func(s blobs) object { return s.add(ociManifest, []byte(`{"schemaVersion":2,"layers":[`)) }, fault.Invalid, []string{"unexpected"}},
		{"more after JSON", func(s blobs) object { return s.add(ociManifest, []byte(`{"schemaVersion":2} {}`)) }, fault.Invalid, []string{"follows"}},
		{"deep JSON", func(s blobs) object {
			return s.add(ociManifest, []byte(`{"a":`+strings.Repeat("[", 100_000)+strings.Repeat("]", 100_000)+`}`))
		}, fault.Invalid, []string{"depth"}},
		{"index and manifest at once", func(s blobs) object {
			return s.addJSON(ociManifest, manifestOf(s, layers, object{"manifests": []object{s.image("amd64", layers)}}))
		}, fault.Invalid, []string{"at once"}},
		{"index that calls itself a manifest", func(s blobs) object {
			return s.addJSON(ociManifest, object{"schemaVersion": 2, "mediaType": ociManifest, "manifests": []object{s.image("amd64", layers)}})
		}, fault.Invalid, []string{"calls itself"}},
		{"a member twice", func(s blobs) object {
			b := asJSON(manifestOf(s, layers, nil))
			return s.add(ociManifest, append(b[:len(b)-1], `,"layers":[]}`...))
		}, fault.Invalid, []string{`"layers" is there twice`}},
		{"a member in another case", func(s blobs) object {
			b := asJSON(manifestOf(s, layers, nil))
			return s.add(ociManifest, append(b[:len(b)-1], `,"Layers":[]}`...))
		}, fault.Invalid, []string{`"Layers"`}},
		{"schema 1", func(s blobs) object {
			return s.addJSON("application/vnd.docker.distribution.manifest.v1+prettyjws", object{"schemaVersion": 1, "fsLayers": []object{}})
		}, fault.Unsupported, []string{"schema 1"}},
		{"another schema", func(s blobs) object { return s.addJSON(ociManifest, object{"schemaVersion": 3}) }, fault.Invalid, []string{"schema version 3"}},
		{"too many layers", func(s blobs) object {
			return s.addJSON(ociManifest, manifestOf(s, layers, object{"layers": repeat(oci.MaxLayers+1, s.add(ociLayer, layers[2].tar))}))
		}, fault.Invalid, []string{"more than 1000 layers"}},
		{"fewer layers than the configuration says", func(s blobs) object {
			return s.addJSON(ociManifest, manifestOf(s, layers, object{"layers": []object{s.add(ociLayer, layers[2].tar)}}))
		}, fault.Invalid, []string{"1 layers and the configuration 3"}},
		{"encrypted layer", func(s blobs) object {
			return s.addJSON(ociManifest, manifestOf(s, layers, object{"layers": repeat(3, s.add(ociLayer+"+gzip+encrypted", []byte("x")))}))
		}, fault.Unsupported, []string{"encrypted"}},
		{"signature with an image's configuration", func(s blobs) object {
			return s.addJSON(ociManifest, manifestOf(s, layers, object{"layers": repeat(3, s.add("application/vnd.dev.cosign.simplesigning.v1+json", []byte("x")))}))
		}, fault.Unsupported, []string{"artifact of type", "simplesigning"}},
		{"no configuration", func(s blobs) object { return s.addJSON(ociManifest, manifestOf(s, layers, object{"config": nil})) }, fault.Invalid, []string{"without a configuration"}},
		{"configuration without layers", func(s blobs) object {
			return s.addJSON(ociManifest, manifestOf(s, layers, object{"config": s.addJSON(ociConfig, object{"os": "linux"})}))
		}, fault.Invalid, []string{"no rootfs"}},
		{"diff id that is none", func(s blobs) object {
			c := config("amd64", layers)
			c["rootfs"] = object{"type": "layers", "diff_ids": []string{"a", "b", "c"}}
			return s.addJSON(ociManifest, manifestOf(s, layers, object{"config": s.addJSON(ociConfig, c)}))
		}, fault.Invalid, []string{"diff_id of layer 1"}},
		{"endless history", func(s blobs) object {
			c := with(config("amd64", layers), object{"history": repeat(200_000, object{})})
			return s.addJSON(ociManifest, manifestOf(s, layers, object{"config": s.addJSON(ociConfig, c)}))
		}, fault.Invalid, []string{"steps of history"}},
		{"indexes within indexes", func(s blobs) object { return nest(s, s.image("amd64", layers)) }, fault.Invalid, []string{"indexes within indexes"}},
		{"an index of nothing but indexes", func(s blobs) object { return with(s.index(), object{"mediaType": ociIndex}) }, fault.NotFound, []string{"no image in it"}},
		{"an index that is a manifest", func(s blobs) object { return with(s.index(s.image("amd64", layers)), object{"mediaType": ociManifest}) }, fault.Invalid, []string{"calls itself"}},
	} {
		s := blobs{}
		files := s.files(tc.entry(s))
		maps.DeleteFunc(files, func(name string, _ []byte) bool { return name == "" })
		for form, path := range map[string]string{
			"folder": writeFolder(t, files), "tar": writeFile(t, archive(files)), "stream": writeFile(t, gzipped(archive(files))),
		} {
			t.Run(tc.name+"/"+form, func(t *testing.T) {
				err := openAndRead(t, path)
				checkError(t, err, tc.words...)
				if got := fault.Of(err); got != tc.kind {
					t.Errorf("%q is of kind %v, want %v", err, got, tc.kind)
				}
			})
		}
	}
}

// openAndRead opens an image, reads all of it and returns the first error.
func openAndRead(t *testing.T, path string) error {
	t.Helper()
	i, err := oci.OpenPath(t.Context(), path, oci.Choice{})
	if err != nil {
		return err
	}
	defer func() { _ = i.Close() }()
	var k taken
	return i.Each(t.Context(), 2, nothing, k.take)
}

// Archives that are damaged, or made to harm whoever unpacks them.
func TestHostileArchives(t *testing.T) {
	layers := threeLayers("")
	c := asJSON(config("amd64", layers))
	contents := func(config string, layers ...string) content {
		return file("manifest.json", asJSON([]object{{"Config": config, "Layers": layers}}))
	}
	good := []content{file("c.json", c), file("1.tar", layers[0].tar), file("2.tar", layers[1].tar), file("3.tar", layers[2].tar)}
	whole := contents("c.json", "1.tar", "2.tar", "3.tar")
	and := func(more ...content) []byte { return pack(append(append([]content{}, good...), more...)...) }
	for _, tc := range []struct {
		name    string
		archive []byte
		words   []string
	}{
		{"absolute name", and(whole, file("/etc/passwd", nil)), []string{"leads out of it", "/etc/passwd"}},
		{"name that leads up", and(whole, file("a/../../x", nil)), []string{"leads out of it"}},
		{"link to an absolute path", and(whole, link(tar.TypeSymlink, "x", "/etc/passwd")), []string{"leads out of it"}},
		{"link up", pack(append(good[:3:3], link(tar.TypeSymlink, "3.tar", "../../../etc/passwd"), whole)...), []string{"is not in it"}},
		{"loop of links", pack(append(good[:3:3], link(tar.TypeSymlink, "3.tar", "x"), link(tar.TypeSymlink, "x", "3.tar"), whole)...), []string{"links lead"}},
		{"link to itself", pack(append(good[:3:3], link(tar.TypeLink, "3.tar", "3.tar"), whole)...), []string{"links lead"}},
		{"an entry twice", and(whole, file("1.tar", layers[2].tar)), []string{"1.tar twice"}},
		{"an entry twice by another spelling", and(whole, file("./a/../1.tar", layers[2].tar)), []string{"1.tar twice"}},
		{"missing layer", pack(append(good[:3:3], whole)...), []string{"3.tar is not in it"}},
		{"missing configuration", pack(append(good[1:4:4], whole)...), []string{"c.json is not in it"}},
		{"layer that is none", pack(append(good[:3:3], file("3.tar", bytes.Repeat([]byte("text "), 1000)), whole)...), []string{"neither a tar archive"}},
		{"short layer that is none", pack(append(good[:3:3], file("3.tar", []byte("x")), whole)...), []string{"neither a tar archive"}},
		{"long name", and(whole, file(strings.Repeat("n", 5000), nil)), []string{"name of 5000 bytes"}},
		{"configuration by another digest", pack(append(good[1:4:4], file(strings.Repeat("a", 64)+".json", c), contents(strings.Repeat("a", 64)+".json", "1.tar", "2.tar", "3.tar"))...),
			[]string{"its digest is"}},
		{"fewer layers than the configuration says", and(contents("c.json", "1.tar")), []string{"1 layers and the configuration 3"}},
		{"table of contents that is an object", and(file("manifest.json", []byte("{}"))), []string{"begins with ["}},
		{"empty table of contents", and(file("manifest.json", []byte("[]"))), []string{"no image"}},
		{"image without a configuration", and(file("manifest.json", []byte(`[{"Layers":[]}]`))), []string{"without a configuration"}},
		{"a member twice", and(file("manifest.json", []byte(`[{"Config":"c.json","Layers":[],"Layers":["1.tar"]}]`))), []string{`"Layers" is there twice`}},
		{"ends within a layer", and(whole)[:3000], []string{"archive"}},
		{"ends within a header", and(whole)[:512*4+100], []string{"archive"}},
		{"not a header", append(and()[:1024*2], bytes.Repeat([]byte("x"), 2048)...), []string{"archive"}},
		{"huge extended header", append(hugeHeader(), and(whole)...), []string{"read archive"}},
	} {
		for form, path := range map[string]string{"file": writeFile(t, tc.archive), "stream": writeFile(t, gzipped(tc.archive))} {
			t.Run(tc.name+"/"+form, func(t *testing.T) { checkError(t, openAndRead(t, path), tc.words...) })
		}
	}
	if err := openAndRead(t, writeFile(t, and(whole))); err != nil {
		t.Errorf("the archive that all of these are made from: %v", err)
	}
}

// hugeHeader is an extended header of 2 MiB, before an archive.
func hugeHeader() []byte {
	b := pack(file("x", bytes.Repeat([]byte("c"), 2<<20)))
	b = b[:len(b)-1024] // without the end
	const typeflag, checksum, width = 156, 148, 8
	b[typeflag] = tar.TypeXHeader
	copy(b[checksum:checksum+width], "        ")
	sum := 0
	for _, c := range b[:512] {
		sum += int(c)
	}
	copy(b[checksum:], fmt.Sprintf("%06o\x00 ", sum))
	return b
}

// A table of contents of 2 GiB, and one that says it has 2 GiB, cost nothing.
func TestHugeTableOfContents(t *testing.T) {
	var head bytes.Buffer
	w := tar.NewWriter(&head)
	must(w.WriteHeader(&tar.Header{Name: "manifest.json", Size: 2 << 30, Mode: 0o600, Typeflag: tar.TypeReg}))
	path := writeFile(t, head.Bytes())
	if err := os.Truncate(path, 512+2<<30+1024); err != nil {
		t.Fatal(err)
	}
	for name, err := range map[string]error{
		"file": bounded(t, func() error { return openAndRead(t, path) }),
		"stream": bounded(t, func() error {
			i := oci.OpenStream(io.NopCloser(io.MultiReader(&head, zeros{})), oci.Choice{})
			var k taken
			return i.Each(t.Context(), 1, nothing, k.take)
		}),
	} {
		t.Run(name, func(t *testing.T) { checkError(t, err, "manifest.json of 2147483648 bytes") })
	}
}

// zeros never end.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

// bounded runs f and fails if it took more than some megabytes of memory.
func bounded(t *testing.T, f func() error) error {
	t.Helper()
	const most = 48 << 20
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	err := f()
	runtime.ReadMemStats(&after)
	if took := after.TotalAlloc - before.TotalAlloc; took > most {
		t.Errorf("it took %d MiB of memory, want at most %d", took>>20, most>>20)
	}
	return err
}

func TestEndlessEntries(t *testing.T) {
	path := filepath.Join(t.TempDir(), "many.tar")
	write := func(n int, name string) {
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		w := tar.NewWriter(f)
		for i := range n {
			must(w.WriteHeader(&tar.Header{Name: fmt.Sprint(i, name), Typeflag: tar.TypeReg}))
		}
		must(w.Close())
		must(f.Close())
	}
	for _, tc := range []struct {
		name, suffix string
		n            int
	}{
		{"a million", "", oci.MaxEntries + 1}, // more than enough, without writing half a gigabyte
		{"long names", strings.Repeat("n", 4000), oci.MaxNames/4000 + 10},
	} {
		t.Run(tc.name, func(t *testing.T) {
			write(tc.n, tc.suffix)
			checkError(t, openAndRead(t, path), "more than")
			in, err := os.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			i := oci.OpenStream(in, oci.Choice{})
			defer func() { _ = i.Close() }()
			var k taken
			checkError(t, i.Each(t.Context(), 1, nothing, k.take), "more than")
		})
	}
}

// A small stream that decompresses to a large file of no image is given up.
func TestBombAroundAnArchive(t *testing.T) {
	pipe, w := io.Pipe()
	go func() {
		z := tar.NewWriter(w)
		err := z.WriteHeader(&tar.Header{Name: "attestation", Size: 1 << 40, Mode: 0o600, Typeflag: tar.TypeReg})
		for err == nil {
			_, err = z.Write(bytes.Repeat([]byte("bomb"), 1<<16))
		}
	}()
	i := oci.OpenStream(pipe, oci.Choice{})
	var k taken
	checkError(t, i.Each(t.Context(), 1, nothing, k.take), "belong to no image")
	_ = i.Close()
}

// Docker may load the one image of an archive while the other is scanned.
func TestArchiveOfTwoMinds(t *testing.T) {
	good, bad := []layer{plainLayer("a", "good")}, []layer{plainLayer("a", "bad")}
	s := blobs{}
	d := s.image("amd64", good)
	other := s.addJSON(ociConfig, config("amd64", bad))
	files := s.files(d)
	blob := func(d string) string { return "blobs/" + strings.Replace(d, ":", "/", 1) }
	files[blob(digest(bad[0].tar))] = bad[0].tar
	files["manifest.json"] = asJSON([]object{{"Config": blob(other["digest"].(string)), "RepoTags": []string{"shop:1"}, "Layers": []string{blob(digest(bad[0].tar))}}})
	for form, path := range map[string]string{"file": writeFile(t, archive(files)), "stream": writeFile(t, gzipped(archive(files)))} {
		t.Run(form, func(t *testing.T) { checkError(t, openAndRead(t, path), "tell of different images") })
	}
}

// A layer that only its publisher may distribute is told of, and never fetched
// from where the image says. Where it is there all the same it is read: whoever
// made the image may call any layer so.
func TestForeignLayer(t *testing.T) {
	for _, tc := range []struct {
		name   string
		there  bool
		layers int
	}{{"left to its publisher", false, 2}, {"there all the same", true, 3}} {
		layers := threeLayers("")
		s := blobs{}
		m := manifestOf(s, layers, nil)
		ds := m["layers"].([]object)
		ds[0] = with(ds[0], object{"mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", "urls": []string{"http://169.254.169.254/latest"}})
		if !tc.there {
			delete(s, ds[0]["digest"].(string))
		}
		d := s.addJSON(ociManifest, m)
		for form, path := range map[string]string{"folder": writeFolder(t, s.files(d)), "stream": writeFile(t, gzipped(archive(s.files(d))))} {
			t.Run(tc.name+"/"+form, func(t *testing.T) {
				i := open(t, path, oci.Choice{})
				var k taken
				if err := i.Each(t.Context(), 2, nothing, k.take); err != nil {
					t.Fatal(err)
				}
				if got := i.Image().Layers; len(k.calls) != tc.layers || !strings.Contains(got[0].Missing, "publisher") || got[1].Missing != "" {
					t.Errorf("%d layers handed over, want %d; layers %+v", len(k.calls), tc.layers, got)
				}
			})
		}
	}
}

// Layers whose size is not what the manifest says, as files of a layout.
func TestLayerOfAnotherSize(t *testing.T) {
	layers := threeLayers("")
	s := blobs{}
	d := s.image("amd64", layers)
	key := digest(layers[1].stored)
	for name, b := range map[string][]byte{"truncated": layers[1].stored[:10], "longer": append(layers[1].stored[:len(layers[1].stored):len(layers[1].stored)], 0)} {
		s[key] = b
		for form, path := range map[string]string{"folder": writeFolder(t, s.files(d)), "tar": writeFile(t, archive(s.files(d))), "stream": writeFile(t, gzipped(archive(s.files(d))))} {
			t.Run(name+"/"+form, func(t *testing.T) { checkError(t, openAndRead(t, path), "were announced") })
		}
	}
}

// A named pipe in a layout would have whoever opens it wait for ever.
func TestLayoutWithPipe(t *testing.T) {
	s := blobs{}
	layers := threeLayers("")
	dir := writeFolder(t, s.files(s.image("amd64", layers)))
	blob := filepath.Join(dir, "blobs", "sha256", strings.TrimPrefix(digest(layers[0].stored), "sha256:"))
	if err := os.Remove(blob); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(blob, 0o600); err != nil {
		t.Skipf("no named pipes here: %v", err)
	}
	checkError(t, openAndRead(t, dir), "is no file")
}

// A registry that does not have such a layer says so, and the rest is read; any
// other layer must be there.
func TestForeignLayerInRegistry(t *testing.T) {
	anonymous(t)
	const foreign, own = "application/vnd.oci.image.layer.nondistributable.v1.tar", "application/vnd.oci.image.layer.v1.tar"
	for _, tc := range []struct {
		name, mediaType string
		there           bool
		layers          int
		err             string
	}{
		{"left to its publisher", foreign, false, 2, ""},
		{"there all the same", foreign, true, 3, ""},
		{"not its publisher's", own, false, 0, "404"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := newHub(t)
			layers := threeLayers(runtime.GOARCH)
			s := blobs{}
			m := manifestOf(s, layers, s.addJSON(ociConfig, config(runtime.GOARCH, layers)))
			ds := m["layers"].([]object)
			ds[0] = with(ds[0], object{"mediaType": tc.mediaType})
			key := ds[0]["digest"].(string)
			if !tc.there {
				delete(s, key)
			}
			r, _ := door(t, oci.Options{})
			i, err := r.Open(t.Context(), h.push(t, s, "shop/web", "1", s.addJSON(ociManifest, m)), oci.Choice{})
			if err != nil {
				t.Fatal(err)
			}
			var k taken
			err = i.Each(t.Context(), 2, nothing, k.take)
			if tc.err != "" {
				checkError(t, err, tc.err)
				return
			}
			if err != nil || len(k.calls) != tc.layers {
				t.Errorf("%d layers handed over, %v, want %d", len(k.calls), err, tc.layers)
			}
		})
	}
}
