package notary

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/castellan-security/castellan/internal/signature"
)

var (
	oidKeyUsage         = asn1.ObjectIdentifier{2, 5, 29, 15}
	oidBasicConstraints = asn1.ObjectIdentifier{2, 5, 29, 19}
	oidNameConstraints  = asn1.ObjectIdentifier{2, 5, 29, 30}
	oidExtKeyUsage      = asn1.ObjectIdentifier{2, 5, 29, 37}
)

// purpose is what the first certificate of a chain is for.
type purpose struct {
	name      string
	forbidden []x509.ExtKeyUsage
	stamping  bool // it must be for time-stamping and nothing else
}

var (
	signing = purpose{name: "signing", forbidden: []x509.ExtKeyUsage{
		x509.ExtKeyUsageAny, x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageEmailProtection,
		x509.ExtKeyUsageTimeStamping, x509.ExtKeyUsageOCSPSigning,
	}}
	stamping = purpose{name: "time-stamping", stamping: true}
)

// parseChain reads certificates as they stand in an envelope.
func parseChain(raw [][]byte) ([]*x509.Certificate, error) {
	if len(raw) == 0 {
		return nil, signature.Refuse(signature.Malformed, "the envelope has no certificate")
	}
	chain := make([]*x509.Certificate, len(raw))
	for i, der := range raw {
		if len(der) > maxCertificate {
			return nil, signature.Refuse(signature.TooLarge, "certificate %d of the envelope has %d bytes, at most %d are read", i+1, len(der), maxCertificate)
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, malformed("certificates", err)
		}
		chain[i] = cert
	}
	return chain, nil
}

// verifyChain checks that each certificate was issued by the next and the last by
// itself, and that all keep the specification's rules for certificates. It goes
// from the root down, so that what a stranger hung below a known root costs one
// check of a signature. Of a root that is trusted as it stands, by its bytes, the
// signature over itself says nothing and is not checked.
func verifyChain(chain []*x509.Certificate, p purpose, trusted bool) error {
	last := len(chain) - 1
	for i := last; i >= 0; i-- {
		if err := checkKey(chain[i], i == 0); err != nil {
			return err
		}
		if i > 0 {
			if err := checkAuthority(chain[i], i-1); err != nil {
				return err
			}
		}
		if err := issuedBy(chain[i], chain[min(i+1, last)], i == last, i == last && trusted); err != nil {
			return err
		}
		if i < last && bytes.Equal(chain[i].RawSubject, chain[i].RawIssuer) && chain[i].CheckSignatureFrom(chain[i]) == nil {
			return signature.Refuse(signature.Malformed, "the certificate of %s is a root in the middle of the chain", named(chain[i]))
		}
	}
	if err := checkLeaf(chain[0], p); err != nil {
		return err
	}
	return checkConstraints(chain, p)
}

// maxChecked bounds how many chains are remembered. A fleet has a few signers.
const maxChecked = 256

// checked remembers chains that kept the rules, by their bytes. Nothing that could
// be otherwise later is part of verifyChain, and most images have the same signer.
type checked struct {
	mu     sync.Mutex
	chains map[[sha256.Size]byte]bool
}

func newChecked() *checked { return &checked{chains: map[[sha256.Size]byte]bool{}} }

func (c *checked) verify(chain []*x509.Certificate, p purpose, trusted bool) error {
	h := sha256.New()
	fmt.Fprintf(h, "%s %t %d", p.name, trusted, len(chain))
	for _, cert := range chain {
		h.Write(cert.Raw) // DER says itself how long it is
	}
	key := [sha256.Size]byte(h.Sum(nil))
	c.mu.Lock()
	known := c.chains[key]
	c.mu.Unlock()
	if known {
		return nil
	}
	if err := verifyChain(chain, p, trusted); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.chains) >= maxChecked {
		clear(c.chains)
	}
	c.chains[key] = true
	return nil
}

// issuedBy checks one link. A root that signs for itself need not be an authority,
// if it is all of the chain.
func issuedBy(cert, issuer *x509.Certificate, root, trusted bool) error {
	if !bytes.Equal(cert.RawIssuer, issuer.RawSubject) {
		if root {
			return signature.Refuse(signature.Malformed, "the chain ends with %s, which is no root: it has to be complete", named(cert))
		}
		return signature.Refuse(signature.Malformed, "the certificate of %s was not issued by %s, which follows it", named(cert), named(issuer))
	}
	if isWeak(cert.SignatureAlgorithm) {
		return signature.Refuse(signature.Forbidden, "the certificate of %s is signed with %s, which is too weak", named(cert), cert.SignatureAlgorithm)
	}
	if trusted {
		return nil
	}
	err := issuer.CheckSignature(cert.SignatureAlgorithm, cert.RawTBSCertificate, cert.Signature)
	switch {
	case errors.Is(err, x509.ErrUnsupportedAlgorithm):
		return signature.Refuse(signature.Unsupported, "the certificate of %s is signed with an algorithm that is not known", named(cert))
	case err != nil:
		return signature.Refuse(signature.Forged, "the certificate of %s was not issued by the key of %s", named(cert), named(issuer))
	}
	return nil
}

// isWeak tells the algorithms that x509 would check all the same: it lets SHA-1 pass
// where it is asked for one signature and not for a chain.
func isWeak(a x509.SignatureAlgorithm) bool {
	switch a {
	case x509.MD2WithRSA, x509.MD5WithRSA, x509.SHA1WithRSA, x509.ECDSAWithSHA1, x509.DSAWithSHA1, x509.DSAWithSHA256:
		return true
	}
	return false
}

// checkKey refuses keys that are too weak, and ones that would take long to check.
func checkKey(cert *x509.Certificate, leaf bool) error {
	if leaf {
		_, err := algorithmOf(cert.PublicKey)
		return err
	}
	switch k := cert.PublicKey.(type) {
	case *rsa.PublicKey:
		if n := k.N.BitLen(); n < minRSA {
			return signature.Refuse(signature.Forbidden, "the RSA key of %s has %d bits, which is too weak", named(cert), n)
		} else if n > maxRSA {
			return signature.Refuse(signature.Unsupported, "the RSA key of %s has %d bits, at most %d are used", named(cert), n, maxRSA)
		}
	case *ecdsa.PublicKey:
		if k.Curve == elliptic.P224() {
			return signature.Refuse(signature.Forbidden, "the key of %s is on P-224, which is too weak", named(cert))
		}
	}
	return nil
}

// checkAuthority holds a certificate against the rules for authorities; below
// says how many authorities stand below it.
func checkAuthority(cert *x509.Certificate, below int) error {
	switch {
	case !cert.BasicConstraintsValid || !cert.IsCA || !critical(cert, oidBasicConstraints):
		return signature.Refuse(signature.Forbidden, "the certificate of %s issued others, and its basic constraints do not say, critically, that it may", named(cert))
	case (cert.MaxPathLen > 0 || cert.MaxPathLenZero) && cert.MaxPathLen < below:
		return signature.Refuse(signature.Forbidden, "the certificate of %s permits %d authorities below it, and has %d", named(cert), cert.MaxPathLen, below)
	case cert.KeyUsage&x509.KeyUsageCertSign == 0 || !critical(cert, oidKeyUsage):
		return signature.Refuse(signature.Forbidden, "the certificate of %s issued others, and its key usage does not say, critically, that it may", named(cert))
	}
	return nil
}

func checkLeaf(cert *x509.Certificate, p purpose) error {
	const others = x509.KeyUsageKeyEncipherment | x509.KeyUsageDataEncipherment | x509.KeyUsageKeyAgreement |
		x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageEncipherOnly | x509.KeyUsageDecipherOnly
	switch {
	case cert.BasicConstraintsValid && cert.IsCA:
		return signature.Refuse(signature.Forbidden, "the %s certificate of %s is an authority's", p.name, named(cert))
	case cert.KeyUsage&x509.KeyUsageDigitalSignature == 0 || cert.KeyUsage&others != 0:
		return signature.Refuse(signature.Forbidden, "the key usage of the %s certificate of %s must be digital signature, and nothing but that and non-repudiation", p.name, named(cert))
	case !critical(cert, oidKeyUsage) && !p.stamping: // the peers are lenient with authorities of time
		return signature.Refuse(signature.Forbidden, "the key usage of the %s certificate of %s is not critical", p.name, named(cert))
	}
	if p.stamping {
		if len(cert.ExtKeyUsage) != 1 || cert.ExtKeyUsage[0] != x509.ExtKeyUsageTimeStamping || len(cert.UnknownExtKeyUsage) > 0 || !critical(cert, oidExtKeyUsage) {
			return signature.Refuse(signature.Forbidden, "the certificate of %s is not, critically and only, for time-stamping (RFC 3161, 2.3)", named(cert))
		}
		return nil
	}
	for _, usage := range cert.ExtKeyUsage {
		for _, f := range p.forbidden {
			if usage == f {
				return signature.Refuse(signature.Forbidden, "the certificate of %s is for something else than signing code", named(cert))
			}
		}
	}
	return nil
}

func critical(cert *x509.Certificate, oid asn1.ObjectIdentifier) bool {
	for _, e := range cert.Extensions {
		if e.Id.Equal(oid) {
			return e.Critical
		}
	}
	return false
}

// named tells a certificate's subject in a message.
func named(cert *x509.Certificate) string {
	name, err := signature.DistinguishedName(cert.RawSubject)
	if err != nil || name == "" {
		return "serial number " + cert.SerialNumber.Text(16)
	}
	return shown(name)
}

// digest is how certificates and keys are named.
func digest(der []byte) string {
	sum := sha256.Sum256(der)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// validity is when all certificates of a chain are valid.
type validity struct {
	from, to     time.Time
	first, final *x509.Certificate // that begin last, and end first
}

func validityOf(chain []*x509.Certificate) validity {
	v := validity{chain[0].NotBefore, chain[0].NotAfter, chain[0], chain[0]}
	for _, c := range chain[1:] {
		if c.NotBefore.After(v.from) {
			v.from, v.first = c.NotBefore, c
		}
		if c.NotAfter.Before(v.to) {
			v.to, v.final = c.NotAfter, c
		}
	}
	return v
}

// contains refuses what is not, from its earliest to its latest moment, within the
// validity; what says what took place then.
func (v validity) contains(what string, earliest, latest time.Time) error {
	if earliest.Before(v.from) {
		return signature.Refuse(signature.NotYet, "%s on %s, before the certificate of %s was valid on %s", what, stamp(earliest), named(v.first), stamp(v.from))
	}
	if latest.After(v.to) {
		return signature.Refuse(signature.Expired, "%s on %s, after the certificate of %s had expired on %s", what, stamp(latest), named(v.final), stamp(v.to))
	}
	return nil
}
