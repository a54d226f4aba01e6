package camera

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/sealed"
)

const (
	// signatureName is the file of an archive that signs its manifest, and so all files.
	signatureName = "manifest.sig"
	// signatureKind is what is signed, so that no other signature can be taken for it.
	signatureKind = "application/vnd.castellan.snapshot-manifest.v1+json"
	// signatureRoom bounds that file: two certificates and a signature have 3 KiB.
	signatureRoom = 64 << 10
)

// Identity is what an agent proves itself with to its server; *agent.Credentials is one.
type Identity interface {
	// Certificate is the one of now, with its key.
	Certificate() *tls.Certificate
	// Authority has signed it.
	Authority() *x509.Certificate
}

// signedManifest is the form of signatureName. Fields are only added.
type signedManifest struct {
	Certificate []byte          `json:"certificate"` // of the agent, DER
	Authority   []byte          `json:"authority"`   // that signed it, DER
	Signature   json.RawMessage `json:"signature"`   // a DSSE envelope beside the manifest
}

// Signature is who signed an archive's manifest.
type Signature struct {
	Agent string `json:"agent_id"` // that the certificate is of
	// Authority is the fingerprint of the authority whose certificate the archive
	// brings: whoever trusts it knows the agent.
	Authority string `json:"authority"`

	authority *x509.Certificate
}

// signManifest returns what signatureName has to have for a manifest.
func signManifest(manifest []byte, as Identity) ([]byte, error) {
	cert, authority := as.Certificate(), as.Authority()
	if cert == nil || cert.Leaf == nil || authority == nil {
		return nil, fault.New(fault.Corrupt, "the agent has no certificate to sign with").With("have it join its server anew: castellan agent join --again")
	}
	key, ok := cert.PrivateKey.(crypto.Signer)
	if !ok {
		return nil, fault.New(fault.Corrupt, "the agent's key can't sign").With("have it join its server anew: castellan agent join --again")
	}
	s, err := sealed.Sign(signatureKind, manifest, key)
	if err != nil {
		return nil, fmt.Errorf("sign the manifest: %w", err)
	}
	return json.Marshal(signedManifest{Certificate: cert.Leaf.Raw, Authority: authority.Raw, Signature: s})
}

// readSignature holds the signature of a manifest against it: whom it is of, and why it
// proves nothing, were that so.
func readSignature(b, manifest []byte, m *Manifest) (*Signature, error) {
	var x signedManifest
	if err := json.Unmarshal(b, &x); err != nil {
		return nil, fmt.Errorf("it is none: %w", err)
	}
	leaf, err := x509.ParseCertificate(x.Certificate)
	if err != nil {
		return nil, fmt.Errorf("read its certificate: %w", err)
	}
	authority, err := x509.ParseCertificate(x.Authority)
	if err != nil {
		return nil, fmt.Errorf("read the certificate of its authority: %w", err)
	}
	s := &Signature{Agent: leaf.Subject.CommonName, Authority: link.Fingerprint(authority), authority: authority}
	if err := leaf.CheckSignatureFrom(authority); err != nil {
		return s, fmt.Errorf("its certificate is not of the authority that it names: %w", err)
	}
	if _, err := sealed.Verify(signatureKind, manifest, x.Signature, []crypto.PublicKey{leaf.PublicKey}); err != nil {
		return s, fmt.Errorf("it is not of this manifest: %w", err)
	}
	if s.Agent != m.Agent {
		return s, fmt.Errorf("it is of agent %s, and the snapshot says that %s has taken it", s.Agent, m.Agent)
	}
	if m.Ended.Before(leaf.NotBefore) || m.Ended.After(leaf.NotAfter) {
		return s, fmt.Errorf("the snapshot is of %s, and its certificate holds from %s to %s", m.Ended, leaf.NotBefore, leaf.NotAfter)
	}
	return s, nil
}

// Under reports whether the agent is one of the authority with a fingerprint, as people
// compare it.
func (s *Signature) Under(fingerprint string) bool {
	return s != nil && s.authority != nil && link.SameFingerprint(s.authority, fingerprint)
}

// SignedBy reads an archive and returns the agent that signed it by a certificate of an
// authority; empty for one that nobody signed. An archive that is not as its manifest
// says, or whose signature proves nothing, is Corrupt.
func SignedBy(archive io.Reader, authority *x509.Certificate) (agent string, err error) {
	v, err := Verify(archive)
	switch {
	case err != nil:
		return "", err
	case len(v.Wrong) > 0:
		return "", fault.New(fault.Corrupt, "the snapshot is not as its manifest says: %s", strings.Join(v.Wrong, "; "))
	case v.Signature == nil:
		return "", nil
	case !v.Signature.Under(link.Fingerprint(authority)):
		return "", fault.New(fault.Corrupt, "the snapshot is signed under another authority, %s", v.Signature.Authority)
	}
	return v.Signature.Agent, nil
}
