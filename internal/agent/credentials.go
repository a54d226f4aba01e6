package agent

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/pace"
	"github.com/castellan-security/castellan/internal/whole"
)

const (
	// joinedFile holds what the agent proves itself with, in its data folder.
	joinedFile = "joined.json"
	// maxJoined bounds what is read of it: it has about two kilobytes.
	maxJoined = 64 << 10
	// A certificate is renewed when renewAfter of its life has passed, some hours
	// later at random: the others stay for a server that is away.
	renewAfter = 3
	// renewSpread keeps a fleet that joined at once from renewing at once.
	renewSpread = 12 * time.Hour
	// lookEvery is how often the agent looks whether it is time.
	lookEvery   = 10 * time.Minute
	maxHostname = 253 // of a DNS name; what is longer is cut
)

// Credentials are an agent's key and certificate with the server that they are
// for, kept in its data folder. They are safe for concurrent use.
//
// The key never leaves this host. Whoever can read the folder is this agent to
// the server, until somebody revokes it there.
type Credentials struct {
	dir    string
	server string
	spread time.Duration // of this start

	mu        sync.Mutex
	cert      *tls.Certificate
	authority *x509.Certificate
}

// kept is the form of joinedFile. Fields are only added.
type kept struct {
	Server      string `json:"server"`
	Key         []byte `json:"key"`         // PKCS #8, DER
	Certificate []byte `json:"certificate"` // DER
	Authority   []byte `json:"authority"`   // DER
}

// JoinOptions are what an agent needs to join a server.
type JoinOptions struct {
	Server      string // https://host:port
	Fingerprint string // of the server's authority; empty: the system's authorities vouch for the server
	Token       string // of an invitation
	Version     string // of this build
	Again       bool   // an agent that has joined already forgets that
}

// Join exchanges a token for credentials and keeps them in the data folder.
// Conflict: the folder's agent has joined already. Nothing is kept unless
// everything is in order.
func Join(ctx context.Context, dir string, o JoinOptions) (*Credentials, error) {
	if _, err := os.Lstat(filepath.Join(dir, joinedFile)); err == nil && !o.Again {
		return nil, fault.New(fault.Conflict, "the agent with data in %s has joined already", dir).
			With("to join another server, or the same one anew, say --again")
	}
	id, err := Identity(dir)
	if err != nil {
		return nil, err
	}
	key, csr, err := newKey(id)
	if err != nil {
		return nil, err
	}
	hostname, err := os.Hostname()
	if err != nil {
		hostname = "" // a host without a name joins too
	}
	got, err := link.Join(ctx, o.Server, o.Fingerprint, link.JoinRequest{
		Token: o.Token, CSR: csr, AgentID: id, Hostname: hostname[:min(len(hostname), maxHostname)], Version: o.Version,
	})
	if err != nil {
		return nil, err
	}
	c := &Credentials{dir: dir, server: o.Server, spread: jitter(renewSpread)}
	cert, authority, err := check(got, id, key, o.Fingerprint)
	if err != nil {
		return nil, err
	}
	return c, c.keep(cert, authority)
}

// OpenCredentials reads what Join kept. NotFound: the agent has not joined;
// Corrupt: the file is damaged.
func OpenCredentials(dir string) (*Credentials, error) {
	path := filepath.Join(dir, joinedFile)
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.New(fault.NotFound, "the agent with data in %s has not joined a server", dir).
			With("invite it on the server: castellan agents invite; then join here: castellan agent join")
	}
	if err != nil {
		return nil, fmt.Errorf("read the agent's certificate: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxJoined))
	if err != nil {
		return nil, fmt.Errorf("read the agent's certificate: %w", err)
	}
	c := &Credentials{dir: dir, spread: jitter(renewSpread)}
	if err := c.parse(b); err != nil {
		return nil, fault.New(fault.Corrupt, "read %s: %w", path, err).
			With("restore the file from a backup, or join anew: castellan agent join --again")
	}
	return c, nil
}

func (c *Credentials) parse(b []byte) error {
	var k kept
	if err := json.Unmarshal(b, &k); err != nil {
		return err
	}
	parsed, err := x509.ParsePKCS8PrivateKey(k.Key)
	if err != nil {
		return err
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok {
		return errors.New("the key is not ECDSA")
	}
	leaf, err := x509.ParseCertificate(k.Certificate)
	if err != nil {
		return err
	}
	if !key.PublicKey.Equal(leaf.PublicKey) {
		return errors.New("certificate and key do not belong together")
	}
	if c.authority, err = x509.ParseCertificate(k.Authority); err != nil {
		return err
	}
	c.server = k.Server
	c.cert = &tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf}
	return nil
}

// newKey makes a key and the request for a certificate of it.
func newKey(id string) (*ecdsa.PrivateKey, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("make a key: %w", err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: id}}, key)
	if err != nil {
		return nil, nil, fmt.Errorf("make a certificate request: %w", err)
	}
	return key, csr, nil
}

// check holds the server to its word: the certificate is for this agent and
// this key, and of the authority that is trusted.
func check(got link.Credentials, id string, key *ecdsa.PrivateKey, fingerprint string) (*tls.Certificate, *x509.Certificate, error) {
	wrong := func(format string, args ...any) (*tls.Certificate, *x509.Certificate, error) {
		return nil, nil, fault.New(fault.Corrupt, "the server's answer cannot be used: "+format, args...).
			With("check the address of the server, and that it is of the same version or newer")
	}
	leaf, err := x509.ParseCertificate(got.Certificate)
	if err != nil {
		return wrong("%w", err)
	}
	authority, err := x509.ParseCertificate(got.Authority)
	if err != nil {
		return wrong("%w", err)
	}
	if fingerprint != "" && !link.SameFingerprint(authority, fingerprint) {
		return wrong("its authority is not the one whose fingerprint was given")
	}
	if leaf.Subject.CommonName != id || !key.PublicKey.Equal(leaf.PublicKey) {
		return wrong("the certificate is for another agent or another key")
	}
	if err := leaf.CheckSignatureFrom(authority); err != nil {
		return wrong("%w", err)
	}
	return &tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf}, authority, nil
}

// keep writes the credentials and then works by them.
func (c *Credentials) keep(cert *tls.Certificate, authority *x509.Certificate) error {
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		return fmt.Errorf("write the agent's key: %w", err)
	}
	b, err := json.MarshalIndent(kept{Server: c.server, Key: key, Certificate: cert.Leaf.Raw, Authority: authority.Raw}, "", "  ")
	if err != nil {
		return fmt.Errorf("write the agent's certificate: %w", err)
	}
	path := filepath.Join(c.dir, joinedFile)
	if err := errors.Join(whole.Write(path, append(b, '\n')), syncFolder(c.dir)); err != nil {
		return fmt.Errorf("keep the agent's certificate: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cert, c.authority = cert, authority
	return nil
}

// syncFolder makes a rename in the folder survive a power loss.
func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Server returns the address of the server that the agent joined.
func (c *Credentials) Server() string { return c.server }

// Certificate returns the certificate of now.
func (c *Credentials) Certificate() *tls.Certificate {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cert
}

// Authority returns the one that the agent trusts to vouch for its server.
func (c *Credentials) Authority() *x509.Certificate {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.authority
}

// AgentID returns whom the certificate is of.
func (c *Credentials) AgentID() string { return c.Certificate().Leaf.Subject.CommonName }

// Due reports whether the certificate should be renewed by now.
func (c *Credentials) Due(now time.Time) bool {
	leaf := c.Certificate().Leaf
	third := leaf.NotAfter.Sub(leaf.NotBefore) / renewAfter
	return now.After(leaf.NotBefore.Add(third + c.spread))
}

// Renewer gives new certificates; link.Client is one.
type Renewer interface {
	// Renew exchanges the certificate of now for a new one; see link.Joiner.
	Renew(ctx context.Context, csr []byte) (link.Credentials, error)
	// Renewed makes the client prove itself by the new certificate.
	Renewed()
}

// Renew gets and keeps a new certificate for a new key. Until everything is in
// order the old one stays.
func (c *Credentials) Renew(ctx context.Context, r Renewer) error {
	id := c.AgentID()
	key, csr, err := newKey(id)
	if err != nil {
		return err
	}
	got, err := r.Renew(ctx, csr)
	if err != nil {
		return fmt.Errorf("renew the agent's certificate: %w", err)
	}
	if !bytes.Equal(got.Authority, c.Authority().Raw) {
		return fault.New(fault.Corrupt, "renew the agent's certificate: the server has another authority than when this agent joined").
			With("join anew: castellan agent join --again")
	}
	cert, authority, err := check(got, id, key, "")
	if err != nil {
		return err
	}
	if err := c.keep(cert, authority); err != nil {
		return err
	}
	r.Renewed()
	return nil
}

// Keep renews the certificate whenever it is due, until ctx ends.
func (c *Credentials) Keep(ctx context.Context, r Renewer, log *slog.Logger) {
	for {
		if c.Due(time.Now()) {
			if err := c.Renew(ctx, r); err == nil {
				log.Info("certificate renewed", "expires", c.Certificate().Leaf.NotAfter)
			} else if ctx.Err() == nil {
				log.Warn("certificate not renewed", "expires", c.Certificate().Leaf.NotAfter, "error", err, "remedy", fault.Remedy(err))
			}
		}
		if !pace.Wait(ctx, jitter(lookEvery)) {
			return
		}
	}
}
