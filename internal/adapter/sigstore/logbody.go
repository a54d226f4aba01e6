package sigstore

import (
	"bytes"
	"crypto"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"

	"github.com/castellan-security/castellan/internal/signature"
)

// signerKey is who made a signature: with a certificate, or with a key alone.
type signerKey struct {
	public      crypto.PublicKey
	spki        []byte
	certificate []byte // nil for a key alone
}

// is reports whether the verifier of a log entry is the signer.
func (k signerKey) is(key, certificate []byte) bool {
	if k.certificate != nil {
		return bytes.Equal(certificate, k.certificate)
	}
	return len(key) > 0 && bytes.Equal(key, k.spki)
}

// isPEM is the same for a key or certificate in PEM.
func (k signerKey) isPEM(text []byte) bool {
	b, _ := pem.Decode(text)
	if b == nil {
		return false
	}
	if b.Type == "CERTIFICATE" {
		return k.is(nil, b.Bytes)
	}
	return k.is(b.Bytes, nil)
}

// sameAs checks that a log entry is about this signature and no other: the
// log proves only that it holds the body.
func (m *material) sameAs(e entry, k signerKey) error {
	o, err := parseObject(e.body)
	if err != nil {
		return unreadable("the body of the log entry", err)
	}
	kind, version, spec := o.text("kind"), o.text("apiVersion"), o.object("spec")
	if (e.kind != "" || e.version != "") && (e.kind != kind || e.version != version) {
		return signature.Refuse(signature.Malformed, "the log entry is a %s %s, the bundle calls it a %s %s", clip(kind), clip(version), clip(e.kind), clip(e.version))
	}
	compare, known := map[string]func(object, signerKey) string{
		"hashedrekord 0.0.1": m.differsFromRecord,
		"hashedrekord 0.0.2": m.differsFromRecord2,
		"dsse 0.0.1":         m.differsFromDSSE,
		"dsse 0.0.2":         m.differsFromDSSE2,
		"intoto 0.0.1":       m.differsFromOldStatement,
		"intoto 0.0.2":       m.differsFromStatement,
	}[kind+" "+version]
	if !known {
		return signature.Refuse(signature.Unsupported, "log entries of the kind %s %s are not known", clip(kind), clip(version))
	}
	difference := compare(spec, k)
	if err := o.malformed("the body of the log entry"); err != nil {
		return err
	}
	if difference != "" {
		return signature.Refuse(signature.NoLog, "the log entry is about another signature: its %s differs", difference)
	}
	return nil
}

// digestIs compares a hash that a log entry has with that of what was signed.
func (m *material) digestIs(name string, got []byte) bool {
	h, err := hashNamed(name)
	if err != nil {
		return false
	}
	if m.message != nil {
		return bytes.Equal(got, sum(h, m.message))
	}
	return h == crypto.SHA256 && bytes.Equal(got, m.digest)
}

// hexed reads a digest in hexadecimal.
func hexed(o object) (name string, digest []byte) {
	digest, err := hex.DecodeString(o.text("value"))
	if err != nil {
		o.fail("value", "want hexadecimal")
	}
	return o.text("algorithm"), digest
}

// differsFromRecord is for signatures over a manifest or a simple payload in the
// first version of Rekor.
func (m *material) differsFromRecord(spec object, k signerKey) string {
	name, digest := hexed(spec.object("data").object("hash"))
	sig := spec.object("signature")
	switch {
	case m.isStatement():
		return "kind"
	case !m.digestIs(name, digest):
		return "digest"
	case !bytes.Equal(sig.bytes("content", maxSignature), m.signature):
		return "signature"
	case !k.isPEM(sig.object("publicKey").bytes("content", 2*maxCertificate)):
		return "key"
	}
	return ""
}

// differsFromRecord2 is for all signatures in the second version.
func (m *material) differsFromRecord2(spec object, k signerKey) string {
	spec = spec.object("hashedRekordV002")
	data, sig := spec.object("data"), spec.object("signature")
	switch {
	case !m.digestIs(data.text("algorithm"), data.bytes("digest", 64)):
		return "digest"
	case !bytes.Equal(sig.bytes("content", maxSignature), m.signature):
		return "signature"
	case !k.isVerifier(sig.object("verifier")):
		return "key"
	}
	return ""
}

// isVerifier is is for the second version's way to write keys.
func (k signerKey) isVerifier(o object) bool {
	return k.is(o.object("publicKey").bytes("rawBytes", maxCertificate), o.object("x509Certificate").bytes("rawBytes", maxCertificate))
}

func (m *material) isStatement() bool { return m.payloadType != "" }

// payloadIs compares a hash with that of the statement.
func (m *material) payloadIs(name string, got []byte) bool {
	h, err := hashNamed(name)
	return err == nil && bytes.Equal(got, sum(h, m.payload))
}

func (m *material) differsFromDSSE(spec object, k signerKey) string {
	name, digest := hexed(spec.object("payloadHash"))
	sigs := spec.objects("signatures", 1)
	switch {
	case !m.isStatement() || len(sigs) != 1:
		return "kind"
	case !m.payloadIs(name, digest):
		return "digest"
	case !bytes.Equal(sigs[0].bytes("signature", maxSignature), m.signature):
		return "signature"
	case !k.isPEM(sigs[0].bytes("verifier", 2*maxCertificate)):
		return "key"
	}
	return ""
}

func (m *material) differsFromDSSE2(spec object, k signerKey) string {
	spec = spec.object("dsseV002")
	hash, sigs := spec.object("payloadHash"), spec.objects("signatures", 1)
	switch {
	case !m.isStatement() || len(sigs) != 1:
		return "kind"
	case !m.payloadIs(hash.text("algorithm"), hash.bytes("digest", 64)):
		return "digest"
	case !bytes.Equal(sigs[0].bytes("content", maxSignature), m.signature):
		return "signature"
	case !k.isVerifier(sigs[0].object("verifier")):
		return "key"
	}
	return ""
}

// differsFromStatement is for what cosign 2 wrote: the signature is in base64
// twice.
func (m *material) differsFromStatement(spec object, k signerKey) string {
	content := spec.object("content")
	name, digest := hexed(content.object("payloadHash"))
	sigs := content.object("envelope").objects("signatures", 1)
	if !m.isStatement() || len(sigs) != 1 {
		return "kind"
	}
	sig, err := base64.StdEncoding.DecodeString(string(sigs[0].bytes("sig", 2*maxSignature)))
	switch {
	case !m.payloadIs(name, digest):
		return "digest"
	case err != nil || !bytes.Equal(sig, m.signature):
		return "signature"
	case !k.isPEM(sigs[0].bytes("publicKey", 2*maxCertificate)):
		return "key"
	}
	return ""
}

// differsFromOldStatement is for what cosign 1 wrote, which has no signature in
// it: the payload and the key must do, and for what else was logged the hash of
// the envelope.
func (m *material) differsFromOldStatement(spec object, k signerKey) string {
	content := spec.object("content")
	name, digest := hexed(content.object("payloadHash"))
	switch {
	case !m.isStatement():
		return "kind"
	case !m.payloadIs(name, digest):
		return "digest"
	case !k.isPEM(spec.bytes("publicKey", 2*maxCertificate)):
		return "key"
	}
	return ""
}
