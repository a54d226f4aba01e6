// Package sealed signs what Castellan itself writes and reads, such as bundles of
// policies and profiles, and holds it to public keys: DSSE envelopes
// (https://github.com/secure-systems-lab/dsse, version 1), with what was signed in
// them or beside them.
//
//	e, err := sealed.Seal("application/vnd.castellan.thing.v1+json", payload, key)
//	payload, by, err := sealed.Open("application/vnd.castellan.thing.v1+json", e, keys)
//
// It is not for images: see signature, and the doors to Sigstore and the Notary
// Project.
package sealed

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

// maxSignatures bounds those of one envelope: several, while a key is replaced.
const maxSignatures = 8

// envelope is a DSSE envelope. One that lies beside what was signed has no payload.
type envelope struct {
	PayloadType string      `json:"payloadType"`
	Payload     []byte      `json:"payload,omitempty"`
	Signatures  []signature `json:"signatures"`
}

type signature struct {
	KeyID string `json:"keyid"`
	Sig   []byte `json:"sig"`
}

// toSign is DSSE's pre-authentication encoding. The type says what is signed, so
// that no signature over something else can be taken for it.
func toSign(kind string, payload []byte) []byte {
	return fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(kind), kind, len(payload), payload)
}

// Seal returns an envelope with a payload of some type in it, signed.
func Seal(kind string, payload []byte, key crypto.Signer) ([]byte, error) {
	s, err := sign(kind, payload, key)
	if err != nil {
		return nil, err
	}
	return json.Marshal(envelope{kind, payload, []signature{s}})
}

// Sign returns an envelope that lies beside what it signs.
func Sign(kind string, payload []byte, key crypto.Signer) ([]byte, error) {
	s, err := sign(kind, payload, key)
	if err != nil {
		return nil, err
	}
	return json.Marshal(envelope{PayloadType: kind, Signatures: []signature{s}})
}

func sign(kind string, payload []byte, key crypto.Signer) (signature, error) {
	id, err := Fingerprint(key.Public())
	if err != nil {
		return signature{}, err
	}
	message, opts, err := digest(key.Public(), toSign(kind, payload))
	if err != nil {
		return signature{}, err
	}
	sig, err := key.Sign(rand.Reader, message, opts)
	if err != nil {
		return signature{}, fmt.Errorf("sign: %w", err)
	}
	if !holds(key.Public(), toSign(kind, payload), sig) {
		return signature{}, fault.New(fault.Corrupt, "sign: the signature does not hold").With("is the key's public half its own?")
	}
	return signature{id, sig}, nil
}

// Open returns what is in an envelope, and the fingerprint of the one of the keys
// that signed it. It is Corrupt if it is no envelope of that type, and Denied if it is
// signed by none of them.
func Open(kind string, b []byte, keys []crypto.PublicKey) (payload []byte, key string, err error) {
	e, err := read(kind, b)
	if err != nil {
		return nil, "", err
	}
	key, err = e.signedBy(e.Payload, keys)
	return e.Payload, key, err
}

// Verify returns the fingerprint of the one of the keys that signed a payload in an
// envelope that lies beside it; errors are as of Open.
func Verify(kind string, payload, b []byte, keys []crypto.PublicKey) (key string, err error) {
	e, err := read(kind, b)
	if err != nil {
		return "", err
	}
	if len(e.Payload) > 0 {
		return "", fault.New(fault.Corrupt, "the envelope has a payload of its own")
	}
	return e.signedBy(payload, keys)
}

func read(kind string, b []byte) (e envelope, err error) {
	if err := json.Unmarshal(b, &e); err != nil {
		return e, fault.New(fault.Corrupt, "it is no envelope: %w", err)
	}
	if e.PayloadType != kind {
		return e, fault.New(fault.Corrupt, "what is signed is of type %.100q", e.PayloadType)
	}
	if len(e.Signatures) > maxSignatures {
		return e, fault.New(fault.Corrupt, "it has %d signatures", len(e.Signatures))
	}
	return e, nil
}

// signedBy finds the key; what signatures say of theirs is not signed.
func (e *envelope) signedBy(payload []byte, keys []crypto.PublicKey) (string, error) {
	message := toSign(e.PayloadType, payload)
	for _, k := range keys {
		for _, s := range e.Signatures {
			if holds(k, message, s.Sig) {
				return Fingerprint(k)
			}
		}
	}
	return "", fault.New(fault.Denied, "it is signed by none of the keys that are trusted").
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
	return fault.New(fault.Unsupported, "a key of type %T, or of its size, signs nothing here", public).
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
