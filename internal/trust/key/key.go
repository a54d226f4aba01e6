// Package key keeps the private keys that sign images: it makes them, seals them
// with a password in files that cosign can read too, or by age, opens those and
// theirs, and knows in a ring of keys which one signs now and which were replaced or lost.
//
//	ring, err := key.OpenRing("/etc/castellan/keys")
//	made, err := ring.Generate("build", key.Options{Algorithm: key.P256, Password: password}, time.Now())
//	signer, k, err := ring.Signer("build", password) // a crypto.Signer
//
// What can be wiped from memory is: passwords, the keys derived from them, and
// encoded private keys, as soon as they were used. What cannot be is a private
// key while it may sign, since Go's own types hold it, copies that Go's runtime
// made of memory that it moved, environment variables, and what the kernel
// swapped out: use a key in AWS KMS where that matters.
//
// It is not for public keys that are trusted (package trust's policy has those),
// and not for keys that never leave their device, which package aws knows.
package key

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"

	"github.com/castellan-security/castellan/internal/fault"
)

// Algorithm is a kind of key with its size.
type Algorithm string

// The algorithms. The Notary Project knows no Ed25519.
const (
	P256    Algorithm = "ecdsa-p256"
	P384    Algorithm = "ecdsa-p384"
	P521    Algorithm = "ecdsa-p521"
	Ed25519 Algorithm = "ed25519"
	RSA2048 Algorithm = "rsa-2048" // read, not made: too weak for years to come
	RSA3072 Algorithm = "rsa-3072"
	RSA4096 Algorithm = "rsa-4096"
)

// Algorithms are those that keys can be made for, the default first.
func Algorithms() []Algorithm { return []Algorithm{P256, P384, P521, Ed25519, RSA3072, RSA4096} }

const (
	// leastRSA and mostRSA bound the size of an RSA key: shorter ones can be
	// factored, longer ones only take time.
	leastRSA = 2048
	mostRSA  = 8192
)

// generate makes a key.
func generate(a Algorithm) (crypto.Signer, error) {
	switch a {
	case P256, "":
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case P384:
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case P521:
		return ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	case Ed25519:
		_, k, err := ed25519.GenerateKey(rand.Reader)
		return k, err
	case RSA3072:
		return rsa.GenerateKey(rand.Reader, 3072)
	case RSA4096:
		return rsa.GenerateKey(rand.Reader, 4096)
	}
	return nil, fault.New(fault.Invalid, "no keys are made for algorithm %q", a).With(fmt.Sprintf("take one of %v", Algorithms()))
}

// AlgorithmOf says what kind of key a public key is of. One that is too weak, or
// of a kind that signs no images, is refused.
func AlgorithmOf(public crypto.PublicKey) (Algorithm, error) {
	weak := func(format string, args ...any) error {
		return fault.New(fault.Invalid, format, args...).With("make a new key: castellan trust key generate")
	}
	switch k := public.(type) {
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P256():
			return P256, nil
		case elliptic.P384():
			return P384, nil
		case elliptic.P521():
			return P521, nil
		}
		return "", weak("an ECDSA key on the curve %s", k.Params().Name)
	case ed25519.PublicKey:
		return Ed25519, nil
	case *rsa.PublicKey:
		if n := k.N.BitLen(); n < leastRSA || n > mostRSA {
			return "", weak("an RSA key of %d bits, and between %d and %d are good", n, leastRSA, mostRSA)
		}
		return Algorithm(fmt.Sprintf("rsa-%d", k.N.BitLen())), nil
	}
	return "", weak("a key of type %T", public)
}

// PublicPEM is a public key as cosign, openssl and trust policies read it.
func PublicPEM(public crypto.PublicKey) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, fmt.Errorf("encode public key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), nil
}

// Wipe overwrites bytes that are secret.
func Wipe(b []byte) { clear(b) }
