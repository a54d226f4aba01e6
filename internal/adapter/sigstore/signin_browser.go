package sigstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/castellan-security/castellan/internal/fault"
)

// callback is the path at which the browser comes back.
const callback = "/auth/callback"

// maxCode bounds what a browser brings: codes have some dozen bytes.
const maxCode = 4 << 10

// Browser has the person sign in with a browser on this machine, which brings the
// answer to a listener on the loopback (RFC 8252). What does not know this sign-in's
// state changes nothing, so that no other page can end it or slip in a code of its own.
func (s *SignIn) Browser(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, signInWithin)
	defer cancel()
	p, err := s.discover(ctx)
	if err != nil {
		return "", err
	}
	if p.Authorization == "" {
		return "", fault.New(fault.Unsupported, "the OIDC issuer %s has no page to sign in with a browser", clip(s.Issuer)).With("try --oidc device, or give a token of it: --identity-token FILE")
	}
	all, redirect, err := listenLoopback(ctx)
	if err != nil {
		return "", fmt.Errorf("wait for the browser: %w", err)
	}
	pr, err := newProof()
	if err != nil {
		return "", errors.Join(err, closeAll(all))
	}
	v := &visit{issuer: s.Issuer, got: make(chan answer, 1)}
	nonce, err := secret()
	if err == nil {
		v.state, err = secret()
	}
	if err != nil {
		return "", errors.Join(err, closeAll(all))
	}
	address, err := url.Parse(p.Authorization)
	if err != nil {
		return "", errors.Join(err, closeAll(all))
	}
	q := address.Query()
	for name, value := range map[string]string{
		"response_type": "code", "client_id": s.client(), "redirect_uri": redirect, "scope": scopes,
		"state": v.state, "nonce": nonce, "code_challenge": pr.challenge, "code_challenge_method": "S256",
	} {
		q.Set(name, value)
	}
	address.RawQuery = q.Encode()
	stop := v.serve(all)
	defer stop()
	s.Tell(Visit{Address: address.String()})
	var a answer
	select {
	case a = <-v.got:
	case <-ctx.Done():
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return "", late()
		}
		return "", ctx.Err()
	}
	if a.err != nil {
		return "", fault.New(fault.Denied, "sign in at %s: %w", clip(s.Issuer), a.err).With("sign in again")
	}
	token, err := s.redeem(ctx, p, url.Values{
		"grant_type": {"authorization_code"}, "code": {a.code}, "redirect_uri": {redirect}, "client_id": {s.client()}, "code_verifier": {pr.verifier},
	}, nonce)
	var said *refusalOIDC
	if errors.As(err, &said) {
		err = fault.New(fault.Denied, "sign in at %s: %w", clip(s.Issuer), said).With("sign in again; is " + s.client() + " the client's name there (--oidc-client)?")
	}
	return token, err
}

func late() error {
	return fault.New(fault.Unauthenticated, "nobody signed in within %s", signInWithin).With("try again")
}

// answer is what the browser brought.
type answer struct {
	code string
	err  error
}

// visit waits for the browser.
type visit struct {
	issuer, state string
	got           chan answer
}

// listenLoopback listens at a port of the loopback, by both its addresses where
// there are both: issuers know it as localhost, and nobody else is to answer there.
func listenLoopback(ctx context.Context) ([]net.Listener, string, error) {
	var lc net.ListenConfig
	const tries = 10 // a port may be taken at one of both
	for range tries {
		four, err := lc.Listen(ctx, "tcp4", "127.0.0.1:0")
		if err != nil {
			return nil, "", err
		}
		port := strconv.Itoa(four.Addr().(*net.TCPAddr).Port)
		redirect := "http://localhost:" + port + callback
		probe, err := lc.Listen(ctx, "tcp6", "[::1]:0")
		if err != nil {
			return []net.Listener{four}, redirect, nil // there is no IPv6
		}
		if err := probe.Close(); err != nil {
			return nil, "", errors.Join(err, four.Close())
		}
		six, err := lc.Listen(ctx, "tcp6", "[::1]:"+port)
		if err == nil {
			return []net.Listener{four, six}, redirect, nil
		}
		if err := four.Close(); err != nil {
			return nil, "", err
		}
	}
	return nil, "", errors.New("no port is free at both addresses of the loopback")
}

func closeAll(all []net.Listener) error {
	var errs []error
	for _, l := range all {
		errs = append(errs, l.Close())
	}
	return errors.Join(errs...)
}

// serve waits at the listeners until it is stopped.
func (v *visit) serve(all []net.Listener) (stop func()) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+callback, v.back)
	const patience = 10 * time.Second
	server := &http.Server{Handler: mux, ReadTimeout: patience, WriteTimeout: patience, MaxHeaderBytes: 2 * maxCode}
	done := make(chan struct{}, len(all))
	for _, l := range all {
		go func() {
			defer func() { done <- struct{}{} }()
			_ = server.Serve(l) // it ends when it is stopped; a browser that can't come is a sign-in that is late
		}()
	}
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if server.Shutdown(ctx) != nil {
			_ = server.Close() // a browser that keeps its connection is cut off
		}
		for range all {
			<-done
		}
	}
}

// back is where the browser comes back.
func (v *visit) back(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	w.Header().Set("Referrer-Policy", "no-referrer")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	q := r.URL.Query()
	if !same(q.Get("state"), v.state) {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, "This is not the sign-in that castellan waits for.\n")
		return
	}
	a := answer{code: q.Get("code")}
	switch by := q.Get("iss"); {
	case by != "" && by != v.issuer: // RFC 9207
		a.err = fmt.Errorf("the answer is of the issuer %q", clip(by))
	case q.Get("error") != "":
		a.err = &refusalOIDC{q.Get("error"), q.Get("error_description")}
	case a.code == "" || len(a.code) > maxCode:
		a.err = errors.New("the answer has no code")
	}
	text := "You have signed in to castellan, and may close this page.\n"
	if a.err != nil {
		text = "castellan was not let in. You may close this page.\n"
	}
	_, _ = io.WriteString(w, text)
	select {
	case v.got <- a:
	default: // it has its answer
	}
}
