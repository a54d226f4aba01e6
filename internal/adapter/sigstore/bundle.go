package sigstore

import (
	"bytes"
	"slices"

	"github.com/castellan-security/castellan/internal/signature"
)

// statementType is the only payload of DSSE envelopes that is opened.
const statementType = "application/vnd.in-toto+json"

// bundleVersion reads the version out of a bundle's media type, which is
// written in two ways.
func bundleVersion(media string) string {
	switch media {
	case bundlePrefix + "+json;version=0.1":
		return "0.1"
	case bundlePrefix + "+json;version=0.2":
		return "0.2"
	case bundlePrefix + "+json;version=0.3", bundlePrefix + ".v0.3+json":
		return "0.3"
	}
	return ""
}

// readBundle reads a bundle (protobuf-specs, Bundle as JSON) strictly, as
// Sigstore's own readers do: what is not known is refused.
func readBundle(data []byte) (*material, error) {
	o, err := parseObject(data)
	if err != nil {
		return nil, unreadable("the bundle", err)
	}
	media := o.text("mediaType")
	version := bundleVersion(media)
	if err := o.malformed("the bundle"); err != nil {
		return nil, err
	}
	if version == "" {
		return nil, signature.Refuse(signature.Unsupported, "bundles of the type %q are not known; 0.1 to 0.3 are", clip(media))
	}
	o.only("mediaType", "verificationMaterial", "dsseEnvelope", "messageSignature")
	m := &material{rules: proofRules{promise: version == "0.1", proof: version != "0.1"}}
	switch dsse, bare := o.has("dsseEnvelope"), o.has("messageSignature"); {
	case dsse && bare:
		o.fail("dsseEnvelope", "there is a messageSignature, too")
	case dsse:
		m.readDSSE(o.object("dsseEnvelope"), func(s object) []byte { return s.bytes("sig", maxSignature) })
	case bare:
		m.readMessage(o.object("messageSignature"))
	default:
		o.fail("dsseEnvelope", "there is neither it nor a messageSignature")
	}
	m.readMaterial(o.object("verificationMaterial"))
	if err := o.malformed("the bundle"); err != nil {
		return nil, err
	}
	return m, nil
}

// readDSSE reads an envelope of DSSE with its only signature. More than one
// would leave open whose the rest of the bundle speaks of.
func (m *material) readDSSE(o object, sig func(object) []byte) {
	o.only("payload", "payloadType", "signatures")
	m.payloadType = o.text("payloadType")
	m.payload = o.bytes("payload", MaxPayload)
	all := o.objects("signatures", maxEntries)
	if len(all) != 1 {
		o.fail("signatures", "want exactly one")
		return
	}
	all[0].only("sig", "keyid")
	all[0].text("keyid")
	if m.signature = sig(all[0]); len(m.signature) == 0 {
		all[0].fail("sig", "it is empty")
	}
	if m.payloadType == "" || len(m.payload) == 0 {
		o.fail("payload", "it is empty, or has no type")
	}
	m.message = pae(m.payloadType, m.payload)
}

// readMessage reads a signature over the manifest itself.
func (m *material) readMessage(o object) {
	o.only("messageDigest", "signature")
	d := o.object("messageDigest")
	d.only("algorithm", "digest")
	if a := d.text("algorithm"); d.has("algorithm") && a != "SHA2_256" {
		d.fail("algorithm", "%q, want SHA2_256, by which images are named", clip(a))
	}
	m.claimed = d.bytes("digest", 64) // nobody believes it: the subject's own digest is held against the signature
	if m.signature = o.bytes("signature", maxSignature); len(m.signature) == 0 {
		o.fail("signature", "it is empty")
	}
	m.bare = true
}

func (m *material) readMaterial(o object) {
	o.only("publicKey", "x509CertificateChain", "certificate", "tlogEntries", "timestampVerificationData")
	ways := 0
	if o.has("publicKey") {
		ways++
		k := o.object("publicKey")
		k.only("hint")
		m.hint = k.text("hint")
	}
	if o.has("certificate") {
		ways++
		m.chain = [][]byte{certificateBytes(o.object("certificate"))}
	}
	if o.has("x509CertificateChain") {
		ways++
		c := o.object("x509CertificateChain")
		c.only("certificates")
		for _, each := range c.objects("certificates", maxChain) {
			m.chain = append(m.chain, certificateBytes(each))
		}
		if len(m.chain) == 0 {
			c.fail("certificates", "there are none")
		}
	}
	if ways != 1 {
		o.fail("publicKey", "want exactly one of publicKey, certificate and x509CertificateChain")
	}
	for _, e := range o.objects("tlogEntries", maxEntries) {
		m.entries = append(m.entries, readEntry(e))
	}
	stamps := o.object("timestampVerificationData")
	stamps.only("rfc3161Timestamps")
	for _, s := range stamps.objects("rfc3161Timestamps", maxStamps) {
		s.only("signedTimestamp")
		m.stamps = append(m.stamps, s.bytes("signedTimestamp", maxStamp))
	}
}

func certificateBytes(o object) []byte {
	o.only("rawBytes")
	der := o.bytes("rawBytes", maxCertificate)
	if len(der) == 0 {
		o.fail("rawBytes", "it is empty")
	}
	return der
}

// readEntry reads an entry of a transparency log.
func readEntry(o object) entry {
	o.only("logIndex", "logId", "kindVersion", "integratedTime", "inclusionPromise", "inclusionProof", "canonicalizedBody")
	id, kind, promise, proof := o.object("logId"), o.object("kindVersion"), o.object("inclusionPromise"), o.object("inclusionProof")
	id.only("keyId")
	kind.only("kind", "version")
	promise.only("signedEntryTimestamp")
	proof.only("logIndex", "rootHash", "treeSize", "hashes", "checkpoint")
	checkpoint := proof.object("checkpoint")
	checkpoint.only("envelope")
	e := entry{
		index:   o.integer("logIndex"),
		log:     id.bytes("keyId", 64),
		kind:    kind.text("kind"),
		version: kind.text("version"),
		time:    o.integer("integratedTime"),
		promise: promise.bytes("signedEntryTimestamp", maxSignature),
		body:    o.bytes("canonicalizedBody", maxBody),
	}
	if o.has("inclusionProof") {
		e.proof = &proofOfInclusion{
			index:      proof.integer("logIndex"),
			root:       proof.bytes("rootHash", 64),
			size:       proof.integer("treeSize"),
			hashes:     proof.byteses("hashes", maxHashes, 64),
			checkpoint: checkpoint.text("envelope"),
		}
		if len(e.proof.checkpoint) > maxCheckpoint {
			checkpoint.fail("envelope", "%w", beyond("more than %d bytes", maxCheckpoint))
		}
	}
	if len(e.body) == 0 || len(e.log) == 0 {
		o.fail("canonicalizedBody", "it or the log's id is empty")
	}
	if e.kind == "" || e.version == "" {
		o.fail("kindVersion", "it is empty")
	}
	return e
}

// sameEntries reports whether one entry stands twice, by which a threshold of
// logs could be reached with one.
func sameEntries(all []entry) bool {
	for i, e := range all {
		if slices.ContainsFunc(all[:i], func(o entry) bool { return bytes.Equal(o.log, e.log) && o.index == e.index }) {
			return true
		}
	}
	return false
}
