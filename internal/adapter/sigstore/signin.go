package sigstore

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/fault"
)

const (
	// signInWithin is how long a person has to sign in: pages of issuers live as long.
	signInWithin = 5 * time.Minute
	// maxOIDC bounds an issuer's answers: a token has some kilobytes.
	maxOIDC = 256 << 10
	// secretLen is of states, nonces and code verifiers: RFC 7636 wants 32 bytes.
	secretLen = 32
	// clockSkew is how far an issuer's clock may be from ours.
	clockSkew = 5 * time.Minute
	scopes    = "openid email"
)

// PublicIssuer is the OIDC issuer of the public Sigstore, and PublicClient what
// programs call themselves there.
const (
	PublicIssuer = "https://oauth2.sigstore.dev/auth"
	PublicClient = "sigstore"
)

// SignIn gets an OIDC token for a person, who signs in where the issuer says, in a
// browser of his: on this machine (Browser), or on any (Device). Nothing is started
// here, and no secret of the person is seen.
type SignIn struct {
	Issuer string // its address
	Client string // what this program is called there; "": PublicClient
	// Tell tells the person where to go.
	Tell func(where Visit)
	HTTP *http.Client // nil: one of its own

	wait func(context.Context, time.Duration) error // nil: as long as it says
	now  func() time.Time                           // nil: the clock
}

// Visit is where a person signs in. All of it is the issuer's text.
type Visit struct {
	Address string
	Code    string // to be typed in there; "" if nothing is
}

// provider is what an issuer says of itself (OpenID Connect Discovery 1.0).
type provider struct {
	Issuer        string   `json:"issuer"`
	Authorization string   `json:"authorization_endpoint"`
	Token         string   `json:"token_endpoint"`
	Device        string   `json:"device_authorization_endpoint"`
	Challenges    []string `json:"code_challenge_methods_supported"`
}

// discover asks the issuer where its parts are.
func (s *SignIn) discover(ctx context.Context) (provider, error) {
	var p provider
	if err := sendable(s.Issuer); err != nil {
		return p, fault.New(fault.Invalid, "OIDC issuer: %w", err).With("name its address: --oidc-issuer https://…")
	}
	address, err := join(s.Issuer, ".well-known/openid-configuration")
	if err != nil {
		return p, err
	}
	status, b, err := s.do(ctx, http.MethodGet, address, nil)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("it answers %d", status)
	}
	if err == nil {
		err = json.Unmarshal(b, &p)
	}
	if err != nil {
		return p, fault.New(fault.Unavailable, "ask the OIDC issuer %s what it can: %w", clip(s.Issuer), err).With("is the address right, and can it be reached from here?")
	}
	if p.Issuer != s.Issuer {
		return p, fault.New(fault.Invalid, "the OIDC issuer %s calls itself %q", clip(s.Issuer), clip(p.Issuer)).With("name it as it calls itself: --oidc-issuer")
	}
	if len(p.Challenges) > 0 && !slices.Contains(p.Challenges, "S256") {
		return p, fault.New(fault.Unsupported, "the OIDC issuer %s knows no proof of who began to sign in (PKCE with S256)", clip(s.Issuer)).With("give a token of it: --identity-token FILE")
	}
	for _, each := range []string{p.Authorization, p.Token, p.Device} {
		if each == "" {
			continue
		}
		if err := sendable(each); err != nil {
			return p, fault.New(fault.Invalid, "the OIDC issuer %s: %w", clip(s.Issuer), err).With("give a token of it: --identity-token FILE")
		}
	}
	if p.Token == "" {
		return p, fault.New(fault.Invalid, "the OIDC issuer %s names no place to get tokens", clip(s.Issuer)).With("give a token of it: --identity-token FILE")
	}
	return p, nil
}

// sendable wants an address to which secrets may be sent.
func sendable(address string) error {
	u, err := url.Parse(address)
	switch {
	case err != nil || u.Host == "" || u.User != nil || u.Fragment != "":
		return fmt.Errorf("%q is no address", clip(address))
	case u.Scheme == "https", u.Scheme == "http" && loopback(u.Hostname()):
		return nil
	}
	return fmt.Errorf("%s is not reached over https", clip(address))
}

// proof shows that who asks for the token is who began (PKCE, RFC 7636).
type proof struct{ verifier, challenge string }

func newProof() (proof, error) {
	v, err := secret()
	sum := sha256.Sum256([]byte(v))
	return proof{v, base64.RawURLEncoding.EncodeToString(sum[:])}, err
}

// secret is a text that nobody can guess.
func secret() (string, error) {
	b := make([]byte, secretLen)
	_, err := rand.Read(b)
	return base64.RawURLEncoding.EncodeToString(b), err
}

func same(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

func (s *SignIn) client() string {
	if s.Client == "" {
		return PublicClient
	}
	return s.Client
}

// do asks the issuer, which sends nobody elsewhere: a redirection would take the
// code with it.
func (s *SignIn) do(ctx context.Context, method, address string, form url.Values) (int, []byte, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	var body io.Reader
	if form != nil {
		body = strings.NewReader(form.Encode())
	}
	r, err := http.NewRequestWithContext(ctx, method, address, body)
	if err != nil {
		return 0, nil, err
	}
	r.Header.Set("Accept", "application/json")
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	resp, err := newClient(s.HTTP).http.Do(r)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxOIDC+1))
	if err == nil && len(b) > maxOIDC {
		err = fmt.Errorf("the answer of %s has more than %d bytes", r.URL.Host, maxOIDC)
	}
	return resp.StatusCode, b, err
}

// refusalOIDC is an issuer's answer that is none (RFC 6749, 5.2).
type refusalOIDC struct {
	Code   string `json:"error"`
	Detail string `json:"error_description"`
}

// Error says what the issuer said, in its words.
func (r *refusalOIDC) Error() string {
	if r.Detail == "" {
		return clip(r.Code)
	}
	return clip(r.Code) + ": " + clip(r.Detail)
}

// redeem gets the token for what the person's visit brought.
func (s *SignIn) redeem(ctx context.Context, p provider, form url.Values, nonce string) (string, error) {
	status, b, err := s.do(ctx, http.MethodPost, p.Token, form)
	if err != nil {
		return "", fault.New(fault.Unavailable, "get an OIDC token of %s: %w", clip(s.Issuer), err).With("try again")
	}
	if status != http.StatusOK {
		var r refusalOIDC
		if json.Unmarshal(b, &r) != nil || r.Code == "" {
			r = refusalOIDC{Code: fmt.Sprintf("it answers %d", status)}
		}
		return "", &r
	}
	var answer struct {
		Token string `json:"id_token"`
	}
	if err := json.Unmarshal(b, &answer); err != nil || answer.Token == "" {
		return "", fault.New(fault.Invalid, "get an OIDC token of %s: there is none in its answer", clip(s.Issuer)).With("is it an issuer of OpenID Connect, for the client " + s.client() + "?")
	}
	if err := s.check(answer.Token, nonce); err != nil {
		return "", fault.New(fault.Invalid, "the OIDC token of %s: %w", clip(s.Issuer), err).With("sign in again; is this machine's clock right?")
	}
	return answer.Token, nil
}

// check holds a token's claims against what was asked for (OpenID Connect Core,
// 3.1.3.7). It came from the issuer over TLS, so that its signature is not looked at
// here; Fulcio does.
func (s *SignIn) check(token, nonce string) error {
	parts := strings.Split(token, ".")
	if len(parts) != 3 || len(token) > maxToken {
		return errors.New("it is not a JSON Web Token")
	}
	body, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return errors.New("it is not a JSON Web Token")
	}
	var claims struct {
		Issuer   string      `json:"iss"`
		Audience oneOrMany   `json:"aud"`
		Party    string      `json:"azp"`
		Nonce    string      `json:"nonce"`
		Expires  json.Number `json:"exp"`
	}
	if err := json.Unmarshal(body, &claims); err != nil {
		return fmt.Errorf("read its claims: %w", err)
	}
	until, err := claims.Expires.Float64()
	now := time.Now
	if s.now != nil {
		now = s.now
	}
	switch {
	case claims.Issuer != s.Issuer:
		return fmt.Errorf("it is of the issuer %q", clip(claims.Issuer))
	case !slices.Contains(claims.Audience, s.client()):
		return fmt.Errorf("it is not for %s", s.client())
	case len(claims.Audience) > 1 && claims.Party != s.client():
		return errors.New("it is for others, too, and was given to another")
	case nonce != "" && !same(claims.Nonce, nonce):
		return errors.New("it was not given for this sign-in")
	case err != nil || float64(now().Add(-clockSkew).Unix()) >= until:
		return errors.New("it is over already")
	}
	_, err = tokenSubject(token)
	return err
}

// oneOrMany is a text or a list of texts.
type oneOrMany []string

// UnmarshalJSON reads either.
func (o *oneOrMany) UnmarshalJSON(b []byte) error {
	var one string
	if json.Unmarshal(b, &one) == nil {
		*o = oneOrMany{one}
		return nil
	}
	return json.Unmarshal(b, (*[]string)(o))
}
