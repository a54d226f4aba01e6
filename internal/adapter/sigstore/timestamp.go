package sigstore

import (
	"bytes"
	"crypto"
	_ "crypto/sha1" //nolint:gosec // the certificate's identifier of RFC 2634; nothing rests on it
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"math/big"
	"time"

	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/castellan-security/castellan/internal/signature"
)

// token is a time stamp (RFC 3161) taken apart: a CMS SignedData around a
// TSTInfo, in DER.
type token struct {
	info         []byte // the TSTInfo, as it is signed
	time         time.Time
	imprintHash  crypto.Hash
	imprint      []byte
	nonce        *big.Int // nil without one
	certificates []*x509.Certificate

	issuer       []byte   // of the signer's certificate
	serial       *big.Int // of it
	keyID        []byte   // instead of both
	digestHash   crypto.Hash
	hash         crypto.Hash // of the signature
	attributes   []byte      // that are signed, as a SET
	digest       []byte      // among them: of the TSTInfo
	certID       []byte      // among them: hash of the signer's certificate
	certHash     crypto.Hash
	signedBySelf []byte // the signature
}

// maxInexact is how inexact a time stamp may say that it is, in seconds: the
// certificates whose time it proves live for ten minutes. Authorities say a second.
const maxInexact = 60

var errToken = errors.New("it is not a time stamp as RFC 3161 has it")

// checkStamps returns the times that known authorities have put on the signature.
// Stamps of others prove nothing; why is returned beside the times. A stamp of
// a known authority that is false, or over something else, is a refusal.
func (m *material) checkStamps(authorities []*authority) (times []time.Time, unknown string, err error) {
	for _, der := range m.stamps {
		t, err := readToken(der)
		if err != nil {
			return nil, "", signature.Refuse(signature.Malformed, "a time stamp can't be read: %v", err)
		}
		known := false
		for _, a := range authorities {
			signer, err := t.signer(a)
			if err != nil {
				unknown = err.Error()
				continue
			}
			if err := t.check(signer, m.stamped()); err != nil {
				return nil, "", signature.Refuse(signature.Forged, "a time stamp is false: %v", err)
			}
			known = true
			break
		}
		if known {
			times = append(times, t.time)
		}
	}
	return times, unknown, nil
}

// signer finds the certificate that signed the token and that the authority
// vouches for at the token's own time.
func (t *token) signer(a *authority) (*x509.Certificate, error) {
	var leaf *x509.Certificate
	candidates := t.certificates
	if a.leaf != nil {
		for _, c := range candidates {
			if t.names(c) && !c.Equal(a.leaf) {
				return nil, errors.New("the authority of a time stamp is not known: it has another certificate than the trusted root")
			}
		}
		candidates = []*x509.Certificate{a.leaf}
	}
	for _, c := range candidates {
		if t.names(c) {
			leaf = c
		}
	}
	if leaf == nil {
		return nil, errors.New("the authority of a time stamp is not known")
	}
	if !a.between.holds(t.time) {
		return nil, errors.New("the authority of a time stamp was not trusted at its time")
	}
	between := x509.NewCertPool()
	for _, list := range [][]*x509.Certificate{a.intermediates, t.certificates} {
		for _, c := range list {
			between.AddCert(c)
		}
	}
	_, err := leaf.Verify(x509.VerifyOptions{
		Roots: a.pool, Intermediates: between, CurrentTime: t.time,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageTimeStamping},
	})
	if err != nil {
		return nil, errors.New("the authority of a time stamp is not known: " + err.Error())
	}
	return leaf, nil
}

func (t *token) names(c *x509.Certificate) bool {
	if t.keyID != nil {
		return bytes.Equal(c.SubjectKeyId, t.keyID)
	}
	return bytes.Equal(c.RawIssuer, t.issuer) && c.SerialNumber.Cmp(t.serial) == 0
}

// stamped is over what a time stamp may be: the signature. Older cosign stamped
// the whole envelope of an attestation, which has the signature in it.
func (m *material) stamped() [][]byte {
	if m.whole != nil {
		return [][]byte{m.signature, m.whole}
	}
	return [][]byte{m.signature}
}

// check checks that leaf made the token over one of them.
func (t *token) check(leaf *x509.Certificate, over [][]byte) error {
	if err := allowed(leaf.PublicKey); err != nil {
		return err
	}
	if len(leaf.ExtKeyUsage) != 1 || len(leaf.UnknownExtKeyUsage) > 0 || !criticalUsage(leaf) {
		return errors.New("its certificate is not for time stamps alone")
	}
	if leaf.IsCA || leaf.KeyUsage != 0 && leaf.KeyUsage&(x509.KeyUsageDigitalSignature|x509.KeyUsageContentCommitment) == 0 {
		return errors.New("its certificate is not for signatures: it is an authority's, or its key usage says so")
	}
	if !bytes.Equal(t.digest, sum(t.digestHash, t.info)) {
		return errors.New("its content is not what its authority signed")
	}
	if t.certID != nil && !bytes.Equal(t.certID, sum(t.certHash, leaf.Raw)) {
		return errors.New("it was signed with another certificate than it says")
	}
	if !holdsWith(leaf.PublicKey, t.hash, t.attributes, t.signedBySelf) {
		return errors.New("its authority's signature does not hold")
	}
	for _, each := range over {
		if bytes.Equal(t.imprint, sum(t.imprintHash, each)) {
			return nil
		}
	}
	return errors.New("it was made over another signature")
}

func criticalUsage(c *x509.Certificate) bool {
	for _, e := range c.Extensions {
		if e.Id.Equal(asn1.ObjectIdentifier{2, 5, 29, 37}) {
			return e.Critical
		}
	}
	return false
}

// The object identifiers of CMS and of time stamps.
func oid(s ...int) asn1.ObjectIdentifier { return s }

func hashOID(id asn1.ObjectIdentifier) (crypto.Hash, bool) {
	switch id.String() {
	case "2.16.840.1.101.3.4.2.1", "1.2.840.10045.4.3.2", "1.2.840.113549.1.1.11":
		return crypto.SHA256, true
	case "2.16.840.1.101.3.4.2.2", "1.2.840.10045.4.3.3", "1.2.840.113549.1.1.12":
		return crypto.SHA384, true
	case "2.16.840.1.101.3.4.2.3", "1.2.840.10045.4.3.4", "1.2.840.113549.1.1.13":
		return crypto.SHA512, true
	}
	return 0, false
}

// readToken reads a token, or a response of an authority with a token in it.
func readToken(der []byte) (*token, error) {
	in := cryptobyte.String(der)
	var outer cryptobyte.String
	if !in.ReadASN1(&outer, casn1.SEQUENCE) || !in.Empty() {
		return nil, errToken
	}
	if outer.PeekASN1Tag(casn1.SEQUENCE) { // a response: its status, then the token
		var status cryptobyte.String
		var code int
		if !outer.ReadASN1(&status, casn1.SEQUENCE) || !status.ReadASN1Integer(&code) {
			return nil, errToken
		}
		if code != 0 && code != 1 {
			return nil, errors.New("the authority refused to give one")
		}
		var inner cryptobyte.String
		if !outer.ReadASN1(&inner, casn1.SEQUENCE) || !outer.Empty() {
			return nil, errToken
		}
		outer = inner
	}
	var id asn1.ObjectIdentifier
	var content, signed cryptobyte.String
	if !outer.ReadASN1ObjectIdentifier(&id) || !id.Equal(oid(1, 2, 840, 113549, 1, 7, 2)) ||
		!outer.ReadASN1(&content, tagged(0)) || !outer.Empty() || !content.ReadASN1(&signed, casn1.SEQUENCE) || !content.Empty() {
		return nil, errToken
	}
	t := &token{}
	if err := t.readSigned(signed); err != nil {
		return nil, err
	}
	return t, t.readInfo()
}

func tagged(n casn1.Tag) casn1.Tag { return n.Constructed().ContextSpecific() }

// readSigned reads the SignedData.
func (t *token) readSigned(in cryptobyte.String) error {
	var version int
	var hashes, capsule, explicit, info, certs, signers, one cryptobyte.String
	var id asn1.ObjectIdentifier
	var hasCerts bool
	if !in.ReadASN1Integer(&version) || !in.ReadASN1(&hashes, casn1.SET) || !in.ReadASN1(&capsule, casn1.SEQUENCE) ||
		!capsule.ReadASN1ObjectIdentifier(&id) || !capsule.ReadASN1(&explicit, tagged(0)) || !explicit.ReadASN1(&info, casn1.OCTET_STRING) || !capsule.Empty() {
		return errToken
	}
	if !id.Equal(oid(1, 2, 840, 113549, 1, 9, 16, 1, 4)) {
		return errors.New("what is signed is no time stamp")
	}
	t.info = info
	if !in.ReadOptionalASN1(&certs, &hasCerts, tagged(0)) || !in.SkipOptionalASN1(tagged(1)) ||
		!in.ReadASN1(&signers, casn1.SET) || !in.Empty() || !signers.ReadASN1(&one, casn1.SEQUENCE) {
		return errToken
	}
	if !signers.Empty() {
		return errors.New("it has several signers")
	}
	for !certs.Empty() {
		var der cryptobyte.String
		if !certs.ReadASN1Element(&der, casn1.SEQUENCE) {
			return errToken
		}
		if len(t.certificates) == maxChain {
			return errors.New("it has too many certificates")
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return err
		}
		if err := allowed(c.PublicKey); err != nil { // before anything is checked with it
			return err
		}
		t.certificates = append(t.certificates, c)
	}
	return t.readSigner(one)
}

// readSigner reads the SignerInfo.
func (t *token) readSigner(in cryptobyte.String) error {
	var version int
	var who, attributes, sig cryptobyte.String
	var digestID, sigID asn1.ObjectIdentifier
	if !in.ReadASN1Integer(&version) {
		return errToken
	}
	if in.PeekASN1Tag(casn1.SEQUENCE) {
		t.serial = new(big.Int)
		if !in.ReadASN1(&who, casn1.SEQUENCE) || !who.ReadASN1Element((*cryptobyte.String)(&t.issuer), casn1.SEQUENCE) || !who.ReadASN1Integer(t.serial) {
			return errToken
		}
	} else if !in.ReadASN1((*cryptobyte.String)(&t.keyID), casn1.Tag(0).ContextSpecific()) || len(t.keyID) == 0 {
		return errToken
	}
	if !readAlgorithm(&in, &digestID) || !in.ReadASN1Element(&attributes, tagged(0)) || !readAlgorithm(&in, &sigID) || !in.ReadASN1(&sig, casn1.OCTET_STRING) {
		return errToken
	}
	var ok bool
	if t.digestHash, ok = hashOID(digestID); !ok {
		return errors.New("its hash is too weak or not known")
	}
	if t.hash, ok = hashOID(sigID); !ok { // RSA without a hash in its name takes the digest's
		t.hash = t.digestHash
	}
	t.signedBySelf = sig
	// What is signed is the attributes as a SET, not with the tag they stand under.
	t.attributes = append([]byte{byte(casn1.SET)}, attributes[1:]...)
	return t.readAttributes(attributes)
}

func readAlgorithm(in *cryptobyte.String, id *asn1.ObjectIdentifier) bool {
	var a cryptobyte.String
	return in.ReadASN1(&a, casn1.SEQUENCE) && a.ReadASN1ObjectIdentifier(id)
}

func (t *token) readAttributes(element cryptobyte.String) error {
	var list cryptobyte.String
	if !element.ReadASN1(&list, tagged(0)) {
		return errToken
	}
	kind := false
	for !list.Empty() {
		var a, values cryptobyte.String
		var id, content asn1.ObjectIdentifier
		if !list.ReadASN1(&a, casn1.SEQUENCE) || !a.ReadASN1ObjectIdentifier(&id) || !a.ReadASN1(&values, casn1.SET) {
			return errToken
		}
		switch id.String() {
		case "1.2.840.113549.1.9.3": // what kind of content is signed
			if kind || !values.ReadASN1ObjectIdentifier(&content) || !content.Equal(oid(1, 2, 840, 113549, 1, 9, 16, 1, 4)) {
				return errors.New("what is signed is no time stamp")
			}
			kind = true
		case "1.2.840.113549.1.9.4": // the content's digest
			if t.digest != nil || !values.ReadASN1((*cryptobyte.String)(&t.digest), casn1.OCTET_STRING) {
				return errToken
			}
		case "1.2.840.113549.1.9.16.2.47", "1.2.840.113549.1.9.16.2.12": // the signer's certificate
			if t.certID != nil || !t.readCertID(values, id.String() == "1.2.840.113549.1.9.16.2.12") {
				return errToken
			}
		}
	}
	if !kind || t.digest == nil {
		return errToken
	}
	return nil
}

// readCertID reads by which certificate the authority says it signs (RFC 5816;
// RFC 2634 with SHA-1).
func (t *token) readCertID(values cryptobyte.String, first bool) bool {
	var outer, ids, one, algorithm cryptobyte.String
	var id asn1.ObjectIdentifier
	if !values.ReadASN1(&outer, casn1.SEQUENCE) || !outer.ReadASN1(&ids, casn1.SEQUENCE) || !ids.ReadASN1(&one, casn1.SEQUENCE) {
		return false
	}
	t.certHash = crypto.SHA256
	if first {
		t.certHash = crypto.SHA1
	} else if one.PeekASN1Tag(casn1.SEQUENCE) {
		var ok bool
		if !one.ReadASN1(&algorithm, casn1.SEQUENCE) || !algorithm.ReadASN1ObjectIdentifier(&id) {
			return false
		}
		if t.certHash, ok = hashOID(id); !ok {
			return false
		}
	}
	return one.ReadASN1((*cryptobyte.String)(&t.certID), casn1.OCTET_STRING)
}

// readInfo reads the TSTInfo.
func (t *token) readInfo() error {
	in := cryptobyte.String(t.info)
	var seq, imprint, when cryptobyte.String
	var version int
	var policy, hash asn1.ObjectIdentifier
	serial := new(big.Int)
	if !in.ReadASN1(&seq, casn1.SEQUENCE) || !in.Empty() || !seq.ReadASN1Integer(&version) || version != 1 || !seq.ReadASN1ObjectIdentifier(&policy) ||
		!seq.ReadASN1(&imprint, casn1.SEQUENCE) || !readAlgorithm(&imprint, &hash) || !imprint.ReadASN1((*cryptobyte.String)(&t.imprint), casn1.OCTET_STRING) ||
		!seq.ReadASN1Integer(serial) || !seq.ReadASN1(&when, casn1.GeneralizedTime) {
		return errToken
	}
	var ok bool
	if t.imprintHash, ok = hashOID(hash); !ok {
		return errors.New("its hash is too weak or not known")
	}
	var err error
	if t.time, err = time.Parse("20060102150405Z", string(when)); err != nil { // takes fractions of a second, too
		return errToken
	}
	return t.readRest(seq)
}

// readRest reads what may follow the time: how exact it is, the nonce, and
// extensions, of which none is known.
func (t *token) readRest(in cryptobyte.String) error {
	var accuracy, extensions cryptobyte.String
	var exact, extended bool
	if !in.ReadOptionalASN1(&accuracy, &exact, casn1.SEQUENCE) || !in.SkipOptionalASN1(casn1.BOOLEAN) {
		return errToken
	}
	if exact {
		var seconds uint
		if accuracy.PeekASN1Tag(casn1.INTEGER) && !accuracy.ReadASN1Integer(&seconds) {
			return errToken
		}
		if seconds > maxInexact { // fractions of a second beside it make no difference
			return errors.New("its authority says that its clock may be wrong by more than a minute")
		}
	}
	if in.PeekASN1Tag(casn1.INTEGER) {
		if t.nonce = new(big.Int); !in.ReadASN1Integer(t.nonce) {
			return errToken
		}
	}
	if !in.SkipOptionalASN1(tagged(0)) || !in.ReadOptionalASN1(&extensions, &extended, tagged(1)) || !in.Empty() {
		return errToken
	}
	for !extensions.Empty() {
		var e cryptobyte.String
		var id asn1.ObjectIdentifier
		var critical bool
		if !extensions.ReadASN1(&e, casn1.SEQUENCE) || !e.ReadASN1ObjectIdentifier(&id) ||
			e.PeekASN1Tag(casn1.BOOLEAN) && !e.ReadASN1Boolean(&critical) {
			return errToken
		}
		if critical {
			return errors.New("it has a critical extension that is not known, " + id.String())
		}
	}
	return nil
}
