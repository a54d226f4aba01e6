package main

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/castellan-security/castellan/internal/adapter/aws"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/trust"
)

// ringChain is the chain of certificates that the ring has for the key that signs.
func (s *signerFlags) ringChain(g *globals, now time.Time) ([]*x509.Certificate, error) {
	if aws.IsKMSKey(s.key) {
		return nil, usagef("--format notary needs the chain of certificates of %s: --certificate FILE", s.key)
	}
	if _, err := os.Stat(s.key); err == nil {
		return nil, usagef("--format notary needs the chain of certificates of %s: --certificate FILE", s.key)
	}
	ring := s.ring(g)
	k, err := ring.Find(s.key, now)
	if fault.Is(err, fault.NotFound) {
		return nil, s.noKey()
	}
	if err != nil {
		return nil, err
	}
	file := ring.CertificateFile(k)
	chain, err := g.readCertificates(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.New(fault.NotFound, "key %s has no certificate, which --format notary needs: there is no %s", k.ID(), file).
			With("make one: castellan trust key certificate " + k.ID() + " --subject 'CN=build,O=Shop,ST=Berlin,C=DE'; or name another file: --certificate")
	}
	if err != nil {
		return nil, err
	}
	if err := fits(k, file, chain[0], now); err != nil {
		return nil, err
	}
	_, err = fmt.Fprintf(g.err, "with the certificate of key %s: %s\n", k.ID(), printable(file))
	return chain, err
}

// fits refuses a certificate that is not this key's, or not valid now, before
// anybody is asked for a password.
func fits(k trust.SigningKey, file string, leaf *x509.Certificate, now time.Time) error {
	anew := "move it and its root away, and make one anew: castellan trust key certificate " + k.ID() + " --subject '…'; or name another file: --certificate"
	print, err := trust.KeyFingerprint(leaf.PublicKey)
	switch {
	case err != nil:
		return fmt.Errorf("read certificate %s: %w", file, err)
	case print != k.Fingerprint:
		return fault.New(fault.Invalid, "the first certificate of %s is not that of key %s: it is of the key %s", file, k.ID(), print).With(anew)
	case now.After(leaf.NotAfter):
		return fault.New(fault.Invalid, "the certificate of key %s, %s, expired on %s", k.ID(), file, leaf.NotAfter.UTC().Format(time.RFC3339)).
			With(anew + "; whoever verifies must trust its root, too")
	case now.Before(leaf.NotBefore):
		return fault.New(fault.Invalid, "the certificate of key %s, %s, is valid from %s on", k.ID(), file, leaf.NotBefore.UTC().Format(time.RFC3339)).
			With("is this machine's clock right?")
	}
	return nil
}
