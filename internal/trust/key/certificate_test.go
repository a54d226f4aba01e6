package key_test

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"os"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/sealed"
	"github.com/castellan-security/castellan/internal/trust/key"
)

const shop = `CN=build,O=Shop\, Ltd,OU=CI,L=Berlin,ST=Berlin,C=DE`

func certificates(t *testing.T, path string) []*x509.Certificate {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var all []*x509.Certificate
	for block, rest := pem.Decode(b); block != nil; block, rest = pem.Decode(rest) {
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, c)
	}
	return all
}

// The certificate is what the Notary Project's specification requires.
func TestCertificate(t *testing.T) {
	ring := key.OpenRing(t.TempDir())
	k, err := ring.Generate("build", key.Options{Password: is(secret)}, june(1))
	if err != nil {
		t.Fatal(err)
	}
	made, err := ring.Certify("build", shop, 10*day, is(secret), june(2))
	if err != nil {
		t.Fatal(err)
	}
	chain, roots := certificates(t, made.Chain), certificates(t, made.Root)
	if len(chain) != 2 || len(roots) != 1 || !chain[1].Equal(roots[0]) {
		t.Fatalf("%d certificates and %d roots", len(chain), len(roots))
	}
	leaf, root := chain[0], chain[1]
	if got, _ := sealed.Fingerprint(leaf.PublicKey); got != k.Fingerprint {
		t.Errorf("it is of the key %s, want %s", got, k.Fingerprint)
	}
	if leaf.KeyUsage != x509.KeyUsageDigitalSignature || len(leaf.ExtKeyUsage) != 1 || leaf.ExtKeyUsage[0] != x509.ExtKeyUsageCodeSigning || leaf.IsCA {
		t.Errorf("usages %v %v, an authority: %v", leaf.KeyUsage, leaf.ExtKeyUsage, leaf.IsCA)
	}
	if !root.IsCA || root.KeyUsage&x509.KeyUsageCertSign == 0 || !root.MaxPathLenZero || root.Subject.String() == leaf.Subject.String() {
		t.Errorf("root %v, an authority: %v, usage %v", root.Subject, root.IsCA, root.KeyUsage)
	}
	if got, want := leaf.Subject.String(), `CN=build,OU=CI,O=Shop\, Ltd,L=Berlin,ST=Berlin,C=DE`; got != want {
		t.Errorf("subject %s, want %s", got, want)
	}
	pool := x509.NewCertPool()
	pool.AddCert(root)
	for _, tc := range []struct {
		name string
		at   time.Time
		good bool
	}{{"while it lives", june(11), true}, {"after its end", june(13), false}, {"before its beginning", june(1), false}} {
		_, err := leaf.Verify(x509.VerifyOptions{Roots: pool, CurrentTime: tc.at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}})
		if (err == nil) != tc.good {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
	_, err = ring.Certify("build", shop, day, is(secret), june(2))
	checkError(t, err, fault.Conflict, "is there already")
}

func TestRequest(t *testing.T) {
	ring := key.OpenRing(t.TempDir())
	if _, err := ring.Generate("build", key.Options{Password: is(secret), Algorithm: key.RSA3072}, june(1)); err != nil {
		t.Fatal(err)
	}
	b, err := ring.Request("build-1", shop, is(secret), june(2))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(b)
	request, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	signer, _, err := ring.Signer("build", is(secret), june(2))
	if err != nil {
		t.Fatal(err)
	}
	if err := request.CheckSignature(); err != nil || !signer.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(request.PublicKey) || request.Subject.CommonName != "build" {
		t.Errorf("request %v, %v", request.Subject, err)
	}
}

func TestCertificateRefused(t *testing.T) {
	ring := key.OpenRing(t.TempDir())
	for name, a := range map[string]key.Algorithm{"build": key.P256, "edward": key.Ed25519} {
		if _, err := ring.Generate(name, key.Options{Password: is(secret), Algorithm: a}, june(1)); err != nil {
			t.Fatal(err)
		}
	}
	for _, tc := range []struct {
		name, id, subject string
		lifetime          time.Duration
		password          string
		kind              fault.Kind
		words             string
	}{
		{"no subject", "build", "", day, secret, fault.Invalid, "has no value"},
		{"half a subject", "build", "CN=build,O=Shop", day, secret, fault.Invalid, "is missing"},
		{"twice the same", "build", shop + ",C=FR", day, secret, fault.Invalid, "there twice"},
		{"an unknown attribute", "build", shop + ",X=1", day, secret, fault.Invalid, "not known"},
		{"no country", "build", "CN=a,O=b,ST=c,C=Germany", day, secret, fault.Invalid, "two letters"},
		{"a line in it", "build", "CN=a\nb,O=b,ST=c,C=DE", day, secret, fault.Invalid, "no value"},
		{"for ever", "build", shop, 100 * 365 * day, secret, fault.Invalid, "lifetime"},
		{"for no time", "build", shop, 0, secret, fault.Invalid, "lifetime"},
		{"a key of a kind that Notary does not know", "edward", shop, day, secret, fault.Unsupported, "ed25519"},
		{"the wrong password", "build", shop, day, "another password", fault.Unauthenticated, "does not open"},
		{"no such key", "other", shop, day, secret, fault.NotFound, "no key"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := ring.Certify(tc.id, tc.subject, tc.lifetime, is(tc.password), june(2))
			checkError(t, err, tc.kind, tc.words)
		})
	}
}
