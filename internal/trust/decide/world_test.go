package decide_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"io/fs"
	"math/big"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/signature"
	"github.com/castellan-security/castellan/internal/trust/decide"
	"github.com/castellan-security/castellan/internal/trust/policy"
)

// now is when decisions of these tests are made.
var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

const day = 24 * time.Hour

func digest(s string) string {
	h := sha256.Sum256([]byte(s))
	return "sha256:" + hex.EncodeToString(h[:])
}

var (
	image = signature.Subject{Repository: "ghcr.io/acme/shop", Digest: digest("image")}
	index = signature.Subject{Repository: "ghcr.io/acme/shop", Digest: digest("index")}
)

// registry is a Finder whose answers are set.
type registry struct {
	mu    sync.Mutex
	about map[string][]signature.Envelope // by subject
	err   error
	asked int
	hook  func(n int) // called with the number of the question
}

func (r *registry) Envelopes(_ context.Context, s signature.Subject) ([]signature.Envelope, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked++
	if r.hook != nil {
		r.hook(r.asked)
	}
	return r.about[s.Digest], r.err
}

// opener is an Opener for envelopes whose payload names what it says of them.
type opener struct {
	mu     sync.Mutex
	kind   signature.Kind
	says   map[string]func() (signature.Signed, error)
	opened []string
}

func (o *opener) Open(_ context.Context, e signature.Envelope, s signature.Subject, _ time.Time) (signature.Signed, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	name := strings.TrimSpace(string(e.Payload))
	o.opened = append(o.opened, name)
	say, ok := o.says[name]
	if !ok {
		return signature.Signed{}, signature.Refuse(signature.Forged, "the signature does not fit")
	}
	signed, err := say()
	if err == nil && signed.Statement != nil && signed.Statement.Subjects == nil {
		statement := *signed.Statement
		statement.Subjects = []string{s.Digest}
		signed.Statement = &statement
	}
	return signed, err
}

// stage is all that a decision needs.
type stage struct {
	t           testing.TB
	certificate string            // PEM
	keys        map[string]string // PEM by name
	prints      map[string]string // fingerprints by name
	registry    registry
	opener      opener
	notary      opener
	decider     decide.Decider
}

type files map[string]string

func (f files) Read(name string, _ int64) ([]byte, error) {
	if s, ok := f[name]; ok {
		return []byte(s), nil
	}
	return nil, fs.ErrNotExist
}

func (f files) List(string, int) ([]string, error) { return nil, errors.New("no folders") }

// head is the beginning of all policies here: keys a to d, and e, which ended.
const head = `version: 1
roots:
  keys:
    a: a
    b: b
    c: c
    d: d
    ended: {file: ended, notAfter: 2026-02-01}
    lost: {file: lost, lost: 2026-02-01}
    new: {file: new, notBefore: 2026-04-01}
    ending: {file: ending, notAfter: "2026-03-01T13:00:00Z"}
  stores: {acme: {kind: ca, pem: "CERT"}, aws: {kind: signingAuthority, pem: "CERT"}}
  sigstore: {pem: '{"mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.1"}'}
signers:
  build: {key: [a, ended, lost, new, ending]}
  quality: {key: b}
  both: {key: [c, d]}
  staff: {team: true, keyless: {issuer: https://id.example, subject: "*@acme.example"}}
  release: {keyless: {issuer: https://id.example, subject: release@acme.example}}
  ops: {certificate: {store: acme, subject: "O=Acme,CN=ops"}}
  crew: {team: true, certificate: {store: acme, subject: "O=Acme"}}
  aws1: {awsSigner: {store: aws, profile: "arn:aws:signer:eu-central-1:123456789012:/signing-profiles/one"}}
  aws2: {awsSigner: {store: aws, profile: "arn:aws:signer:eu-central-1:123456789012:/signing-profiles/two"}}
images:
`

func setStage(t testing.TB, rules string) *stage {
	t.Helper()
	s := &stage{t: t, keys: map[string]string{}, prints: map[string]string{}}
	for _, name := range []string{"a", "b", "c", "d", "ended", "lost", "new", "ending"} {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		der, err := x509.MarshalPKIXPublicKey(&k.PublicKey)
		if err != nil {
			t.Fatal(err)
		}
		s.keys[name] = string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
		s.prints[name] = digest(string(der))
		if name == "a" {
			c := &x509.Certificate{SerialNumber: big.NewInt(1)}
			cert, err := x509.CreateCertificate(rand.Reader, c, c, &k.PublicKey, k)
			if err != nil {
				t.Fatal(err)
			}
			s.certificate = strconv.Quote(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})))
		}
	}
	p := s.read(head + rules)
	s.registry.about = map[string][]signature.Envelope{}
	s.opener = opener{kind: signature.Sigstore, says: map[string]func() (signature.Signed, error){}}
	s.notary = opener{kind: signature.Notary, says: map[string]func() (signature.Signed, error){}}
	s.decider = decide.Decider{Policy: p, Finder: &s.registry, Openers: map[signature.Kind]decide.Opener{signature.Sigstore: &s.opener, signature.Notary: &s.notary}}
	return s
}

// newKey returns a public key as PEM, and its fingerprint.
func newKey(t testing.TB) (text, print string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&k.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})), digest(string(der))
}

// read reads a policy by the keys of the stage.
func (s *stage) read(text string) *policy.Policy {
	s.t.Helper()
	p, err := policy.Read([]byte(strings.ReplaceAll(text, `"CERT"`, s.certificate)), "castellan-trust.yaml", files(s.keys))
	if err != nil {
		s.t.Fatal(err)
	}
	return p
}

const bundle = "application/vnd.dev.sigstore.bundle.v0.3+json"

// put lists an envelope about a subject, and what its door says of it; a nil
// Kind means Sigstore.
func (s *stage) put(about signature.Subject, name string, signed signature.Signed, err error) {
	door, media := &s.opener, bundle
	if signed.Kind == signature.Notary {
		door, media = &s.notary, "application/jose+json"
	} else if signed.Kind == "" {
		signed.Kind = signature.Sigstore
	}
	door.says[name] = func() (signature.Signed, error) { return signed, err }
	s.registry.about[about.Digest] = append(s.registry.about[about.Digest], signature.Envelope{
		Digest: digest(name), MediaType: media, Payload: []byte(name), Way: signature.ByReferrer,
	})
}

// by returns a signature by a key, with a time that a log proves.
func (s *stage) by(key string) signature.Signed {
	print, ok := s.prints[key]
	if !ok {
		print = digest(key)
	}
	return signature.Signed{
		Identity: signature.Identity{Key: print}, At: now.Add(-time.Hour), Proof: signature.Logged,
		Log: &signature.LogEntry{Index: 7, At: now.Add(-time.Hour)},
	}
}

// keyless returns a signature by a person of acme.example.
func keyless(person, key string) signature.Signed {
	return signature.Signed{
		Identity: signature.Identity{Key: digest(key), Certificate: digest("certificate " + key), Issuer: "https://id.example", Subject: person + "@acme.example"},
		At:       now.Add(-time.Hour), Proof: signature.Logged, Log: &signature.LogEntry{Index: 8, At: now.Add(-time.Hour)},
	}
}

// ops returns a signature by a certificate.
func ops(key string) signature.Signed {
	return signature.Signed{
		Kind:     signature.Notary,
		Identity: signature.Identity{Key: digest(key), Certificate: digest("certificate " + key), Store: "acme", Name: "O=Acme,CN=ops", Root: digest("root")},
		At:       now.Add(-time.Hour), Proof: signature.Claimed, Revocation: signature.NotRevoked,
	}
}

func with(s signature.Signed, change func(*signature.Signed)) signature.Signed {
	change(&s)
	return s
}

func attestation(s signature.Signed, predicate, body string) signature.Signed {
	s.Statement = &signature.Statement{Predicate: predicate, Body: []byte(body)}
	return s
}

const (
	vuln   = "https://cosign.sigstore.dev/attestation/vuln/v1"
	review = "https://acme.example/review/v1"
)

func scanned(at time.Time) string {
	return `{"metadata":{"scanFinishedOn":"` + at.Format(time.RFC3339) + `"},"scanner":{"result":[]}}`
}
