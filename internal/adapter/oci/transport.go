package oci

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/pace"
)

// dialer returns the way to registries: through the proxy of the environment,
// with the authorities of the system and those of a file. HTTP/1.1 is enough: a
// layer fills a connection, and several share none.
func dialer(caFile string) (*http.Transport, error) {
	t := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: dialWithin}).DialContext,
		TLSHandshakeTimeout:   shakeWithin,
		ResponseHeaderTimeout: answerWithin,
		IdleConnTimeout:       time.Minute,
		MaxIdleConnsPerHost:   8,
		DisableCompression:    true, // what is stored is what is verified
		ReadBufferSize:        streamBuffer,
		TLSClientConfig:       &tls.Config{MinVersion: tls.VersionTLS12},
	}
	if caFile == "" {
		return t, nil
	}
	pem, err := os.ReadFile(caFile)
	if err != nil {
		return nil, fmt.Errorf("read certificate authorities: %w", unreadable(caFile, err))
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool() // a machine without any, which the file makes up for
	}
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fault.New(fault.Invalid, "read certificate authorities: no certificate in %s", caFile).
			With("give a file of certificates in PEM form")
	}
	t.TLSClientConfig.RootCAs = pool
	return t, nil
}

// brisk is the way to registries for small documents: several share a connection
// by HTTP/2 where the registry knows it, and none waits for another's handshake.
func brisk(base *http.Transport) *http.Transport {
	t := base.Clone()
	t.ForceAttemptHTTP2 = true
	return t
}

// briskly has the requests of ctx sent so.
func briskly(ctx context.Context) context.Context {
	return context.WithValue(ctx, briskKey{}, true)
}

type briskKey struct{}

// errPlain is why a request is not sent.
var errPlain = errors.New("plain HTTP is for registries on this machine only")

// guard sends no request in the clear that might leave this machine, wherever a
// registry sends us, unless the user wants it so.
type guard struct {
	next, brisk http.RoundTripper
	plain       bool // this registry may be spoken to in the clear
}

// RoundTrip sends a request if it may be sent.
func (g guard) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != "https" && !g.plain {
		return nil, fault.New(fault.Denied, "ask %s://%s: %w", r.URL.Scheme, r.URL.Host, errPlain).
			With("give the registry a certificate, or say --plain-http, in all configurations that it has")
	}
	if r.Context().Value(briskKey{}) != nil {
		return g.brisk.RoundTrip(r)
	}
	return g.next.RoundTrip(r)
}

// redirects returns the rule for where a registry may send us: elsewhere
// outside, as to where its blobs are stored, but not from outside to an address
// inside, where a request does what only we may do.
func redirects(registry string) func(*http.Request, []*http.Request) error {
	return func(r *http.Request, via []*http.Request) error {
		if len(via) > maxRedirects {
			return fault.New(fault.Unavailable, "the registry sent us elsewhere %d times in a row", len(via)).
				With("the registry, or the proxy before it, is not set up right")
		}
		origin := via[0].URL.Hostname()
		if r.URL.Hostname() != origin && isInside(r.URL.Hostname()) && !isInside(origin) {
			return fault.New(fault.Denied, "%s sent us to %s, which is inside", registry, r.URL.Host).
				With("use the registry's own address if it is meant to be inside")
		}
		return nil
	}
}

// patient sends requests again when the registry is busy or the network fails.
type patient struct {
	next  http.RoundTripper
	log   *slog.Logger
	sleep func(context.Context, time.Duration) error
}

// RoundTrip sends a request up to maxAttempts times. It waits as long as the
// registry asks to, but no longer than maxRetryAfter, and says so.
func (p patient) RoundTrip(r *http.Request) (*http.Response, error) {
	for attempt := 1; ; attempt++ {
		resp, err := p.next.RoundTrip(r)
		wait, again := retry(resp, err, attempt)
		if !again || attempt == maxAttempts || r.Context().Err() != nil {
			return resp, err
		}
		if r.Body != nil && r.GetBody == nil {
			return resp, err // it cannot be sent twice
		}
		why := "network"
		if err == nil {
			why = resp.Status
			_, _ = io.CopyN(io.Discard, resp.Body, maxErrorBody) // so that the connection is used again
			_ = resp.Body.Close()
		}
		p.log.Info("registry asked again after a pause", "host", r.URL.Host, "reason", why, "error", err, "pause", wait, "attempt", attempt)
		if err := p.sleep(r.Context(), wait); err != nil {
			return nil, err
		}
		if r.GetBody != nil {
			body, err := r.GetBody()
			if err != nil {
				return nil, err
			}
			r = r.Clone(r.Context())
			r.Body = body
		}
	}
}

// retry says whether another attempt may go better, and after what pause.
func retry(resp *http.Response, err error, attempt int) (time.Duration, bool) {
	pause := firstPause << (attempt - 1)
	pause += time.Duration((rand.Float64() - 0.5) / 2 * float64(pause))
	if err != nil {
		return pause, !isFinal(err)
	}
	switch resp.StatusCode {
	case http.StatusRequestTimeout, http.StatusInternalServerError, http.StatusBadGateway, http.StatusGatewayTimeout:
		return pause, true
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		asked, said := retryAfter(resp.Header, time.Now())
		if !said {
			return pause, true
		}
		return asked, asked <= maxRetryAfter
	}
	return 0, false
}

// isFinal says whether an error will be the same next time.
func isFinal(err error) bool {
	var (
		certificate *tls.CertificateVerificationError
		record      tls.RecordHeaderError
		name        *net.DNSError
	)
	return errors.As(err, &certificate) || errors.As(err, &record) || errors.Is(err, http.ErrSchemeMismatch) ||
		errors.As(err, &name) && name.IsNotFound || fault.Of(err) != fault.Unknown ||
		errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// retryAfter reads how long a server asks us to wait: seconds or a date.
func retryAfter(h http.Header, now time.Time) (time.Duration, bool) {
	text := h.Get("Retry-After")
	if seconds, err := strconv.ParseUint(text, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second, true
	}
	if t, err := http.ParseTime(text); err == nil {
		return max(t.Sub(now), 0), true
	}
	return 0, false
}

// sleep waits for d or for the end of ctx.
func sleep(ctx context.Context, d time.Duration) error {
	if !pace.Wait(ctx, d) {
		return ctx.Err()
	}
	return nil
}
