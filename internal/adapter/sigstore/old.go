package sigstore

import (
	"encoding/hex"
	"encoding/pem"
	"strings"

	"github.com/castellan-security/castellan/internal/signature"
)

// The annotations of cosign's signatures before there were bundles.
const (
	oldSignature   = "dev.cosignproject.cosign/signature"
	oldCertificate = "dev.sigstore.cosign/certificate"
	oldChain       = "dev.sigstore.cosign/chain"
	oldBundle      = "dev.sigstore.cosign/bundle"
	oldStamp       = "dev.sigstore.cosign/rfc3161timestamp"
)

// simpleType is what the payload of cosign's signatures calls itself.
const simpleType = "cosign container image signature"

// readSimple reads a signature over a payload that names the image.
func readSimple(e signature.Envelope) (*material, error) {
	m := &material{old: true, message: e.Payload, payload: e.Payload, rules: proofRules{promise: true}}
	sig, err := decode64(e.Annotations[oldSignature], maxSignature)
	if err != nil || len(sig) == 0 {
		return nil, signature.Refuse(signature.Malformed, "the annotation %s has no signature in base64", oldSignature)
	}
	m.signature = sig
	return m, m.readOld(e.Annotations)
}

// readOldAttestation reads a DSSE envelope beside which the annotations are.
func readOldAttestation(e signature.Envelope) (*material, error) {
	o, err := parseObject(e.Payload)
	if err != nil {
		return nil, unreadable("the DSSE envelope", err)
	}
	m := &material{old: true, whole: e.Payload, rules: proofRules{promise: true}}
	m.readDSSE(o, func(s object) []byte { return s.bytes("sig", maxSignature) })
	if err := o.malformed("the DSSE envelope"); err != nil {
		return nil, err
	}
	return m, m.readOld(e.Annotations)
}

// readOld reads the certificate, the log's promise and the time stamp out of
// annotations.
func (m *material) readOld(notes map[string]string) error {
	if text := notes[oldCertificate]; text != "" {
		leaf, err := pemChain(text)
		if err != nil {
			return err
		}
		if len(leaf) != 1 {
			return signature.Refuse(signature.Malformed, "the annotation %s has %d certificates, want one", oldCertificate, len(leaf))
		}
		above, err := pemChain(notes[oldChain])
		if err != nil {
			return err
		}
		m.chain = append(leaf, above...)
		if len(m.chain) > maxChain {
			return signature.Refuse(signature.TooLarge, "the chain has %d certificates, more than %d", len(m.chain), maxChain)
		}
	}
	if text := notes[oldBundle]; text != "" {
		e, err := readOldEntry(text)
		if err != nil {
			return err
		}
		m.entries = []entry{e}
	}
	if text := notes[oldStamp]; text != "" {
		o, err := parseObject([]byte(text))
		if err != nil {
			return unreadable("the annotation "+oldStamp, err)
		}
		m.stamps = [][]byte{o.bytes("SignedRFC3161Timestamp", maxStamp)}
		return o.malformed("the annotation " + oldStamp)
	}
	return nil
}

// readOldEntry reads an entry with the log's promise.
func readOldEntry(text string) (entry, error) {
	if len(text) > 2*maxBody {
		return entry{}, signature.Refuse(signature.TooLarge, "the annotation %s has %d bytes, more than %d", oldBundle, len(text), 2*maxBody)
	}
	o, err := parseObject([]byte(text))
	if err != nil {
		return entry{}, unreadable("the annotation "+oldBundle, err)
	}
	o.only("SignedEntryTimestamp", "Payload")
	p := o.object("Payload")
	p.only("body", "integratedTime", "logIndex", "logID")
	e := entry{
		promise: o.bytes("SignedEntryTimestamp", maxSignature),
		body:    p.bytes("body", maxBody),
		time:    p.integer("integratedTime"),
		index:   p.integer("logIndex"),
	}
	if e.log, err = hex.DecodeString(p.text("logID")); err != nil || len(e.log) == 0 || len(e.body) == 0 {
		p.fail("logID", "want the log's id in hexadecimal, and a body")
	}
	return e, o.malformed("the annotation " + oldBundle)
}

// pemChain reads certificates and nothing else.
func pemChain(text string) ([][]byte, error) {
	if len(text) > 2*maxChain*maxCertificate {
		return nil, signature.Refuse(signature.TooLarge, "the certificates of the annotations have %d bytes", len(text))
	}
	var all [][]byte
	rest := []byte(text)
	for {
		var b *pem.Block
		if b, rest = pem.Decode(rest); b == nil {
			break
		}
		if b.Type != "CERTIFICATE" {
			return nil, signature.Refuse(signature.Malformed, "a PEM block of type %q, want CERTIFICATE", clip(b.Type))
		}
		if len(all) == maxChain {
			return nil, signature.Refuse(signature.TooLarge, "more than %d certificates", maxChain)
		}
		all = append(all, b.Bytes)
	}
	if strings.TrimSpace(string(rest)) != "" {
		return nil, signature.Refuse(signature.Malformed, "something that is no certificate is among the certificates")
	}
	return all, nil
}

// bindSimple holds the payload of a simple signature against the subject.
func (m *material) bindSimple(s *signature.Signed) error {
	o, err := parseObject(m.payload)
	if err != nil {
		return unreadable("the signed payload", err)
	}
	critical := o.object("critical")
	image := critical.object("image").text("docker-manifest-digest")
	kind := critical.text("type")
	reference := critical.object("identity").text("docker-reference")
	notes := annotations(o.object("optional"))
	if err := o.malformed("the signed payload"); err != nil {
		return err
	}
	if kind != simpleType {
		return signature.Refuse(signature.Malformed, "the signed payload is a %q, want a %q", clip(kind), simpleType)
	}
	if want := "sha256:" + hex.EncodeToString(m.digest); image != want {
		return signature.Refuse(signature.OtherSubject, "the signature is about %q, not about %s", clip(image), want)
	}
	s.Annotations, s.Reference = notes, reference
	return nil
}

// annotations reads what else was signed. What is not text is not kept: cosign
// writes times and nothing else so.
func annotations(o object) map[string]string {
	if len(o.fields) > maxAnnotations {
		o.fail("", "more than %d annotations", maxAnnotations)
		return nil
	}
	var all map[string]string
	for name := range o.fields {
		var text string
		switch v := o.fields[name].(type) {
		case string:
			text = v
		case number:
			text = string(v)
		default:
			continue
		}
		if all == nil {
			all = map[string]string{}
		}
		all[name] = text
	}
	return all
}
