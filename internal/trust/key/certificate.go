package key

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/fault"
)

const (
	// maxLifetime bounds how long a certificate is good.
	maxLifetime = 10 * 365 * 24 * time.Hour
	// maxSubject bounds a subject's text.
	maxSubject = 1024
	// backdated is how far a certificate's life begins before it is made, for
	// clocks that are behind.
	backdated = 5 * time.Minute
	serialLen = 16
)

// Certificates are where a key's certificate was written.
type Certificates struct {
	Chain string // path: the certificate, then its root, for whoever signs
	Root  string // path: the root, for whoever verifies
	Until time.Time
}

// Certify gives a key a certificate that is fit for the Notary Project (signature
// specification, certificate requirements): for code signing alone, below a root
// of its own. The root's key is thrown away, so that nobody can make another
// certificate that is trusted with this one. Subject is as RFC 4514 writes it:
// CN=build,O=Shop,ST=Berlin,C=DE.
func (r *Ring) Certify(id, subject string, lifetime time.Duration, password Password, now time.Time) (Certificates, error) {
	if lifetime <= 0 || lifetime > maxLifetime {
		return Certificates{}, fault.New(fault.Invalid, "a lifetime of %s", lifetime).With("give one of up to ten years, as 365d")
	}
	name, err := parseSubject(subject)
	if err != nil {
		return Certificates{}, err
	}
	signer, k, err := r.certifiable(id, password, now)
	if err != nil {
		return Certificates{}, err
	}
	c := Certificates{Chain: r.file(k, ".crt"), Root: r.file(k, "-root.crt"), Until: now.Add(lifetime).UTC().Truncate(time.Second)}
	chain, root, err := issue(signer.Public(), name, now, c.Until)
	if err != nil {
		return Certificates{}, fmt.Errorf("make certificate: %w", err)
	}
	if err := create(c.Root, root, 0o644); err != nil {
		return Certificates{}, err
	}
	if err := create(c.Chain, chain, 0o644); err != nil {
		return Certificates{}, errors.Join(err, os.Remove(c.Root))
	}
	return c, nil
}

// Request makes a request for a certificate (PKCS #10, PEM) that a certificate
// authority of one's own answers.
func (r *Ring) Request(id, subject string, password Password, now time.Time) ([]byte, error) {
	name, err := parseSubject(subject)
	if err != nil {
		return nil, err
	}
	signer, _, err := r.certifiable(id, password, now)
	if err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: name}, signer)
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), nil
}

// certifiable opens a key that may have a certificate of the Notary Project.
func (r *Ring) certifiable(id string, password Password, now time.Time) (crypto.Signer, Key, error) {
	signer, k, err := r.Signer(id, password, now)
	if err != nil {
		return nil, k, err
	}
	if _, is := signer.Public().(ed25519.PublicKey); is {
		return nil, k, fault.New(fault.Unsupported, "key %s is of the kind %s, which the Notary Project does not know", k.ID(), k.Algorithm).
			With("make one of another kind: castellan trust key generate NAME --algorithm ecdsa-p384")
	}
	return signer, k, nil
}

// issue makes a certificate for a public key and the root above it.
func issue(public crypto.PublicKey, name pkix.Name, now, until time.Time) (chain, root []byte, err error) {
	above, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	rootName := name
	rootName.CommonName = name.CommonName + " root"
	top := &x509.Certificate{
		Subject: rootName, NotBefore: now.Add(-backdated), NotAfter: until, BasicConstraintsValid: true, IsCA: true, MaxPathLenZero: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	leaf := &x509.Certificate{
		Subject: name, NotBefore: top.NotBefore, NotAfter: until, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
	}
	for _, c := range []*x509.Certificate{top, leaf} {
		serial := make([]byte, serialLen)
		if _, err := rand.Read(serial); err != nil {
			return nil, nil, err
		}
		c.SerialNumber = new(big.Int).SetBytes(serial)
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, nil, err
	}
	id := sha256.Sum256(der)
	leaf.SubjectKeyId = id[:20]
	rootDER, err := x509.CreateCertificate(rand.Reader, top, top, above.Public(), above)
	if err != nil {
		return nil, nil, err
	}
	parsed, err := x509.ParseCertificate(rootDER)
	if err != nil {
		return nil, nil, err
	}
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, parsed, public, above)
	if err != nil {
		return nil, nil, err
	}
	root = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: rootDER})
	return append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leafDER}), root...), root, nil
}

// parseSubject reads a subject as RFC 4514 writes it, of the attributes that
// certificates have. Trust policies of the Notary Project want C, ST and O.
func parseSubject(text string) (pkix.Name, error) {
	wrong := func(format string, args ...any) error {
		return fault.New(fault.Invalid, "subject %.100q: "+format, append([]any{text}, args...)...).
			With("write it as CN=build,O=Shop,ST=Berlin,C=DE; CN, O, ST and C must be there, OU and L may be")
	}
	if len(text) > maxSubject {
		return pkix.Name{}, wrong("more than %d bytes", maxSubject)
	}
	var n pkix.Name
	where := map[string]*[]string{"O": &n.Organization, "OU": &n.OrganizationalUnit, "ST": &n.Province, "L": &n.Locality, "C": &n.Country}
	for _, part := range splitSubject(text) {
		key, value, _ := strings.Cut(part, "=")
		key, value = strings.ToUpper(strings.TrimSpace(key)), strings.TrimSpace(value)
		to := where[key]
		switch {
		case value == "" || strings.ContainsFunc(value, func(r rune) bool { return r < ' ' }):
			return pkix.Name{}, wrong("%.40q has no value", key)
		case key == "CN" && n.CommonName == "":
			n.CommonName = value
		case to != nil && len(*to) == 0:
			*to = []string{value}
		default:
			return pkix.Name{}, wrong("%.40q is there twice, or not known", key)
		}
	}
	if n.CommonName == "" || n.Organization == nil || n.Province == nil || n.Country == nil {
		return pkix.Name{}, wrong("CN, O, ST or C is missing")
	}
	if len(n.Country[0]) != 2 {
		return pkix.Name{}, wrong("C is a country's two letters")
	}
	return n, nil
}

// splitSubject splits at commas that no backslash stands before, and drops such
// backslashes.
func splitSubject(text string) []string {
	var parts []string
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\\' && i+1 < len(text):
			i++
			b.WriteByte(text[i])
		case c == ',':
			parts = append(parts, b.String())
			b.Reset()
		default:
			b.WriteByte(c)
		}
	}
	return append(parts, b.String())
}
