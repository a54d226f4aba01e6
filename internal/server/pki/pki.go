// Package pki is the server's own certificate authority: one root that lives
// for ten years, a short-lived certificate for the listener, both kept as files
// of the data folder and renewed while the server runs, and the certificates
// that agents prove themselves with.
//
// It signs; who gets a certificate, and whose no longer counts, is decided in
// internal/server/enrol.
package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/link"
)

// Lifetimes.
const (
	rootLife = 10 * 365 * 24 * time.Hour
	leafLife = 90 * 24 * time.Hour
	// renewBefore its end a certificate is replaced: a server that is off for
	// less than a month comes back with a valid one.
	renewBefore = 30 * 24 * time.Hour
	// backdate lets hosts whose clocks are behind accept a new certificate.
	backdate = 24 * time.Hour
)

// maxNames bounds the names in one certificate.
const maxNames = 100

// Authority issues the certificates of one server. It is safe for concurrent use.
type Authority struct {
	dir   string
	names []string
	clock func() time.Time

	root pair
	leaf atomic.Pointer[tls.Certificate]
}

// pair is a certificate with its key.
type pair struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// Open reads the authority and the listener's certificate from dir, or makes
// them. names are what the certificate is for: host names and IP addresses.
// Errors: Corrupt when a file of dir is damaged (nothing is replaced), Invalid
// for a name that cannot stand in a certificate.
func Open(dir string, names []string, clock func() time.Time) (*Authority, error) {
	names = normal(names)
	if len(names) > maxNames {
		return nil, fault.New(fault.Invalid, "certificate for %d names: at most %d are possible", len(names), maxNames)
	}
	a := &Authority{dir: dir, names: names, clock: clock}
	if err := a.openRoot(); err != nil {
		return nil, err
	}
	if _, err := a.Renew(); err != nil {
		return nil, err
	}
	return a, nil
}

// normal writes each name as a certificate will hold it, once.
func normal(names []string) []string {
	out := make([]string, 0, len(names))
	for _, n := range names {
		if ip, err := netip.ParseAddr(n); err == nil {
			n = ip.Unmap().WithZone("").String()
		}
		out = append(out, strings.ToLower(n))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Fingerprint returns the authority's fingerprint as people compare it; see
// link.Fingerprint.
func (a *Authority) Fingerprint() string { return link.Fingerprint(a.root.cert) }

// Certificate is tls.Config.GetCertificate: the listener's certificate of now.
func (a *Authority) Certificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return a.leaf.Load(), nil
}

// Expires returns when the listener's certificate ends unless it is renewed.
func (a *Authority) Expires() time.Time { return a.leaf.Load().Leaf.NotAfter }

// Renew replaces the listener's certificate when it ends soon, is not of this
// authority or is not for the names that are wanted. It reports whether it did.
func (a *Authority) Renew() (bool, error) {
	have := a.leaf.Load()
	if have == nil {
		p, err := readPair(a.dir, leafName)
		if err != nil {
			return false, err
		}
		if p != nil {
			have = a.served(*p)
		}
	}
	if have != nil && a.good(have.Leaf) {
		a.leaf.Store(have)
		return false, nil
	}
	p, err := a.issue()
	if err != nil {
		return false, fmt.Errorf("issue the server's certificate: %w", err)
	}
	if err := writePair(a.dir, leafName, p); err != nil {
		return false, err
	}
	a.leaf.Store(a.served(p))
	return true, nil
}

// served is a leaf as the listener sends it: with its root, so that a client
// can pin that by its fingerprint.
func (a *Authority) served(p pair) *tls.Certificate {
	return &tls.Certificate{Certificate: [][]byte{p.cert.Raw, a.root.cert.Raw}, PrivateKey: p.key, Leaf: p.cert}
}

func (a *Authority) good(leaf *x509.Certificate) bool {
	now := a.clock()
	if now.Before(leaf.NotBefore) || leaf.NotAfter.Sub(now) < renewBefore || leaf.CheckSignatureFrom(a.root.cert) != nil {
		return false
	}
	have := slices.Clone(leaf.DNSNames)
	for _, ip := range leaf.IPAddresses {
		have = append(have, ip.String())
	}
	slices.Sort(have)
	return slices.Equal(have, a.names)
}

func (a *Authority) openRoot() error {
	p, err := readPair(a.dir, rootName)
	if err != nil {
		return err
	}
	if p != nil {
		if !p.cert.IsCA || a.clock().After(p.cert.NotAfter) {
			return damaged(a.dir, rootName, fmt.Errorf("it is no certificate authority, or ended at %s", p.cert.NotAfter))
		}
		a.root = *p
		return nil
	}
	if a.root, err = newRoot(a.clock()); err != nil {
		return fmt.Errorf("make the certificate authority: %w", err)
	}
	return writePair(a.dir, rootName, a.root)
}

func newRoot(now time.Time) (pair, error) {
	return sign(&x509.Certificate{
		Subject:               pkix.Name{CommonName: "Castellan server authority"},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(rootLife),
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}, nil)
}

func (a *Authority) issue() (pair, error) {
	now := a.clock()
	t := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "Castellan server"},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(leafLife - backdate), // 90 days in all: some clients refuse longer ones
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, n := range a.names {
		if ip, err := netip.ParseAddr(n); err == nil {
			t.IPAddresses = append(t.IPAddresses, ip.AsSlice())
			continue
		}
		if !dnsName(n) {
			return pair{}, fault.New(fault.Invalid, "%q is neither a host name nor an IP address", n).
				With("check the names given for the server's certificate (--name)")
		}
		t.DNSNames = append(t.DNSNames, n)
	}
	return sign(t, &a.root)
}

// sign makes a key and a certificate for it, by issuer or, with nil, by itself.
func sign(t *x509.Certificate, issuer *pair) (pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return pair{}, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return pair{}, err
	}
	t.SerialNumber = serial
	by, byKey := t, key
	if issuer != nil {
		by, byKey = issuer.cert, issuer.key
	}
	der, err := x509.CreateCertificate(rand.Reader, t, by, &key.PublicKey, byKey)
	if err != nil {
		return pair{}, err
	}
	cert, err := x509.ParseCertificate(der)
	return pair{cert: cert, key: key}, err
}
