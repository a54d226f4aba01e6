package docker_test

import (
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"testing"

	"github.com/castellan-security/castellan/internal/adapter/docker"
)

// TestBuildsUnasked asks engines of several ages whether they build past their plugin.
func TestBuildsUnasked(t *testing.T) {
	grpc := func(status string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.ProtoMajor != 2 || r.URL.Path != "/moby.buildkit.v1.Control/ListWorkers" {
				http.NotFound(w, r)
				return
			}
			w.Header().Set("Content-Type", "application/grpc")
			w.Header().Set("Trailer", "Grpc-Status")
			_, _ = w.Write(make([]byte, 5))
			w.Header().Set("Grpc-Status", status)
		}
	}
	for _, tc := range []struct {
		name    string
		handler http.HandlerFunc
		old     bool // HTTP/1 alone
		want    bool
	}{
		{"it builds", grpc("0"), false, true},
		{"it builds, and has a problem", grpc("13"), false, true},
		{"it has no builder", grpc("12"), false, false},
		{"it speaks HTTP/2 and no gRPC", http.NotFound, false, false},
		{"it speaks HTTP/1", http.NotFound, true, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			socket := filepath.Join(t.TempDir(), "d.sock")
			l, err := net.Listen("unix", socket)
			if err != nil {
				t.Fatal(err)
			}
			var speaks http.Protocols
			speaks.SetHTTP1(true)
			speaks.SetUnencryptedHTTP2(!tc.old)
			server := &http.Server{Handler: tc.handler, Protocols: &speaks}
			done := make(chan error, 1)
			go func() { done <- server.Serve(l) }()
			t.Cleanup(func() { _ = server.Close(); <-done })
			r := asks(t, socket)
			if got, err := r.BuildsUnasked(t.Context()); got != tc.want || err != nil {
				t.Errorf("got %t, %v, want %t", got, err, tc.want)
			}
		})
	}
	if _, err := asks(t, filepath.Join(t.TempDir(), "none.sock")).BuildsUnasked(t.Context()); err == nil {
		t.Error("an engine that is away is no error")
	}
}

func asks(t *testing.T, socket string) *docker.Reader {
	t.Helper()
	e, err := docker.New(docker.Options{Host: "unix://" + socket}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	r := e.Reader()
	t.Cleanup(r.Close)
	return r
}
