package notary

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/notaryproject/tspclient-go"

	"github.com/castellan-security/castellan/internal/fault"
)

// A time-stamp takes well under a second; the authority's own client in
// tspclient bounds the answer to 1 MiB.
const (
	tsaTimeout   = 15 * time.Second
	tsaRedirects = 3
)

// TSA is a time-stamping authority that speaks RFC 3161 over HTTP. Its answers are
// signed, so that plain HTTP, which most of them speak, does no harm.
type TSA struct {
	URL    string
	Roots  []*x509.Certificate // that vouch for it
	Client *http.Client        // nil: one of its own
}

// stamp asks for a time-stamp over a signature, and checks it like one that was
// found: the authority must be known, and the time within the chain's validity.
func (t *TSA) stamp(ctx context.Context, a algorithm, value []byte, v validity) ([]byte, error) {
	if u, err := url.Parse(t.URL); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil {
		return nil, fault.New(fault.Invalid, "time-stamp: %q is no http or https URL without a user", t.URL)
	}
	if len(t.Roots) == 0 {
		return nil, fault.New(fault.Invalid, "time-stamp: no root vouches for %s", t.URL).With("give the authority's root certificate: what cannot be checked now could not be later")
	}
	roots := x509.NewCertPool()
	for _, r := range t.Roots {
		roots.AddCert(r)
	}
	client := t.Client
	if client == nil {
		client = &http.Client{CheckRedirect: func(_ *http.Request, via []*http.Request) error {
			if len(via) > tsaRedirects {
				return errors.New("too many redirects")
			}
			return nil
		}}
	}
	ctx, cancel := context.WithTimeout(ctx, tsaTimeout)
	defer cancel()
	token, err := t.ask(ctx, client, a, value)
	if err != nil {
		return nil, fault.New(fault.Unavailable, "time-stamp from %s: %w", t.URL, err).With("try again, or sign without a time-stamp: the signature is then valid as long as its certificate")
	}
	s, err := readToken(ctx, token, value, roots, newChecked())
	if err != nil {
		return nil, fmt.Errorf("time-stamp from %s: %w", t.URL, err)
	}
	if err := v.contains("the authority says that it was asked", s.earliest, s.latest); err != nil {
		return nil, fmt.Errorf("time-stamp from %s: %w", t.URL, err)
	}
	return token, nil
}

func (t *TSA) ask(ctx context.Context, client *http.Client, a algorithm, value []byte) ([]byte, error) {
	to, err := tspclient.NewHTTPTimestamper(client, t.URL)
	if err != nil {
		return nil, err
	}
	req, err := tspclient.NewRequest(tspclient.RequestOptions{Content: value, HashAlgorithm: a.hash})
	if err != nil {
		return nil, err
	}
	resp, err := to.Timestamp(ctx, req)
	if err != nil {
		return nil, err
	}
	return resp.TimestampToken.FullBytes, nil
}
