// Package sample builds the images that Castellan and its peers are held against
// one another with, from files that can be read: the same bytes on every machine,
// so that what the peers answered once can be compared for ever.
//
//	img, err := sample.Load(os.DirFS("testdata/images"), "debian")
//	err = img.WriteLayout(dir)
//
// An image is a folder, a layer in it a text archive (.txtar, or .txtar.gz): what
// stands before the first file are orders, one a line, and then come the files.
//
//	gone PATH             a whiteout: what a lower layer has there is removed
//	opaque PATH           the folder hides what lower layers have in it
//	link PATH TARGET      a symbolic link
//	hard PATH TARGET      a hard link
//	blob PATH FILE        a file beside the archive, a .gz of it unpacked
//	-- PATH --            a file; with "!/" in it, one within the zip before that
//	-- PATH (go) --       a program that holds these build information lines
//	-- PATH (rust) --     a program that holds this list of crates
//
// It is not for tests of how layers are read: images here are well-formed.
package sample

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"
)

// Image is an image that is written anew, with the same bytes, each time.
type Image struct {
	Name   string
	Layers [][]byte // tar files, not compressed: compressors change, tar doesn't
}

// made is when everything was made: one time for all files.
var made = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// Load builds the image that the folder of that name describes.
func Load(fsys fs.FS, name string) (Image, error) {
	img := Image{Name: name}
	entries, err := fs.ReadDir(fsys, name)
	if err != nil {
		return img, err
	}
	for _, e := range entries {
		if !strings.Contains(e.Name(), ".txtar") {
			continue
		}
		layer, err := loadLayer(fsys, name, e.Name())
		if err != nil {
			return img, fmt.Errorf("layer %s of %s: %w", e.Name(), name, err)
		}
		img.Layers = append(img.Layers, layer)
	}
	if len(img.Layers) == 0 {
		return img, fmt.Errorf("image %s has no layers", name)
	}
	return img, nil
}

// All builds every image that has a folder.
func All(fsys fs.FS) ([]Image, error) {
	folders, err := fs.ReadDir(fsys, ".")
	if err != nil {
		return nil, err
	}
	var all []Image
	for _, f := range folders {
		img, err := Load(fsys, f.Name())
		if err != nil {
			return nil, err
		}
		all = append(all, img)
	}
	return all, nil
}

// entry is what a layer has at a path.
type entry struct {
	path, kind string
	target     string // of a link
	content    []byte
	inside     []entry // of an archive
}

func loadLayer(fsys fs.FS, folder, file string) ([]byte, error) {
	text, err := readMaybeGzip(fsys, path.Join(folder, file))
	if err != nil {
		return nil, err
	}
	orders, files := split(string(text))
	var entries []entry
	for _, line := range strings.Split(orders, "\n") {
		f := strings.Fields(line)
		if len(f) == 0 || f[0] == "#" {
			continue
		}
		e, err := order(fsys, folder, f)
		if err != nil {
			return nil, err
		}
		entries = append(entries, e)
	}
	for _, f := range files {
		if entries, err = add(entries, f.path, f.content); err != nil {
			return nil, err
		}
	}
	return pack(entries)
}

func order(fsys fs.FS, folder string, f []string) (entry, error) {
	switch {
	case f[0] == "gone" && len(f) == 2:
		return entry{path: path.Join(path.Dir(f[1]), ".wh."+path.Base(f[1])), kind: "file"}, nil
	case f[0] == "opaque" && len(f) == 2:
		return entry{path: path.Join(f[1], ".wh..wh..opq"), kind: "file"}, nil
	case (f[0] == "link" || f[0] == "hard") && len(f) == 3:
		return entry{path: f[1], kind: f[0], target: f[2]}, nil
	case f[0] == "blob" && len(f) == 3:
		b, err := readMaybeGzip(fsys, path.Join(folder, f[2]))
		return entry{path: f[1], kind: "file", content: b}, err
	}
	return entry{}, fmt.Errorf("order %q: no such order, or too few words", f)
}

// add puts a file among entries, or into the archive that its path goes through.
func add(entries []entry, name, content string) ([]entry, error) {
	archive, rest, within := strings.Cut(name, "!/")
	if !within {
		e := entry{path: name, kind: "file", content: []byte(content)}
		if at, what, ok := strings.Cut(name, " ("); ok {
			program, err := makeProgram(strings.TrimSuffix(what, ")"), content)
			if err != nil {
				return nil, err
			}
			e = entry{path: at, kind: "program", content: program}
		}
		return append(entries, e), nil
	}
	i := slices.IndexFunc(entries, func(e entry) bool { return e.path == archive })
	if i < 0 {
		entries, i = append(entries, entry{path: archive, kind: "archive"}), len(entries)
	}
	var err error
	entries[i].inside, err = add(entries[i].inside, rest, content)
	return entries, err
}

// pack writes entries as a tar, with the folders on their ways, in order.
func pack(entries []entry) ([]byte, error) {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	known := map[string]bool{".": true}
	for _, e := range entries {
		if err := packFolders(w, known, path.Dir(e.path)); err != nil {
			return nil, err
		}
		if err := packEntry(w, e); err != nil {
			return nil, fmt.Errorf("%s: %w", e.path, err)
		}
		known[e.path] = true
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

func packFolders(w *tar.Writer, known map[string]bool, dir string) error {
	if known[dir] {
		return nil
	}
	if err := packFolders(w, known, path.Dir(dir)); err != nil {
		return err
	}
	known[dir] = true
	return w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir + "/", Mode: 0o755, ModTime: made})
}

func packEntry(w *tar.Writer, e entry) error {
	h := &tar.Header{Typeflag: tar.TypeReg, Name: e.path, Mode: 0o644, ModTime: made}
	switch e.kind {
	case "link":
		h.Typeflag, h.Linkname = tar.TypeSymlink, e.target
	case "hard":
		h.Typeflag, h.Linkname = tar.TypeLink, e.target
	case "program":
		h.Mode = 0o755
	case "archive":
		b, err := zipped(e.inside)
		if err != nil {
			return err
		}
		e.content = b
	}
	h.Size = int64(len(e.content))
	if err := w.WriteHeader(h); err != nil {
		return err
	}
	_, err := w.Write(e.content)
	return err
}

// file is one of a text archive.
type file struct{ path, content string }

// split cuts a text archive into what stands before its files, and them.
func split(text string) (orders string, files []file) {
	name := func(line string) (string, bool) {
		s, ok := strings.CutPrefix(line, "-- ")
		if !ok {
			return "", false
		}
		return strings.CutSuffix(strings.TrimSuffix(s, "\n"), " --")
	}
	begin := 0 // of the content that is being read
	end := func(at int) {
		if len(files) == 0 {
			orders = text[:at]
			return
		}
		files[len(files)-1].content = text[begin:at]
	}
	at := 0
	for line := range strings.Lines(text) {
		if n, ok := name(line); ok {
			end(at)
			files, begin = append(files, file{path: n}), at+len(line)
		}
		at += len(line)
	}
	end(at)
	return orders, files
}

func readMaybeGzip(fsys fs.FS, name string) ([]byte, error) {
	b, err := fs.ReadFile(fsys, name)
	if err != nil || !strings.HasSuffix(name, ".gz") {
		return b, err
	}
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, fmt.Errorf("unpack %s: %w", name, err)
	}
	return io.ReadAll(z)
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
