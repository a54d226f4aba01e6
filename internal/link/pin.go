package link

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"strings"

	"github.com/castellan-security/castellan/internal/fault"
)

// fingerprintPrefix names the hash, so that another can come one day.
const fingerprintPrefix = "sha256:"

// TLS returns how a client trusts the server at host: by the one authority with
// this fingerprint, or by the system's authorities when it is empty. The error
// is Invalid, for a fingerprint that is none.
func TLS(host, fingerprint string) (*tls.Config, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if fingerprint == "" {
		return conf, nil
	}
	want, err := parseFingerprint(fingerprint)
	if err != nil {
		return nil, err
	}
	pin(conf, host, want)
	return conf, nil
}

// Fingerprint returns how people compare a certificate: "sha256:" and the hash
// of its DER form in hex.
func Fingerprint(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.Raw)
	return fingerprintPrefix + hex.EncodeToString(sum[:])
}

// SameFingerprint reports whether a fingerprint, as a person gave it, is the
// certificate's; one that is none is nobody's.
func SameFingerprint(cert *x509.Certificate, fingerprint string) bool {
	want, err := parseFingerprint(fingerprint)
	return err == nil && Fingerprint(cert) == want
}

// parseFingerprint also takes the form with colons that openssl prints.
func parseFingerprint(s string) (string, error) {
	digits := strings.ToLower(strings.TrimPrefix(strings.TrimSpace(s), fingerprintPrefix))
	digits = strings.ReplaceAll(digits, ":", "")
	if b, err := hex.DecodeString(digits); err != nil || len(b) != sha256.Size {
		return "", fault.New(fault.Invalid, "CA fingerprint %q: want sha256: and 64 hex digits", s).
			With("copy it from what the server prints at its start")
	}
	return fingerprintPrefix + digits, nil
}

// pin makes conf trust exactly one authority, which the server must send along
// with its certificate.
func pin(conf *tls.Config, host, want string) {
	// The standard verification knows no fingerprints; VerifyConnection below
	// does all that it would have done, and runs on resumed connections too.
	conf.InsecureSkipVerify = true
	conf.VerifyConnection = func(cs tls.ConnectionState) error {
		if len(cs.PeerCertificates) == 0 {
			return errors.New("the server sent no certificate")
		}
		roots, others := x509.NewCertPool(), x509.NewCertPool()
		pinned := false
		for _, cert := range cs.PeerCertificates[1:] {
			if cert.IsCA && Fingerprint(cert) == want {
				roots.AddCert(cert)
				pinned = true
				continue
			}
			others.AddCert(cert)
		}
		if !pinned {
			return errors.New("the server's certificate authority is not the one whose fingerprint was given")
		}
		_, err := cs.PeerCertificates[0].Verify(x509.VerifyOptions{DNSName: host, Roots: roots, Intermediates: others})
		return err
	}
}
