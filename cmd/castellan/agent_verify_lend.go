package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/signature"
	"github.com/castellan-security/castellan/internal/trust"
)

const (
	lendWithin = 10 * time.Second // for a request to arrive
	// maxLentSignatures bounds what the child reads: what the agent holds, written as
	// JSON, with its names.
	maxLentSignatures = 4 * agentEnvelopes
)

// foundSignatures is what a registry has, on its way to the child.
type foundSignatures struct {
	Envelopes []signature.Envelope
	// Refused and Failed are what is missing, and More how much of that is not told.
	Refused []signature.Refusal
	Failed  []string
	More    int
	Error   string // nothing could be found out
	Remedy  string
}

// lendSignatures answers a child at l: it can read its wish, and the signatures of
// that image, can have AWS Signer asked what was revoked, and nothing else. It does
// until ctx ends.
func lendSignatures(ctx context.Context, l net.Listener, w link.VerifyWish, from trust.Finder, ask revokedByAWS, log *slog.Logger) error {
	m := http.NewServeMux()
	answer := func(out http.ResponseWriter, v any) {
		// A child that is gone needs no answer.
		_ = json.NewEncoder(out).Encode(v)
	}
	m.HandleFunc("GET /wish", func(out http.ResponseWriter, _ *http.Request) { answer(out, w) })
	m.HandleFunc("GET /signatures", func(out http.ResponseWriter, r *http.Request) {
		answer(out, findSignatures(r.Context(), from, signature.Subject{Repository: w.Repository, Digest: w.Digest}))
	})
	m.Handle("POST /revoked", &revocationDesk{ask: ask, log: log.With("repository", w.Repository, "digest", w.Digest)})
	s := &http.Server{
		ReadHeaderTimeout: lendWithin, Handler: m, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	stop := context.AfterFunc(ctx, func() {
		if err := s.Close(); err != nil {
			log.Debug("lent signatures not closed", "error", err)
		}
	})
	defer stop()
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fault.New(fault.Unavailable, "lend signatures: %w", err)
	}
	return nil
}

func findSignatures(ctx context.Context, from trust.Finder, s signature.Subject) (f foundSignatures) {
	envelopes, err := from.Envelopes(ctx, s)
	f.Envelopes = envelopes
	var some *signature.Incomplete
	switch {
	case errors.As(err, &some):
		f.More = some.More
		for _, e := range some.Left {
			var r *signature.Refusal
			if errors.As(e, &r) {
				f.Refused = append(f.Refused, *r)
			} else {
				f.Failed = append(f.Failed, e.Error())
			}
		}
	case err != nil:
		f.Error, f.Remedy = err.Error(), fault.Remedy(err)
	}
	return f
}

// lentSignatures is the child's trust.Finder.
type lentSignatures struct {
	way    *http.Transport
	client *http.Client
}

func borrowSignatures(socket string) *lentSignatures {
	d := net.Dialer{}
	way := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return d.DialContext(ctx, "unix", socket) }}
	return &lentSignatures{way, &http.Client{Transport: way}}
}

func (l *lentSignatures) close() { l.way.CloseIdleConnections() }

func (l *lentSignatures) get(ctx context.Context, what string, into any) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://agent/"+what, nil)
	if err != nil {
		return err
	}
	res, err := l.client.Do(r)
	if err != nil {
		return fault.New(fault.Unavailable, "ask the agent: %w", err)
	}
	err = json.NewDecoder(io.LimitReader(res.Body, maxLentSignatures)).Decode(into)
	if err = errors.Join(err, res.Body.Close()); err != nil {
		return fmt.Errorf("read what the agent lends: %w", err)
	}
	return nil
}

func (l *lentSignatures) wish(ctx context.Context) (w link.VerifyWish, err error) {
	return w, l.get(ctx, "wish", &w)
}

// Envelopes is trust.Finder.
func (l *lentSignatures) Envelopes(ctx context.Context, _ signature.Subject) ([]signature.Envelope, error) {
	var f foundSignatures
	if err := l.get(ctx, "signatures", &f); err != nil {
		return nil, err
	}
	if f.Error != "" {
		return nil, fault.New(fault.Unavailable, "%s", f.Error).With(f.Remedy)
	}
	some := &signature.Incomplete{More: f.More}
	for i := range f.Refused {
		some.Left = append(some.Left, &f.Refused[i])
	}
	for _, text := range f.Failed {
		some.Left = append(some.Left, errors.New(text))
	}
	if len(some.Left) == 0 && some.More == 0 {
		return f.Envelopes, nil
	}
	return f.Envelopes, some
}
