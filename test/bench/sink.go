package main

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/server/pki"
)

// listenEvery is how often the sink reads a report instead of throwing it away.
const listenEvery = 200 * time.Millisecond

// sink plays a server on another host: it takes reports and throws them away,
// so that what is measured is the agent's cost and not the server's. Now and
// then it reads one, to know how the agent is.
type sink struct {
	address, fingerprint string
	server               *http.Server
	done                 chan error

	mu     sync.Mutex
	agent  asset.Agent
	looked time.Time
}

// openSink starts a sink on loopback.
func openSink(o options) (*sink, error) {
	dir, err := os.MkdirTemp(o.dir, "sink-")
	if err != nil {
		return nil, err
	}
	authority, err := pki.Open(dir, []string{"127.0.0.1"}, time.Now)
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &sink{address: l.Addr().String(), fingerprint: authority.Fingerprint(), done: make(chan error, 1)}
	path, read := link.Handler(s, slog.New(slog.DiscardHandler))
	mux := http.NewServeMux()
	mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
		if s.curious() {
			read.ServeHTTP(w, r)
			return
		}
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return // the agent sends it again
		}
		// An empty message: nothing is wanted.
		w.Header().Set("Content-Type", "application/proto")
	})
	s.server = &http.Server{Handler: mux, ReadHeaderTimeout: ready, TLSConfig: &tls.Config{GetCertificate: authority.Certificate, MinVersion: tls.VersionTLS13}}
	go func() { s.done <- s.server.ServeTLS(l, "", "") }()
	return s, nil
}

func (s *sink) curious() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Since(s.looked) < listenEvery {
		return false
	}
	s.looked = time.Now()
	return true
}

// Report is link.Server.
func (s *sink) Report(_ context.Context, r link.Report) (link.Receipt, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.agent = r.Agent
	s.agent.Seen = time.Now()
	return link.Receipt{}, nil
}

func (s *sink) where() (address, fingerprint, token string) {
	return s.address, s.fingerprint, "cst_of-the-benchmark"
}

// heard is the agent as it last described itself.
func (s *sink) heard(context.Context) (asset.Agent, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.agent, nil
}

func (s *sink) close() error {
	err := s.server.Close()
	if e := <-s.done; !errors.Is(e, http.ErrServerClosed) {
		err = errors.Join(err, e)
	}
	return err
}
