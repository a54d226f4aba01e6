package main

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
)

// noiseBytes is nearly as much as is held of a database of RPM's, which noise is
// not compressed in; noiseLayers is more than are read at once.
const (
	noiseBytes  = 23 << 20
	noiseLayers = 3
)

// hostile measures what an image can make a scan hold that is made for it: layers
// with noise where RPM's databases are.
func (b *scanBench) hostile(ctx context.Context) (rows []row, err error) {
	for _, form := range []string{"gzip", "zstd"} {
		layout := filepath.Join(b.dir, "noise-"+form)
		if err := makeNoise(layout, form); err != nil {
			return rows, fmt.Errorf("make an image: %w", err)
		}
		u, err := leastOf(b.rounds, b.scan(ctx, "oci:"+layout, "--no-cache"))
		if err != nil {
			return rows, err
		}
		rows = append(rows, row{fmt.Sprintf("scan of %d layers with %d MB of noise for a database of RPM's, %s", noiseLayers, noiseBytes/1_000_000, form), u.String(), "≤ 64 MiB"})
	}
	return rows, nil
}

// makeNoise writes an image layout of such layers.
func makeNoise(layout, form string) error {
	blobs := filepath.Join(layout, "blobs", "sha256")
	if err := os.MkdirAll(blobs, 0o755); err != nil {
		return err
	}
	var layers []imageLayer
	for seed := range byte(noiseLayers) {
		l, err := noiseLayer(blobs, form, seed)
		if err != nil {
			return err
		}
		layers = append(layers, l)
	}
	return writeLayout(layout, form, layers)
}

func noiseLayer(blobs, form string, seed byte) (l imageLayer, err error) {
	f, err := os.CreateTemp(blobs, "layer-")
	if err != nil {
		return l, err
	}
	defer f.Close()
	stored, plain := sha256.New(), sha256.New()
	z, err := compressor(form, io.MultiWriter(f, stored))
	if err != nil {
		return l, err
	}
	w := tar.NewWriter(io.MultiWriter(z, plain))
	noise := make([]byte, noiseBytes)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(noise) // it never fails
	if err := errors.Join(putBytes(w, "var/lib/rpm/Packages.db", noise), w.Close(), z.Close()); err != nil {
		return l, err
	}
	return nameLayer(f, stored, plain)
}
