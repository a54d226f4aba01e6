package policy

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
)

// minRSA is the least length of an RSA key that is trusted, in bits (NIST SP
// 800-57).
const (
	minRSA = 2048
	maxRSA = 16384 // beyond, checking one signature takes too long
)

// publicKey reads a public key: PEM, or DER as AWS KMS hands it out, which may
// be in base64.
func publicKey(b []byte) (crypto.PublicKey, error) {
	der, err := one(b, "PUBLIC KEY")
	if err != nil {
		return nil, err
	}
	key, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return nil, fmt.Errorf("no public key: %w", err)
	}
	switch k := key.(type) {
	case *rsa.PublicKey:
		if n := k.N.BitLen(); n < minRSA || n > maxRSA {
			return nil, fmt.Errorf("an RSA key of %d bits: %d to %d are trusted", n, minRSA, maxRSA)
		}
	case *ecdsa.PublicKey:
		if k.Curve != elliptic.P256() && k.Curve != elliptic.P384() && k.Curve != elliptic.P521() {
			return nil, fmt.Errorf("a key on the curve %s: P-256, P-384 and P-521 are trusted", k.Curve.Params().Name)
		}
	case ed25519.PublicKey:
	default:
		return nil, fmt.Errorf("a key of a kind that signs no images (%T): RSA, ECDSA and Ed25519 do", key)
	}
	return key, nil
}

// one returns the one block of a type, or what is in no blocks at all.
func one(b []byte, typ string) ([]byte, error) {
	all, err := blocks(b, typ)
	if err != nil {
		return nil, err
	}
	if len(all) != 1 {
		return nil, fmt.Errorf("%d blocks of %s: there must be one", len(all), typ)
	}
	return all[0], nil
}

// blocks returns the content of all PEM blocks, which must be of one type, or b
// itself, if it is DER, or what b is in base64.
func blocks(b []byte, typ string) ([][]byte, error) {
	b = bytes.TrimSpace(b)
	if !bytes.Contains(b, []byte("-----BEGIN")) {
		if der, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(string(b)), "")); err == nil {
			b = der
		}
		if len(b) == 0 || b[0] != 0x30 { // a SEQUENCE, as all these are
			return nil, fmt.Errorf("neither PEM nor DER: a file with -----BEGIN %s----- is wanted", typ)
		}
		return [][]byte{b}, nil
	}
	var out [][]byte
	for len(bytes.TrimSpace(b)) > 0 {
		block, rest := pem.Decode(b)
		switch {
		case block == nil:
			return nil, errors.New("damaged PEM")
		case strings.Contains(block.Type, "PRIVATE KEY"):
			return nil, fmt.Errorf("a private key (%s), which must never be here: a policy has public ones", block.Type)
		case block.Type != typ:
			return nil, fmt.Errorf("PEM of a %s: a %s is wanted", block.Type, typ)
		}
		out = append(out, block.Bytes)
		b = rest
	}
	return out, nil
}

func certificates(b []byte) ([]*x509.Certificate, error) {
	all, err := blocks(b, "CERTIFICATE")
	if err != nil {
		return nil, err
	}
	var out []*x509.Certificate
	for _, der := range all {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("no certificate: %w", err)
		}
		out = append(out, c)
	}
	return out, nil
}

// fingerprint names a public key by what X.509 writes of it.
func fingerprint(key crypto.PublicKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return "", err
	}
	return sum(der), nil
}

func sum(b []byte) string {
	h := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(h[:])
}

// digestLike reports whether s is "sha256:" and 64 digits in lower case.
func digestLike(s string) bool {
	d, ok := strings.CutPrefix(s, "sha256:")
	return ok && len(d) == 64 && strings.Trim(d, "0123456789abcdef") == ""
}
