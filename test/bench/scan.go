package main

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

const (
	// floorCommand is this program started again to do nothing but decompress
	// layers: what a scan cannot be cheaper than with the usual decoders.
	floorCommand = "floor"
	// scanRounds is how often each is measured; the least counts, because what
	// else runs on the machine only ever adds.
	scanRounds = 5
	// imageBytes is about how large the image is, unpacked.
	imageBytes = 1_400_000_000
)

// imageFolders become one layer each, as far as they fit.
var imageFolders = []string{"/usr/bin", "/usr/lib", "/usr/share", "/usr/local", "/root/.pyenv", "/root/go/pkg/mod/cache"}

// benchScan measures a scan of an image of this machine's own files against
// merely decompressing its layers.
func benchScan(ctx context.Context, o options) ([]row, error) {
	var rows []row
	for _, form := range []string{"gzip", "zstd"} {
		layout := filepath.Join(o.dir, form)
		layers, stored, err := makeLayout(layout, form)
		if err != nil {
			return rows, fmt.Errorf("make an image: %w", err)
		}
		self, err := os.Executable()
		if err != nil {
			return rows, err
		}
		floor := func() *exec.Cmd { return exec.CommandContext(ctx, self, append([]string{floorCommand}, layers...)...) }
		whole := func(more ...string) func() *exec.Cmd {
			return func() *exec.Cmd {
				return exec.CommandContext(ctx, o.program, append([]string{"scan", "oci:" + layout, "--db", filepath.Join(o.dir, "none.db"), "-o", "json=" + filepath.Join(o.dir, "scan.json")}, more...)...)
			}
		}
		var least [3]usage
		for i, c := range []func() *exec.Cmd{floor, whole("--no-cache"), whole("--cache-dir", filepath.Join(o.dir, "layers-"+form))} {
			if least[i], err = leastOf(c); err != nil {
				return rows, err
			}
		}
		limit := map[string]string{"gzip": "≤ 1.10", "zstd": "≤ 1.3"}[form]
		rows = append(rows,
			row{fmt.Sprintf("scan of an image (%s, %.0f MB stored), CPU ÷ decompressing", form, float64(stored)/1e6), fmt.Sprintf("%.2f", least[1].cpu/least[0].cpu), limit},
			row{"  CPU seconds: scan, decompressing", fmt.Sprintf("%.2f, %.2f", least[1].cpu, least[0].cpu), ""},
			row{"  wall seconds: scan, decompressing", fmt.Sprintf("%.2f, %.2f", least[1].wall, least[0].wall), ""},
			row{"  peak memory of the scan", fmt.Sprintf("%d MiB", least[1].peak>>20), "≤ 64 MiB"},
			row{"  the same image again, its layers known", fmt.Sprintf("%.0f ms", least[2].wall*1000), "≤ 20 ms + start"})
	}
	return rows, nil
}

// usage is what one run of a program took.
type usage struct {
	cpu, wall float64 // seconds
	peak      int64   // bytes
}

func leastOf(command func() *exec.Cmd) (usage, error) {
	var all []usage
	for range scanRounds {
		c := command()
		begin := time.Now()
		if out, err := c.CombinedOutput(); err != nil {
			return usage{}, fmt.Errorf("%s: %w\n%s", c.Path, err, out)
		}
		wall := time.Since(begin).Seconds()
		u, ok := c.ProcessState.SysUsage().(*syscall.Rusage)
		if !ok {
			return usage{}, errors.New("no account of what a program took")
		}
		all = append(all, usage{c.ProcessState.UserTime().Seconds() + c.ProcessState.SystemTime().Seconds(), wall, u.Maxrss << 10})
	}
	least := all[0]
	for _, u := range all {
		least.cpu, least.wall, least.peak = min(least.cpu, u.cpu), min(least.wall, u.wall), max(least.peak, u.peak)
	}
	return least, nil
}

// floorMain decompresses files, as many at once as there are processors.
func floorMain(files []string) error {
	places := make(chan struct{}, runtime.NumCPU())
	failed := make(chan error, len(files))
	for _, name := range files {
		go func() {
			places <- struct{}{}
			failed <- decompress(name)
			<-places
		}()
	}
	var errs []error
	for range files {
		errs = append(errs, <-failed)
	}
	return errors.Join(errs...)
}

func decompress(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	head := make([]byte, 2)
	if _, err := f.ReadAt(head, 0); err != nil {
		return err
	}
	var r io.Reader
	if head[0] == 0x1f {
		r, err = gzip.NewReader(f)
	} else {
		r, err = zstd.NewReader(f, zstd.WithDecoderConcurrency(1))
	}
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, r)
	return err
}

// makeLayout writes an OCI image layout, and returns the paths of its layers and
// how large they are together.
func makeLayout(dir, form string) (layers []string, stored int64, err error) {
	blobs := filepath.Join(dir, "blobs", "sha256")
	if err := os.MkdirAll(blobs, 0o755); err != nil {
		return nil, 0, err
	}
	type descriptor struct {
		MediaType string `json:"mediaType"`
		Digest    string `json:"digest"`
		Size      int64  `json:"size"`
	}
	var descriptors []descriptor
	var diffs []string
	left := int64(imageBytes)
	for _, folder := range imageFolders {
		if _, err := os.Stat(folder); err != nil || left <= 0 {
			continue
		}
		path, digest, diff, size, err := makeLayer(blobs, folder, form, &left)
		if err != nil {
			return nil, 0, err
		}
		layers, stored, diffs = append(layers, path), stored+size, append(diffs, diff)
		descriptors = append(descriptors, descriptor{"application/vnd.oci.image.layer.v1.tar+" + form, digest, size})
	}
	put := func(v any, kind string) (descriptor, error) {
		b, err := json.Marshal(v)
		if err != nil {
			return descriptor{}, err
		}
		sum := sha256.Sum256(b)
		name := hex.EncodeToString(sum[:])
		return descriptor{kind, "sha256:" + name, int64(len(b))}, os.WriteFile(filepath.Join(blobs, name), b, 0o644)
	}
	const oci = "application/vnd.oci.image."
	config, err := put(map[string]any{"os": "linux", "architecture": runtime.GOARCH, "config": struct{}{},
		"rootfs": map[string]any{"type": "layers", "diff_ids": diffs}}, oci+"config.v1+json")
	if err != nil {
		return nil, 0, err
	}
	manifest, err := put(map[string]any{"schemaVersion": 2, "mediaType": oci + "manifest.v1+json", "config": config, "layers": descriptors}, oci+"manifest.v1+json")
	if err != nil {
		return nil, 0, err
	}
	index, err := json.Marshal(map[string]any{"schemaVersion": 2, "manifests": []descriptor{manifest}})
	if err != nil {
		return nil, 0, err
	}
	return layers, stored, errors.Join(os.WriteFile(filepath.Join(dir, "index.json"), index, 0o644),
		os.WriteFile(filepath.Join(dir, "oci-layout"), []byte(`{"imageLayoutVersion":"1.0.0"}`), 0o644))
}

// makeLayer writes a folder as a compressed tar under its digest; left is how
// much the image may still take.
func makeLayer(blobs, folder, form string, left *int64) (path, digest, diff string, size int64, err error) {
	f, err := os.CreateTemp(blobs, "layer-")
	if err != nil {
		return "", "", "", 0, err
	}
	defer f.Close()
	stored, plain := sha256.New(), sha256.New()
	var z io.WriteCloser = gzip.NewWriter(io.MultiWriter(f, stored))
	if form == "zstd" {
		if z, err = zstd.NewWriter(io.MultiWriter(f, stored)); err != nil {
			return "", "", "", 0, err
		}
	}
	w := tar.NewWriter(io.MultiWriter(z, plain))
	err = filepath.WalkDir(folder, func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err != nil || *left < info.Size() {
			return err
		}
		*left -= info.Size()
		return addFile(w, p, info)
	})
	if err = errors.Join(err, w.Close(), z.Close()); err != nil {
		return "", "", "", 0, err
	}
	info, err := f.Stat()
	if err != nil {
		return "", "", "", 0, err
	}
	name := hex.EncodeToString(stored.Sum(nil))
	path = filepath.Join(blobs, name)
	return path, "sha256:" + name, "sha256:" + hex.EncodeToString(plain.Sum(nil)), info.Size(), os.Rename(f.Name(), path)
}

func addFile(w *tar.Writer, path string, info fs.FileInfo) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	h, err := tar.FileInfoHeader(info, "")
	if err != nil {
		return err
	}
	h.Name = strings.TrimPrefix(path, "/")
	if err := w.WriteHeader(h); err != nil {
		return err
	}
	_, err = io.CopyN(w, f, info.Size())
	return err
}
