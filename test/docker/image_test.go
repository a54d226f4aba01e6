package docker_test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/moby/moby/client"

	"github.com/castellan-security/castellan/internal/adapter/docker"
	"github.com/castellan-security/castellan/internal/adapter/oci"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/test/docker/engine"
)

// digests are those of what was handed over.
type digests map[string]int

func (d digests) take(_ context.Context, _ inventory.Layer, r io.Reader) error {
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		return err
	}
	d[fmt.Sprintf("sha256:%x", h.Sum(nil))]++
	return nil
}

func noLayer(inventory.Layer) bool { return false }

// committed makes an image of several layers and returns its name: what
// containers wrote, one on top of the other.
func committed(t *testing.T, e *engine.Engine) string {
	t.Helper()
	busybox, err := engine.Busybox()
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Load(t.Context(), busybox); err != nil {
		t.Fatal(err)
	}
	name := busybox.Reference
	for n, step := range []string{"echo one > /one", "echo two > /two", "echo three > /one"} {
		id, err := e.Run(t.Context(), engine.Container{Image: name, Cmd: []string{"sh", "-c", step}})
		if err != nil {
			t.Fatal(err)
		}
		wait := e.Client.ContainerWait(t.Context(), id, client.ContainerWaitOptions{})
		select {
		case <-wait.Result:
		case err := <-wait.Error:
			t.Fatal(err)
		}
		name = fmt.Sprintf("shop/web:%d", n+1)
		made, err := e.Client.ContainerCommit(t.Context(), id, client.ContainerCommitOptions{Reference: name, Changes: []string{"ENV STEP=" + fmt.Sprint(n)}})
		if err != nil || made.ID == "" {
			t.Fatal(err)
		}
	}
	return name
}

// The images of a real engine, as it saves them and through its own archive in a
// file and a pipe: the same image with the same layers.
func TestImagesOfTheEngine(t *testing.T) {
	e := engine.ForTest(t, engine.Options{})
	name := committed(t, e)
	door, err := docker.New(docker.Options{Host: e.Host()}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	said, err := e.Client.ImageInspect(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}

	fromEngine := digests{}
	i, err := door.OpenImage(t.Context(), name, inventory.Platform{}, oci.ReadArchive)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = i.Close() }()
	before := i.Image()
	if err := i.Each(t.Context(), 2, noLayer, fromEngine.take); err != nil {
		t.Fatal(err)
	}
	checkImage(t, i.Image(), said.ID, said.RootFS.Layers, fromEngine)
	if before.ID != said.ID || len(before.Layers) != len(said.RootFS.Layers) || before.Config.Env[len(before.Config.Env)-1] != "STEP=2" {
		t.Errorf("before Each: %+v", before)
	}
	if after := i.Image(); after.Config.Env[len(after.Config.Env)-1] != "STEP=2" || after.Reference != name || !after.Created.Equal(before.Created) {
		t.Errorf("after Each: %+v", after)
	}
	for n, l := range i.Image().Layers {
		if l.Instruction != before.Layers[n].Instruction {
			t.Errorf("layer %d: the configuration says %q, the engine %q", n+1, l.Instruction, before.Layers[n].Instruction)
		}
	}

	archive := save(t, e, name)
	t.Run("archive", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "image.tar")
		if err := os.WriteFile(path, archive, 0o600); err != nil {
			t.Fatal(err)
		}
		got := digests{}
		file, err := oci.OpenPath(t.Context(), path, oci.Choice{Name: name})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = file.Close() }()
		if err := file.Each(t.Context(), 2, noLayer, got.take); err != nil {
			t.Fatal(err)
		}
		checkImage(t, file.Image(), said.ID, said.RootFS.Layers, got)
	})
	t.Run("pipe", func(t *testing.T) {
		got := digests{}
		pipe := oci.OpenStream(io.NopCloser(bytes.NewReader(archive)), oci.Choice{Name: name})
		if err := pipe.Each(t.Context(), 2, noLayer, got.take); err != nil {
			t.Fatal(err)
		}
		checkImage(t, pipe.Image(), said.ID, said.RootFS.Layers, got)
	})
	t.Run("of a workload", func(t *testing.T) {
		// Its name means another image by now; its id does not.
		w, err := door.OpenWorkloadImage(t.Context(), asset.Image{Reference: "busybox:test", ID: said.ID}, oci.ReadArchive)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = w.Close() }()
		if got := w.Image(); got.ID != said.ID || got.Reference != "busybox:test" {
			t.Errorf("image = %s %s", got.Reference, got.ID)
		}
	})
	t.Run("known already", func(t *testing.T) {
		all := func(inventory.Layer) bool { return true }
		if err := i.Each(t.Context(), 1, all, func(context.Context, inventory.Layer, io.Reader) error { return io.ErrUnexpectedEOF }); err != nil {
			t.Errorf("Each() = %v, want nothing asked for", err)
		}
	})
	t.Run("list", func(t *testing.T) {
		all, err := door.Images(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if !slices.ContainsFunc(all, func(l docker.LocalImage) bool { return l.ID == said.ID && slices.Contains(l.Names, name) && l.Size > 0 }) {
			t.Errorf("Images() = %+v, want %s among them", all, name)
		}
	})
	t.Run("another platform", func(t *testing.T) {
		_, err := door.OpenImage(t.Context(), name, inventory.Platform{OS: "linux", Architecture: "s390x"}, oci.ReadArchive)
		if !fault.Is(err, fault.NotFound) || !strings.Contains(err.Error(), "linux/s390x") {
			t.Errorf("OpenImage() = %v, want not found", err)
		}
	})
	t.Run("not there", func(t *testing.T) {
		if _, err := door.OpenImage(t.Context(), "shop/none:1", inventory.Platform{}, oci.ReadArchive); !fault.Is(err, fault.NotFound) {
			t.Errorf("OpenImage() = %v, want not found", err)
		}
	})
	t.Run("the engine goes away", func(t *testing.T) {
		cut, err := door.OpenImage(t.Context(), name, inventory.Platform{}, oci.ReadArchive)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = cut.Close() }()
		if err := e.Stop(); err != nil {
			t.Fatal(err)
		}
		err = cut.Each(t.Context(), 1, noLayer, digests{}.take)
		if !fault.Is(err, fault.Unavailable) || fault.Remedy(err) == "" {
			t.Errorf("Each() = %v, want unavailable", err)
		}
		if err := e.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}

// An engine before 25 saves a layer that the image has twice as a link.
func TestLayerThatIsThereTwice(t *testing.T) {
	e := engine.ForTest(t, engine.Options{})
	a, b := tarball(t, "a", []byte("1")), tarball(t, "b", []byte("2"))
	id := func(b []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(b)) }
	diffIDs := []string{id(a), id(b), id(a)}
	config := fmt.Appendf(nil, `{"os":"linux","architecture":%q,"rootfs":{"type":"layers","diff_ids":["%s"]}}`, runtime.GOARCH, strings.Join(diffIDs, `","`))
	loaded, err := e.Client.ImageLoad(t.Context(), bytes.NewReader(tarball(t, "c.json", config, "a.tar", a, "b.tar", b,
		"manifest.json", []byte(`[{"Config":"c.json","RepoTags":["twice:1"],"Layers":["a.tar","b.tar","a.tar"]}]`))), client.ImageLoadWithQuiet(true))
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.Copy(io.Discard, loaded)
	if err := errors.Join(err, loaded.Close()); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "image.tar")
	if err := os.WriteFile(path, save(t, e, "twice:1"), 0o600); err != nil {
		t.Fatal(err)
	}
	for form, open := range map[string]func() (*oci.Image, error){
		"file": func() (*oci.Image, error) { return oci.OpenPath(t.Context(), path, oci.Choice{}) },
		"pipe": func() (*oci.Image, error) {
			f, err := os.Open(path)
			return oci.OpenStream(f, oci.Choice{}), err
		},
	} {
		t.Run(form, func(t *testing.T) {
			i, err := open()
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = i.Close() }()
			got := digests{}
			if err := i.Each(t.Context(), 2, noLayer, got.take); err != nil {
				t.Fatal(err)
			}
			checkImage(t, i.Image(), id(config), diffIDs, got)
		})
	}
}

// tarball makes a tar archive of names and contents.
func tarball(t *testing.T, pairs ...any) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for n := 0; n < len(pairs); n += 2 {
		body := pairs[n+1].([]byte)
		err := w.WriteHeader(&tar.Header{Name: pairs[n].(string), Mode: 0o644, Size: int64(len(body)), Typeflag: tar.TypeReg})
		if err == nil {
			_, err = w.Write(body)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// save returns the archive that docker save would.
func save(t *testing.T, e *engine.Engine, name string) []byte {
	t.Helper()
	r, err := e.Client.ImageSave(t.Context(), []string{name})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// checkImage wants the image that the engine told of, with each of its layers
// handed over once.
func checkImage(t *testing.T, got inventory.Image, id string, diffIDs []string, taken digests) {
	t.Helper()
	if got.ID != id {
		t.Errorf("ID = %s, want %s", got.ID, id)
	}
	var layers []string
	for _, l := range got.Layers {
		layers = append(layers, l.DiffID)
	}
	if !slices.Equal(layers, diffIDs) {
		t.Errorf("layers = %q, want %q", layers, diffIDs)
	}
	for _, d := range diffIDs {
		if taken[d] != 1 {
			t.Errorf("layer %s was handed over %d times, want once", d, taken[d])
		}
	}
	if want := len(slices.Compact(slices.Sorted(slices.Values(diffIDs)))); len(taken) != want {
		t.Errorf("%d layers were handed over, want %d", len(taken), want)
	}
}
