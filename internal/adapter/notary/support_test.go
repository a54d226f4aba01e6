package notary_test

import (
	"context"
	"crypto"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/adapter/notary"
	"github.com/castellan-security/castellan/internal/adapter/notary/notarytest"
	"github.com/castellan-security/castellan/internal/signature"
)

// The image of all tests, and days of them.
var (
	image = signature.Subject{
		Repository: "registry.example/shop/web",
		Digest:     "sha256:73c803930ea3ba1e54bc25c2bdc53edd0284c62ed651fe7b00369da519a3c333",
		MediaType:  "application/vnd.oci.image.manifest.v1+json",
		Size:       16724,
	}
	june = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC) // when images are signed
	july = time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC) // when they are looked at
	next = time.Date(2027, 7, 1, 12, 0, 0, 0, time.UTC) // after the certificates have expired
)

// world is a root, an authority below it, a signer, and an authority of time.
type world struct {
	root, ca, signer *notarytest.Holder
	tsaRoot, tsa     *notarytest.Holder
	stamper          *notarytest.TSA
}

func key(t testing.TB, curve elliptic.Curve) crypto.Signer {
	t.Helper()
	k, err := notarytest.EC(curve)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func issue(t testing.TB, by *notarytest.Holder, kind notarytest.Kind, name string, k crypto.Signer, edits ...func(*x509.Certificate)) *notarytest.Holder {
	t.Helper()
	h, err := notarytest.Issue(by, kind, name, k, edits...)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func newWorld(t testing.TB) *world {
	t.Helper()
	long := func(c *x509.Certificate) { c.NotAfter = c.NotAfter.AddDate(10, 0, 0) }
	w := &world{}
	w.root = issue(t, nil, notarytest.Authority, "Acme root", key(t, elliptic.P256()))
	w.ca = issue(t, w.root, notarytest.Authority, "Acme builds", key(t, elliptic.P256()))
	w.signer = issue(t, w.ca, notarytest.Signer, "build", key(t, elliptic.P256()))
	w.tsaRoot = issue(t, nil, notarytest.Authority, "Time root", key(t, elliptic.P256()), long)
	w.tsa = issue(t, w.tsaRoot, notarytest.Stamper, "Time", key(t, elliptic.P256()), long)
	w.stamper = &notarytest.TSA{By: w.tsa, Clock: func() time.Time { return june }}
	return w
}

func store(kind signature.StoreKind, name string, h *notarytest.Holder) signature.Store {
	return signature.Store{Kind: kind, Name: name, Certificates: []*x509.Certificate{h.Chain[len(h.Chain)-1]}}
}

func (w *world) roots() signature.Roots {
	return signature.Roots{Stores: []signature.Store{store(signature.StoreCA, "acme", w.root), store(signature.StoreTSA, "time", w.tsaRoot)}}
}

func opener(t testing.TB, roots signature.Roots, opts notary.Options) *notary.Opener {
	t.Helper()
	o, err := notary.New(roots, opts)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func sign(t testing.TB, h *notarytest.Holder, opts notary.SignOptions) signature.Envelope {
	t.Helper()
	if opts.At.IsZero() {
		opts.At = june
	}
	e, err := notary.Sign(t.Context(), h.Key, h.Chain, image, opts)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// verdict opens an envelope and tells the outcome in a word: the reason of a
// refusal, "error" for any other, or the proof of time.
func verdict(t testing.TB, o *notary.Opener, e signature.Envelope, at time.Time) (string, signature.Signed) {
	t.Helper()
	s, err := o.Open(context.Background(), e, image, at)
	var r *signature.Refusal
	switch {
	case errors.As(err, &r):
		if r.Detail == "" {
			t.Errorf("refused without a word why: %s", r.Reason)
		}
		return string(r.Reason), s
	case err != nil:
		t.Logf("error: %v", err)
		return "error", s
	}
	return "good: " + string(s.Proof), s
}

// jws is a JWS envelope in parts, for tests that take it apart.
type jws map[string]any

func parts(t testing.TB, e signature.Envelope) jws {
	t.Helper()
	var j jws
	if err := json.Unmarshal(e.Payload, &j); err != nil {
		t.Fatal(err)
	}
	return j
}

func (j jws) envelope(t testing.TB, e signature.Envelope) signature.Envelope {
	t.Helper()
	data, err := json.Marshal(j)
	if err != nil {
		t.Fatal(err)
	}
	e.Payload = data
	return e
}
