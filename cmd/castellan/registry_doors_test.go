package main

import (
	"errors"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	ggcr "github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/server/registries"
	"github.com/castellan-security/castellan/internal/store"
)

// Of an image that can't be scanned it is told whether that is its own fault: what
// the child says is, and that the registry does not hand out its layers is not.
func TestWhoseFaultItIsThatAnImageIsNotScanned(t *testing.T) {
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	layer := static.NewLayer([]byte("this is no archive"), types.OCILayer)
	digest, err := layer.Digest()
	if err != nil {
		t.Fatal(err)
	}
	var busy atomic.Bool
	blobs := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if busy.Load() && strings.HasSuffix(r.URL.Path, "/blobs/"+digest.String()) {
			w.Header().Set("Retry-After", "3600")
			w.WriteHeader(http.StatusTooManyRequests)
			return
		}
		blobs.ServeHTTP(w, r)
	}))
	t.Cleanup(front.Close)
	host := strings.TrimPrefix(front.URL, "http://")
	img, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		t.Fatal(err)
	}
	ref, err := name.NewTag(host + "/shop/web:1")
	if err != nil {
		t.Fatal(err)
	}
	if err := ggcr.Write(ref, img); err != nil {
		t.Fatal(err)
	}
	id, err := img.ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}

	dir, err := os.MkdirTemp("", "doors") // paths of sockets are short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	g := &globals{dataDir: dir}
	doors, _, closeDoors, err := g.openRegistryDoors(serverOptions{registryScans: 1}, []byte("a salt of 20 bytes.."), slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := closeDoors(); err != nil {
			t.Error(err)
		}
	})
	f := registries.Found{ID: id.String(), Manifest: manifest.String()}
	scan := func() error {
		_, err := doors.Images.Scan(t.Context(), asset.Registry{Name: "hub", Host: host}, "shop/web", f)
		return err
	}
	var own *registries.Broken
	if err := scan(); !errors.As(err, &own) || fault.Of(err) == fault.Unknown {
		t.Errorf("a layer that is none: got %v (%v), want the image's fault", err, fault.Of(err))
	}
	busy.Store(true)
	if err := scan(); errors.As(err, &own) || !fault.Is(err, fault.Exhausted) {
		t.Errorf("a registry that is asked too much: got %v (%v), want its own fault", err, fault.Of(err))
	}
}

func TestAnImageSaysWhatItWaitsFor(t *testing.T) {
	for _, tc := range []struct {
		name  string
		image store.RegistryImage
		want  string
	}{
		{"for its turn", store.RegistryImage{State: store.RegistryWaiting}, "waiting"},
		{"for its registry", store.RegistryImage{State: store.RegistryWaiting, Error: "429; wait"}, "waiting: 429; wait"},
		{"for its next try", store.RegistryImage{State: store.RegistryWaiting, Tries: 2, Error: "killed"}, "waiting (2 failed): killed"},
		{"for nothing", store.RegistryImage{State: store.RegistryFailed, Error: "too large"}, "failed: too large"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := registryImageState(tc.image).text; got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}
