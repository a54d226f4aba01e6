package standin

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"math/big"
	"net/http"
	"time"
)

// Stamp says what goes into a time stamp, and who makes it.
type Stamp struct {
	Over  []byte // the signature that is stamped
	At    time.Time
	Nonce *big.Int
	Bare  bool // without certificates

	Leaf *x509.Certificate // instead of the Sigstore's own authority
	Key  *ecdsa.PrivateKey
	Kind asn1.ObjectIdentifier // what the content is said to be, instead of a time stamp

	Rest    []byte   // in DER, what follows in the TSTInfo
	Bag     [][]byte // certificates before the authority's
	Signers int      // how often it is signed; once if zero
}

type algorithm struct {
	ID asn1.ObjectIdentifier
}

type imprint struct {
	Hash   algorithm
	Digest []byte
}

func sha256ID() algorithm {
	return algorithm{asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}}
}

// stampKind is the type of a time stamp's content.
func stampKind() asn1.ObjectIdentifier {
	return asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 1, 4}
}

// NewStamp makes the answer of a time-stamping authority (RFC 3161).
func (s *Sigstore) NewStamp(o Stamp) ([]byte, error) {
	digest := sha256.Sum256(o.Over)
	return s.stampDigest(digest[:], o)
}

func (s *Sigstore) stampDigest(digest []byte, o Stamp) ([]byte, error) {
	if o.Leaf == nil {
		o.Leaf, o.Key = s.TSALeaf, s.tsaKey
	}
	if o.At.IsZero() {
		o.At = s.Now()
	}
	if o.Kind == nil {
		o.Kind = stampKind()
	}
	info, err := asn1.Marshal(struct {
		Version int
		Policy  asn1.ObjectIdentifier
		Imprint imprint
		Serial  *big.Int
		Time    time.Time `asn1:"generalized"`
		Nonce   *big.Int  `asn1:"optional"`
	}{1, asn1.ObjectIdentifier{1, 2, 3}, imprint{sha256ID(), digest}, s.next(), o.At.UTC(), o.Nonce})
	if err != nil {
		return nil, err
	}
	if o.Rest != nil {
		if info, err = extended(info, o.Rest); err != nil {
			return nil, err
		}
	}
	attributes, err := signedAttributes(info, o)
	if err != nil {
		return nil, err
	}
	toSign := append([]byte{0x31}, attributes[1:]...)
	sig, err := signECDSA(o.Key, toSign)
	if err != nil {
		return nil, err
	}
	return wrapStamp(info, attributes, sig, o)
}

// extended appends to the parts of a sequence.
func extended(sequence, more []byte) ([]byte, error) {
	var v asn1.RawValue
	if _, err := asn1.Unmarshal(sequence, &v); err != nil {
		return nil, err
	}
	return asn1.Marshal(asn1.RawValue{Tag: asn1.TagSequence, IsCompound: true, Bytes: append(v.Bytes, more...)})
}

// signedAttributes are the kind of the content, its digest and the certificate, as
// the [0] under which they stand.
func signedAttributes(info []byte, o Stamp) ([]byte, error) {
	digest, id := sha256.Sum256(info), sha256.Sum256(o.Leaf.Raw)
	var all []byte
	for _, a := range []struct {
		id    asn1.ObjectIdentifier
		value any
	}{
		{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 3}, o.Kind},
		{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 4}, digest[:]},
		{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 2, 47}, struct{ IDs []struct{ Hash []byte } }{[]struct{ Hash []byte }{{id[:]}}}},
	} {
		value, err := asn1.Marshal(a.value)
		if err != nil {
			return nil, err
		}
		der, err := asn1.Marshal(struct {
			ID     asn1.ObjectIdentifier
			Values asn1.RawValue
		}{a.id, asn1.RawValue{Tag: asn1.TagSet, IsCompound: true, Bytes: value}})
		if err != nil {
			return nil, err
		}
		all = append(all, der...)
	}
	return asn1.Marshal(asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: all})
}

func wrapStamp(info, attributes, sig []byte, o Stamp) ([]byte, error) {
	octets, err := asn1.Marshal(info)
	if err != nil {
		return nil, err
	}
	type content struct {
		ID      asn1.ObjectIdentifier
		Content asn1.RawValue
	}
	explicit := func(der []byte) asn1.RawValue {
		return asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: der}
	}
	signer := struct {
		Version int
		Issuer  struct {
			Name   asn1.RawValue
			Serial *big.Int
		}
		Digest     algorithm
		Attributes asn1.RawValue
		Algorithm  algorithm
		Signature  []byte
	}{
		Version: 1, Digest: sha256ID(), Attributes: asn1.RawValue{FullBytes: attributes},
		Algorithm: algorithm{asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}}, Signature: sig,
	}
	signer.Issuer.Name, signer.Issuer.Serial = asn1.RawValue{FullBytes: o.Leaf.RawIssuer}, o.Leaf.SerialNumber
	signerDER, err := asn1.Marshal(signer)
	if err != nil {
		return nil, err
	}
	hashes, err := asn1.Marshal(sha256ID())
	if err != nil {
		return nil, err
	}
	set := func(der []byte) asn1.RawValue {
		return asn1.RawValue{Tag: asn1.TagSet, IsCompound: true, Bytes: der}
	}
	signed := []any{3, set(hashes), content{o.Kind, explicit(octets)}}
	if !o.Bare {
		signed = append(signed, explicit(append(bytes.Join(o.Bag, nil), o.Leaf.Raw...)))
	}
	signed = append(signed, set(bytes.Repeat(signerDER, max(o.Signers, 1))))
	var body []byte
	for _, part := range signed {
		der, err := asn1.Marshal(part)
		if err != nil {
			return nil, err
		}
		body = append(body, der...)
	}
	data, err := asn1.Marshal(asn1.RawValue{Tag: asn1.TagSequence, IsCompound: true, Bytes: body})
	if err != nil {
		return nil, err
	}
	return asn1.Marshal(struct {
		Status struct{ Code int }
		Token  content
	}{Token: content{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}, explicit(data)}})
}

// answerStamp answers as an authority does.
func (s *Sigstore) answerStamp(_ *http.Request, body []byte) ([]byte, error) {
	var req struct {
		Version int
		Imprint struct {
			Hash   pkix.AlgorithmIdentifier
			Digest []byte
		}
		Policy asn1.ObjectIdentifier `asn1:"optional"`
		Nonce  *big.Int              `asn1:"optional"`
		Certs  bool                  `asn1:"optional"`
	}
	if _, err := asn1.Unmarshal(body, &req); err != nil {
		return nil, err
	}
	if len(req.Imprint.Digest) != crypto.SHA256.Size() {
		return nil, errors.New("only SHA-256 is stamped")
	}
	return s.stampDigest(req.Imprint.Digest, Stamp{Nonce: req.Nonce, Bare: !req.Certs})
}
