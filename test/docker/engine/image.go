package engine

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"runtime"
	"strings"

	"github.com/moby/moby/client"
)

// Image is an image made on the spot, of one layer unless there are more Above.
type Image struct {
	Reference  string // name:tag
	Files      []File
	Above      [][]File // the files of further layers, the lowest first
	Entrypoint []string
	Cmd        []string
	Env        []string
	Labels     map[string]string
}

// File is one file of an image; folders come by themselves, or with a mode of
// their own before what is in them.
type File struct {
	Path string // absolute; of a folder with a slash at its end
	Mode int64  // 0o755 unless said
	Body []byte
	Link string // makes it a symbolic link
}

// Busybox is an image with a shell: the static program of Debian's package
// busybox-static, and links to it for the commands that tests use.
func Busybox() (Image, error) {
	const program = "/bin/busybox"
	body, err := os.ReadFile(program)
	if errors.Is(err, os.ErrNotExist) {
		body, err = os.ReadFile("/usr/bin/busybox")
	}
	if err != nil {
		return Image{}, fmt.Errorf("read busybox (apt-get install busybox-static): %w", err)
	}
	i := Image{Reference: "busybox:test", Files: []File{{Path: program, Body: body}}, Cmd: []string{"sleep", "3600"}}
	for _, name := range []string{"sh", "true", "false", "sleep", "cat", "cp", "echo", "ls", "id", "kill", "chmod"} {
		i.Files = append(i.Files, File{Path: "/bin/" + name, Link: "busybox"})
	}
	i.Files = append(i.Files, File{Path: "/tmp/.keep", Mode: 0o644})
	return i, nil
}

// Load gives the engine an image.
func (e *Engine) Load(ctx context.Context, i Image) error {
	archive, err := i.archive()
	if err != nil {
		return fmt.Errorf("make image %s: %w", i.Reference, err)
	}
	result, err := e.Client.ImageLoad(ctx, bytes.NewReader(archive), client.ImageLoadWithQuiet(true))
	if err != nil {
		return fmt.Errorf("load image %s: %w", i.Reference, err)
	}
	said, err := io.ReadAll(result)
	err = errors.Join(err, result.Close())
	if err == nil && strings.Contains(string(said), `"error"`) {
		err = errors.New(string(said))
	}
	if err != nil {
		return fmt.Errorf("load image %s: %w", i.Reference, err)
	}
	return nil
}

// DiffIDs returns what the layers are called, the lowest first.
func (i Image) DiffIDs() ([]string, error) {
	layers, err := i.layers()
	if err != nil {
		return nil, err
	}
	ids := make([]string, len(layers))
	for n, layer := range layers {
		ids[n] = fmt.Sprintf("sha256:%x", sha256.Sum256(layer))
	}
	return ids, nil
}

// archive returns the image in the form of docker save.
func (i Image) archive() ([]byte, error) {
	layers, err := i.layers()
	if err != nil {
		return nil, err
	}
	ids, err := i.DiffIDs()
	if err != nil {
		return nil, err
	}
	config, err := json.Marshal(map[string]any{
		"architecture": runtime.GOARCH,
		"os":           "linux",
		"config":       map[string]any{"Entrypoint": i.Entrypoint, "Cmd": i.Cmd, "Env": i.Env, "Labels": i.Labels},
		"rootfs":       map[string]any{"type": "layers", "diff_ids": ids},
	})
	if err != nil {
		return nil, err
	}
	files := []File{{Path: "/config.json", Mode: 0o644, Body: config}}
	var names []string
	for n, layer := range layers {
		name := fmt.Sprintf("layer%d.tar", n)
		names = append(names, name)
		files = append(files, File{Path: "/" + name, Mode: 0o644, Body: layer})
	}
	manifest, err := json.Marshal([]map[string]any{{
		"Config": "config.json", "RepoTags": []string{i.Reference}, "Layers": names,
	}})
	if err != nil {
		return nil, err
	}
	return pack(append(files, File{Path: "/manifest.json", Mode: 0o644, Body: manifest}))
}

// layers returns the archives of all layers, the lowest first.
func (i Image) layers() ([][]byte, error) {
	layers := make([][]byte, 0, 1+len(i.Above))
	for _, files := range append([][]File{i.Files}, i.Above...) {
		layer, err := packLayer(files)
		if err != nil {
			return nil, err
		}
		layers = append(layers, layer)
	}
	return layers, nil
}

// packLayer packs files with the folders above them.
func packLayer(all []File) ([]byte, error) {
	var files []File
	made := map[string]bool{}
	for _, f := range all {
		for _, dir := range parents(f.Path) {
			if !made[dir] {
				made[dir] = true
				files = append(files, File{Path: dir + "/"})
			}
		}
		if folder, ok := strings.CutSuffix(f.Path, "/"); ok {
			made[folder] = true
		}
		files = append(files, f)
	}
	return pack(files)
}

// parents returns the folders above a path, the topmost first.
func parents(p string) []string {
	var dirs []string
	for d := path.Dir(strings.TrimSuffix(p, "/")); d != "/"; d = path.Dir(d) {
		dirs = append([]string{d}, dirs...)
	}
	return dirs
}

// pack makes a tar archive; a path with a slash at its end is a folder.
func pack(files []File) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		h := &tar.Header{Name: strings.TrimPrefix(f.Path, "/"), Mode: f.Mode, Typeflag: tar.TypeReg, Size: int64(len(f.Body)), Format: tar.FormatPAX}
		if h.Mode == 0 {
			h.Mode = 0o755
		}
		switch {
		case f.Link != "":
			h.Typeflag, h.Linkname, h.Mode = tar.TypeSymlink, f.Link, 0o777
		case strings.HasSuffix(f.Path, "/"):
			h.Typeflag = tar.TypeDir
		}
		if err := w.WriteHeader(h); err != nil {
			return nil, fmt.Errorf("pack %s: %w", f.Path, err)
		}
		if _, err := w.Write(f.Body); err != nil {
			return nil, fmt.Errorf("pack %s: %w", f.Path, err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}
