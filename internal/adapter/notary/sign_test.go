package notary_test

import (
	"crypto"
	"crypto/elliptic"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/castellan-security/castellan/internal/adapter/notary"
	"github.com/castellan-security/castellan/internal/adapter/notary/notarytest"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/signature"
)

// broken is a key that answers wrongly, as one far away may.
type broken struct {
	crypto.Signer
	answer []byte
	err    error
}

func (b broken) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) { return b.answer, b.err }

func TestSignRefuses(t *testing.T) {
	w := newWorld(t)
	good := notarytest.Holder{Key: w.signer.Key, Chain: w.signer.Chain}
	for _, tc := range []struct {
		name string
		do   func(h *notarytest.Holder, s *signature.Subject, o *notary.SignOptions)
		want string
		kind fault.Kind
	}{
		{"nothing", func(*notarytest.Holder, *signature.Subject, *notary.SignOptions) {}, "", fault.Unknown},
		{"no chain", func(h *notarytest.Holder, _ *signature.Subject, _ *notary.SignOptions) { h.Chain = nil }, "0 certificates", fault.Invalid},
		{"no root", func(h *notarytest.Holder, _ *signature.Subject, _ *notary.SignOptions) { h.Chain = h.Chain[:2] }, "has to be complete", fault.Invalid},
		{"another key", func(h *notarytest.Holder, _ *signature.Subject, _ *notary.SignOptions) {
			h.Key = key(t, elliptic.P256())
		}, "not that of the first certificate", fault.Invalid},
		{"a certificate for something else", func(h *notarytest.Holder, _ *signature.Subject, _ *notary.SignOptions) {
			*h = *issue(t, w.ca, notarytest.Stamper, "Time", key(t, elliptic.P256()))
		}, "something else than signing code", fault.Invalid},
		{"an expired certificate", func(_ *notarytest.Holder, _ *signature.Subject, o *notary.SignOptions) { o.At = next }, "had expired", fault.Invalid},
		{"an expiry in the past", func(_ *notarytest.Holder, _ *signature.Subject, o *notary.SignOptions) { o.Expiry = june }, "before it is made", fault.Invalid},
		{"a tag", func(_ *notarytest.Holder, s *signature.Subject, _ *notary.SignOptions) { s.Digest = "" }, "must be known", fault.Invalid},
		{"no size", func(_ *notarytest.Holder, s *signature.Subject, _ *notary.SignOptions) { s.Size = 0 }, "must be known", fault.Invalid},
		{"no media type", func(_ *notarytest.Holder, s *signature.Subject, _ *notary.SignOptions) { s.MediaType = "" }, "must be known", fault.Invalid},
		{"a reserved annotation", func(_ *notarytest.Holder, _ *signature.Subject, o *notary.SignOptions) {
			o.Annotations = map[string]string{"io.cncf.notary.x": ""}
		}, "Notary Project's own", fault.Invalid},
		{"an annotation that is no UTF-8", func(_ *notarytest.Holder, _ *signature.Subject, o *notary.SignOptions) {
			o.Annotations = map[string]string{"a": "\xff"}
		}, "UTF-8", fault.Invalid},
		{"an enormous annotation", func(_ *notarytest.Holder, _ *signature.Subject, o *notary.SignOptions) {
			o.Annotations = map[string]string{"a": strings.Repeat("x", 1<<20)}
		}, "at most", fault.Invalid},
		{"another form", func(_ *notarytest.Holder, _ *signature.Subject, o *notary.SignOptions) {
			o.MediaType = "application/pgp"
		}, "no form", fault.Invalid},
		{"a key that fails", func(h *notarytest.Holder, _ *signature.Subject, _ *notary.SignOptions) {
			h.Key = broken{h.Key, nil, errors.New("throttled")}
		}, "throttled", fault.Unknown},
		{"a key that signs something else", func(h *notarytest.Holder, _ *signature.Subject, _ *notary.SignOptions) {
			other, err := h.Key.Sign(nil, make([]byte, 32), crypto.SHA256)
			if err != nil {
				t.Fatal(err)
			}
			h.Key = broken{h.Key, other, nil}
		}, "not its signature", fault.Unknown},
		{"a key that answers nothing", func(h *notarytest.Holder, _ *signature.Subject, _ *notary.SignOptions) {
			h.Key = broken{h.Key, nil, nil}
		}, "no ECDSA signature", fault.Unknown},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h, s, o := good, image, notary.SignOptions{At: june}
			tc.do(&h, &s, &o)
			_, err := notary.Sign(t.Context(), h.Key, h.Chain, s, o)
			got := ""
			if err != nil {
				got = err.Error()
			}
			if tc.want == "" && err != nil || tc.want != "" && !strings.Contains(got, tc.want) {
				t.Errorf("got %q, want %q in it", got, tc.want)
			}
			if k := fault.Of(err); k != tc.kind {
				t.Errorf("got kind %s, want %s", k, tc.kind)
			}
		})
	}
}

func TestWhatIsPutIntoTheRegistry(t *testing.T) {
	w := newWorld(t)
	for _, form := range []string{notary.JWS, notary.COSE} {
		e := sign(t, w.signer, notary.SignOptions{MediaType: form})
		if e.ArtifactType != "application/vnd.cncf.notary.signature" || e.MediaType != form || !strings.HasPrefix(e.Digest, "sha256:") {
			t.Errorf("got %s, %s, %s", e.ArtifactType, e.MediaType, e.Digest)
		}
		prints := e.Annotations["io.cncf.notary.x509chain.thumbprint#S256"]
		if len(prints) != 3*66+4 || !strings.HasPrefix(prints, `["`) {
			t.Errorf("got thumbprints %s, want three", prints)
		}
	}
	if e := sign(t, w.signer, notary.SignOptions{}); e.MediaType != notary.JWS {
		t.Errorf("got %s where nothing was asked for, want JWS", e.MediaType)
	}
}
