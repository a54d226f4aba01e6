package bundle

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	_ "crypto/sha512" // hashes of larger keys
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"

	"github.com/castellan-security/castellan/internal/fault"
)

// payloadType says what is signed, so that no signature over something else can be
// taken for one over a bundle.
const payloadType = "application/vnd.castellan.admission-bundle.v1+json"

// maxSignatures bounds those of one bundle: several, while a key is replaced.
const maxSignatures = 8

// envelope is a DSSE envelope.
type envelope struct {
	PayloadType string      `json:"payloadType"`
	Payload     []byte      `json:"payload"`
	Signatures  []signature `json:"signatures"`
}

type signature struct {
	KeyID string `json:"keyid"`
	Sig   []byte `json:"sig"`
}

// toSign is DSSE's pre-authentication encoding.
func toSign(payload []byte) []byte {
	return fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(payloadType), payloadType, len(payload), payload)
}

// seal signs a manifest.
func seal(m *Manifest, key crypto.Signer) ([]byte, error) {
	id, err := Fingerprint(key.Public())
	if err != nil {
		return nil, err
	}
	payload, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("write manifest: %w", err)
	}
	message, opts, err := digest(key.Public(), toSign(payload))
	if err != nil {
		return nil, err
	}
	sig, err := key.Sign(rand.Reader, message, opts)
	if err != nil {
		return nil, fmt.Errorf("sign bundle: %w", err)
	}
	if !holds(key.Public(), toSign(payload), sig) {
		return nil, fault.New(fault.Corrupt, "sign bundle: the signature does not hold").With("is the key's public half its own?")
	}
	return json.Marshal(envelope{payloadType, payload, []signature{{id, sig}}})
}

// open returns what was signed by one of the keys, and which.
func open(b []byte, keys []crypto.PublicKey) (payload []byte, key string, err error) {
	var e envelope
	if err := json.Unmarshal(b, &e); err != nil {
		return nil, "", corrupt("%s is not read: %w", envelopeFile, err)
	}
	if e.PayloadType != payloadType {
		return nil, "", corrupt("what is signed is of type %.100q", e.PayloadType)
	}
	if len(e.Signatures) > maxSignatures {
		return nil, "", corrupt("it has %d signatures", len(e.Signatures))
	}
	message := toSign(e.Payload)
	for _, k := range keys {
		for _, s := range e.Signatures { // what they say of their key is not signed
			if holds(k, message, s.Sig) {
				id, err := Fingerprint(k)
				return e.Payload, id, err
			}
		}
	}
	return nil, "", fault.New(fault.Denied, "read bundle: it is signed by none of the keys that are trusted").
		With("sign it with a key whose public half the reader has, or give the reader that")
}

// digest is what a key signs of a message, and how.
func digest(public crypto.PublicKey, message []byte) ([]byte, crypto.SignerOpts, error) {
	sum := func(h crypto.Hash) []byte {
		w := h.New()
		w.Write(message)
		return w.Sum(nil)
	}
	switch k := public.(type) {
	case ed25519.PublicKey:
		return message, crypto.Hash(0), nil
	case *ecdsa.PublicKey:
		h := crypto.SHA256
		switch bits := k.Curve.Params().BitSize; {
		case bits > 384:
			h = crypto.SHA512
		case bits > 256:
			h = crypto.SHA384
		case bits < 256:
			return nil, nil, errKey(public)
		}
		return sum(h), h, nil
	case *rsa.PublicKey:
		const least = 3072
		if k.N.BitLen() < least {
			return nil, nil, errKey(public)
		}
		return sum(crypto.SHA256), &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA256}, nil
	}
	return nil, nil, errKey(public)
}

func errKey(public crypto.PublicKey) error {
	return fault.New(fault.Unsupported, "a key of type %T, or of its size, signs no bundles", public).
		With("make one: castellan trust key generate")
}

// holds says whether a signature over a message is a key's.
func holds(public crypto.PublicKey, message, sig []byte) bool {
	d, opts, err := digest(public, message)
	if err != nil {
		return false
	}
	switch k := public.(type) {
	case ed25519.PublicKey:
		return ed25519.Verify(k, d, sig)
	case *ecdsa.PublicKey:
		return ecdsa.VerifyASN1(k, d, sig)
	case *rsa.PublicKey:
		pss, _ := opts.(*rsa.PSSOptions)
		return rsa.VerifyPSS(k, opts.HashFunc(), d, sig, pss) == nil
	}
	return false
}

// Fingerprint is "sha256:HEX" of a public key's SubjectPublicKeyInfo in DER, as
// castellan trust key list shows it.
func Fingerprint(public crypto.PublicKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return "", errKey(public)
	}
	sum := sha256.Sum256(der)
	return "sha256:" + hex.EncodeToString(sum[:]), nil
}

// Keys reads public keys in PEM, one after another.
func Keys(b []byte) ([]crypto.PublicKey, error) {
	const most = 16
	wrong := func(format string, args ...any) error {
		return fault.New(fault.Invalid, "read public keys: "+format, args...).With("a file as castellan trust key generate writes it is wanted: -----BEGIN PUBLIC KEY-----")
	}
	var all []crypto.PublicKey
	for {
		var block *pem.Block
		if block, b = pem.Decode(b); block == nil {
			break
		}
		if block.Type != "PUBLIC KEY" {
			return nil, wrong("there is a %.40q", block.Type)
		}
		k, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			return nil, wrong("%w", err)
		}
		if _, _, err := digest(k, nil); err != nil {
			return nil, err
		}
		if all = append(all, k); len(all) > most {
			return nil, wrong("there are more than %d", most)
		}
	}
	if len(all) == 0 {
		return nil, wrong("there is none")
	}
	return all, nil
}
