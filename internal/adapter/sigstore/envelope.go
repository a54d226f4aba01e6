package sigstore

import (
	"crypto"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/castellan-security/castellan/internal/signature"
)

// material is what an envelope says, before any of it is believed.
type material struct {
	old bool

	hint  string   // which key made it, if the envelope has no certificate
	chain [][]byte // certificates, the signer's first

	signature []byte
	message   []byte // what was signed; nil if only its digest is known
	digest    []byte // SHA-256 of the subject's manifest

	bare        bool   // a signature over the manifest itself
	claimed     []byte // the digest of that manifest, as a bare signature's bundle says
	payloadType string // of a DSSE envelope; "" without one
	payload     []byte // a statement, or cosign's simple payload

	whole   []byte // the DSSE envelope as it was stored, of old attestations
	entries []entry
	stamps  [][]byte
	rules   proofRules
}

// proofRules say which proofs of a log a form must bring.
type proofRules struct{ promise, proof bool }

// read tells the form of an envelope and reads it.
func read(e signature.Envelope) (*material, error) {
	if len(e.Payload) > MaxPayload {
		return nil, signature.Refuse(signature.TooLarge, "the envelope has %d bytes, more than %d", len(e.Payload), MaxPayload)
	}
	media := e.MediaType
	if media == "" {
		media = guess(e.Payload)
	}
	switch {
	case strings.HasPrefix(media, bundlePrefix):
		return readBundle(e.Payload)
	case media == SimpleMediaType:
		return readSimple(e)
	case media == DSSEMediaType:
		return readOldAttestation(e)
	}
	return nil, signature.Refuse(signature.Unsupported, "the media type %q is none of Sigstore's", clip(e.MediaType))
}

// guess tells the form of a file by the names of its fields.
func guess(data []byte) string {
	head := string(data[:min(len(data), 4<<10)])
	switch {
	case strings.Contains(head, bundlePrefix), strings.Contains(head, `"verificationMaterial"`):
		return bundlePrefix
	case strings.Contains(head, `"payloadType"`):
		return DSSEMediaType
	case strings.Contains(head, `"critical"`):
		return SimpleMediaType
	}
	return ""
}

// subjectDigest reads the digest that a signature must be about.
func subjectDigest(s string) ([]byte, error) {
	hexed, ok := strings.CutPrefix(s, "sha256:")
	b, err := hex.DecodeString(hexed)
	if !ok || err != nil || len(b) != crypto.SHA256.Size() || hexed != strings.ToLower(hexed) {
		return nil, signature.Refuse(signature.Unsupported, "the digest %q is not a SHA-256, by which signatures name images", clip(s))
	}
	return b, nil
}

// verify reports whether pub made the signature.
func (m *material) verify(pub crypto.PublicKey) (bool, error) {
	if m.message != nil {
		return holds(pub, m.message, m.signature), nil
	}
	if _, needsAll := hashesOnly(pub); needsAll {
		return false, signature.Refuse(signature.Unsupported, "an Ed25519 signature over the manifest itself can't be checked by the manifest's digest alone; sign a statement instead, as cosign does")
	}
	if holdsDigest(pub, crypto.SHA256, m.digest, m.signature) {
		return true, nil
	}
	if len(m.claimed) == crypto.SHA256.Size() && holdsDigest(pub, crypto.SHA256, m.claimed, m.signature) {
		return false, signature.Refuse(signature.OtherSubject, "the signature is about sha256:%x, not about sha256:%x", m.claimed, m.digest)
	}
	return false, nil
}

// bind checks that what was signed is about the subject, and adds what it says.
func (m *material) bind(s *signature.Signed) error {
	switch {
	case m.bare: // the signature itself is over the manifest's digest
		return nil
	case m.payloadType != "":
		return m.bindStatement(s)
	}
	return m.bindSimple(s)
}

// clip shortens a stranger's text for a message; printing is made safe where it
// is shown.
func clip(s string) string {
	const most = 200
	if len(s) <= most {
		return s
	}
	return s[:most] + "…"
}

// pae is DSSE's encoding of what is signed.
func pae(payloadType string, payload []byte) []byte {
	head := fmt.Sprintf("DSSEv1 %d %s %d ", len(payloadType), payloadType, len(payload))
	return append([]byte(head), payload...)
}
