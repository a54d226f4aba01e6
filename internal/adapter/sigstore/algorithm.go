package sigstore

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	_ "crypto/sha512" // crypto.SHA384 and crypto.SHA512
	"crypto/x509"
	"encoding/hex"
	"fmt"

	"github.com/castellan-security/castellan/internal/signature"
)

// allowed says nothing of a key that may sign: ECDSA on P-256, P-384 and P-521,
// Ed25519, RSA of 2,048 to 8,192 bits. All else is refused.
func allowed(pub crypto.PublicKey) error {
	switch k := pub.(type) {
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P256(), elliptic.P384(), elliptic.P521():
			return nil
		}
		return signature.Refuse(signature.Forbidden, "an ECDSA key on %s is too weak or unusual: P-256, P-384 and P-521 are taken", k.Curve.Params().Name)
	case ed25519.PublicKey:
		if len(k) != ed25519.PublicKeySize {
			return signature.Refuse(signature.Malformed, "an Ed25519 key of %d bytes", len(k))
		}
		return nil
	case *rsa.PublicKey:
		switch bits := k.N.BitLen(); {
		case bits < minKeyBits:
			return signature.Refuse(signature.Forbidden, "an RSA key of %d bits is too weak: %d are the least", bits, minKeyBits)
		case bits > maxKeyBits:
			return signature.Refuse(signature.Forbidden, "an RSA key of %d bits is beyond %d", bits, maxKeyBits)
		}
		return nil
	}
	return signature.Refuse(signature.Unsupported, "a key of type %T is not known: ECDSA, Ed25519 and RSA are taken", pub)
}

// fingerprint is what a key is known by: "sha256:" and the hash of its
// SubjectPublicKeyInfo.
func fingerprint(pub crypto.PublicKey) (string, []byte, error) {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return "", nil, err
	}
	return hashName(der), der, nil
}

// hashName writes the SHA-256 of data as digests are written.
func hashName(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// hashesOf lists with which hashes a key may have signed, the likeliest first:
// that of its size, and SHA-256, which cosign took for all keys.
func hashesOf(pub crypto.PublicKey) []crypto.Hash {
	if k, ok := pub.(*ecdsa.PublicKey); ok {
		switch k.Curve {
		case elliptic.P384():
			return []crypto.Hash{crypto.SHA384, crypto.SHA256}
		case elliptic.P521():
			return []crypto.Hash{crypto.SHA512, crypto.SHA256}
		}
	}
	return []crypto.Hash{crypto.SHA256}
}

// holds reports whether sig is pub's over message: with the hash of the key's
// size or SHA-256; RSA by PKCS #1 v1.5 or PSS; Ed25519 pure or prehashed.
func holds(pub crypto.PublicKey, message, sig []byte) bool {
	if k, ok := pub.(ed25519.PublicKey); ok {
		return ed25519.Verify(k, message, sig) || holdsPrehashed(k, message, sig)
	}
	for _, h := range hashesOf(pub) {
		if holdsDigest(pub, h, sum(h, message), sig) {
			return true
		}
	}
	return false
}

func holdsPrehashed(k ed25519.PublicKey, message, sig []byte) bool {
	return ed25519.VerifyWithOptions(k, sum(crypto.SHA512, message), sig, &ed25519.Options{Hash: crypto.SHA512}) == nil
}

// holdsDigest reports whether sig is pub's over the digest of a message.
func holdsDigest(pub crypto.PublicKey, h crypto.Hash, digest, sig []byte) bool {
	switch k := pub.(type) {
	case *ecdsa.PublicKey:
		return ecdsa.VerifyASN1(k, digest, sig)
	case *rsa.PublicKey:
		return rsa.VerifyPKCS1v15(k, h, digest, sig) == nil || rsa.VerifyPSS(k, h, digest, sig, nil) == nil
	case ed25519.PublicKey:
		return h == crypto.SHA512 && ed25519.VerifyWithOptions(k, digest, sig, &ed25519.Options{Hash: h}) == nil
	}
	return false
}

// holdsWith is holds with one hash: logs and authorities name theirs.
func holdsWith(pub crypto.PublicKey, h crypto.Hash, message, sig []byte) bool {
	if k, ok := pub.(ed25519.PublicKey); ok {
		return ed25519.Verify(k, message, sig)
	}
	return holdsDigest(pub, h, sum(h, message), sig)
}

func sum(h crypto.Hash, message []byte) []byte {
	d := h.New()
	d.Write(message)
	return d.Sum(nil)
}

// hashNamed finds a hash by the names that logs use for it: "sha256" and
// "SHA2_256". Those that are too weak have none.
func hashNamed(name string) (crypto.Hash, error) {
	switch name {
	case "sha256", "SHA2_256":
		return crypto.SHA256, nil
	case "sha384", "SHA2_384":
		return crypto.SHA384, nil
	case "sha512", "SHA2_512":
		return crypto.SHA512, nil
	}
	return 0, fmt.Errorf("the hash %q is not taken: SHA-256, SHA-384 and SHA-512 are", name)
}

// hashesOnly reports whether a key signs the message itself, not a digest of it.
func hashesOnly(pub crypto.PublicKey) (ed25519.PublicKey, bool) {
	k, ok := pub.(ed25519.PublicKey)
	return k, ok
}
