package notary_test

import (
	"bytes"
	"crypto/elliptic"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/castellan-security/castellan/internal/adapter/notary"
	"github.com/castellan-security/castellan/internal/adapter/notary/notarytest"
	"github.com/castellan-security/castellan/internal/signature"
)

func quiet(t testing.TB) *slog.Logger { return slog.New(slog.NewTextHandler(t.Output(), nil)) }

// TestOCSP holds answers of a responder, good and hostile, against a signature
// whose certificate names it.
func TestOCSP(t *testing.T) {
	w := newWorld(t)
	r := &notarytest.Responder{Issuer: w.ca}
	url := serve(t, r)
	w.signer = issue(t, w.ca, notarytest.Signer, "build", w.signer.Key, func(c *x509.Certificate) { c.OCSPServer = []string{url} })
	plain := sign(t, w.signer, notary.SignOptions{})
	stamped := sign(t, w.signer, notary.SignOptions{TSA: &notary.TSA{URL: serve(t, w.stamper), Roots: w.tsaRoot.Chain}})
	delegate := func(edits ...func(*x509.Certificate)) *notarytest.Holder {
		return issue(t, w.ca, notarytest.Signer, "answers", key(t, elliptic.P256()), edits...)
	}
	good := delegate(notarytest.ForAnswers)
	sha1 := issue(t, w.ca, notarytest.Signer, "answers", key(t, elliptic.P224()), notarytest.ForAnswers)
	stranger := issue(t, nil, notarytest.Authority, "Acme builds", key(t, elliptic.P256()))
	list := func(by *notarytest.Holder, serial *big.Int, edits ...func(*x509.RevocationList)) []byte {
		return revoke(t, by, append(edits, func(l *x509.RevocationList) {
			l.RevokedCertificateEntries = []x509.RevocationListEntry{{SerialNumber: serial, RevocationTime: june}}
		})...)
	}
	revoked := func(s *ocsp.Response) {
		s.Status, s.RevokedAt, s.RevocationReason = ocsp.Revoked, july, ocsp.KeyCompromise
	}
	since := func(at time.Time) func(*ocsp.Response) {
		der, err := asn1.MarshalWithParams(at, "generalized")
		if err != nil {
			t.Fatal(err)
		}
		return func(s *ocsp.Response) {
			revoked(s)
			s.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 24}, Value: der}}
		}
	}
	at := func(from, to time.Duration) func(*ocsp.Response) {
		return func(s *ocsp.Response) { s.ThisUpdate, s.NextUpdate = july.Add(from), july.Add(to) }
	}
	const day = 24 * time.Hour
	for _, tc := range []struct {
		name   string
		by     *notarytest.Holder // of the answer
		issuer *notarytest.Holder // that the answer is about
		edit   func(*ocsp.Response)
		raw    []byte
		lists  [][]byte
		e      signature.Envelope
		want   string
	}{
		{name: "good", want: "good: claimed good"},
		{name: "good, by a delegate", by: good, want: "good: claimed good"},
		{name: "revoked", edit: revoked, want: "revoked"},
		{name: "revoked, by a delegate", by: good, edit: revoked, want: "revoked"},
		{name: "on hold", edit: func(s *ocsp.Response) { revoked(s); s.RevocationReason = ocsp.CertificateHold }, want: "revoked"},
		{name: "revoked, and the list says nothing", edit: revoked, lists: [][]byte{revoke(t, w.ca)}, want: "revoked"},
		{name: "good, and in a list", lists: [][]byte{list(w.ca, w.signer.Chain[0].SerialNumber)}, want: "revoked"},
		{name: "good, before an old list", lists: [][]byte{revoke(t, w.ca, func(l *x509.RevocationList) { l.NextUpdate = july.Add(-time.Hour) })}, want: "good: claimed good"},
		{name: "not known", edit: func(s *ocsp.Response) { s.Status = ocsp.Unknown }, want: "good: claimed unknown"},
		{name: "not known, but to a list", edit: func(s *ocsp.Response) { s.Status = ocsp.Unknown }, lists: [][]byte{revoke(t, w.ca)}, want: "good: claimed good"},
		{name: "invalid since after the time-stamp", e: stamped, edit: since(june.Add(time.Minute)), want: "good: timestamp good"},
		{name: "invalid since before the time-stamp", e: stamped, edit: since(june.Add(-time.Minute)), want: "revoked"},
		{name: "invalid since after the time that only the signer claims", edit: since(june.Add(time.Minute)), want: "revoked"},

		{name: "of another serial number", edit: func(s *ocsp.Response) { s.SerialNumber = big.NewInt(1) }, want: "good: claimed unknown"},
		{name: "of yesterday", edit: at(-2*day, -day), want: "good: claimed unknown"},
		{name: "until this moment", edit: at(-day, 0), want: "good: claimed unknown"},
		{name: "of tomorrow", edit: at(day, 2*day), want: "good: claimed unknown"},
		{name: "whose end is before its beginning", edit: at(time.Minute, time.Second), want: "good: claimed unknown"},
		{name: "without an end", edit: func(s *ocsp.Response) { s.NextUpdate = time.Time{} }, want: "good: claimed unknown"},
		{name: "revoked, of yesterday", edit: func(s *ocsp.Response) { revoked(s); at(-2*day, -day)(s) }, want: "good: claimed unknown"},
		{name: "by a stranger of that name", by: stranger, want: "good: claimed unknown"},
		{name: "by a signer of the same issuer", by: delegate(), want: "good: claimed unknown"},
		{name: "by an authority below", by: issue(t, w.ca, notarytest.Authority, "sub", key(t, elliptic.P256())), want: "good: claimed unknown"},
		{name: "by somebody of the root", by: issue(t, w.root, notarytest.Signer, "answers", key(t, elliptic.P256()), notarytest.ForAnswers), want: "good: claimed unknown"},
		{name: "by a delegate of yesterday", by: delegate(notarytest.ForAnswers, func(c *x509.Certificate) { c.NotAfter = july.Add(-day) }), want: "good: claimed unknown"},
		{name: "by a delegate of tomorrow", by: delegate(notarytest.ForAnswers, func(c *x509.Certificate) { c.NotBefore = july.Add(day) }), want: "good: claimed unknown"},
		{name: "by a delegate that is not for signatures", by: delegate(notarytest.ForAnswers, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyAgreement }), want: "good: claimed unknown"},
		{name: "by a delegate that was revoked", by: good, lists: [][]byte{list(w.ca, good.Chain[0].SerialNumber, func(l *x509.RevocationList) { l.NextUpdate = july.Add(-time.Hour) })}, want: "good: claimed stale"},
		{name: "by a delegate with a weak key", by: sha1, want: "good: claimed unknown"},
		{name: "about another issuer's certificate of that number", issuer: &notarytest.Holder{Key: w.ca.Key, Chain: issue(t, w.root, notarytest.Authority, "other name", w.ca.Key).Chain}, want: "good: claimed unknown"},
		{name: "unauthorized", raw: ocsp.UnauthorizedErrorResponse, want: "good: claimed unknown"},
		{name: "later", raw: ocsp.TryLaterErrorResponse, want: "good: claimed unknown"},
		{name: "no answer at all", raw: []byte("<html>"), want: "good: claimed unknown"},
		{name: "a long one", raw: bytes.Repeat([]byte("x"), 1<<20), want: "good: claimed unknown"},
		{name: "empty", raw: []byte{}, want: "good: claimed unknown"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r.By, r.Edit, r.Raw, r.Clock = tc.by, tc.edit, tc.raw, func() time.Time { return july }
			if r.Issuer = w.ca; tc.issuer != nil {
				r.Issuer = tc.issuer
			}
			if tc.e.Payload == nil {
				tc.e = plain
			}
			roots := w.roots()
			roots.Revoked = tc.lists
			o := opener(t, roots, notary.Options{OCSP: notary.NewResponders(nil, quiet(t))})
			before := r.Asked()
			for range 2 { // the second time from what is remembered
				got, s := verdict(t, o, tc.e, july)
				if s.Revocation != "" {
					got += " " + string(s.Revocation)
				}
				if got != tc.want {
					t.Errorf("got %s, want %s", got, tc.want)
				}
			}
			if n := r.Asked() - before; n > 1 {
				t.Errorf("it was asked %d times", n)
			}
		})
	}
}

// Nobody is asked unless that is wanted, about no signature that no root vouches
// for, and nobody who is no responder.
func TestOCSPAsksNobodyElse(t *testing.T) {
	w := newWorld(t)
	r := &notarytest.Responder{Issuer: w.ca, Clock: func() time.Time { return july }}
	url := serve(t, r)
	w.signer = issue(t, w.ca, notarytest.Signer, "build", w.signer.Key, func(c *x509.Certificate) { c.OCSPServer = []string{url} })
	e := sign(t, w.signer, notary.SignOptions{})
	responders := notary.NewResponders(nil, quiet(t))
	if got, s := verdict(t, opener(t, w.roots(), notary.Options{}), e, july); got != "good: claimed" || s.Revocation != signature.RevocationSilent {
		t.Errorf("offline: %s %s", got, s.Revocation)
	}
	stranger := issue(t, nil, notarytest.Authority, "root", key(t, elliptic.P256()))
	roots := signature.Roots{Stores: []signature.Store{store(signature.StoreCA, "acme", stranger)}}
	if got, _ := verdict(t, opener(t, roots, notary.Options{OCSP: responders}), e, july); got != "no-root" {
		t.Errorf("with no root: %s", got)
	}
	if n := r.Asked(); n != 0 {
		t.Errorf("asked %d times", n)
	}
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, url, http.StatusTemporaryRedirect) }))
	defer elsewhere.Close()
	for name, servers := range map[string][]string{
		"no URL": {"file:///etc/passwd", "http://user@127.0.0.1/"}, "a redirection": {elsewhere.URL}, "nobody there": {"http://127.0.0.1:1/"},
		"the third of many": {"http://127.0.0.1:1/", "http://127.0.0.1:1/", url},
	} {
		by := issue(t, w.ca, notarytest.Signer, "build", w.signer.Key, func(c *x509.Certificate) { c.OCSPServer = servers })
		if got, s := verdict(t, opener(t, w.roots(), notary.Options{OCSP: responders}), sign(t, by, notary.SignOptions{}), july); got != "good: claimed" || s.Revocation != signature.RevocationSilent {
			t.Errorf("%s: %s %s", name, got, s.Revocation)
		}
	}
	if n := r.Asked(); n != 0 {
		t.Errorf("asked %d times", n)
	}
	by := issue(t, w.ca, notarytest.Signer, "build", w.signer.Key, func(c *x509.Certificate) { c.OCSPServer = []string{"http://127.0.0.1:1/", url} })
	if got, s := verdict(t, opener(t, w.roots(), notary.Options{OCSP: responders}), sign(t, by, notary.SignOptions{}), july); got != "good: claimed" || s.Revocation != signature.NotRevoked || !s.Until.Equal(july.Add(time.Hour)) {
		t.Errorf("the second of two: %s %s until %s", got, s.Revocation, s.Until)
	}
}

// FuzzOCSP wants no panic, and no answer that is believed but a signed one.
func FuzzOCSP(f *testing.F) {
	w := newWorld(f)
	r := &notarytest.Responder{Issuer: w.ca, Clock: func() time.Time { return july }}
	s := httptest.NewServer(r)
	defer s.Close()
	w.signer = issue(f, w.ca, notarytest.Signer, "build", w.signer.Key, func(c *x509.Certificate) { c.OCSPServer = []string{s.URL} })
	e := sign(f, w.signer, notary.SignOptions{})
	for _, status := range []int{ocsp.Good, ocsp.Revoked, ocsp.Unknown} {
		r.Edit = func(a *ocsp.Response) { a.Status, a.RevokedAt = status, july; a.SerialNumber = big.NewInt(7) }
		b, err := r.Answer(&ocsp.Request{HashAlgorithm: 5, SerialNumber: big.NewInt(7)})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add(ocsp.TryLaterErrorResponse)
	f.Fuzz(func(t *testing.T, b []byte) {
		client := &http.Client{Transport: answered(b)}
		o := opener(t, w.roots(), notary.Options{OCSP: notary.NewResponders(client, slog.New(slog.DiscardHandler))})
		if got, s := verdict(t, o, e, july); got != "good: claimed" || s.Revocation != signature.RevocationSilent {
			t.Errorf("got %s %s", got, s.Revocation)
		}
	})
}

// answered is a transport that answers the same to all.
type answered []byte

// RoundTrip is http.RoundTripper.
func (a answered) RoundTrip(*http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	_, _ = w.Write(a)
	return w.Result(), nil
}
