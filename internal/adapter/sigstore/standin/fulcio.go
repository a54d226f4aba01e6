package standin

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"errors"
	"math/big"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Holder is for whom a certificate is made.
type Holder struct {
	Issuer  string            // OIDC issuer; "" leaves Fulcio's extensions out
	Subject string            // an e-mail address, or a URI
	Claims  map[string]string // by the last number of Fulcio's extensions, 9 and up
	Old     bool              // write the old extensions only

	From        time.Time        // when it begins; zero is now
	For         time.Duration    // how long it lasts; zero is ten minutes
	Extra       []pkix.Extension // beside or instead of the usual
	NoPromise   bool             // without the certificate log's promise
	FalseLog    bool             // with a promise over something else
	ServerUsage bool             // for servers instead of code
	CA          bool             // an authority's
}

// Certify makes a certificate.
func (s *Sigstore) Certify(pub crypto.PublicKey, h Holder) (*x509.Certificate, error) {
	if h.From.IsZero() {
		h.From = s.Now().Add(-time.Second)
	}
	if h.For == 0 {
		h.For = 10 * time.Minute
	}
	t := &x509.Certificate{
		SerialNumber: new(big.Int).Add(big.NewInt(1<<40), s.next()), NotBefore: h.From, NotAfter: h.From.Add(h.For),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
		IsCA: h.CA, BasicConstraintsValid: h.CA,
	}
	if h.ServerUsage {
		t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	}
	if strings.Contains(h.Subject, "://") {
		u, err := url.Parse(h.Subject)
		if err != nil {
			return nil, err
		}
		t.URIs = []*url.URL{u}
	} else if h.Subject != "" {
		t.EmailAddresses = []string{h.Subject}
	}
	var err error
	if t.ExtraExtensions, err = extensions(h); err != nil {
		return nil, err
	}
	pre, err := issue(t, s.Issuer, pub, s.issuerKey)
	if err != nil || h.NoPromise {
		return pre, err
	}
	tbs := pre.RawTBSCertificate
	if h.FalseLog {
		tbs = s.Issuer.RawTBSCertificate
	}
	promise, err := s.promise(tbs)
	if err != nil {
		return nil, err
	}
	t.ExtraExtensions = append(t.ExtraExtensions, promise)
	return issue(t, s.Issuer, pub, s.issuerKey)
}

func extensions(h Holder) ([]pkix.Extension, error) {
	all := h.Extra
	if h.Issuer == "" {
		return all, nil
	}
	add := func(n int, value []byte) {
		all = append(all, pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, n}, Value: value})
	}
	add(1, []byte(h.Issuer))
	if h.Old {
		for n, text := range h.Claims {
			add(int(n[0]-'0'), []byte(text))
		}
		return all, nil
	}
	text := func(n int, s string) error {
		der, err := asn1.MarshalWithParams(s, "utf8")
		add(n, der)
		return err
	}
	if err := text(8, h.Issuer); err != nil {
		return nil, err
	}
	for n, s := range h.Claims {
		number := 0
		for _, digit := range n {
			number = number*10 + int(digit-'0')
		}
		if err := text(number, s); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// promise makes the certificate log's promise (RFC 6962) over a certificate
// without it.
func (s *Sigstore) promise(tbs []byte) (pkix.Extension, error) {
	now := uint64(s.Now().UnixMilli())
	issuer := sha256.Sum256(s.Issuer.RawSubjectPublicKeyInfo)
	spki, err := x509.MarshalPKIXPublicKey(s.ctKey.Public())
	if err != nil {
		return pkix.Extension{}, err
	}
	id := sha256.Sum256(spki)
	signed := binary.BigEndian.AppendUint64([]byte{0, 0}, now)
	signed = append(binary.BigEndian.AppendUint16(signed, 1), issuer[:]...)
	signed = append(signed, byte(len(tbs)>>16), byte(len(tbs)>>8), byte(len(tbs)))
	signed = append(append(signed, tbs...), 0, 0)
	sig, err := signECDSA(s.ctKey, signed)
	if err != nil {
		return pkix.Extension{}, err
	}
	sct := append([]byte{0}, id[:]...)
	sct = append(binary.BigEndian.AppendUint64(sct, now), 0, 0, 4, 3)
	sct = append(binary.BigEndian.AppendUint16(sct, uint16(len(sig))), sig...)
	one := append(binary.BigEndian.AppendUint16(nil, uint16(len(sct))), sct...)
	list := append(binary.BigEndian.AppendUint16(nil, uint16(len(one))), one...)
	der, err := asn1.Marshal(list)
	return pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11129, 2, 4, 2}, Value: der}, err
}

// Token makes an OIDC token as this Sigstore's Fulcio believes it.
func (s *Sigstore) Token(issuer, subject string) (string, error) {
	return s.edited(issuer, subject, func(map[string]any) {})
}

// edited is Token with other claims.
func (s *Sigstore) edited(issuer, subject string, edit func(map[string]any)) (string, error) {
	claims := map[string]any{
		"iss": issuer, "sub": subject, "aud": "sigstore",
		"iat": s.Now().Unix(), "exp": s.Now().Add(time.Hour).Unix(),
	}
	if strings.Contains(subject, "@") && !strings.Contains(subject, "://") {
		claims["email"], claims["email_verified"] = subject, true
	}
	edit(claims)
	body, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	enc := base64.RawURLEncoding
	text := enc.EncodeToString([]byte(`{"alg":"ES256","typ":"JWT"}`)) + "." + enc.EncodeToString(body)
	sig, err := signECDSA(s.token, []byte(text))
	if err != nil {
		return "", err
	}
	var rs struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(sig, &rs); err != nil {
		return "", err
	}
	raw := append(rs.R.FillBytes(make([]byte, 32)), rs.S.FillBytes(make([]byte, 32))...)
	return text + "." + enc.EncodeToString(raw), nil
}

// signingCert answers as Fulcio's API v2 does.
func (s *Sigstore) signingCert(r *http.Request, body []byte) ([]byte, error) {
	issuer, subject, err := s.bearer(r.Header.Get("Authorization"))
	if err != nil {
		return nil, err
	}
	var req struct {
		Request struct {
			Key   struct{ Content string } `json:"publicKey"`
			Proof []byte                   `json:"proofOfPossession"`
		} `json:"publicKeyRequest"`
	}
	if err := json.Unmarshal(body, &req); err != nil {
		return nil, err
	}
	b, _ := pem.Decode([]byte(req.Request.Key.Content))
	if b == nil {
		return nil, errors.New("no public key")
	}
	pub, err := x509.ParsePKIXPublicKey(b.Bytes)
	if err != nil {
		return nil, err
	}
	digest := sha256.Sum256([]byte(subject))
	if k, ok := pub.(*ecdsa.PublicKey); !ok || !ecdsa.VerifyASN1(k, digest[:], req.Request.Proof) {
		return nil, errors.New("the proof of possession does not hold")
	}
	c, err := s.Certify(pub, Holder{Issuer: issuer, Subject: subject, Claims: map[string]string{"12": "https://example.org/acme/shop"}})
	if err != nil {
		return nil, err
	}
	return json.Marshal(map[string]any{"signedCertificateEmbeddedSct": map[string]any{"chain": map[string]any{
		"certificates": []string{pemOf("CERTIFICATE", c.Raw), pemOf("CERTIFICATE", s.Issuer.Raw), pemOf("CERTIFICATE", s.Root.Raw)},
	}}})
}

// bearer checks a token of Token's.
func (s *Sigstore) bearer(header string) (issuer, subject string, err error) {
	parts := strings.Split(strings.TrimPrefix(header, "Bearer "), ".")
	if len(parts) != 3 {
		return "", "", errors.New("no token")
	}
	enc := base64.RawURLEncoding
	body, err := enc.DecodeString(parts[1])
	if err != nil {
		return "", "", err
	}
	sig, err := enc.DecodeString(parts[2])
	if err != nil || len(sig) != 64 {
		return "", "", errors.New("the token's signature is not one of ES256")
	}
	digest := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	if !ecdsa.Verify(&s.token.PublicKey, digest[:], new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:])) {
		return "", "", errors.New("the token is not signed by its issuer")
	}
	var claims struct{ Iss, Sub string }
	if err := json.Unmarshal(body, &claims); err != nil {
		return "", "", err
	}
	return claims.Iss, claims.Sub, nil
}
