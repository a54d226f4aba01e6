package docker

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"regexp"
	"slices"
	"sync"
	"time"

	"github.com/castellan-security/castellan/internal/fault"
)

// Limits of what is asked of a lent engine; the requests of OpenImage have some
// hundred bytes.
const (
	lentHeader = 16 << 10
	lentWithin = 10 * time.Second // for a request to arrive
)

// lentPath is what may be asked for: what the engine is, and one image by its
// id.
var lentPath = regexp.MustCompile(`^(/v[0-9.]{1,16})?(/_ping|/version|/images/sha256:[0-9a-f]{64}/(json|history)|/images/get)$`)

// lentQuery are the parameters that may come with it.
var lentQuery = []string{"names", "platform", "manifests"}

// Lend answers on l as the engine does, but nothing else than OpenImage asks for
// an image by its id: whoever has l can read images, and neither see nor change
// anything else. It does until ctx ends, then closes l and returns nil.
//
// It is for a process that reads hostile images: who can speak to the engine
// itself is as good as root.
func (e *Engine) Lend(ctx context.Context, l net.Listener) error {
	base, err := url.Parse(e.host.base)
	if err != nil {
		return err
	}
	t := e.host.transport()
	t.ResponseHeaderTimeout = saveWithin
	t.ReadBufferSize = saveBuffer
	defer t.CloseIdleConnections()
	quiet := slog.NewLogLogger(e.log.Handler(), slog.LevelDebug)
	proxy := &httputil.ReverseProxy{
		Transport: t, BufferPool: &buffers{}, ErrorLog: quiet,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host = base.Scheme, base.Host
			r.Out.URL.Path = base.Path + r.In.URL.Path
			r.Out.Host = base.Host
			r.Out.Header = http.Header{"Accept": {"application/json"}}
			r.Out.Body, r.Out.ContentLength = nil, 0
		},
	}
	s := &http.Server{
		ReadHeaderTimeout: lentWithin, MaxHeaderBytes: lentHeader, ErrorLog: quiet,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !lent(r) {
				http.Error(w, `{"message":"only images are lent"}`, http.StatusForbidden)
				return
			}
			proxy.ServeHTTP(w, r)
		}),
	}
	stop := context.AfterFunc(ctx, func() {
		if err := s.Close(); err != nil {
			e.log.Debug("lent engine not closed", "error", err)
		}
	})
	defer stop()
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fault.New(fault.Unavailable, "lend the engine: %w", err)
	}
	return nil
}

// lent says whether a request only reads an image.
func lent(r *http.Request) bool {
	if r.Method != http.MethodGet && r.Method != http.MethodHead || !lentPath.MatchString(r.URL.Path) || r.URL.RawPath != "" {
		return false
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return false
	}
	for name := range query {
		if !slices.Contains(lentQuery, name) {
			return false
		}
	}
	return !slices.ContainsFunc(query["names"], func(n string) bool { return !isDigest(n) })
}

// buffers are those that images pass through, kept as long as the engine is
// lent. The zero value is ready.
type buffers struct {
	mu   sync.Mutex
	free [][]byte
}

// Get is httputil.BufferPool.
func (b *buffers) Get() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	if n := len(b.free); n > 0 {
		buf := b.free[n-1]
		b.free = b.free[:n-1]
		return buf
	}
	return make([]byte, saveBuffer)
}

// Put is httputil.BufferPool.
func (b *buffers) Put(buf []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.free = append(b.free, buf)
}
