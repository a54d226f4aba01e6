package oci

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// eager asks a registry that nobody has credentials for as if it were open,
// instead of asking first how it wants to be entered: where it is open, as within
// one's own network, that spares a round trip. A registry that refuses says in
// that answer how it wants to be entered, so that nothing is lost either.
type eager struct {
	registry name.Registry
	scheme   string
	open     http.RoundTripper // without credentials
	enter    func(ctx context.Context, by http.RoundTripper) (http.RoundTripper, error)

	mu     sync.Mutex
	way    http.RoundTripper // once it was entered
	spoken bool              // it answered by that protocol
}

// eagerly returns an eager way into a repository; nil if it must be entered in
// the usual way: with credentials, to which a registry may show more, and where
// it isn't known how it is spoken to.
func (r *Registry) eagerly(in *repository, registry name.Registry, way http.RoundTripper) *eager {
	e := &eager{registry: registry, scheme: "https", open: way}
	switch {
	case in.credential.Authenticator != authn.Anonymous:
		return nil
	case isLoopback(registry.RegistryStr()):
		e.scheme = "http" // if it wants TLS all the same, it refuses
	case registry.Scheme() != "https":
		return nil
	}
	e.enter = func(ctx context.Context, by http.RoundTripper) (http.RoundTripper, error) {
		return transport.NewWithContext(ctx, registry, in.credential, by, []string{in.name.Scope(transport.PullScope)})
	}
	return e
}

// RoundTrip sends a request by the way that was found, else as if the registry
// were open.
func (e *eager) RoundTrip(r *http.Request) (*http.Response, error) {
	e.mu.Lock()
	way, spoken := e.way, e.spoken
	e.mu.Unlock()
	if way != nil {
		return way.RoundTrip(r)
	}
	resp, err := schemed{e.open, e.registry.RegistryStr(), e.scheme}.RoundTrip(r)
	var dial *net.OpError
	switch {
	case err != nil && (spoken || e.scheme == "https" || r.Context().Err() != nil || errors.As(err, &dial) && dial.Op == "dial"):
		return nil, err
	case err == nil && !wantsEntry(resp) && (spoken || e.scheme == "https" || resp.StatusCode != http.StatusBadRequest):
		if !spoken {
			e.mu.Lock()
			e.spoken = true
			e.mu.Unlock()
		}
		return resp, nil
	}
	by := e.open
	if resp != nil {
		if wantsEntry(resp) {
			by = replayed{e.open, e.registry.RegistryStr(), e.scheme, resp.Header.Clone()}
		}
		_, _ = io.CopyN(io.Discard, resp.Body, maxErrorBody) // so that the connection is used again
		_ = resp.Body.Close()
	}
	if way, err = e.entered(r.Context(), by); err != nil {
		return nil, err
	}
	return way.RoundTrip(r)
}

// wantsEntry says whether a registry refuses whoever has no token, which it gives
// to nobody in particular, too.
func wantsEntry(resp *http.Response) bool {
	return resp.StatusCode == http.StatusUnauthorized && slices.ContainsFunc(resp.Header.Values("WWW-Authenticate"), func(v string) bool {
		const scheme = "bearer "
		return len(v) >= len(scheme) && strings.EqualFold(v[:len(scheme)], scheme)
	})
}

// entered enters the registry, once for all requests that wait for it.
func (e *eager) entered(ctx context.Context, by http.RoundTripper) (http.RoundTripper, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.way != nil {
		return e.way, nil
	}
	way, err := e.enter(ctx, by)
	if err != nil {
		return nil, err
	}
	e.way = way
	return way, nil
}

// schemed sends requests to a registry by the protocol that it speaks; where it
// sends us elsewhere is not its own.
type schemed struct {
	next         http.RoundTripper
	host, scheme string
}

// RoundTrip sends a request.
func (s schemed) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Host == s.host && r.URL.Scheme != s.scheme {
		r = r.Clone(r.Context())
		r.URL.Scheme = s.scheme
	}
	return s.next.RoundTrip(r)
}

// replayed answers the question of how a registry wants to be entered with what
// it said already.
type replayed struct {
	next         http.RoundTripper
	host, scheme string
	header       http.Header
}

// RoundTrip answers that question, and sends other requests.
func (p replayed) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Host != p.host || r.URL.Path != "/v2/" {
		return p.next.RoundTrip(r)
	}
	if r.URL.Scheme != p.scheme {
		return nil, errors.New("the registry answered by the other protocol")
	}
	return &http.Response{
		Status: "401 Unauthorized", StatusCode: http.StatusUnauthorized, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: p.header, Body: http.NoBody, Request: r,
	}, nil
}
