package sigstore_test

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/castellan-security/castellan/internal/adapter/sigstore"
	"github.com/castellan-security/castellan/internal/adapter/sigstore/standin"
	"github.com/castellan-security/castellan/internal/signature"
)

func TestKeysSignAndOpen(t *testing.T) {
	ctx, image := context.Background(), subjectOf("image")
	predicate := []byte(`{"a": [1, {"b": "c"}]}`)
	for _, kind := range []string{"P-256", "P-384", "P-521", "Ed25519", "RSA-2048"} {
		key := newKey(t, kind)
		o := opener(t, signature.Roots{Keys: []signature.Key{{Name: "other", Public: newKey(t, "P-256").Public()}, {Name: "release", Public: key.Public()}}})
		s := signer(t, sigstore.SignerOptions{Key: key, Check: o})
		for _, tc := range []struct {
			name  string
			make  func() (signature.Envelope, error)
			want  signature.Signed
			notes bool
		}{
			{name: "bundle", make: func() (signature.Envelope, error) { return s.Sign(ctx, image, map[string]string{"stage": "prod"}) }, notes: true},
			{name: "attestation", make: func() (signature.Envelope, error) { return s.Attest(ctx, image, "https://example.org/p", predicate) },
				want: signature.Signed{Statement: &signature.Statement{Predicate: "https://example.org/p", Body: []byte(`{"a":[1,{"b":"c"}]}`), Subjects: []string{image.Digest}}}},
			{name: "old", make: func() (signature.Envelope, error) { return s.SignOld(ctx, image, map[string]string{"stage": "prod"}) }, notes: true,
				want: signature.Signed{Old: true, Reference: image.Repository}},
			{name: "old attestation", make: func() (signature.Envelope, error) { return s.AttestOld(ctx, image, "https://example.org/p", predicate) },
				want: signature.Signed{Old: true, Statement: &signature.Statement{Predicate: "https://example.org/p", Body: []byte(`{"a":[1,{"b":"c"}]}`), Subjects: []string{image.Digest}}}},
		} {
			t.Run(kind+" "+tc.name, func(t *testing.T) {
				e := must(tc.make())(t)
				got := must(open(o, e, image))(t)
				tc.want.Kind, tc.want.Way, tc.want.Envelope = signature.Sigstore, signature.ByFile, e.Digest
				tc.want.Identity.Key = keyID(t, key.Public())
				if tc.notes {
					tc.want.Annotations = map[string]string{"stage": "prod"}
				}
				if diff := cmp.Diff(tc.want, got); diff != "" {
					t.Errorf("Open() (-want +got):\n%s", diff)
				}
				_, err := open(o, e, subjectOf("another image"))
				wantRefusal(t, err, signature.OtherSubject)
				_, err = open(opener(t, signature.Roots{Keys: []signature.Key{{Name: "other", Public: newKey(t, kind).Public()}}}), e, image)
				wantRefusal(t, err, signature.NoRoot)
			})
		}
	}
}

func keyID(t testing.TB, pub any) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(der)
	return "sha256:" + hex.EncodeToString(sum[:])
}

func TestKeylessSignsAndOpens(t *testing.T) {
	ctx, image, s := context.Background(), subjectOf("image"), start(t)
	for _, tc := range []struct {
		name  string
		parts standin.Parts
		proof signature.Proof
		log   bool
	}{
		{"log 1", standin.Parts{Fulcio: true, CT: true, Log1: true}, signature.Logged, true},
		{"log 2 and time stamp", standin.Parts{Fulcio: true, CT: true, Log2: true, TSA: true}, signature.Timestamped, true},
		{"log 1 and time stamp", standin.Parts{Fulcio: true, CT: true, Log1: true, TSA: true}, signature.Timestamped, true}, // both know whole seconds; the stamp comes first
		{"time stamp alone", standin.Parts{Fulcio: true, CT: true, TSA: true}, signature.Timestamped, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o := s.opener(t, tc.parts)
			for name, sign := range map[string]func(*sigstore.Signer) (signature.Envelope, error){
				"bundle": func(k *sigstore.Signer) (signature.Envelope, error) { return k.Sign(ctx, image, nil) },
				"attestation": func(k *sigstore.Signer) (signature.Envelope, error) {
					return k.Attest(ctx, image, "https://example.org/p", []byte("{}"))
				},
				"old": func(k *sigstore.Signer) (signature.Envelope, error) { return k.SignOld(ctx, image, nil) },
				"old attestation": func(k *sigstore.Signer) (signature.Envelope, error) {
					return k.AttestOld(ctx, image, "https://example.org/p", []byte("{}"))
				},
			} {
				if tc.parts.Log2 && (name == "old" || name == "old attestation") {
					continue // has no room for such proofs
				}
				e := must(sign(s.keyless(t, tc.parts)))(t)
				got := must(open(o, e, image))(t)
				want := signature.Identity{
					Store: "sigstore:" + host(t, s.url) + "/fulcio", Root: hashName(s.Root.Raw), Names: []string{builder}, Subject: builder, Issuer: issuer,
					Claims: map[string]string{"source-repository": "https://example.org/acme/shop"},
				}
				if diff := cmp.Diff(want, got.Identity, cmpopts.IgnoreFields(signature.Identity{}, "Key", "Certificate")); diff != "" {
					t.Errorf("%s: Identity (-want +got):\n%s", name, diff)
				}
				if got.Proof != tc.proof || time.Since(got.At) > time.Minute || got.Log != nil != tc.log || !got.Until.IsZero() {
					t.Errorf("%s: Open() = proof %q at %v, log %v, until %v; want proof %q now, log %v, no end", name, got.Proof, got.At, got.Log, got.Until, tc.proof, tc.log)
				}
				_, err := open(o, e, subjectOf("another image"))
				wantRefusal(t, err, signature.OtherSubject)
				_, err = open(start(t).opener(t, standin.All()), e, image)
				wantRefusal(t, err, signature.NoRoot)
			}
		})
	}
}

func hashName(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}
