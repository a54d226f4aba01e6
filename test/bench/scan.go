package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

const (
	// floorCommand is this program started again to do nothing but decompress
	// layers: what a scan cannot be cheaper than with the usual decoders.
	floorCommand = "floor"
	// scanRounds is how often each is measured at most; the least counts, because
	// what else runs on the machine only ever adds.
	scanRounds = 5
	// imageBytes is about how large the image is, unpacked.
	imageBytes = 1_400_000_000
)

// imageFolders become one layer each, as far as they fit.
var imageFolders = []string{"/var/lib/dpkg", "/usr/bin", "/usr/lib", "/usr/share", "/usr/local", "/root/.pyenv", "/root/go/pkg/mod/cache"}

// scanBench is what the measurements of scans share.
type scanBench struct {
	options
	layers map[string][]imageLayer // by form
	db     string                  // of the advisories that peers get, too
}

// benchScan measures scans of an image of this machine's own files against
// merely decompressing its layers, and against peers if there are any.
func benchScan(ctx context.Context, o options) (rows []row, err error) {
	o.rounds = min(o.rounds, scanRounds)
	b := scanBench{o, map[string][]imageLayer{}, filepath.Join(o.dir, "advisories.db")}
	if out, err := exec.CommandContext(ctx, o.program, "scan", "db", "build", "--feeds", filepath.Dir(peerAdvisories), "--db", b.db).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build the database: %w\n%s", err, out)
	}
	for _, form := range []string{"gzip", "zstd"} {
		more, err := b.form(ctx, form)
		if rows = append(rows, more...); err != nil {
			return rows, err
		}
	}
	for _, part := range []func(context.Context) ([]row, error){b.archive, b.hostile, b.again, b.peersOf} {
		more, err := part(ctx)
		if rows = append(rows, more...); err != nil {
			return rows, err
		}
	}
	return rows, nil
}

// scan is a command that scans; what it finds is written to a file.
func (b *scanBench) scan(ctx context.Context, target string, more ...string) func() (*exec.Cmd, error) {
	return func() (*exec.Cmd, error) {
		return exec.CommandContext(ctx, b.program, append([]string{"scan", target, "--db", b.db,
			"-o", "json=" + filepath.Join(b.dir, "scan.json")}, more...)...), nil
	}
}

func (b *scanBench) form(ctx context.Context, form string) (rows []row, err error) {
	layout := filepath.Join(b.dir, form)
	layers, err := makeLayers(layout, form)
	if err == nil {
		err = writeLayout(layout, form, layers)
	}
	if err != nil {
		return nil, fmt.Errorf("make an image: %w", err)
	}
	b.layers[form] = layers
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	var paths []string
	for _, l := range layers {
		paths = append(paths, l.path)
	}
	all, err := leastOfEach(b.rounds, func() (*exec.Cmd, error) {
		return exec.CommandContext(ctx, self, append([]string{floorCommand}, paths...)...), nil
	}, b.scan(ctx, "oci:"+layout, "--no-cache", "--no-secrets", "--no-malware"), b.scan(ctx, "oci:"+layout, "--no-cache"))
	if err != nil {
		return nil, err
	}
	decompressing, whole, secrets := all[0], all[1], all[2]
	limit := map[string]string{"gzip": "≤ 1.10", "zstd": "≤ 1.3"}[form]
	secretLimit := map[string]string{"gzip": "≤ 1.6", "zstd": "≤ 3.0"}[form]
	return []row{
		{fmt.Sprintf("scan of an image (%s, %.0f MB stored), CPU ÷ decompressing", form, float64(together(layers))/1e6), fmt.Sprintf("%.2f", whole.cpu/decompressing.cpu), limit},
		{"  decompressing", decompressing.String(), ""},
		{"  scan", whole.String(), "≤ 64 MiB"},
		{"  scan for secrets and malware too, CPU ÷ decompressing", fmt.Sprintf("%.2f", secrets.cpu/decompressing.cpu), secretLimit},
		{"  scan for secrets and malware too", secrets.String(), ""}}, nil
}

// archive measures what `docker save` writes, whose layers are not compressed.
func (b *scanBench) archive(ctx context.Context) ([]row, error) {
	name := filepath.Join(b.dir, "archive.tar")
	if err := writeArchive(name, b.layers["gzip"]); err != nil {
		return nil, fmt.Errorf("make an archive: %w", err)
	}
	u, err := leastOf(b.rounds, b.scan(ctx, "archive:"+name, "--no-cache", "--no-secrets", "--no-malware"))
	if err != nil {
		return nil, err
	}
	return []row{{"scan of a docker-archive of it", u.String(), "≤ 64 MiB"}}, nil
}

// again measures what is left to do when layers are known: nothing, or one.
func (b *scanBench) again(ctx context.Context) ([]row, error) {
	cache := filepath.Join(b.dir, "known")
	first := b.scan(ctx, "oci:"+filepath.Join(b.dir, "gzip"), "--cache-dir", cache)
	if _, err := leastOf(1, first); err != nil {
		return nil, err
	}
	known, err := leastOf(scanRounds, first)
	if err != nil {
		return nil, err
	}
	start, err := leastOf(scanRounds, func() (*exec.Cmd, error) { return exec.CommandContext(ctx, b.program, "version"), nil })
	if err != nil {
		return nil, err
	}
	carried, err := leastOf(scanRounds, b.scan(ctx, "oci:"+filepath.Join(b.dir, "gzip"), "--cache-dir", cache, "--db", filepath.Join(b.dir, "none.db")))
	if err != nil {
		return nil, err
	}
	changed, layer, err := b.changed()
	if err != nil {
		return nil, err
	}
	one, err := leastOf(b.rounds, func() (*exec.Cmd, error) {
		// The cache is as it was before the change, each time.
		work := filepath.Join(b.dir, "known-now")
		if err := errors.Join(os.RemoveAll(work), os.CopyFS(work, os.DirFS(cache))); err != nil {
			return nil, err
		}
		return b.scan(ctx, "oci:"+changed, "--cache-dir", work)()
	})
	if err != nil {
		return nil, err
	}
	stored := float64(together(b.layers["gzip"])) / 1e6
	return []row{
		{"nothing changed, beyond the program's start", fmt.Sprintf("%.0f ms, %.0f ms CPU", (known.wall-start.wall)*1000, (known.cpu-start.cpu)*1000), "≤ 20 ms"},
		{"  wall: scan, castellan version", fmt.Sprintf("%.0f, %.0f ms, load %s", known.wall*1000, start.wall*1000, known.load), ""},
		{"  with the database that the program carries", fmt.Sprintf("%.0f ms, %.0f ms CPU", (carried.wall-start.wall)*1000, (carried.cpu-start.cpu)*1000), ""},
		{fmt.Sprintf("one layer of %.1f MB changed, of %.0f MB", float64(layer)/1e6, stored), one.String(), ""},
		{"  bytes read", fmt.Sprintf("%.1f MB", float64(one.read)/1e6), "the layer"}}, nil
}

// changed makes the image anew with one file more in its smallest layer, and
// returns that layer's size.
func (b *scanBench) changed() (layout string, size int64, err error) {
	layout = filepath.Join(b.dir, "changed")
	blobs := filepath.Join(layout, "blobs", "sha256")
	if err := os.MkdirAll(blobs, 0o755); err != nil {
		return "", 0, err
	}
	layers := append([]imageLayer(nil), b.layers["gzip"]...)
	least := 0
	for i, l := range layers {
		if l.size < layers[least].size {
			least = i
		}
		if err := os.Link(l.path, filepath.Join(blobs, filepath.Base(l.path))); err != nil {
			return "", 0, err
		}
	}
	if layers[least], err = addToLayer(blobs, layers[least]); err != nil {
		return "", 0, err
	}
	return layout, layers[least].size, writeLayout(layout, "gzip", layers)
}

// floorMain decompresses files, as many at once as there are processors.
func floorMain(files []string) error {
	places := make(chan struct{}, runtime.NumCPU())
	failed := make(chan error, len(files))
	for _, name := range files {
		go func() {
			places <- struct{}{}
			failed <- decompress(name, io.Discard)
			<-places
		}()
	}
	var errs []error
	for range files {
		errs = append(errs, <-failed)
	}
	return errors.Join(errs...)
}

func decompress(name string, to io.Writer) error {
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
	_, err = io.Copy(to, r)
	return err
}
