package cosign_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"path/filepath"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/adapter/sigstore"
	"github.com/castellan-security/castellan/internal/adapter/sigstore/standin"
	"github.com/castellan-security/castellan/internal/signature"
)

var (
	none   = standin.Parts{}
	logged = standin.Parts{Fulcio: true, CT: true, Log1: true}
	tiles  = standin.Parts{Fulcio: true, CT: true, Log2: true, TSA: true}
	full   = standin.Parts{Fulcio: true, CT: true, Log1: true, TSA: true}
)

// TestCosignSignsWithAKey: what cosign signs with a key opens here.
func TestCosignSignsWithAKey(t *testing.T) {
	for _, tc := range []struct {
		name  string
		parts standin.Parts
		old   bool
	}{
		{"bundle", none, false},
		{"bundle, log 1", logged, false},
		{"bundle, log 2 and time stamp", tiles, false},
		{"bundle, log 1 and time stamp", full, false},
		{"old", none, true},
		{"old, log 1", logged, true},
		{"old, log 1 and time stamp", full, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := start(t)
			ref := b.image()
			b.mustRun(append(append([]string{"sign", "--key", "release.key", "-a", "stage=prod"}, b.form(tc.parts, tc.old)...), ref.String())...)
			got := b.open(ref, tc.parts)
			if got.Old != tc.old || got.Annotations["stage"] != "prod" || got.Statement != nil {
				t.Errorf("Open() = old %v, annotations %v, statement %v; want old %v, stage=prod, none", got.Old, got.Annotations, got.Statement, tc.old)
			}
			if tc.parts.Log1 && got.Log == nil || tc.parts.TSA && got.Proof == signature.Unproven {
				t.Errorf("Open() = log %v, proof %q", got.Log, got.Proof)
			}
		})
	}
}

// TestCosignAttestsWithAKey: what cosign attests opens here.
func TestCosignAttestsWithAKey(t *testing.T) {
	for _, tc := range []struct {
		name  string
		parts standin.Parts
		old   bool
	}{
		{"bundle", none, false},
		{"bundle, log 1", logged, false},
		{"old", none, true},
		{"old, log 1", logged, true},
		{"old, log 1 and time stamp", full, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := start(t)
			ref := b.image()
			predicate := b.file("predicate.json", []byte(`{"verdict": "pass", "n": 3}`))
			b.mustRun(append(append([]string{"attest", "--key", "release.key", "--type", "https://example.org/verdict/v1", "--predicate", predicate},
				b.form(tc.parts, tc.old)...), ref.String())...)
			got := b.open(ref, tc.parts)
			if got.Old != tc.old || got.Statement == nil || got.Statement.Predicate != "https://example.org/verdict/v1" {
				t.Fatalf("Open() = old %v, statement %+v", got.Old, got.Statement)
			}
		})
	}
}

// TestCosignSignsKeyless: what cosign signs with a certificate of Fulcio's opens here.
func TestCosignSignsKeyless(t *testing.T) {
	for name, parts := range map[string]standin.Parts{"log 1": logged, "log 2 and time stamp": tiles, "log 1 and time stamp": full} {
		for form, old := range map[string]bool{"bundle": false, "old": true} {
			if old && parts.Log2 {
				continue
			}
			t.Run(form+", "+name, func(t *testing.T) {
				b := start(t)
				ref := b.image()
				token := b.file("token", []byte(b.token()))
				b.mustRun(append(append([]string{"sign", "--identity-token", token}, b.form(parts, old)...), ref.String())...)
				got := b.open(ref, parts)
				if got.Identity.Issuer != issuer || got.Identity.Subject != who || got.Old != old {
					t.Errorf("Open() = %+v", got)
				}
			})
		}
	}
}

// TestCosignBelievesUs: what is signed here, cosign verifies.
func TestCosignBelievesUs(t *testing.T) {
	ctx := context.Background()
	const kind = "https://example.org/verdict/v1"
	for _, tc := range []struct {
		name    string
		parts   standin.Parts
		keyless bool
		old     bool
	}{
		{"key", none, false, false},
		{"key, log 1", logged, false, false},
		{"key, log 2 and time stamp", tiles, false, false},
		{"key, old", none, false, true},
		{"key, old, log 1", logged, false, true},
		{"keyless, log 1", logged, true, false},
		{"keyless, log 2 and time stamp", tiles, true, false},
		{"keyless, log 1 and time stamp", full, true, false},
		{"keyless, old, log 1", logged, true, true},
		{"keyless, old, log 1 and time stamp", full, true, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := start(t)
			ref := b.image()
			o := sigstore.SignerOptions{Key: b.key, Check: b.opener(tc.parts)}
			check := []string{"--key", filepath.Join(b.dir, "release.pub")}
			if tc.keyless {
				o.Key, o.Token = nil, b.token()
				check = []string{"--certificate-identity", who, "--certificate-oidc-issuer", issuer}
			}
			if tc.parts == none {
				check = append(check, "--insecure-ignore-tlog")
			}
			check = append(check, "--trusted-root", b.root(tc.parts))
			if tc.parts.TSA && (tc.keyless || tc.parts.Log2) {
				check = append(check, "--use-signed-timestamps")
			}
			if tc.old {
				check = append(check, "--new-bundle-format=false")
			}
			s := b.signer(o, tc.parts)
			sign, attest, sig, att := s.Sign, s.Attest, "", ""
			if tc.old {
				sign, attest, sig, att = s.SignOld, s.AttestOld, ".sig", ".att"
			}
			e, err := sign(ctx, subject(ref), map[string]string{"stage": "prod"})
			if err != nil {
				t.Fatal(err)
			}
			b.attach(ref, e, sig)
			b.mustRun(append(append([]string{"verify"}, check...), "-a", "stage=prod", ref.String())...)
			if err := b.run(append(append([]string{"verify"}, check...), b.image().String())...); err == nil {
				t.Errorf("cosign verifies an image that nobody signed:\n%s", b.log)
			}
			if e, err = attest(ctx, subject(ref), kind, []byte(`{"verdict":"pass"}`)); err != nil {
				t.Fatal(err)
			}
			b.attach(ref, e, att)
			b.mustRun(append(append([]string{"verify-attestation", "--type", kind}, check...), ref.String())...)
		})
	}
}

// TestOtherKeys signs with other keys than those that cosign makes, both ways.
func TestOtherKeys(t *testing.T) {
	ctx := context.Background()
	// Cosign takes SHA-256 for the key of any size, unless it is told which one
	// it takes itself when it signs.
	digest := map[string]string{"P-384": "sha384", "P-521": "sha512", "RSA-3072": "sha256", "Ed25519": "sha256"}
	generate := map[string]func() (crypto.Signer, error){
		"P-384":    func() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P384(), rand.Reader) },
		"P-521":    func() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P521(), rand.Reader) },
		"RSA-3072": func() (crypto.Signer, error) { return rsa.GenerateKey(rand.Reader, 3072) },
		"Ed25519":  func() (crypto.Signer, error) { _, k, err := ed25519.GenerateKey(rand.Reader); return k, err },
	}
	for name, make := range generate {
		for form, old := range map[string]bool{"bundle": false, "old": true} {
			t.Run(name+", "+form, func(t *testing.T) {
				b := start(t)
				key, err := make()
				if err != nil {
					t.Fatal(err)
				}
				b.importKey("other", key)
				o, err := sigstore.New(signature.Roots{Keys: []signature.Key{{Name: "other", Public: key.Public()}}}, sigstore.Options{})
				if err != nil {
					t.Fatal(err)
				}
				flags := []string{"verify", "--key", "other.pub", "--insecure-ignore-tlog", "--trusted-root", b.root(none), "--signature-digest-algorithm", digest[name]}
				if old {
					flags = append(flags, "--new-bundle-format=false")
				}
				if name != "Ed25519" || old { // cosign writes no such bundles
					theirs := b.image()
					b.mustRun(append(append([]string{"sign", "--key", "other.key"}, b.form(none, old)...), theirs.String())...)
					if name != "Ed25519" { // nor does it verify its own old ones, which are prehashed
						b.mustRun(append(flags, theirs.String())...)
					}
					for _, e := range b.envelopes(theirs) {
						if _, err := o.Open(ctx, e, subject(theirs), time.Now()); err != nil {
							t.Errorf("open what cosign wrote: %v", err)
						}
					}
				}
				ours := b.image()
				s := b.signer(sigstore.SignerOptions{Key: key, Check: o}, none)
				sign, suffix := s.Sign, ""
				if old {
					sign, suffix = s.SignOld, ".sig"
				}
				e, err := sign(ctx, subject(ours), nil)
				if err != nil {
					t.Fatal(err)
				}
				b.attach(ours, e, suffix)
				b.mustRun(append(flags, ours.String())...)
			})
		}
	}
}

// TestACertificateOfOnesOwn signs with a key and its certificate, both ways.
func TestACertificateOfOnesOwn(t *testing.T) {
	b := start(t)
	ctx, ref := context.Background(), b.image()
	leaf, err := b.Certify(b.key.Public(), standin.Holder{Subject: "build@acme.test", NoPromise: true})
	if err != nil {
		t.Fatal(err)
	}
	parts := standin.Parts{Fulcio: true, TSA: true} // an authority without logs
	crt := b.file("leaf.crt", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf.Raw}))
	chain := b.file("chain.crt", append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: b.Issuer.Raw}), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: b.Root.Raw})...))
	b.mustRun("sign", "--key", "release.key", "--certificate", crt, "--certificate-chain", chain,
		"--signing-config", b.config(standin.Parts{TSA: true}), "--trusted-root", b.root(parts), ref.String())
	all := b.envelopes(ref)
	if len(all) != 1 {
		t.Fatalf("%d envelopes", len(all))
	}
	got, err := b.opener(parts).Open(ctx, all[0], subject(ref), time.Now())
	if err != nil {
		t.Fatalf("open what cosign wrote: %v", err)
	}
	if len(got.Identity.Names) != 1 || got.Identity.Names[0] != "build@acme.test" || got.Identity.Subject != "" || got.Proof != signature.Timestamped {
		t.Errorf("Open() = %+v", got)
	}
	ours := b.image()
	s := b.signer(sigstore.SignerOptions{Key: b.key, Chain: []*x509.Certificate{leaf, b.Issuer, b.Root}, Check: b.opener(parts)}, standin.Parts{TSA: true})
	e, err := s.Sign(ctx, subject(ours), nil)
	if err != nil {
		t.Fatal(err)
	}
	b.attach(ours, e, "")
	b.mustRun("verify", "--trusted-root", b.root(parts), "--certificate-identity", "build@acme.test", "--certificate-oidc-issuer-regexp", ".*",
		"--allow-certificate-chain", "--insecure-ignore-tlog", "--insecure-ignore-sct", "--use-signed-timestamps", ours.String())
}
