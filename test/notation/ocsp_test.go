package notation_test

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/notaryproject/notation-core-go/revocation"
	"github.com/notaryproject/notation-core-go/revocation/purpose"
	"github.com/notaryproject/notation-core-go/revocation/result"
	"golang.org/x/crypto/ocsp"

	"github.com/castellan-security/castellan/internal/adapter/notary"
	"github.com/castellan-security/castellan/internal/adapter/notary/notarytest"
	castellan "github.com/castellan-security/castellan/internal/signature"
)

// TestOCSP has both ask the same responder. Where they differ it is said why.
func TestOCSP(t *testing.T) {
	w := newWorld(t)
	r := &notarytest.Responder{Issuer: w.ca, Clock: time.Now}
	s := httptest.NewServer(r)
	defer s.Close()
	w.signer = issue(t, w.ca, notarytest.Signer, "build", ec(t), func(c *x509.Certificate) { c.OCSPServer = []string{s.URL} })
	data := theirEnvelope(t, forms["JWS"], w.signer)
	revoked := func(a *ocsp.Response) { a.Status, a.RevokedAt = ocsp.Revoked, time.Now() }
	when := func(from, to time.Duration) func(*ocsp.Response) {
		return func(a *ocsp.Response) { a.ThisUpdate, a.NextUpdate = time.Now().Add(from), time.Now().Add(to) }
	}
	since, err := asn1.MarshalWithParams(time.Now().Add(time.Hour).UTC(), "generalized")
	if err != nil {
		t.Fatal(err)
	}
	good := issue(t, w.ca, notarytest.Signer, "answers", ec(t), notarytest.ForAnswers)
	for _, tc := range []struct {
		name   string
		by     *notarytest.Holder
		edit   func(*ocsp.Response)
		raw    []byte
		want   string
		theirs string // "": the same
	}{
		{name: "good", want: "good"},
		{name: "good, by a delegate", by: good, want: "good"},
		{name: "revoked", edit: revoked, want: "revoked"},
		{name: "revoked, by a delegate", by: good, edit: revoked, want: "revoked"},
		{name: "revoked, with a time that nothing proves", edit: func(a *ocsp.Response) {
			revoked(a)
			a.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 24}, Value: since}}
		}, want: "revoked"},
		{name: "not known", edit: func(a *ocsp.Response) { a.Status = ocsp.Unknown }, want: "unknown"},
		{name: "of another number", edit: func(a *ocsp.Response) { a.SerialNumber = big.NewInt(1) }, want: "unknown"},
		{name: "of yesterday", edit: when(-48*time.Hour, -24*time.Hour), want: "unknown"},
		{name: "without an end", edit: func(a *ocsp.Response) { a.NextUpdate = time.Time{} }, want: "unknown"},
		{name: "by a stranger", by: issue(t, nil, notarytest.Authority, "Acme builds", ec(t)), want: "unknown"},
		{name: "later", raw: ocsp.TryLaterErrorResponse, want: "unknown"},
		{name: "no answer", raw: []byte("<html>"), want: "unknown"},
		{name: "a long one", raw: bytes.Repeat([]byte("x"), 1<<20), want: "unknown"},
		// RFC 6960, 4.2.2.2: the issuer must have certified somebody for answers. Else
		// each of its signers could say that he was not revoked.
		{name: "by a signer of the same issuer", by: issue(t, w.ca, notarytest.Signer, "other", ec(t)), want: "unknown", theirs: "good"},
		// RFC 6960, 4.2.2.1: an answer whose time is yet to come is not to be believed.
		{name: "of tomorrow", edit: when(24*time.Hour, 48*time.Hour), want: "unknown", theirs: "good"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r.By, r.Edit, r.Raw = tc.by, tc.edit, tc.raw
			if got := ourOCSP(t, w, data); got != tc.want {
				t.Errorf("here it is %s, want %s", got, tc.want)
			}
			want := tc.want
			if tc.theirs != "" {
				want = tc.theirs
			}
			if got := theirOCSP(t, w.signer.Chain); got != want {
				t.Errorf("there it is %s, want %s", got, want)
			}
		})
	}
}

func ourOCSP(t *testing.T, w *world, data []byte) string {
	t.Helper()
	o, err := notary.New(castellan.Roots{Stores: []castellan.Store{{Kind: castellan.StoreCA, Name: "acme", Certificates: w.root.Chain}}},
		notary.Options{OCSP: notary.NewResponders(nil, slog.New(slog.NewTextHandler(t.Output(), nil)))})
	if err != nil {
		t.Fatal(err)
	}
	signed, err := o.Open(t.Context(), castellan.Envelope{MediaType: forms["JWS"], Payload: data}, subject(), time.Now())
	var refused *castellan.Refusal
	if errors.As(err, &refused) {
		return string(refused.Reason)
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(signed.Revocation)
}

func theirOCSP(t *testing.T, chain []*x509.Certificate) string {
	t.Helper()
	v, err := revocation.NewWithOptions(revocation.Options{OCSPHTTPClient: &http.Client{Timeout: 5 * time.Second}, CertChainPurpose: purpose.CodeSigning})
	if err != nil {
		t.Fatal(err)
	}
	all, err := v.ValidateContext(t.Context(), revocation.ValidateContextOptions{CertChain: chain})
	if err != nil {
		t.Fatal(err)
	}
	switch all[0].Result {
	case result.ResultOK:
		return "good"
	case result.ResultRevoked:
		return "revoked"
	}
	return "unknown"
}
