package pki

import (
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/whole"
)

// The files of the folder: <name>.pem holds a certificate and its key.
const (
	rootName = "ca"
	leafName = "server"
)

// maxFile bounds what is read of one: a pair has about a kilobyte.
const maxFile = 64 << 10

const (
	certBlock = "CERTIFICATE"
	keyBlock  = "PRIVATE KEY"
)

var dnsForm = regexp.MustCompile(`^(\*\.)?([A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.)*[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?$`)

func dnsName(s string) bool { return len(s) <= 253 && dnsForm.MatchString(s) }

// readPair returns nil when there is no such file.
func readPair(dir, name string) (*pair, error) {
	path := filepath.Join(dir, name+".pem")
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil && info.Size() > maxFile {
		return nil, damaged(dir, name, fmt.Errorf("it has %d bytes", info.Size()))
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	p, err := parsePair(b)
	if err != nil {
		return nil, damaged(dir, name, err)
	}
	return p, nil
}

func parsePair(b []byte) (*pair, error) {
	var p pair
	for block, rest := pem.Decode(b); block != nil; block, rest = pem.Decode(rest) {
		switch block.Type {
		case certBlock:
			cert, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return nil, err
			}
			p.cert = cert
		case keyBlock:
			key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
			if err != nil {
				return nil, err
			}
			p.key, _ = key.(*ecdsa.PrivateKey)
		}
	}
	if p.cert == nil || p.key == nil {
		return nil, errors.New("a certificate and its ECDSA key are expected")
	}
	if !p.key.PublicKey.Equal(p.cert.PublicKey) {
		return nil, errors.New("certificate and key do not belong together")
	}
	return &p, nil
}

// writePair writes both into one file that is complete whenever it is there.
func writePair(dir, name string, p pair) error {
	path := filepath.Join(dir, name+".pem")
	der, err := x509.MarshalPKCS8PrivateKey(p.key)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	b := append(pem.EncodeToMemory(&pem.Block{Type: certBlock, Bytes: p.cert.Raw}),
		pem.EncodeToMemory(&pem.Block{Type: keyBlock, Bytes: der})...)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make folder for certificates: %w", err)
	}
	if err := whole.Write(path, b); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

func damaged(dir, name string, err error) error {
	path := filepath.Join(dir, name+".pem")
	remedy := "restore the file from a backup, or remove it: a new certificate is made at the next start"
	if name == rootName {
		remedy = "restore the file from a backup, or remove it: a new authority is made at the next start, and every agent must be given its new fingerprint"
	}
	return fault.New(fault.Corrupt, "read %s: %w", path, err).With(remedy)
}
