package docker_test

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/adapter/docker"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/inventory"
)

// lend lends the engine of f and returns the socket and what ends it.
func lend(t *testing.T, f *fake) (socket string, end func() error) {
	t.Helper()
	dir, err := os.MkdirTemp("", "lent")
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
	ended := make(chan error, 1)
	go func() { ended <- engine(t, f).Lend(ctx, l) }()
	return socket, func() error { stop(); return <-ended }
}

func TestALentEngineGivesImages(t *testing.T) {
	f := withImage(t, "1.48", "")
	layers := []inventory.Layer{{DiffID: baseDiff}, {DiffID: appDiff}}
	socket, end := lend(t, f)
	e, err := docker.New(docker.Options{Host: "unix://" + socket}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	r := &reader{got: inventory.Image{Layers: layers}}
	i, err := e.OpenImage(t.Context(), imageID, inventory.Platform{}, r.read)
	if err != nil {
		t.Fatal(err)
	}
	direct := openImage(t, f, imageID, inventory.Platform{}, &reader{})
	if diff := cmp.Diff(direct.Image(), i.Image()); diff != "" {
		t.Errorf("image (-direct +lent):\n%s", diff)
	}
	err = i.Each(t.Context(), 1, func(inventory.Layer) bool { return false },
		func(_ context.Context, _ inventory.Layer, r io.Reader) error {
			_, err := io.Copy(io.Discard, r)
			return err
		})
	if err != nil || r.bytes != "an archive" {
		t.Errorf("got %v, archive %q", err, r.bytes)
	}
	f.answer("/images/get", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "1000")
		_, _ = io.WriteString(w, "part")
	})
	err = i.Each(t.Context(), 1, func(inventory.Layer) bool { return false },
		func(context.Context, inventory.Layer, io.Reader) error { return nil })
	if !fault.Is(err, fault.Unavailable) {
		t.Errorf("an engine that breaks off: got %v, want unavailable", err)
	}
	if err := end(); err != nil {
		t.Errorf("Lend returned %v, want nil", err)
	}
	if _, err := net.Dial("unix", socket); err == nil {
		t.Error("it is lent still")
	}
}

func TestALentEngineGivesNothingElse(t *testing.T) {
	f := withImage(t, "1.48", "")
	socket, end := lend(t, f)
	c := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}}
	image := "/images/" + imageID
	for _, tc := range []struct {
		method, path string
		want         int
	}{
		{"GET", "/_ping", 200},
		{"HEAD", "/_ping", 200},
		{"GET", "/v1.48" + image + "/json", 200},
		{"GET", "/v1.48" + image + "/history?platform=%7B%7D", 200},
		{"GET", "/v1.48/images/get?names=" + imageID, 200},
		{"GET", "/v1.48/containers/json", 403},
		{"GET", "/v1.48/info", 403},
		{"GET", "/v1.48/events", 403},
		{"GET", "/v1.48/images/json", 403},
		{"GET", "/v1.48/images/shop/web:1/json", 403},
		{"GET", "/v1.48" + image + "/json?unknown=1", 403},
		{"GET", "/v1.48/images/get?names=shop/web:1", 403},
		{"GET", "/v1.48" + image + "/%6ason", 403},
		{"GET", "/v1.48" + image + "/../../containers/json", 403},
		{"GET", "//v1.48" + image + "/json", 403},
		{"POST", "/v1.48/containers/create", 403},
		{"POST", "/v1.48" + image + "/json", 403},
		{"DELETE", "/v1.48" + image, 403},
		{"CONNECT", "/v1.48" + image + "/json", 403},
		{"GET", "/v1.48.9.9.9.9.9.9.9.9.9" + image + "/json", 403},
	} {
		req, err := http.NewRequestWithContext(t.Context(), tc.method, "http://docker"+tc.path, strings.NewReader("body"))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Upgrade", "tcp")
		req.Header.Set("Connection", "Upgrade")
		res, err := c.Do(req)
		if err != nil {
			t.Errorf("%s %s: %v", tc.method, tc.path, err)
			continue
		}
		_ = res.Body.Close()
		if res.StatusCode != tc.want {
			t.Errorf("%s %s: got %d, want %d", tc.method, tc.path, res.StatusCode, tc.want)
		}
	}
	for _, path := range f.asked {
		if strings.Contains(path, "containers") || strings.Contains(path, "info") || strings.Contains(path, "events") {
			t.Errorf("the engine was asked for %s", path)
		}
	}
	if err := end(); err != nil {
		t.Errorf("Lend returned %v, want nil", err)
	}
}
