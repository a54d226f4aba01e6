package bpf

import (
	"bytes"
	"path/filepath"
	"slices"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What is let go of is read again as it was, and is every object that the program has.
func TestLetGoOfObjects(t *testing.T) {
	files, err := filepath.Glob("*_x86_bpfel.o")
	if err != nil {
		t.Fatal(err)
	}
	before := make([][]byte, len(objects()))
	for i, o := range objects() {
		before[i] = slices.Clone(o)
	}
	if len(files) != len(before) {
		t.Errorf("%d objects are let go of, and %d are in the program", len(before), len(files))
	}
	for range 2 {
		if err := LetGoOfObjects(); err != nil {
			t.Fatal(err)
		}
		for i, o := range objects() {
			if !bytes.Equal(o, before[i]) {
				t.Errorf("object %d of %d bytes is another afterwards", i, len(o))
			}
		}
	}
}

func TestWholePages(t *testing.T) {
	size := unix.Getpagesize()
	m, err := unix.Mmap(-1, 0, 4*size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(m)
	for _, c := range []struct{ from, to, first, pages int }{
		{0, 4 * size, 0, 4},
		{1, 4 * size, 1, 3},
		{1, 4*size - 1, 1, 2},
		{size - 1, 2*size + 1, 1, 1},
		{size + 1, 2*size + 5, 0, 0},
		{1, 2, 0, 0},
		{size, size, 0, 0},
	} {
		got := wholePages(m[c.from:c.to])
		if len(got) != c.pages*size || c.pages > 0 && unsafe.SliceData(got) != &m[c.first*size] {
			t.Errorf("of %d to %d: %d bytes, want %d pages from page %d", c.from, c.to, len(got), c.pages, c.first)
		}
	}
	if got := wholePages(nil); len(got) != 0 {
		t.Errorf("of nothing: %d bytes", len(got))
	}
}
