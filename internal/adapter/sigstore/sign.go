package sigstore

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/signature"
)

// SignerOptions say who signs, and which services are asked. None is asked that
// is not named: a key signs without any.
type SignerOptions struct {
	Key   crypto.Signer       // from a file or a KMS; nil to sign keyless
	Chain []*x509.Certificate // of the key, its own first; nil for a key alone
	Token string              // OIDC token, to sign keyless

	Services Services
	Client   *http.Client // nil for one of its own, with time-outs

	// Check opens what was made before it is handed over: a log that answered
	// with a false proof is told at once, not when somebody deploys.
	Check *Opener
}

// Signer signs images and attestations. It may be used by many at once; keyless
// every signature has a key and a certificate of its own.
type Signer struct {
	o    SignerOptions
	http client
}

// NewSigner checks the options.
func NewSigner(o SignerOptions) (*Signer, error) {
	switch {
	case o.Key == nil && o.Token == "":
		return nil, errors.New("there is neither a key nor an OIDC token to sign with")
	case o.Key != nil && o.Token != "":
		return nil, errors.New("there are a key and an OIDC token: sign with one of them")
	case o.Key == nil && o.Services.Fulcio == "":
		return nil, errors.New("signing keyless needs the address of a Fulcio")
	case o.Key == nil && len(o.Services.Logs)+len(o.Services.Stamps) == 0:
		return nil, errors.New("signing keyless needs a log or a time-stamping authority: nobody could tell later that the certificate was valid")
	case o.Services.valid() != nil:
		return nil, o.Services.valid()
	case len(o.Chain) > maxChain:
		return nil, fmt.Errorf("the chain has %d certificates, more than %d", len(o.Chain), maxChain)
	}
	if o.Key != nil {
		if err := allowed(o.Key.Public()); err != nil {
			return nil, fmt.Errorf("sign with this key: %w", err)
		}
	}
	if len(o.Chain) > 0 {
		of, ok := o.Chain[0].PublicKey.(interface{ Equal(crypto.PublicKey) bool })
		if o.Key == nil || !ok || !of.Equal(o.Key.Public()) {
			return nil, errors.New("the first certificate is not that of the key")
		}
	}
	return &Signer{o: o, http: newClient(o.Client)}, nil
}

// Sign says that the subject is signed, and nothing else but the annotations: a
// bundle as cosign 3 writes it.
func (s *Signer) Sign(ctx context.Context, subject signature.Subject, annotations map[string]string) (signature.Envelope, error) {
	return s.bundle(ctx, subject, annotations, signPredicate, json.RawMessage("{}"))
}

// Attest says something about the subject: an in-toto statement with a
// predicate, which is JSON.
func (s *Signer) Attest(ctx context.Context, subject signature.Subject, predicateType string, predicate []byte) (signature.Envelope, error) {
	if err := attestable(predicateType, predicate); err != nil {
		return signature.Envelope{}, err
	}
	return s.bundle(ctx, subject, nil, predicateType, predicate)
}

func attestable(predicateType string, predicate []byte) error {
	if !strings.Contains(predicateType, ":") || len(predicateType) > maxText {
		return fmt.Errorf("the type of the predicate is %q, want a URI", clip(predicateType))
	}
	if len(predicate) > MaxPayload/2 {
		return fmt.Errorf("the predicate has %d bytes, more than %d", len(predicate), MaxPayload/2)
	}
	if _, err := readStatement([]byte(`{"predicate":`+string(predicate)+`}`), ""); err != nil {
		return fmt.Errorf("the predicate is not JSON as it should be: %w", err)
	}
	return nil
}

// statementOf writes an in-toto statement. Cosign reads no later type than v1.
func statementOf(subject signature.Subject, annotations map[string]string, predicateType string, predicate json.RawMessage) ([]byte, error) {
	digest, err := subjectDigest(subject.Digest)
	if err != nil {
		return nil, err
	}
	type descriptor struct {
		Name        string            `json:"name,omitempty"`
		Digest      map[string]string `json:"digest"`
		Annotations map[string]string `json:"annotations,omitempty"`
	}
	return json.Marshal(struct {
		Type          string          `json:"_type"`
		Subject       []descriptor    `json:"subject"`
		PredicateType string          `json:"predicateType"`
		Predicate     json.RawMessage `json:"predicate"`
	}{statementV1, []descriptor{{subject.Repository, map[string]string{"sha256": hex.EncodeToString(digest)}, annotations}}, predicateType, predicate})
}

// signStatement signs a statement, for what is then made of it.
func (s *Signer) signStatement(ctx context.Context, subject signature.Subject, annotations map[string]string, predicateType string, predicate json.RawMessage) (*hand, signing, error) {
	payload, err := statementOf(subject, annotations, predicateType, predicate)
	if err != nil {
		return nil, signing{}, fmt.Errorf("write the statement: %w", err)
	}
	w, err := s.holder(ctx)
	if err != nil {
		return nil, signing{}, err
	}
	message := pae(statementType, payload)
	sig, err := w.sign(message)
	if err != nil {
		return nil, signing{}, err
	}
	return w, signing{payload: payload, message: message, signature: sig}, nil
}

// dsse is the envelope of a statement that was signed.
func (s signing) dsse() *dsseJSON {
	return &dsseJSON{Payload: s.payload, PayloadType: statementType, Signatures: []dsseSignature{{s.signature}}}
}

// bundle signs a statement and asks the services to vouch for it.
func (s *Signer) bundle(ctx context.Context, subject signature.Subject, annotations map[string]string, predicateType string, predicate json.RawMessage) (signature.Envelope, error) {
	w, what, err := s.signStatement(ctx, subject, annotations, predicateType, predicate)
	if err != nil {
		return signature.Envelope{}, err
	}
	v, err := s.vouchers(ctx, w, what)
	if err != nil {
		return signature.Envelope{}, err
	}
	doc, err := json.Marshal(bundleJSON{
		MediaType:            BundleMediaType,
		VerificationMaterial: w.material(v),
		DSSE:                 what.dsse(),
	})
	if err != nil {
		return signature.Envelope{}, err
	}
	return s.checked(ctx, subject, signature.Envelope{
		Digest:       hashName(doc),
		ArtifactType: BundleMediaType,
		MediaType:    BundleMediaType,
		Payload:      doc,
		Way:          signature.ByFile,
		Annotations: map[string]string{
			ContentAnnotation:   "dsse-envelope",
			PredicateAnnotation: predicateType,
		},
	})
}

// checked opens what was made, if there is something to open it with.
func (s *Signer) checked(ctx context.Context, subject signature.Subject, e signature.Envelope) (signature.Envelope, error) {
	if s.o.Check == nil {
		return e, nil
	}
	if _, err := s.o.Check.Open(ctx, e, subject, time.Now()); err != nil {
		return signature.Envelope{}, fmt.Errorf("check the signature that was just made: %w", err)
	}
	return e, nil
}

// hand is what signs once: a key, and what is known of it.
type hand struct {
	key   crypto.Signer
	chain []*x509.Certificate
	spki  []byte
}

func (s *Signer) holder(ctx context.Context) (*hand, error) {
	w := &hand{key: s.o.Key, chain: s.o.Chain}
	if w.key == nil {
		var err error
		if w.key, w.chain, err = s.certify(ctx); err != nil {
			return nil, fmt.Errorf("get a certificate of %s: %w", s.o.Services.Fulcio, err)
		}
	}
	var err error
	_, w.spki, err = fingerprint(w.key.Public())
	return w, err
}

// sign signs a message with the hash of the key's size; RSA by PKCS #1 v1.5,
// which cosign takes, Ed25519 without a hash.
func (w *hand) sign(message []byte) ([]byte, error) {
	opts, digest := crypto.SignerOpts(crypto.Hash(0)), message
	if _, pure := w.key.Public().(ed25519.PublicKey); !pure {
		h := hashesOf(w.key.Public())[0]
		opts, digest = h, sum(h, message)
	}
	sig, err := w.key.Sign(rand.Reader, digest, opts)
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	if !holds(w.key.Public(), message, sig) {
		return nil, errors.New("sign: the key gave a signature that is not its own")
	}
	return sig, nil
}

// pem is the certificate, or the key if there is none, as logs want it.
func (w *hand) pem() []byte {
	if len(w.chain) > 0 {
		return pemOf("CERTIFICATE", w.chain[0].Raw)
	}
	return pemOf("PUBLIC KEY", w.spki)
}

// material is what a bundle needs to be opened. Roots are left out: who opens
// has them, or must not believe them.
func (w *hand) material(v vouchers) materialJSON {
	m := materialJSON{Entries: v.entries}
	if len(v.stamps) > 0 {
		m.Stamps = &stampsJSON{}
		for _, s := range v.stamps {
			m.Stamps.Stamps = append(m.Stamps.Stamps, stampJSON{s})
		}
	}
	var chain []rawJSON
	for i, c := range w.chain {
		if i == 0 || c.CheckSignatureFrom(c) != nil {
			chain = append(chain, rawJSON{c.Raw})
		}
	}
	switch len(chain) {
	case 0:
		id := hashParts(w.spki)
		m.PublicKey = &hintJSON{base64.StdEncoding.EncodeToString(id)}
	case 1:
		m.Certificate = &chain[0]
	default:
		m.Chain = &chainJSON{chain}
	}
	return m
}

// The bundle as JSON (protobuf-specs, Bundle). Bytes are base64, whole numbers
// of 64 bits text.
type (
	bundleJSON struct {
		MediaType            string       `json:"mediaType"`
		VerificationMaterial materialJSON `json:"verificationMaterial"`
		DSSE                 *dsseJSON    `json:"dsseEnvelope,omitempty"`
	}
	materialJSON struct {
		PublicKey   *hintJSON         `json:"publicKey,omitempty"`
		Certificate *rawJSON          `json:"certificate,omitempty"`
		Chain       *chainJSON        `json:"x509CertificateChain,omitempty"`
		Entries     []json.RawMessage `json:"tlogEntries,omitempty"`
		Stamps      *stampsJSON       `json:"timestampVerificationData,omitempty"`
	}
	hintJSON struct {
		Hint string `json:"hint"`
	}
	rawJSON struct {
		RawBytes []byte `json:"rawBytes"`
	}
	chainJSON struct {
		Certificates []rawJSON `json:"certificates"`
	}
	stampsJSON struct {
		Stamps []stampJSON `json:"rfc3161Timestamps"`
	}
	stampJSON struct {
		Signed []byte `json:"signedTimestamp"`
	}
	dsseJSON struct {
		Payload     []byte          `json:"payload"`
		PayloadType string          `json:"payloadType"`
		Signatures  []dsseSignature `json:"signatures"`
	}
	dsseSignature struct {
		Sig []byte `json:"sig"`
	}
)
