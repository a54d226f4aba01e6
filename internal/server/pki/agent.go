package pki

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"time"

	"github.com/castellan-security/castellan/internal/fault"
)

// Limits of agents' certificates.
const (
	// agentLife is short, because a certificate that was forgotten should end by
	// itself, and longer than a long weekend of a server that is off: agents
	// renew when a third of it has passed.
	agentLife = 30 * 24 * time.Hour
	// maxCSR bounds what is parsed: with an RSA key of 8192 bits it has 2 KiB.
	maxCSR = 16 << 10
	// Keys below minRSA are weak, above maxRSA they only cost.
	minRSA = 2048
	maxRSA = 8192
)

// SignAgent returns a client certificate for an agent of that id, with the key
// of the request (PKCS #10, DER). Nothing else of the request is taken: not its
// names, not its extensions. The request is Invalid when it is none, is not
// signed with its own key, or has a key that is not ECDSA on P-256, Ed25519 or
// RSA with 2048 to 8192 bits.
func (a *Authority) SignAgent(agentID string, csr []byte) (*x509.Certificate, error) {
	key, err := keyOf(csr)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("make a serial number: %w", err)
	}
	now := a.clock()
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: agentID},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(agentLife),
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, a.root.cert, key, a.root.key)
	if err != nil {
		return nil, fmt.Errorf("sign the certificate of agent %s: %w", agentID, err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("read the certificate of agent %s: %w", agentID, err)
	}
	return cert, nil
}

func keyOf(csr []byte) (any, error) {
	if len(csr) > maxCSR {
		return nil, fault.New(fault.Invalid, "certificate request has %d bytes; at most %d are read", len(csr), maxCSR)
	}
	req, err := x509.ParseCertificateRequest(csr)
	if err != nil {
		return nil, fault.New(fault.Invalid, "read certificate request: %w", err)
	}
	switch key := req.PublicKey.(type) {
	case *ecdsa.PublicKey:
		if key.Curve != elliptic.P256() {
			return nil, badKey("ECDSA on another curve")
		}
	case ed25519.PublicKey:
	case *rsa.PublicKey:
		if bits := key.N.BitLen(); bits < minRSA || bits > maxRSA {
			return nil, badKey(fmt.Sprintf("RSA with %d bits", bits))
		}
	default:
		return nil, badKey(fmt.Sprintf("%T", key))
	}
	// After the key was judged: checking with a huge one would take long.
	if err := req.CheckSignature(); err != nil {
		return nil, fault.New(fault.Invalid, "certificate request is not signed with its own key: %w", err)
	}
	return req.PublicKey, nil
}

func badKey(what string) error {
	return fault.New(fault.Invalid, "certificate request with a key of %s: want ECDSA on P-256, Ed25519, or RSA with %d to %d bits", what, minRSA, maxRSA)
}

// Root returns the authority's own certificate.
func (a *Authority) Root() *x509.Certificate { return a.root.cert }

// Agents returns what a listener trusts to vouch for agents: this authority
// alone. The listener's own certificate is of it too, and is no agent's: only
// those for clients count.
func (a *Authority) Agents() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.root.cert)
	return pool
}
