package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"

	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan"
)

// lookAtInput finds out by its first bytes what comes through the standard input
// where an archive of an image was expected.
func (s *scanning) lookAtInput(meant scan.Meaning) scan.Meaning {
	if meant.Value != scan.Stdin || meant.Kinds[0] != scan.TargetArchive {
		return meant
	}
	in := bufio.NewReaderSize(s.in, scan.TargetHead)
	s.stdin = in
	// Whoever reads on meets the error again.
	head, _ := in.Peek(scan.TargetHead)
	if kind := scan.SniffTarget(head); kind == scan.TargetSBOM || kind == scan.TargetTask {
		meant.Kinds = []scan.MeaningKind{kind}
	}
	return meant
}

// openInput opens a file, or the standard input.
func (s *scanning) openInput(path string) (io.ReadCloser, error) {
	if path != scan.Stdin {
		return os.Open(path)
	}
	in := s.stdin
	if in == nil {
		in = s.in
	}
	if c, ok := s.in.(io.Closer); ok {
		return struct {
			io.Reader
			io.Closer
		}{in, c}, nil
	}
	return io.NopCloser(in), nil
}

// bill reads a bill of materials.
func (s *scanning) bill(ctx context.Context, sc *scan.Scanner, path string) ([]inventory.Inventory, error) {
	f, err := s.openInput(path)
	if err != nil {
		return nil, fmt.Errorf("read bill of materials: %w", err)
	}
	defer f.Close()
	return sc.Bill(ctx, path, f)
}
