package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/castellan-security/castellan/internal/server/registries"
	"github.com/castellan-security/castellan/internal/store"
)

const (
	shelfRepositories = 100
	shelfTags         = 100
	// shelfWithin bounds a look at all of them.
	shelfWithin = 3 * time.Minute
)

// shelf is a registry with many tiny images, made as they are asked for. It
// counts requests.
type shelf struct {
	requests atomic.Int64
	other    atomic.Int64 // that it does not know
	bodies   sync.Map     // of manifests, by digest
}

// ServeHTTP answers as a registry does.
func (s *shelf) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.requests.Add(1)
	path := strings.TrimPrefix(r.URL.Path, "/v2/")
	repository, rest, _ := strings.Cut(path, "/")
	kind, id, _ := strings.Cut(rest, "/")
	switch {
	case path == "" || r.URL.Path == "/v2":
		w.WriteHeader(http.StatusOK)
	case path == "_catalog":
		names := make([]string, shelfRepositories)
		for i := range names {
			names[i] = fmt.Sprintf("shop-%03d", i)
		}
		writeShelf(w, map[string]any{"repositories": names})
	case kind == "tags":
		tags := make([]string, shelfTags)
		for i := range tags {
			tags[i] = fmt.Sprintf("v1.%d", i)
		}
		writeShelf(w, map[string]any{"name": repository, "tags": tags})
	case kind == "manifests" && !strings.HasPrefix(id, "sha256:"):
		s.manifest(w, manifestOf(repository+":"+id))
	case kind == "manifests":
		body, ok := s.bodies.Load(id)
		if !ok {
			http.NotFound(w, r)
			return
		}
		s.manifest(w, body.([]byte))
	default:
		s.other.Add(1)
		http.NotFound(w, r)
	}
}

const shelfForm = "application/vnd.oci.image.manifest.v1+json"

// manifestOf returns the manifest of an image whose configuration and layer are
// nowhere: nobody reads them here.
func manifestOf(name string) []byte {
	sum := sha256.Sum256([]byte(name))
	return fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:%x","size":100},`+
		`"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"sha256:%x","size":100}]}`, shelfForm, sum, sum)
}

func (s *shelf) manifest(w http.ResponseWriter, body []byte) {
	digest := fmt.Sprintf("sha256:%x", sha256.Sum256(body))
	s.bodies.Store(digest, body)
	w.Header().Set("Content-Type", shelfForm)
	w.Header().Set("Docker-Content-Digest", digest)
	w.Header().Set("Content-Length", fmt.Sprint(len(body)))
	_, _ = w.Write(body) // for HEAD net/http keeps it back
}

func writeShelf(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // who asked may be gone
}

// benchRegistry times how long a server takes to list a registry's images and to
// have them wait for their scans, and what it asks when nothing has changed.
func benchRegistry(ctx context.Context, o options) (rows []row, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &shelf{}
	hub := &http.Server{Handler: s, ReadHeaderTimeout: time.Minute}
	go func() { _ = hub.Serve(l) }() // ends when it is closed
	defer func() { err = errors.Join(err, hub.Close()) }()
	h, err := openHouse(ctx, o, "--registry-scans", "0")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, h.close()) }()
	begun := time.Now()
	if err := h.registries(ctx, "add", "shelf", "--host", l.Addr().String()); err != nil {
		return nil, err
	}
	const images = shelfRepositories * shelfTags
	first, err := h.looked(ctx, begun)
	if err != nil {
		return nil, err
	}
	if n := first.Totals.States[store.RegistryWaiting]; n != images || s.other.Load() > 0 {
		return nil, fmt.Errorf("%d images wait and %d requests were strange, want %d and none; %s", n, s.other.Load(), images, first.Poll.Error)
	}
	asked, took := s.requests.Swap(0), time.Since(begun)
	begun = time.Now()
	if err := h.registries(ctx, "check", "shelf"); err != nil {
		return nil, err
	}
	if _, err := h.looked(ctx, begun); err != nil {
		return nil, err
	}
	return []row{
		{fmt.Sprintf("%d images of a registry listed and queued", images), fmt.Sprintf("%.1f s, %d requests", took.Seconds(), asked), "≤ 60 s"},
		{"the same again, nothing changed", fmt.Sprintf("%.1f s, %d requests", time.Since(begun).Seconds(), s.requests.Load()), "≤ 1.02 requests a tag"},
	}, nil
}

// registries runs castellan registries against this server.
func (h *house) registries(ctx context.Context, args ...string) error {
	out, err := exec.CommandContext(ctx, h.program, append(append([]string{"registries"}, args...), "--data-dir", h.data)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("castellan registries %s: %w: %s", args[0], err, out)
	}
	return nil
}

// looked waits for a look at the only registry that began after begun.
func (h *house) looked(ctx context.Context, begun time.Time) (registries.View, error) {
	ctx, cancel := context.WithTimeout(ctx, shelfWithin)
	defer cancel()
	for {
		var all struct{ Registries []registries.View }
		if err := h.ask(ctx, &all, "registries"); err != nil {
			return registries.View{}, err
		}
		if len(all.Registries) == 1 && all.Registries[0].Poll.Ended.After(begun) && !all.Registries[0].Looking {
			return all.Registries[0], nil
		}
		select {
		case <-ctx.Done():
			return registries.View{}, ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}
