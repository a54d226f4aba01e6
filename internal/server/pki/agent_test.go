package pki_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"net"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/server/pki"
)

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func TestAgentCertificates(t *testing.T) {
	a := open(t, t.TempDir(), start, "localhost")
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	greedy := &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: "ANOTHERAGENT", Organization: []string{"system:masters"}}, DNSNames: []string{"castellan.example.org"},
		IPAddresses:     []net.IP{net.IPv4(10, 0, 0, 1)},
		ExtraExtensions: []pkix.Extension{{Id: []int{2, 5, 29, 19}, Critical: true, Value: []byte{0x30, 0x03, 0x01, 0x01, 0xff}}},
	}
	for _, tc := range []struct {
		name string
		key  crypto.Signer
		ok   bool
	}{
		{"P-256", must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)), true},
		{"Ed25519", ed, true},
		{"RSA 2048", must[*rsa.PrivateKey](t)(rsa.GenerateKey(rand.Reader, 2048)), true},
		{"RSA 1024", must[*rsa.PrivateKey](t)(rsa.GenerateKey(rand.Reader, 1024)), false},
		{"P-384", must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P384(), rand.Reader)), false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			csr := must[[]byte](t)(x509.CreateCertificateRequest(rand.Reader, greedy, tc.key))
			cert, err := a.SignAgent("AGENTAAAAAAAA", csr)
			if !tc.ok {
				if !fault.Is(err, fault.Invalid) {
					t.Errorf("got %v, want invalid", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if cert.Subject.String() != "CN=AGENTAAAAAAAA" || len(cert.DNSNames)+len(cert.IPAddresses) > 0 || cert.IsCA {
				t.Errorf("more than the key was taken: %v %v %v, authority %v", cert.Subject, cert.DNSNames, cert.IPAddresses, cert.IsCA)
			}
			verify := func(use x509.ExtKeyUsage, at time.Time) error {
				_, err := cert.Verify(x509.VerifyOptions{Roots: a.Agents(), CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{use}})
				return err
			}
			if err := verify(x509.ExtKeyUsageClientAuth, start.Add(29*24*time.Hour)); err != nil {
				t.Errorf("as a client, after 29 days: %v", err)
			}
			if err := verify(x509.ExtKeyUsageClientAuth, start.Add(31*24*time.Hour)); err == nil {
				t.Error("it holds for more than 30 days")
			}
			if err := verify(x509.ExtKeyUsageServerAuth, start); err == nil {
				t.Error("it is good for a server")
			}
		})
	}
	leaf, _ := chain(t, a)
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: a.Agents(), CurrentTime: start, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err == nil {
		t.Error("the server's own certificate is good for a client")
	}
}

func TestRequestMustBeSignedWithItsKey(t *testing.T) {
	a := open(t, t.TempDir(), start, "localhost")
	key := must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	csr := must[[]byte](t)(x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key))
	csr[len(csr)-1] ^= 1
	for name, b := range map[string][]byte{"changed": csr, "none": nil, "huge": make([]byte, 1<<20)} {
		if _, err := a.SignAgent("AGENTAAAAAAAA", b); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: got %v, want invalid", name, err)
		}
	}
}

// FuzzSignAgent: any bytes are a request that is in order, or Invalid.
func FuzzSignAgent(f *testing.F) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(csr)
	f.Add([]byte{0x30, 0})
	a, err := pki.Open(f.TempDir(), []string{"localhost"}, func() time.Time { return start })
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		cert, err := a.SignAgent("AGENTAAAAAAAA", b)
		if err != nil && !fault.Is(err, fault.Invalid) || err == nil && cert.Subject.CommonName != "AGENTAAAAAAAA" {
			t.Fatalf("got %v, %v", cert, err)
		}
	})
}
