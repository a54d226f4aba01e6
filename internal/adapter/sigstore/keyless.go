package sigstore

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// maxToken bounds an OIDC token; those of CI servers have two kilobytes.
const maxToken = 32 << 10

// certify makes a key and asks Fulcio (API v2) to certify that who holds the
// token holds it.
func (s *Signer) certify(ctx context.Context) (crypto.Signer, []*x509.Certificate, error) {
	who, err := tokenSubject(s.o.Token)
	if err != nil {
		return nil, nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	proof, err := key.Sign(rand.Reader, sum(crypto.SHA256, []byte(who)), crypto.SHA256)
	if err != nil {
		return nil, nil, err
	}
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, nil, err
	}
	type publicKey struct {
		Algorithm string `json:"algorithm"`
		Content   string `json:"content"`
	}
	var body struct {
		Request struct {
			Key   publicKey `json:"publicKey"`
			Proof []byte    `json:"proofOfPossession"`
		} `json:"publicKeyRequest"`
	}
	body.Request.Key = publicKey{"ECDSA", string(pemOf("PUBLIC KEY", spki))}
	body.Request.Proof = proof
	doc, err := json.Marshal(body)
	if err != nil {
		return nil, nil, err
	}
	address, err := join(s.o.Services.Fulcio, "api/v2/signingCert")
	if err != nil {
		return nil, nil, err
	}
	answer, err := s.http.post(ctx, address, "application/json", doc, http.Header{"Authorization": {"Bearer " + s.o.Token}})
	if err != nil {
		return nil, nil, err
	}
	chain, err := certified(answer)
	if err != nil {
		return nil, nil, err
	}
	if !key.PublicKey.Equal(chain[0].PublicKey) {
		return nil, nil, errors.New("the certificate is for another key")
	}
	return key, chain[:1], nil
}

// certified reads Fulcio's answer.
func certified(answer []byte) ([]*x509.Certificate, error) {
	o, err := parseObject(answer)
	if err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	list := o.object("signedCertificateEmbeddedSct").object("chain").list("certificates", maxChain)
	if len(list) == 0 {
		list = o.object("signedCertificateDetachedSct").object("chain").list("certificates", maxChain)
	}
	if err := o.err(); err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	var chain []*x509.Certificate
	for _, each := range list {
		text, _ := each.(string)
		b, _ := pem.Decode([]byte(text))
		if b == nil {
			return nil, errors.New("the answer has something that is no certificate")
		}
		c, err := x509.ParseCertificate(b.Bytes)
		if err != nil {
			return nil, fmt.Errorf("read the certificate: %w", err)
		}
		chain = append(chain, c)
	}
	if len(chain) == 0 {
		return nil, errors.New("the answer has no certificate")
	}
	return chain, nil
}

// tokenSubject reads whose token it is: what Fulcio wants signed as a proof that
// the key is there. Fulcio, not we, checks the token.
func tokenSubject(token string) (string, error) {
	wrong := errors.New("the OIDC token is not a JSON Web Token")
	parts := strings.Split(token, ".")
	if len(parts) != 3 || len(token) > maxToken {
		return "", wrong
	}
	body, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return "", wrong
	}
	var claims struct {
		Subject  string `json:"sub"`
		Email    string `json:"email"`
		Verified any    `json:"email_verified"` // some write "true"
	}
	if err := json.Unmarshal(body, &claims); err != nil {
		return "", wrong
	}
	switch {
	case claims.Email != "" && claims.Verified != true && claims.Verified != "true":
		return "", errors.New("the OIDC token's e-mail address was not verified by who gave it")
	case claims.Email != "":
		return claims.Email, nil
	case claims.Subject == "":
		return "", errors.New("the OIDC token says nobody's name")
	}
	return claims.Subject, nil
}

func pemOf(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// audience is what a token must be for, or Fulcio refuses it.
const audience = "sigstore"

// AmbientToken gets an OIDC token where a CI server offers one: SIGSTORE_ID_TOKEN
// (GitLab's id_tokens, CodeBuild and others by hand) or GitHub Actions with
// `permissions: id-token: write`. "" means that none is offered.
func AmbientToken(ctx context.Context, getenv func(string) string, c *http.Client) (string, error) {
	if t := strings.TrimSpace(getenv("SIGSTORE_ID_TOKEN")); t != "" {
		return t, nil
	}
	address, secret := getenv("ACTIONS_ID_TOKEN_REQUEST_URL"), getenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN")
	if address == "" || secret == "" {
		return "", nil
	}
	if strings.Contains(address, "?") {
		address += "&audience=" + audience
	} else {
		address += "?audience=" + audience
	}
	answer, err := newClient(c).get(ctx, address, http.Header{"Authorization": {"Bearer " + secret}})
	if err != nil {
		return "", fmt.Errorf("get an OIDC token of GitHub Actions: %w", err)
	}
	o, err := parseObject(answer)
	if err != nil {
		return "", fmt.Errorf("get an OIDC token of GitHub Actions: %w", err)
	}
	t := o.text("value")
	if err := o.err(); err != nil || t == "" || len(t) > maxToken {
		return "", errors.New("get an OIDC token of GitHub Actions: there is none in its answer")
	}
	return t, nil
}
