package sigstore_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/adapter/sigstore"
	"github.com/castellan-security/castellan/internal/adapter/sigstore/standin"
	"github.com/castellan-security/castellan/internal/signature"
)

const (
	issuer  = "https://token.actions.example.org"
	builder = "https://github.com/acme/shop/.github/workflows/release.yml@refs/heads/main"
)

// subjectOf is an image whose manifest has this text.
func subjectOf(manifest string) signature.Subject {
	sum := sha256.Sum256([]byte(manifest))
	return signature.Subject{Repository: "registry.example.org/shop/web", Digest: "sha256:" + hex.EncodeToString(sum[:])}
}

// running is a stand-in that answers.
type running struct {
	*standin.Sigstore
	url string
}

func start(t testing.TB) running {
	t.Helper()
	s, err := standin.New("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(s.Handler())
	t.Cleanup(srv.Close)
	return running{s, srv.URL}
}

func (r running) services(t testing.TB, p standin.Parts) sigstore.Services {
	t.Helper()
	s, err := sigstore.ReadServices(r.SigningConfig(r.url, p), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (r running) opener(t testing.TB, p standin.Parts, keys ...signature.Key) *sigstore.Opener {
	t.Helper()
	return opener(t, signature.Roots{Sigstore: [][]byte{r.TrustedRoot(r.url, p)}, Keys: keys})
}

func opener(t testing.TB, roots signature.Roots) *sigstore.Opener {
	t.Helper()
	o, err := sigstore.New(roots, sigstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func (r running) token(t testing.TB, subject string) string {
	t.Helper()
	tok, err := r.Token(issuer, subject)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

func signer(t testing.TB, o sigstore.SignerOptions) *sigstore.Signer {
	t.Helper()
	s, err := sigstore.NewSigner(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// keyless signs once with a stand-in's parts.
func (r running) keyless(t testing.TB, p standin.Parts) *sigstore.Signer {
	t.Helper()
	return signer(t, sigstore.SignerOptions{Token: r.token(t, builder), Services: r.services(t, p)})
}

func newKey(t testing.TB, kind string) crypto.Signer {
	t.Helper()
	var k crypto.Signer
	var err error
	switch kind {
	case "P-224":
		k, err = ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	case "P-256":
		k, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "P-384":
		k, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "P-521":
		k, err = ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	case "Ed25519":
		_, k, err = ed25519.GenerateKey(rand.Reader)
	case "RSA-2048":
		k, err = rsa.GenerateKey(rand.Reader, 2048)
	}
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// must returns what was made.
func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// wantRefusal checks why an envelope is refused.
func wantRefusal(t testing.TB, err error, want signature.Reason) {
	t.Helper()
	var r *signature.Refusal
	if !errors.As(err, &r) {
		t.Fatalf("Open() = %v, want a refusal: %s", err, want)
	}
	if r.Reason != want {
		t.Fatalf("Open() refused with %s (%s), want %s", r.Reason, r.Detail, want)
	}
	if r.Detail == "" {
		t.Error("the refusal does not say why")
	}
}

// wantOutcome checks that a signature was opened, or refused with a reason.
func wantOutcome(t testing.TB, err error, want signature.Reason) {
	t.Helper()
	if want != opens {
		wantRefusal(t, err, want)
	} else if err != nil {
		t.Error(err)
	}
}

func open(o *sigstore.Opener, e signature.Envelope, s signature.Subject) (signature.Signed, error) {
	return o.Open(context.Background(), e, s, time.Now())
}

// edit changes a bundle by the path to a field; nil removes it.
func edit(t testing.TB, e signature.Envelope, value any, path ...any) signature.Envelope {
	t.Helper()
	var doc any
	if err := json.Unmarshal(e.Payload, &doc); err != nil {
		t.Fatal(err)
	}
	at := doc
	for _, p := range path[:len(path)-1] {
		switch p := p.(type) {
		case string:
			at = at.(map[string]any)[p]
		case int:
			at = at.([]any)[p]
		}
	}
	switch last := path[len(path)-1].(type) {
	case string:
		if value == nil {
			delete(at.(map[string]any), last)
		} else {
			at.(map[string]any)[last] = value
		}
	case int:
		at.([]any)[last] = value
	}
	out, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	e.Payload = out
	return e
}

// field reads a bundle's field.
func field(t testing.TB, e signature.Envelope, path ...any) any {
	t.Helper()
	var at any
	if err := json.Unmarshal(e.Payload, &at); err != nil {
		t.Fatal(err)
	}
	for _, p := range path {
		switch p := p.(type) {
		case string:
			at = at.(map[string]any)[p]
		case int:
			at = at.([]any)[p]
		}
	}
	return at
}

// host of an address.
func host(t testing.TB, address string) string {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	return u.Host
}

func cryptoRand() io.Reader { return rand.Reader }

func pemText(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

// decode reads base64 out of a document.
func decode(v any) ([]byte, error) {
	s, _ := v.(string)
	return base64.StdEncoding.DecodeString(s)
}
