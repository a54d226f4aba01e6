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

	"github.com/klauspost/compress/gzip"
)

// noiseBytes is nearly as much as is held of a database of RPM's, which noise is
// not compressed in.
const noiseBytes = 23 << 20

// hostile measures what an image can make a scan hold that is made for it: layers
// with noise where RPM's databases are.
func (b *scanBench) hostile(ctx context.Context) ([]row, error) {
	layout := filepath.Join(b.dir, "noise")
	blobs := filepath.Join(layout, "blobs", "sha256")
	if err := os.MkdirAll(blobs, 0o755); err != nil {
		return nil, err
	}
	var layers []imageLayer
	for seed := range byte(3) {
		l, err := noiseLayer(blobs, seed)
		if err != nil {
			return nil, fmt.Errorf("make an image: %w", err)
		}
		layers = append(layers, l)
	}
	if err := writeLayout(layout, "gzip", layers); err != nil {
		return nil, fmt.Errorf("make an image: %w", err)
	}
	u, err := leastOf(b.rounds, b.scan(ctx, "oci:"+layout, "--no-cache", "--no-secrets", "--no-malware"))
	if err != nil {
		return nil, err
	}
	return []row{{fmt.Sprintf("scan of %d layers with %d MB of noise for a database of RPM's", len(layers), noiseBytes/1_000_000), u.String(), "≤ 64 MiB"}}, nil
}

func noiseLayer(blobs string, seed byte) (l imageLayer, err error) {
	f, err := os.CreateTemp(blobs, "layer-")
	if err != nil {
		return l, err
	}
	defer f.Close()
	stored, plain := sha256.New(), sha256.New()
	z := gzip.NewWriter(io.MultiWriter(f, stored))
	w := tar.NewWriter(io.MultiWriter(z, plain))
	noise := make([]byte, noiseBytes)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(noise) // it never fails
	if err := errors.Join(putBytes(w, "var/lib/rpm/Packages.db", noise), w.Close(), z.Close()); err != nil {
		return l, err
	}
	return nameLayer(f, stored, plain)
}
