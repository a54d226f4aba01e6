package oci

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/inventory"
)

// Limits between who lends an image and who borrows it.
const (
	lentHeader = 16 << 10
	lentWithin = 10 * time.Second // for a request to arrive
	// maxLent bounds the description of an image: a configuration has maxConfig
	// bytes at most, and what is said of its layers is not more.
	maxLent = 4 * maxConfig
)

// Lend answers on l whoever calls Borrow: they can read this image, layer by
// layer, and nothing else. It does until ctx ends, then closes l. The error is
// the first that kept a layer from being read, which the borrower only sees as an
// end that came too early.
//
// It is for a process that reads hostile images and may not use the network.
func (i *Image) Lend(ctx context.Context, l net.Listener, log *slog.Logger) error {
	if i.opened == nil {
		return errors.Join(fault.New(fault.Unsupported, "lend an image: it arrives as a stream"), l.Close())
	}
	lent := &lentImage{image: i, log: log}
	s := &http.Server{
		ReadHeaderTimeout: lentWithin, MaxHeaderBytes: lentHeader, Handler: lent.routes(),
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug), BaseContext: func(net.Listener) context.Context { return ctx },
	}
	stop := context.AfterFunc(ctx, func() {
		if err := s.Close(); err != nil {
			log.Debug("lent image not closed", "error", err)
		}
	})
	defer stop()
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fault.New(fault.Unavailable, "lend an image: %w", err)
	}
	lent.mu.Lock()
	defer lent.mu.Unlock()
	return lent.err
}

type lentImage struct {
	image *Image
	log   *slog.Logger

	mu  sync.Mutex
	err error // the first that kept a layer from being read
}

func (l *lentImage) routes() http.Handler {
	m := http.NewServeMux()
	m.HandleFunc("GET /image", func(w http.ResponseWriter, _ *http.Request) {
		// A borrower that is gone needs no answer.
		_ = json.NewEncoder(w).Encode(l.image.Image())
	})
	m.HandleFunc("GET /layers/{place}", l.layer)
	return m
}

func (l *lentImage) layer(w http.ResponseWriter, r *http.Request) {
	n, err := strconv.Atoi(r.PathValue("place"))
	if err != nil || n < 0 || n >= len(l.image.info.Layers) {
		http.Error(w, "no such layer", http.StatusNotFound)
		return
	}
	body, err := l.image.opened(r.Context(), n)
	if fault.Is(err, fault.NotFound) && l.image.info.Layers[n].Missing != "" {
		http.Error(w, "only its publisher has this layer", http.StatusNotFound)
		return
	}
	if err != nil {
		l.fail(r.Context(), fmt.Errorf("open layer %d: %w", n+1, err))
		http.Error(w, "the layer can't be had", http.StatusBadGateway)
		return
	}
	size := l.image.info.Layers[n].Size
	if size > 0 {
		w.Header().Set("Content-Length", strconv.FormatInt(size, 10))
	}
	sent, err := io.Copy(w, body)
	if err == nil && size > 0 && sent < size {
		err = fault.New(fault.Corrupt, "it ends after %d of %d bytes", sent, size)
	}
	if err = errors.Join(err, body.Close()); err != nil {
		l.fail(r.Context(), fmt.Errorf("read layer %d: %w", n+1, err))
		panic(http.ErrAbortHandler) // the borrower must see that there was more
	}
}

// fail keeps the first error, unless the borrower went away or had enough.
func (l *lentImage) fail(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	l.log.Debug("layer of a lent image not read", "error", err)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil {
		l.err = err
	}
}

// Borrow opens the image that is lent at a socket.
func Borrow(ctx context.Context, socket string) (*Image, error) {
	d := net.Dialer{}
	way := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return d.DialContext(ctx, "unix", socket) }}
	b := &borrowed{client: &http.Client{Transport: way}}
	body, err := b.get(ctx, "image")
	if err != nil {
		way.CloseIdleConnections()
		return nil, err
	}
	var info inventory.Image
	err = json.NewDecoder(io.LimitReader(body, maxLent)).Decode(&info)
	if err = errors.Join(err, body.Close()); err != nil {
		way.CloseIdleConnections()
		return nil, fault.New(fault.Corrupt, "read which image is lent: %w", err)
	}
	return &Image{info: info, closer: b, opened: func(ctx context.Context, n int) (io.ReadCloser, error) {
		return b.get(ctx, "layers/"+strconv.Itoa(n))
	}}, nil
}

// borrowed is the way to a lent image.
type borrowed struct{ client *http.Client }

// Close is io.Closer.
func (b *borrowed) Close() error {
	b.client.CloseIdleConnections()
	return nil
}

func (b *borrowed) get(ctx context.Context, what string) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://lent/"+what, nil)
	if err != nil {
		return nil, err
	}
	resp, err := b.client.Do(req)
	if err != nil {
		return nil, fault.New(fault.Unavailable, "borrow an image: %w", brief(err))
	}
	switch resp.StatusCode {
	case http.StatusOK:
		return resp.Body, nil
	case http.StatusNotFound:
		err = fault.New(fault.NotFound, "borrow an image: %s is not lent", what)
	default:
		err = fault.New(fault.Unavailable, "borrow an image: who lends it answers %d", resp.StatusCode)
	}
	return nil, errors.Join(err, resp.Body.Close())
}
