package notary

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha1" // as RFC 6960 names keys; nothing is trusted for it
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/castellan-security/castellan/internal/signature"
)

const (
	// ocspWithin is how long one responder may take, and ocspAll how long all that
	// are asked about one signature: they answer within tenths of a second.
	ocspWithin = 5 * time.Second
	ocspAll    = 15 * time.Second
	// maxOCSP bounds an answer: one has a kilobyte or two, with a certificate.
	maxOCSP = 32 << 10
	// maxResponders bounds who is asked about one certificate, maxAnswers what is
	// remembered.
	maxResponders = 2
	maxAnswers    = 4096
	// ocspRemembered is how long an answer is used at most, and ocspSilence for how
	// long one that did not answer is not asked again.
	ocspRemembered = time.Hour
	ocspSilence    = time.Minute
)

// Responders asks the OCSP responders that certificates name whether they were
// revoked (RFC 6960). It asks about certificates alone that a trusted root vouches
// for, so that no stranger chooses whom it asks. It may be used by several
// goroutines.
type Responders struct {
	http *http.Client
	log  *slog.Logger

	mu      sync.Mutex
	answers map[string]remembered // by certificate and issuer
}

// remembered is an answer, or that there was none.
type remembered struct {
	said  *ocsp.Response // nil: nobody gave one that could be believed
	until time.Time
}

// NewResponders returns the door; it asks nobody yet. A nil client is one of its
// own, which follows no redirections. What no responder could be asked is told to
// log, as the signature is not to blame for it.
func NewResponders(client *http.Client, log *slog.Logger) *Responders {
	if client == nil {
		client = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error {
			return errors.New("it sends us elsewhere")
		}}
	}
	return &Responders{http: client, log: log, answers: map[string]remembered{}}
}

// revocation is what is known of the revocation of a verified chain: by the lists,
// and by the responders if they may be asked. A list that revokes counts whatever a
// responder says, and what a responder says counts before a list that does not.
func (o *Opener) revocation(ctx context.Context, chain []*x509.Certificate, proven, at time.Time, online bool) (standing, error) {
	if !online || o.ocsp == nil {
		return revocation(o.lists, chain, proven, at)
	}
	asking, cancel := context.WithTimeout(ctx, ocspAll)
	defer cancel()
	var all standing
	for i := len(chain) - 2; i >= 0; i-- {
		one, err := lookUp(o.lists, chain[i], chain[i+1], proven, at)
		if err != nil {
			return standing{}, err
		}
		said, err := o.ocsp.ask(asking, o.lists, chain[i], chain[i+1], proven, at)
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return standing{}, err
		}
		if said.state == signature.NotRevoked {
			one = said
		}
		all = all.and(one)
	}
	return all, nil
}

// ask says what the responders of a certificate say. Only that it was revoked is an
// error.
func (r *Responders) ask(ctx context.Context, lists []*list, cert, issuer *x509.Certificate, proven, at time.Time) (standing, error) {
	if len(cert.OCSPServer) == 0 {
		return standing{}, nil
	}
	key := digest(cert.Raw) + digest(issuer.Raw)
	r.mu.Lock()
	have, known := r.answers[key]
	r.mu.Unlock()
	if !known || !at.Before(have.until) {
		have = r.fresh(ctx, lists, cert, issuer, at)
		if ctx.Err() == nil {
			r.remember(key, have)
		}
	}
	said := have.said
	switch {
	case said == nil:
		return standing{state: signature.RevocationSilent}, nil
	case said.Status == ocsp.Good:
		return standing{signature.NotRevoked, said.NextUpdate}, nil
	}
	if since, ok := invalidSince(x509.RevocationListEntry{Extensions: said.Extensions}); ok && !proven.IsZero() && proven.Before(since) {
		return standing{signature.NotRevoked, said.NextUpdate}, nil
	}
	return standing{}, signature.Refuse(signature.Revoked, "the certificate of %s was revoked on %s, says its OCSP responder%s", named(cert), stamp(said.RevokedAt), because(said.RevocationReason))
}

// remember keeps an answer. When there are too many, all are forgotten: to ask
// again does no harm.
func (r *Responders) remember(key string, a remembered) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.answers) >= maxAnswers {
		clear(r.answers)
	}
	r.answers[key] = a
}

// fresh asks the responders one after the other until one gives an answer that can
// be believed.
func (r *Responders) fresh(ctx context.Context, lists []*list, cert, issuer *x509.Certificate, at time.Time) remembered {
	body, err := ocsp.CreateRequest(cert, issuer, nil)
	if err != nil {
		r.log.Warn("revocation not asked", "certificate", named(cert), "error", err)
		return remembered{until: at.Add(ocspSilence)}
	}
	for _, u := range cert.OCSPServer[:min(len(cert.OCSPServer), maxResponders)] {
		b, err := r.post(ctx, u, body)
		var said *ocsp.Response
		if err == nil {
			said, err = believed(b, lists, cert, issuer, at)
		}
		if err == nil {
			return remembered{said, earlier(said.NextUpdate, at.Add(ocspRemembered))}
		}
		r.log.Warn("revocation not known", "certificate", named(cert), "responder", shown(u), "error", shown(err.Error()))
	}
	return remembered{until: at.Add(ocspSilence)}
}

// post asks one responder.
func (r *Responders) post(ctx context.Context, address string, body []byte) ([]byte, error) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil {
		return nil, errors.New("it is no http or https URL without a user")
	}
	ctx, cancel := context.WithTimeout(ctx, ocspWithin)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/ocsp-request")
	req.Header.Set("Accept", "application/ocsp-response")
	resp, err := r.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("it answers %d", resp.StatusCode)
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxOCSP+1))
	if err == nil && len(b) > maxOCSP {
		err = fmt.Errorf("its answer has more than %d bytes", maxOCSP)
	}
	return b, err
}

// believed reads an answer and holds it against all that RFC 6960, 3.2, wants.
func believed(b []byte, lists []*list, cert, issuer *x509.Certificate, at time.Time) (*ocsp.Response, error) {
	said, err := ocsp.ParseResponseForCert(b, cert, issuer)
	if err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	if said.SerialNumber == nil || said.SerialNumber.Cmp(cert.SerialNumber) != 0 {
		return nil, errors.New("the answer is about another certificate")
	}
	if err := aboutIssuer(said, issuer); err != nil {
		return nil, err
	}
	if isWeak(said.SignatureAlgorithm) {
		return nil, fmt.Errorf("the answer is signed with %s", said.SignatureAlgorithm)
	}
	by := issuer
	if said.Certificate != nil && !bytes.Equal(said.Certificate.Raw, issuer.Raw) {
		by = said.Certificate
		if err := delegated(by, lists, issuer, at); err != nil {
			return nil, err
		}
	}
	if err := signedBy(said, by); err != nil {
		return nil, err
	}
	switch {
	case said.ThisUpdate.After(at.Add(skew)):
		return nil, fmt.Errorf("the answer is of %s, which is yet to come", stamp(said.ThisUpdate))
	case said.NextUpdate.IsZero():
		return nil, errors.New("the answer does not say how long it holds")
	case said.NextUpdate.Before(said.ThisUpdate) || !at.Before(said.NextUpdate):
		return nil, fmt.Errorf("the answer held until %s", stamp(said.NextUpdate))
	case said.Status != ocsp.Good && said.Status != ocsp.Revoked:
		return nil, errors.New("it does not know the certificate")
	}
	return said, nil
}

// delegated wants a certificate to be one that the issuer itself gave for answers,
// and that is good now.
func delegated(by *x509.Certificate, lists []*list, issuer *x509.Certificate, at time.Time) error {
	switch {
	case !bytes.Equal(by.RawIssuer, issuer.RawSubject):
		return errors.New("who answers has his certificate from somebody else than the issuer")
	case isWeak(by.SignatureAlgorithm):
		return fmt.Errorf("the certificate of who answers is signed with %s", by.SignatureAlgorithm)
	case !slices.Contains(by.ExtKeyUsage, x509.ExtKeyUsageOCSPSigning):
		return errors.New("the certificate of who answers is not for answers")
	case by.KeyUsage != 0 && by.KeyUsage&x509.KeyUsageDigitalSignature == 0:
		return errors.New("the certificate of who answers is not for signatures")
	case at.Before(by.NotBefore) || at.After(by.NotAfter):
		return errors.New("the certificate of who answers is not valid now")
	case len(by.UnhandledCriticalExtensions) > 0:
		return errors.New("the certificate of who answers has a critical extension that is not known")
	}
	if err := checkKey(by, true); err != nil {
		return err
	}
	// In a list it may be; to ask a responder about itself says nothing.
	_, err := lookUp(lists, by, issuer, time.Time{}, at)
	return err
}

// signedBy wants the responder that an answer names to be the one that signed it.
func signedBy(said *ocsp.Response, by *x509.Certificate) error {
	if said.RawResponderName != nil {
		if !bytes.Equal(said.RawResponderName, by.RawSubject) {
			return errors.New("the answer names another responder than the one that signed it")
		}
		return nil
	}
	id, err := keyBits(by)
	if err != nil {
		return err
	}
	if sum := sha1.Sum(id); !bytes.Equal(said.ResponderKeyHash, sum[:]) {
		return errors.New("the answer names another responder than the one that signed it")
	}
	return nil
}

// keyBits are those of a certificate's public key, without its algorithm.
func keyBits(c *x509.Certificate) ([]byte, error) {
	var spki struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	if rest, err := asn1.Unmarshal(c.RawSubjectPublicKeyInfo, &spki); err != nil || len(rest) > 0 {
		return nil, errors.New("the public key of who answers can't be read")
	}
	return spki.Key.RightAlign(), nil
}

// certID is whose certificate an answer is about (RFC 6960, 4.1.1).
type certID struct {
	Hash   pkix.AlgorithmIdentifier
	Name   []byte
	Key    []byte
	Serial *big.Int
}

// aboutIssuer wants the first answer with that serial number, which was taken, to be
// about a certificate of this issuer: another's may have the same number.
func aboutIssuer(said *ocsp.Response, issuer *x509.Certificate) error {
	other := errors.New("the answer is about another issuer's certificate")
	var data struct {
		Version    int `asn1:"optional,default:0,explicit,tag:0"`
		Responder  asn1.RawValue
		ProducedAt time.Time `asn1:"generalized"`
		Responses  []asn1.RawValue
	}
	if _, err := asn1.Unmarshal(said.TBSResponseData, &data); err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	key, err := keyBits(issuer)
	if err != nil {
		return err
	}
	for _, raw := range data.Responses {
		var id certID
		if _, err := asn1.Unmarshal(raw.Bytes, &id); err != nil {
			return fmt.Errorf("read the answer: %w", err)
		}
		if id.Serial.Cmp(said.SerialNumber) != 0 {
			continue
		}
		if !bytes.Equal(id.Name, hashed(said.IssuerHash, issuer.RawSubject)) || !bytes.Equal(id.Key, hashed(said.IssuerHash, key)) {
			return other
		}
		return nil
	}
	return other
}

func hashed(by crypto.Hash, b []byte) []byte {
	h := by.New()
	h.Write(b)
	return h.Sum(nil)
}
