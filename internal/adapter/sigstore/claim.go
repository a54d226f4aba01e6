package sigstore

import (
	"encoding/base64"
	"encoding/hex"
	"strings"

	"github.com/castellan-security/castellan/internal/signature"
)

// Claimed returns what an envelope about a subject says of itself; see
// signature.Claim. One that does not even hold against its own certificate is
// refused as Open does. Nothing else of it is checked.
func Claimed(e signature.Envelope, s signature.Subject) (signature.Claim, error) {
	m, err := read(e)
	if err != nil {
		return signature.Claim{}, err
	}
	if m.digest, err = subjectDigest(s.Digest); err != nil {
		return signature.Claim{}, err
	}
	signed := signature.Signed{Identity: signature.Identity{Key: hintedKey(m.hint)}}
	if len(m.chain) > 0 {
		if err := m.heldByItself(&signed); err != nil {
			return signature.Claim{}, err
		}
	}
	if err := m.bind(&signed); err != nil {
		return signature.Claim{}, err
	}
	c := signature.Claim{Kind: signature.Sigstore, Identity: signed.Identity}
	if signed.Statement != nil {
		c.Attests = signed.Statement.Predicate
	}
	return c, nil
}

// heldByItself holds a signature against the certificate that it brings.
func (m *material) heldByItself(s *signature.Signed) error {
	c, err := readChain(m.chain)
	if err != nil {
		return err
	}
	if err := c.identify(s); err != nil {
		return err
	}
	ok, err := m.verify(c.leaf.PublicKey)
	if err == nil && !ok {
		err = signature.Refuse(signature.Forged, "the signature is not that of its certificate: what was signed, or the signature, was changed")
	}
	return err
}

// hintedKey is the fingerprint that a hint has, "" if it has none: see
// trustedKey.hinted.
func hintedKey(hint string) string {
	const size = 32
	b, err := hex.DecodeString(strings.TrimPrefix(hint, "sha256:"))
	if err != nil || len(b) != size {
		if b, err = base64.StdEncoding.DecodeString(hint); err != nil || len(b) != size {
			return ""
		}
	}
	return "sha256:" + hex.EncodeToString(b)
}
