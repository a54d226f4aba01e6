package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"syscall"
	"time"

	"golang.org/x/net/netutil"

	"github.com/castellan-security/castellan/internal/fault"
)

// Limits of the listener.
const (
	// maxConns bounds the connections at once: browsers take one each, agents
	// take one each.
	maxConns = 4_096
	// headerTimeout is for whoever connects and says nothing.
	headerTimeout = 10 * time.Second
	// readTimeout is for the largest report over a slow line.
	readTimeout = time.Minute
	// writeTimeout is for the largest page over a slow line; streams set their own.
	writeTimeout = time.Minute
	idleTimeout  = 2 * time.Minute
	// pingAfter a connection is asked whether anybody is there, so that streams
	// to clients that vanished end within 15 s: what is shown as connected is.
	pingAfter = 10 * time.Second
	pingWait  = 5 * time.Second
	// maxHeader bounds request headers; a cookie, a token and an address fit.
	maxHeader = 32 << 10
)

// certificateNames are the names that the server answers to.
func certificateNames(cfg Config) []string {
	names := []string{"localhost", "127.0.0.1", "::1"}
	// A host without a name is reached by its addresses.
	if h, err := os.Hostname(); err == nil && h != "" {
		names = append(names, h)
	}
	if host, _, err := net.SplitHostPort(cfg.Listen); err == nil && host != "" {
		if ip := net.ParseIP(host); ip == nil || !ip.IsUnspecified() {
			names = append(names, host)
		}
	}
	return append(names, cfg.Names...)
}

// address is how an agent on another host may reach this server: by the first
// name that was given for it, else by the address that it listens on, else by
// the host's name.
func (s *Server) address() string {
	host, port, err := net.SplitHostPort(s.Addr())
	if err != nil {
		return ""
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		if host, err = os.Hostname(); err != nil {
			host = "SERVER"
		}
	}
	if len(s.cfg.Names) > 0 {
		host = s.cfg.Names[0]
	}
	return "https://" + net.JoinHostPort(host, port)
}

// listen opens the TCP port.
func (s *Server) listen(ctx context.Context) (net.Listener, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", s.cfg.Listen)
	var addrErr *net.AddrError
	var dnsErr *net.DNSError
	switch {
	case err == nil:
		return netutil.LimitListener(l, maxConns), nil
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fault.New(fault.Conflict, "listen on %s: another program listens there already", s.cfg.Listen).
			With("stop it (ss -ltnp shows which one), or choose another port with --listen, as in --listen 127.0.0.1:8601")
	case errors.Is(err, fs.ErrPermission):
		return nil, fault.New(fault.Denied, "listen on %s: %w", s.cfg.Listen, err).
			With("ports below 1024 need root; choose another one with --listen")
	case errors.Is(err, syscall.EADDRNOTAVAIL), errors.As(err, &addrErr), errors.As(err, &dnsErr):
		return nil, fault.New(fault.Invalid, "listen on %s: %w", s.cfg.Listen, err).
			With("give --listen an address of this host and a port, as in 127.0.0.1:8600 or 0.0.0.0:8600")
	}
	return nil, fmt.Errorf("listen on %s: %w", s.cfg.Listen, err)
}

// httpServer returns an HTTP server with the limits of this house.
func (s *Server) httpServer(h http.Handler) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		HTTP2:             &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingWait, MaxConcurrentStreams: 100},
		// Handshakes that fail and clients that hang up are everyday.
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		TLSConfig: &tls.Config{
			MinVersion:     tls.VersionTLS12, // 1.3 is taken whenever the client has it
			GetCertificate: s.authority.Certificate,
			NextProtos:     []string{"h2", "http/1.1"},
			// Agents prove themselves by certificates of this authority. Only its
			// name is told to clients, so browsers don't ask people for another one.
			ClientAuth: tls.VerifyClientCertIfGiven,
			ClientCAs:  s.authority.Agents(),
			Time:       s.cfg.Clock,
		},
		ConnContext: s.enrol.ConnContext,
		ConnState:   s.enrol.ConnState,
	}
}
