package notary_test

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/castellan-security/castellan/internal/adapter/notary"
	"github.com/castellan-security/castellan/internal/signature"
)

// kept are signatures that were made once, so that a fuzzer that found something
// finds it again. CASTELLAN_GOLDEN=write makes them anew.
var kept = []struct {
	file, form string
	stamped    bool
}{
	{"plain.jws", notary.JWS, false}, {"stamped.jws", notary.JWS, true},
	{"plain.cose", notary.COSE, false}, {"stamped.cose", notary.COSE, true},
}

func TestSignaturesOfBefore(t *testing.T) {
	if os.Getenv("CASTELLAN_GOLDEN") == "write" {
		writeKept(t)
	}
	o := opener(t, keptRoots(t), notary.Options{})
	for _, k := range kept {
		want := "good: claimed"
		if k.stamped {
			want = "good: timestamp"
		}
		e := signature.Envelope{MediaType: k.form, Payload: read(t, k.file)}
		if got, s := verdict(t, o, e, july); got != want || s.Revocation != signature.NotRevoked {
			t.Errorf("%s: got %s %s, want %s good", k.file, got, s.Revocation, want)
		}
	}
}

func read(t testing.TB, file string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", file))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func keptRoots(t testing.TB) signature.Roots {
	t.Helper()
	var roots signature.Roots
	for rest := read(t, "roots.pem"); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return roots
		}
		if block.Type == "X509 CRL" {
			roots.Revoked = append(roots.Revoked, block.Bytes)
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		kind := signature.StoreKind(block.Headers["Kind"])
		roots.Stores = append(roots.Stores, signature.Store{Kind: kind, Name: "kept", Certificates: []*x509.Certificate{cert}})
	}
}

func writeKept(t *testing.T) {
	w := newWorld(t)
	tsa := &notary.TSA{URL: serve(t, w.stamper), Roots: w.tsaRoot.Chain}
	var out bytes.Buffer
	for _, b := range []*pem.Block{
		{Type: "CERTIFICATE", Headers: map[string]string{"Kind": "ca"}, Bytes: w.root.Chain[0].Raw},
		{Type: "CERTIFICATE", Headers: map[string]string{"Kind": "tsa"}, Bytes: w.tsaRoot.Chain[0].Raw},
		{Type: "X509 CRL", Bytes: revoke(t, w.root)},
		{Type: "X509 CRL", Bytes: revoke(t, w.ca)},
	} {
		if err := pem.Encode(&out, b); err != nil {
			t.Fatal(err)
		}
	}
	files := map[string][]byte{"roots.pem": out.Bytes()}
	for _, k := range kept {
		opts := notary.SignOptions{MediaType: k.form}
		if k.stamped {
			opts.TSA, opts.Expiry, opts.Annotations = tsa, next, map[string]string{"a": "b"}
		}
		files[k.file] = sign(t, w.signer, opts).Payload
	}
	if err := os.MkdirAll("testdata", 0o755); err != nil {
		t.Fatal(err)
	}
	for name, data := range files {
		if err := os.WriteFile(filepath.Join("testdata", name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// fuzz opens what the fuzzer makes. Whatever it is, it must be refused in words, or
// be a signature of the image by the signer that the roots know.
func fuzz(f *testing.F, form string) {
	o := opener(f, keptRoots(f), notary.Options{})
	for _, k := range kept {
		if k.form == form {
			f.Add(read(f, k.file))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := o.Open(t.Context(), signature.Envelope{MediaType: form, Payload: data}, image, july)
		if err == nil {
			if s.Identity.Name != "C=US,ST=WA,O=Acme,CN=build" {
				t.Errorf("signed by %+v", s.Identity)
			}
			return
		}
		var r *signature.Refusal
		if !errors.As(err, &r) || r.Reason == "" || r.Detail == "" || len(r.Detail) > 1000 || strings.ContainsAny(r.Detail, "\x00\x1b\n") {
			t.Errorf("refused with %q", err)
		}
	})
}

func FuzzJWS(f *testing.F) { fuzz(f, notary.JWS) }

func FuzzCOSE(f *testing.F) { fuzz(f, notary.COSE) }

// FuzzToken has the time-stamp alone, which is not covered by the signature.
func FuzzToken(f *testing.F) {
	o := opener(f, keptRoots(f), notary.Options{})
	plain := signature.Envelope{MediaType: notary.JWS, Payload: read(f, "plain.jws")}
	token, ok := parts(f, signature.Envelope{Payload: read(f, "stamped.jws")})["header"].(map[string]any)["io.cncf.notary.timestampSignature"].(string)
	if !ok {
		f.Fatal("the kept signature has no time-stamp")
	}
	der, err := base64.StdEncoding.DecodeString(token)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(der)
	f.Fuzz(func(t *testing.T, token []byte) {
		if got, s := verdict(t, o, withToken(t, plain, token), july); strings.HasPrefix(got, "good") && s.Proof == signature.Timestamped {
			t.Errorf("another signature's time-stamp is believed")
		}
	})
}
