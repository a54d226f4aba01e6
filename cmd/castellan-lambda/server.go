package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/link"
)

// maxAnswer bounds a verdict: it has some reasons for each of ten containers.
const maxAnswer = 4 << 20

// server asks Castellan's server.
type server struct {
	http  *http.Client
	url   string
	token string
}

// newServer returns the client of the server at an address, whose certificate
// authority has that fingerprint, or is one of the system's without one.
func newServer(address, fingerprint, token string) (*server, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, fault.New(fault.Invalid, "%s: %w", envServer, err)
	}
	config, err := link.TLS(u.Hostname(), fingerprint)
	if err != nil {
		return nil, fault.New(fault.Invalid, "%s: %w", envFingerprint, err)
	}
	return &server{
		http: &http.Client{
			Transport:     &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true, Proxy: http.ProxyFromEnvironment},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // the token is for this one
		},
		url: "https://" + u.Host + "/api/v1/admit/decide", token: token,
	}, nil
}

// Decide asks for the verdict on a request.
func (s *server) Decide(ctx context.Context, r *admission.Request) (admission.Verdict, error) {
	body, err := json.Marshal(r)
	if err != nil {
		return admission.Verdict{}, fmt.Errorf("write request: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url, bytes.NewReader(body))
	if err != nil {
		return admission.Verdict{}, fmt.Errorf("ask server: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+s.token)
	req.Header.Set("User-Agent", "castellan-lambda/"+release)
	resp, err := s.http.Do(req)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err
		}
		return admission.Verdict{}, fault.New(fault.Unavailable, "ask server: %w", err).
			With("can the function reach " + envServer + ", and is " + envFingerprint + " what the server printed at its start?")
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil || len(b) > maxAnswer {
		return admission.Verdict{}, fault.New(fault.Unavailable, "read the server's answer: it breaks off, or has more than %d bytes", maxAnswer)
	}
	if resp.StatusCode != http.StatusOK {
		return admission.Verdict{}, refusedBy(resp.StatusCode, b)
	}
	var v admission.Verdict
	if err := json.Unmarshal(b, &v); err != nil {
		return admission.Verdict{}, fault.New(fault.Unavailable, "read the server's answer: %w", err).With("is " + envServer + " Castellan's server?")
	}
	if v.Request != r.ID {
		return admission.Verdict{}, fault.New(fault.Unavailable, "the server's verdict is on %.100q, and not on %.100q", v.Request, r.ID)
	}
	return v, nil
}

// refusedBy makes an error of an answer that is no verdict. A request that the
// server will not look at is of the kind Invalid, which doors deny whatever is
// declared for errors: whoever asked could have brought it about.
func refusedBy(status int, b []byte) error {
	var p struct{ Title, Detail, Remedy string }
	_ = json.Unmarshal(b, &p) // what is none has nothing to tell
	said := strings.TrimSpace(p.Detail)
	if said == "" {
		said = http.StatusText(status)
	}
	kind, remedy := fault.Unavailable, p.Remedy
	switch status {
	case http.StatusUnauthorized:
		kind, remedy = fault.Unauthenticated, "put a token that is still valid into the secret of "+envTokenSecret
	case http.StatusForbidden:
		kind, remedy = fault.Denied, "give the token the scope admission:decide"
	case http.StatusNotFound:
		kind, remedy = fault.NotFound, "let the server be of the same release as the function"
	case http.StatusTooManyRequests:
		kind = fault.Exhausted
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity:
		kind = fault.Invalid
	}
	return fault.New(kind, "the server answers %d: %.500s", status, said).With(remedy)
}
