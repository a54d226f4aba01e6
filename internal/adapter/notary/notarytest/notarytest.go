// Package notarytest makes what signatures of the Notary Project hang on: roots,
// authorities, certificates, revocation lists, and a time-stamping authority. It is
// for tests and measurements, not for the program.
package notarytest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"time"
)

// Holder is somebody who has a certificate and its key.
type Holder struct {
	Key   crypto.Signer
	Chain []*x509.Certificate // its own first, the root last
}

// Kind is what a certificate is for.
type Kind int

// The kinds.
const (
	Authority Kind = iota
	Signer
	Stamper
)

// Valid is when certificates are valid of which nothing else is said.
var Valid = struct{ From, To time.Time }{
	time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC),
}

// RSA returns a new key of the given bits.
func RSA(bits int) (crypto.Signer, error) { return rsa.GenerateKey(rand.Reader, bits) }

// EC returns a new key on a curve.
func EC(curve elliptic.Curve) (crypto.Signer, error) { return ecdsa.GenerateKey(curve, rand.Reader) }

// Issue gives a key a certificate for a name, signed by an authority, or by the key
// itself without one. Each edit may change what will be signed.
func Issue(by *Holder, kind Kind, name string, key crypto.Signer, edits ...func(*x509.Certificate)) (*Holder, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, fmt.Errorf("issue %s: %w", name, err)
	}
	c := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{Country: []string{"US"}, Province: []string{"WA"}, Organization: []string{"Acme"}, CommonName: name},
		NotBefore:             Valid.From,
		NotAfter:              Valid.To,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature,
	}
	switch kind {
	case Authority:
		c.IsCA, c.KeyUsage = true, x509.KeyUsageCertSign|x509.KeyUsageCRLSign
	case Signer:
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}
	case Stamper:
		ext, err := stampingOnly()
		if err != nil {
			return nil, fmt.Errorf("issue %s: %w", name, err)
		}
		c.ExtraExtensions = []pkix.Extension{ext}
	}
	for _, edit := range edits {
		edit(c)
	}
	parent, signer, rest := c, key, []*x509.Certificate(nil)
	if by != nil {
		parent, signer, rest = by.Chain[0], by.Key, by.Chain
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), signer)
	if err != nil {
		return nil, fmt.Errorf("issue %s: %w", name, err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("issue %s: %w", name, err)
	}
	return &Holder{Key: key, Chain: append([]*x509.Certificate{cert}, rest...)}, nil
}

// Revoke makes an authority's revocation list.
func Revoke(by *Holder, list *x509.RevocationList) ([]byte, error) {
	if list.Number == nil {
		list.Number = big.NewInt(1)
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, by.Chain[0], by.Key)
	if err != nil {
		return nil, fmt.Errorf("revoke: %w", err)
	}
	return der, nil
}
