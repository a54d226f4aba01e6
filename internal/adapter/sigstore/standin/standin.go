// Package standin is a whole Sigstore for tests, in one process: a certificate
// authority that answers as Fulcio does, a certificate log, Rekor in its first and
// its second version, and a time-stamping authority. It speaks their protocols, so
// that the real cosign can sign with it, and lets a test make what the real ones
// would never give.
//
// It is not for anything but tests: it believes whoever asks.
package standin

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"sync"
	"time"
)

// maxRequest bounds what a test may send: an attestation in an envelope.
const maxRequest = 32 << 20

// Sigstore is one, with keys of its own.
type Sigstore struct {
	Host string // what its logs are called; the host under which it is reached

	Root, Issuer *x509.Certificate
	issuerKey    *ecdsa.PrivateKey
	ctKey        *ecdsa.PrivateKey
	token        *ecdsa.PrivateKey

	Log1, Log2 *Log

	TSARoot, TSALeaf *x509.Certificate
	tsaKey           *ecdsa.PrivateKey

	mu     sync.Mutex
	serial int64
	taken  map[string]Entry // by the first log, by their names
	Now    func() time.Time // what the time is; may be changed before it is used
}

// New makes a Sigstore that is reached at host.
func New(host string) (*Sigstore, error) {
	s := &Sigstore{Host: host, Now: time.Now, taken: map[string]Entry{}}
	var err error
	key := func() *ecdsa.PrivateKey {
		k, e := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if e != nil && err == nil {
			err = e
		}
		return k
	}
	rootKey, tsaRootKey := key(), key()
	s.issuerKey, s.ctKey, s.token, s.tsaKey = key(), key(), key(), key()
	log1 := key()
	if err != nil {
		return nil, err
	}
	_, log2, err := ed25519.GenerateKey(rand.Reader) // as the public Rekor 2 has
	if err != nil {
		return nil, err
	}
	s.Log1 = &Log{Origin: host + " - 1193050959916656506", name: host, key: log1, V1: true, offset: 1000}
	s.Log2 = &Log{Origin: host, name: host, key: log2}
	long := time.Now().Add(-365 * 24 * time.Hour)
	for _, c := range []struct {
		into            **x509.Certificate
		name            string
		parent          **x509.Certificate
		key, parentKey  *ecdsa.PrivateKey
		ca              bool
		usage           []x509.ExtKeyUsage
		criticalUsageOf bool
	}{
		{&s.Root, "test root", &s.Root, rootKey, rootKey, true, nil, false},
		{&s.Issuer, "test intermediate", &s.Root, s.issuerKey, rootKey, true, []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}, false},
		{&s.TSARoot, "test time root", &s.TSARoot, tsaRootKey, tsaRootKey, true, nil, false},
		{&s.TSALeaf, "test time", &s.TSARoot, s.tsaKey, tsaRootKey, false, nil, true},
	} {
		t := &x509.Certificate{
			SerialNumber: s.next(), Subject: pkix.Name{CommonName: c.name, Organization: []string{"test"}},
			NotBefore: long, NotAfter: long.Add(10 * 365 * 24 * time.Hour), IsCA: c.ca, BasicConstraintsValid: c.ca, ExtKeyUsage: c.usage,
			KeyUsage: x509.KeyUsageDigitalSignature,
		}
		if c.ca {
			t.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
		}
		if c.criticalUsageOf {
			t.ExtraExtensions = []pkix.Extension{TimeStamping()}
		}
		parent := *c.parent
		if parent == nil {
			parent = t
		}
		if *c.into, err = issue(t, parent, c.key.Public(), c.parentKey); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// TimeStamping is the extended key usage of time-stamping authorities, which must
// be critical.
func TimeStamping() pkix.Extension {
	return pkix.Extension{Id: []int{2, 5, 29, 37}, Critical: true, Value: []byte{0x30, 0x0a, 0x06, 0x08, 0x2b, 6, 1, 5, 5, 7, 3, 8}}
}

func (s *Sigstore) next() *big.Int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.serial++
	return big.NewInt(s.serial)
}

func issue(t, parent *x509.Certificate, pub crypto.PublicKey, key crypto.Signer) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, t, parent, pub, key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// Handler serves all of it: /fulcio, /rekor, /rekor2, /tsa.
func (s *Sigstore) Handler() http.Handler {
	mux := http.NewServeMux()
	for path, answer := range map[string]func(*http.Request, []byte) ([]byte, error){
		"/fulcio/api/v2/signingCert": s.signingCert,
		"/rekor/api/v1/log/entries":  s.addEntry,
		"/rekor2/api/v2/log/entries": s.addEntry2,
		"/tsa":                       s.answerStamp,
	} {
		mux.HandleFunc("POST "+path, func(w http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
			var out []byte
			if err == nil {
				out, err = answer(r, body)
			}
			var there conflictError
			if errors.As(err, &there) {
				w.Header().Set("Location", path+"/"+string(there))
				w.WriteHeader(http.StatusConflict)
				return
			}
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			switch path {
			case "/tsa":
				w.Header().Set("Content-Type", "application/timestamp-reply")
				w.WriteHeader(http.StatusCreated)
			case "/fulcio/api/v2/signingCert":
				w.Header().Set("Content-Type", "application/json")
			default:
				w.Header().Set("Content-Type", "application/json")
				w.Header().Set("ETag", entryID(out))
				w.WriteHeader(http.StatusCreated)
			}
			_, _ = w.Write(out)
		})
	}
	mux.HandleFunc("GET /rekor/api/v1/log/entries/{id}", func(w http.ResponseWriter, r *http.Request) {
		out, err := s.getEntry(r.PathValue("id"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusNotFound)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(out)
	})
	return mux
}

// entryID is under which name the first version's answer has its entry.
func entryID(answer []byte) string {
	var all map[string]json.RawMessage
	if json.Unmarshal(answer, &all) == nil && len(all) == 1 {
		for id := range all {
			return id
		}
	}
	return ""
}

// Parts are what a trusted root names.
type Parts struct{ Fulcio, CT, Log1, Log2, TSA bool }

// All is everything.
func All() Parts { return Parts{true, true, true, true, true} }

// TrustedRoot writes the trusted root of the parts, reached at base.
func (s *Sigstore) TrustedRoot(base string, p Parts) []byte {
	type m = map[string]any
	since := m{"start": s.Root.NotBefore.UTC().Format(time.RFC3339)}
	logOf := func(l *Log, url string) m {
		spki, _ := x509.MarshalPKIXPublicKey(l.key.Public()) // our own key
		details := "PKIX_ECDSA_P256_SHA_256"
		if _, ed := l.key.(ed25519.PrivateKey); ed {
			details = "PKIX_ED25519"
		}
		return m{
			"baseUrl": url, "hashAlgorithm": "SHA2_256", "logId": m{"keyId": l.ID()},
			"publicKey": m{"rawBytes": spki, "keyDetails": details, "validFor": since},
		}
	}
	authority := func(url string, chain ...*x509.Certificate) m {
		var all []m
		for _, c := range chain {
			all = append(all, m{"rawBytes": c.Raw})
		}
		return m{"subject": m{"organization": "test", "commonName": chain[0].Subject.CommonName}, "uri": url, "certChain": m{"certificates": all}, "validFor": since}
	}
	root := m{"mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1"}
	if p.Fulcio {
		root["certificateAuthorities"] = []m{authority(base+"/fulcio", s.Issuer, s.Root)}
	}
	if p.CT {
		root["ctlogs"] = []m{logOf(&Log{key: s.ctKey}, base+"/ct")}
	}
	var logs []m
	if p.Log1 {
		logs = append(logs, logOf(s.Log1, base+"/rekor"))
	}
	if p.Log2 {
		logs = append(logs, logOf(s.Log2, base+"/rekor2"))
	}
	if logs != nil {
		root["tlogs"] = logs
	}
	if p.TSA {
		root["timestampAuthorities"] = []m{authority(base+"/tsa", s.TSALeaf, s.TSARoot)}
	}
	doc, _ := json.Marshal(root) // maps of strings and bytes
	return doc
}

// SigningConfig writes where the parts are asked. Persons sign in at /oidc, where an
// Issuer may be put.
func (s *Sigstore) SigningConfig(base string, p Parts) []byte {
	type m = map[string]any
	service := func(path string, version int) m {
		return m{"url": base + path, "majorApiVersion": version, "operator": "test" + path, "validFor": m{"start": s.Root.NotBefore.UTC().Format(time.RFC3339)}}
	}
	config := m{
		"mediaType":       "application/vnd.dev.sigstore.signingconfig.v0.2+json",
		"rekorTlogConfig": m{"selector": "ANY"}, "tsaConfig": m{"selector": "ANY"},
	}
	if p.Fulcio {
		config["caUrls"] = []m{service("/fulcio", 1)}
		config["oidcUrls"] = []m{service("/oidc", 1)}
	}
	if p.Log1 {
		config["rekorTlogUrls"] = []m{service("/rekor", 1)}
	}
	if p.Log2 {
		config["rekorTlogUrls"] = []m{service("/rekor2", 2)}
	}
	if p.TSA {
		config["tsaUrls"] = []m{service("/tsa", 1)}
	}
	doc, _ := json.Marshal(config) // maps of strings
	return doc
}

func pemOf(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

// signWith signs with the key of a log.
func signWith(key crypto.Signer, message []byte) ([]byte, error) {
	if k, ok := key.(*ecdsa.PrivateKey); ok {
		return signECDSA(k, message)
	}
	return key.Sign(rand.Reader, message, crypto.Hash(0))
}

func signECDSA(key *ecdsa.PrivateKey, message []byte) ([]byte, error) {
	digest := sha256.Sum256(message)
	sig, err := ecdsa.SignASN1(rand.Reader, key, digest[:])
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	return sig, nil
}
