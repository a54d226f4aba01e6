package trust_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/signature"
	"github.com/castellan-security/castellan/internal/trust"
)

// layout is a Finder and an Opener of one signature.
type layout struct{ signed *signature.Signed }

func (l *layout) Envelopes(context.Context, signature.Subject) ([]signature.Envelope, error) {
	if l.signed == nil {
		return nil, nil
	}
	return []signature.Envelope{{MediaType: "application/vnd.dev.sigstore.bundle.v0.3+json", Digest: "sha256:e"}}, nil
}

func (l *layout) Open(context.Context, signature.Envelope, signature.Subject, time.Time) (signature.Signed, error) {
	return *l.signed, nil
}

// From nothing to a verdict, by what whoever is outside this room knows.
func TestFirstPolicyDecides(t *testing.T) {
	public, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	text, err := trust.First(trust.Draft{Images: []string{"ghcr.io/acme/**"}, Keys: []trust.DraftKey{{File: "build.pub"}}})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := filepath.Join(dir, trust.File)
	for name, b := range map[string][]byte{file: text, filepath.Join(dir, "build.pub"): pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})} {
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p, err := trust.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	registry := &layout{}
	d := trust.Decider{Policy: p, Finder: registry, Openers: map[signature.Kind]trust.Opener{signature.Sigstore: registry}, Cache: trust.NewCache(0)}
	image := trust.Image{Subject: signature.Subject{Repository: "ghcr.io/acme/shop", Digest: "sha256:" + strings.Repeat("0", 64)}}
	now := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	v, err := d.Verify(t.Context(), image, now)
	if err != nil || v.Allowed {
		t.Fatalf("without a signature: got %v, %v", v.Allowed, err)
	}
	sum := sha256.Sum256(der)
	registry.signed = &signature.Signed{Kind: signature.Sigstore, Identity: signature.Identity{Key: "sha256:" + hex.EncodeToString(sum[:])}}
	if v, err = d.Verify(t.Context(), image, now.Add(time.Hour)); err != nil || !v.Allowed {
		t.Errorf("signed: got %v, %v", v.Reason, err)
	}
	if v, err = d.Verify(t.Context(), trust.Image{Subject: signature.Subject{Repository: "ghcr.io/other/shop", Digest: image.Subject.Digest}}, now); err != nil || v.Allowed {
		t.Errorf("elsewhere: got %v, %v", v.Allowed, err)
	}
}

func TestZeroDeciderAllowsNothing(t *testing.T) {
	for name, d := range map[string]trust.Decider{"zero": {}, "no rules": {Policy: &trust.Policy{}, Finder: &layout{}}, "cache alone": {Cache: trust.NewCache(1)}} {
		v, err := d.Verify(t.Context(), trust.Image{Subject: signature.Subject{Digest: "sha256:" + strings.Repeat("0", 64)}}, time.Now())
		if v.Allowed || err == nil && v.Reason == "" {
			t.Errorf("%s: got %+v, %v", name, v, err)
		}
	}
}
