package notary

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"

	"github.com/castellan-security/castellan/internal/signature"
)

// algorithm is one of the six that the specification permits. The key decides
// which one it is; what the envelope says must be the same.
type algorithm struct {
	name string // as JWS has it
	cose int64  // as COSE numbers it
	hash crypto.Hash
	bits int // of the modulus, or the curve
	rsa  bool
}

var algorithms = [...]algorithm{
	{"PS256", -37, crypto.SHA256, 2048, true},
	{"PS384", -38, crypto.SHA384, 3072, true},
	{"PS512", -39, crypto.SHA512, 4096, true},
	{"ES256", -7, crypto.SHA256, 256, false},
	{"ES384", -35, crypto.SHA384, 384, false},
	{"ES512", -36, crypto.SHA512, 521, false},
}

// The RSA keys of authorities. Signing certificates have the sizes above.
const (
	minRSA = 2048
	maxRSA = 8192 // what costs more to check is nobody's
)

// algorithmOf returns the algorithm that goes with a key.
func algorithmOf(pub crypto.PublicKey) (algorithm, error) {
	var bits int
	var isRSA bool
	switch k := pub.(type) {
	case *rsa.PublicKey:
		bits, isRSA = k.N.BitLen(), true
		if bits < minRSA {
			return algorithm{}, signature.Refuse(signature.Forbidden, "an RSA key of %d bits is too weak, want 2048, 3072 or 4096", bits)
		}
	case *ecdsa.PublicKey:
		bits = k.Curve.Params().BitSize
		if k.Curve == elliptic.P224() {
			return algorithm{}, signature.Refuse(signature.Forbidden, "the curve P-224 is too weak, want P-256, P-384 or P-521")
		}
	default:
		return algorithm{}, signature.Refuse(signature.Unsupported, "the Notary Project does not know keys of type %T, want RSA or ECDSA", pub)
	}
	for _, a := range algorithms {
		if a.rsa == isRSA && a.bits == bits {
			return a, nil
		}
	}
	return algorithm{}, signature.Refuse(signature.Unsupported, "a key of %d bits is none of RSA 2048, 3072 and 4096 and of P-256, P-384 and P-521", bits)
}

// checkNamed compares what the envelope says with what the key says.
func (a algorithm) checkNamed(name string) error {
	if name == a.name {
		return nil
	}
	switch name {
	case "":
		return signature.Refuse(signature.Malformed, "the envelope does not name its algorithm")
	case "none", "HS256", "HS384", "HS512", "RS256", "RS384", "RS512":
		return signature.Refuse(signature.Forbidden, "the envelope's algorithm is %s; the signer's key goes with %s", name, a.name)
	}
	for _, known := range algorithms {
		if known.name == name {
			return signature.Refuse(signature.Forged, "the envelope's algorithm is %s; the signer's key goes with %s", name, a.name)
		}
	}
	return signature.Refuse(signature.Unsupported, "the envelope's algorithm is %s; the signer's key goes with %s", shown(name), a.name)
}

func (a algorithm) sum(message []byte) []byte {
	h := a.hash.New()
	h.Write(message)
	return h.Sum(nil)
}

// verify checks a signature as JWS and COSE write them.
func (a algorithm) verify(pub crypto.PublicKey, message, value []byte) error {
	forged := signature.Refuse(signature.Forged, "the signature was not made by the key of its certificate, or what it is about was changed")
	switch k := pub.(type) {
	case *rsa.PublicKey:
		if rsa.VerifyPSS(k, a.hash, a.sum(message), value, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: a.hash}) == nil {
			return nil
		}
	case *ecdsa.PublicKey:
		if n := (a.bits + 7) / 8; len(value) == 2*n {
			r, s := new(big.Int).SetBytes(value[:n]), new(big.Int).SetBytes(value[n:])
			if ecdsa.Verify(k, a.sum(message), r, s) {
				return nil
			}
		}
	}
	return forged
}

// sign signs as JWS and COSE want it. The key may be anywhere.
func (a algorithm) sign(key crypto.Signer, message []byte) ([]byte, error) {
	var opts crypto.SignerOpts = a.hash
	if a.rsa {
		opts = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: a.hash}
	}
	value, err := key.Sign(rand.Reader, a.sum(message), opts)
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	if a.rsa {
		return value, nil
	}
	var sig struct{ R, S *big.Int }
	rest, err := asn1.Unmarshal(value, &sig)
	n := (a.bits + 7) / 8
	if err != nil || len(rest) > 0 || sig.R.Sign() <= 0 || sig.S.Sign() <= 0 || sig.R.BitLen() > 8*n || sig.S.BitLen() > 8*n {
		return nil, errors.New("sign: the key's answer is no ECDSA signature")
	}
	value = make([]byte, 2*n)
	sig.R.FillBytes(value[:n])
	sig.S.FillBytes(value[n:])
	return value, nil
}
