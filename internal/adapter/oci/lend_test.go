package oci_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/castellan-security/castellan/internal/adapter/oci"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/inventory"
)

// lend lends an image at a socket until the test ends it.
func lend(t *testing.T, i *oci.Image) (socket string, end func() error) {
	t.Helper()
	dir, err := os.MkdirTemp("", "lend") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket = filepath.Join(dir, "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var lending sync.WaitGroup
	var lendErr error
	lending.Go(func() { lendErr = i.Lend(ctx, l, slog.New(slog.DiscardHandler)) })
	end = sync.OnceValue(func() error {
		stop()
		lending.Wait()
		return lendErr
	})
	t.Cleanup(func() { _ = end() })
	return socket, end
}

// layersIn reads the layers of an image, by diffID.
func layersIn(ctx context.Context, i *oci.Image, skip func(inventory.Layer) bool) (map[string][]byte, error) {
	var mu sync.Mutex
	all := map[string][]byte{}
	err := i.Each(ctx, 2, skip, func(_ context.Context, l inventory.Layer, r io.Reader) error {
		b, err := io.ReadAll(r)
		mu.Lock()
		defer mu.Unlock()
		all[l.DiffID] = b
		return err
	})
	return all, err
}

// archived returns the archive of an image of so many layers, and the image as it is
// read there.
func archived(t *testing.T, layers int64) (path string, i *oci.Image) {
	t.Helper()
	made, err := random.Image(1<<16, layers)
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(t.TempDir(), "image.tar")
	if err := tarball.WriteToFile(path, nil, made); err != nil {
		t.Fatal(err)
	}
	if i, err = oci.OpenPath(t.Context(), path, oci.Choice{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { i.Close() })
	return path, i
}

func TestABorrowedImageIsTheLentOne(t *testing.T) {
	_, i := archived(t, 3)
	socket, end := lend(t, i)
	b, err := oci.Borrow(t.Context(), socket)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if diff := cmp.Diff(b.Image(), i.Image()); diff != "" {
		t.Errorf("image (-borrowed +lent):\n%s", diff)
	}
	none := func(inventory.Layer) bool { return false }
	want, err := layersIn(t.Context(), i, none)
	if err != nil {
		t.Fatal(err)
	}
	got, err := layersIn(t.Context(), b, none)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 3 {
		t.Errorf("got %d layers, want 3", len(got))
	}
	for id, content := range want {
		if !bytes.Equal(got[id], content) {
			t.Errorf("layer %.20s differs", id)
		}
	}
	if got, err = layersIn(t.Context(), b, func(inventory.Layer) bool { return true }); err != nil || len(got) != 0 {
		t.Errorf("what is skipped: %d layers, %v", len(got), err)
	}
	if err := end(); err != nil {
		t.Errorf("lend: %v", err)
	}
	if _, err := layersIn(t.Context(), b, none); !fault.Is(err, fault.Unavailable) {
		t.Errorf("after the end: got %v, want unavailable", err)
	}
	if _, err := oci.Borrow(t.Context(), socket); !fault.Is(err, fault.Unavailable) {
		t.Errorf("borrow after the end: got %v, want unavailable", err)
	}
}

func TestALayerThatEndsEarlyIsAnErrorOfBoth(t *testing.T) {
	path, i := archived(t, 1)
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, info.Size()/2); err != nil { // behind the image's back
		t.Fatal(err)
	}
	socket, end := lend(t, i)
	b, err := oci.Borrow(t.Context(), socket)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if _, err := layersIn(t.Context(), b, func(inventory.Layer) bool { return false }); err == nil {
		t.Error("half a layer was taken for whole")
	}
	if err := end(); err == nil {
		t.Error("who lends it does not know why it ended early")
	}
}
