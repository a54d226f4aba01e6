package sigstore_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/adapter/sigstore"
	"github.com/castellan-security/castellan/internal/adapter/sigstore/standin"
	"github.com/castellan-security/castellan/internal/fault"
)

const person = "ann@acme.example"

// issues starts an issuer of a stand-in.
func issues(t testing.TB, r running) *standin.Issuer {
	t.Helper()
	i := &standin.Issuer{Sigstore: r.Sigstore, Subject: person}
	srv := httptest.NewServer(i.Handler())
	t.Cleanup(srv.Close)
	i.Base = srv.URL
	return i
}

// goTo is a browser.
func goTo(t testing.TB, address string) (int, string) {
	t.Helper()
	resp, err := http.Get(address)
	if err != nil {
		t.Errorf("visit: %v", err)
		return 0, ""
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Errorf("visit: %v", err)
	}
	return resp.StatusCode, string(b)
}

func claimsOf(t testing.TB, token string) (claims map[string]any) {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
	if err == nil {
		err = json.Unmarshal(b, &claims)
	}
	if err != nil {
		t.Fatal(err)
	}
	return claims
}

func TestSignInWithBrowser(t *testing.T) {
	i := issues(t, start(t))
	var visits []sigstore.Visit
	s := &sigstore.SignIn{Issuer: i.Base, Client: "castellan", Tell: func(v sigstore.Visit) {
		visits = append(visits, v)
		if status, text := goTo(t, v.Address); status != http.StatusOK || !strings.Contains(text, "You have signed in") {
			t.Errorf("the page says %d %q", status, text)
		}
	}}
	token, err := s.Browser(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if c := claimsOf(t, token); c["email"] != person || c["aud"] != "castellan" {
		t.Errorf("the token says %v", c)
	}
	u, err := url.Parse(visits[0].Address)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	for _, secret := range []string{"state", "nonce", "code_challenge"} {
		if b, err := base64.RawURLEncoding.DecodeString(q.Get(secret)); err != nil || len(b) != 32 {
			t.Errorf("%s is %q", secret, q.Get(secret))
		}
	}
	if back, err := url.Parse(q.Get("redirect_uri")); err != nil || back.Hostname() != "localhost" || q.Has("client_secret") || q.Get("code_challenge_method") != "S256" {
		t.Errorf("asked %v", q)
	}
	// Nobody waits there any more.
	if _, err := http.Get(q.Get("redirect_uri")); err == nil {
		t.Error("somebody waits there still")
	}
}

// What other pages send to the listener changes nothing.
func TestSignInKnowsItsOwn(t *testing.T) {
	i := issues(t, start(t))
	s := &sigstore.SignIn{Issuer: i.Base, Tell: func(v sigstore.Visit) {
		u, err := url.Parse(v.Address)
		if err != nil {
			t.Error(err)
			return
		}
		back := u.Query().Get("redirect_uri")
		for _, other := range []string{"", "?code=evil", "?code=evil&state=x", "?error=access_denied&state=x"} {
			if status, text := goTo(t, back+other); status != http.StatusBadRequest || strings.Contains(text, "evil") {
				t.Errorf("%s: %d %q", other, status, text)
			}
		}
		if status, _ := goTo(t, strings.TrimSuffix(back, "/auth/callback")+"/"); status != http.StatusNotFound {
			t.Errorf("another page answers %d", status)
		}
		goTo(t, v.Address)
		goTo(t, back+"?code=late&state="+url.QueryEscape(u.Query().Get("state")))
	}}
	if _, err := s.Browser(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestSignInRefuses(t *testing.T) {
	denied := func(query string) func(testing.TB, sigstore.Visit) {
		return func(t testing.TB, v sigstore.Visit) {
			u, err := url.Parse(v.Address)
			if err != nil {
				t.Error(err)
				return
			}
			goTo(t, u.Query().Get("redirect_uri")+"?state="+u.Query().Get("state")+"&"+query)
		}
	}
	set := func(part, name string, value any) func(string, map[string]any) {
		return func(p string, answer map[string]any) {
			if p == part {
				answer[name] = value
			}
		}
	}
	claim := func(name string, value any) func(map[string]any) { return func(c map[string]any) { c[name] = value } }
	for _, tc := range []struct {
		name   string
		edit   func(string, map[string]any)
		claims func(map[string]any)
		visit  func(testing.TB, sigstore.Visit)
		device bool
		kind   fault.Kind
		words  string
	}{
		{name: "another issuer's word", edit: set("openid-configuration", "issuer", "https://evil.example"), kind: fault.Invalid, words: "calls itself"},
		{name: "in the clear", edit: set("openid-configuration", "token_endpoint", "http://issuer.example/token"), kind: fault.Invalid, words: "https"},
		{name: "no place for tokens", edit: set("openid-configuration", "token_endpoint", ""), kind: fault.Invalid, words: "no place"},
		{name: "no page", edit: set("openid-configuration", "authorization_endpoint", ""), kind: fault.Unsupported, words: "no page"},
		{name: "no PKCE", edit: set("openid-configuration", "code_challenge_methods_supported", []string{"plain"}), kind: fault.Unsupported, words: "PKCE"},
		{name: "no devices", device: true, edit: set("openid-configuration", "device_authorization_endpoint", ""), kind: fault.Unsupported, words: "another machine"},
		{name: "a script for an address", device: true, edit: set("device", "verification_uri", "javascript:alert(1)"), kind: fault.Invalid, words: "sends us to"},
		{name: "no code", device: true, edit: set("device", "user_code", ""), kind: fault.Invalid, words: "no code"},
		{name: "no token", edit: set("token", "id_token", ""), kind: fault.Invalid, words: "there is none"},
		{name: "no token but something", edit: set("token", "id_token", "x.y"), kind: fault.Invalid, words: "not a JSON Web Token"},
		{name: "a token of another issuer", claims: claim("iss", "https://evil.example"), kind: fault.Invalid, words: "of the issuer"},
		{name: "a token for another", claims: claim("aud", "shop"), kind: fault.Invalid, words: "not for sigstore"},
		{name: "a token for several, given to another", claims: claim("aud", []string{"sigstore", "shop"}), kind: fault.Invalid, words: "for others, too"},
		{name: "a token of another sign-in", claims: claim("nonce", "x"), kind: fault.Invalid, words: "not given for this sign-in"},
		{name: "a token of yesterday", claims: claim("exp", 1000000), kind: fault.Invalid, words: "over already"},
		{name: "a token for ever", claims: claim("exp", nil), kind: fault.Invalid, words: "over already"},
		{name: "an address that nobody verified", claims: claim("email_verified", false), kind: fault.Invalid, words: "not verified"},
		{name: "a device's token of another issuer", device: true, claims: claim("iss", "https://evil.example"), kind: fault.Invalid, words: "of the issuer"},
		{name: "the person says no", visit: denied("error=access_denied&error_description=no"), kind: fault.Denied, words: "access_denied: no"},
		{name: "an answer without a code", visit: denied("x=y"), kind: fault.Denied, words: "no code"},
		{name: "a code that is none", visit: denied("code=evil"), kind: fault.Denied, words: "invalid_grant"},
		{name: "an answer of another issuer", visit: denied("code=x&iss=https%3A%2F%2Fevil.example"), kind: fault.Denied, words: "of the issuer"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			i := issues(t, start(t))
			i.Edit, i.Claims = tc.edit, tc.claims
			s := (&sigstore.SignIn{Issuer: i.Base, Tell: func(v sigstore.Visit) {
				switch {
				case tc.visit != nil:
					tc.visit(t, v)
				case !tc.device:
					goTo(t, v.Address)
				}
			}}).WithoutWaits(func(context.Context, time.Duration) error { return nil }, nil)
			in := s.Browser
			if tc.device {
				in = s.Device
			}
			token, err := in(t.Context())
			if err == nil || fault.Of(err) != tc.kind || fault.Remedy(err) == "" || !strings.Contains(err.Error(), tc.words) {
				t.Errorf("got %q, %v (%v, %q), want %v %q", token, err, fault.Of(err), fault.Remedy(err), tc.kind, tc.words)
			}
		})
	}
	for _, issuer := range []string{"", "http://issuer.example", "https://user@issuer.example", "file:///etc/passwd", "https://issuer.example/#x"} {
		_, err := (&sigstore.SignIn{Issuer: issuer}).Browser(t.Context())
		if fault.Of(err) != fault.Invalid || fault.Remedy(err) == "" {
			t.Errorf("%q: got %v", issuer, err)
		}
	}
}

func TestSignInOnAnotherMachine(t *testing.T) {
	for _, tc := range []struct {
		name    string
		pending []string
		edit    map[string]any
		want    []time.Duration
		words   string // of the error; "": none
	}{
		{"at once", nil, nil, []time.Duration{time.Second}, ""},
		{"after a while", []string{"authorization_pending", "slow_down", "authorization_pending"}, nil, []time.Duration{time.Second, time.Second, 6 * time.Second, 6 * time.Second}, ""},
		{"no pace is named", []string{"authorization_pending"}, map[string]any{"interval": nil}, []time.Duration{5 * time.Second, 5 * time.Second}, ""},
		{"a pace of years", nil, map[string]any{"interval": 1 << 40}, []time.Duration{time.Minute}, ""},
		{"refused", []string{"access_denied"}, nil, []time.Duration{time.Second}, "access_denied"},
		{"late", []string{"expired_token"}, nil, []time.Duration{time.Second}, "nobody signed in"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			i := issues(t, start(t))
			i.Pending = tc.pending
			i.Edit = func(part string, answer map[string]any) {
				for k, v := range tc.edit {
					if part == "device" {
						answer[k] = v
					}
				}
			}
			var got []time.Duration
			var told sigstore.Visit
			s := (&sigstore.SignIn{Issuer: i.Base, Tell: func(v sigstore.Visit) { told = v }}).WithoutWaits(func(_ context.Context, d time.Duration) error {
				got = append(got, d)
				return nil
			}, nil)
			token, err := s.Device(t.Context())
			if tc.words != "" {
				if err == nil || !strings.Contains(err.Error(), tc.words) || fault.Remedy(err) == "" {
					t.Errorf("got %v, want %q", err, tc.words)
				}
			} else if err != nil || claimsOf(t, token)["email"] != person {
				t.Errorf("got %q, %v", token, err)
			}
			if diff := cmp.Diff(got, tc.want); diff != "" {
				t.Errorf("waited, got, want:\n%s", diff)
			}
			if told.Address != i.Base+"/go" || told.Code != "WDJB-MJHT" {
				t.Errorf("the person was told %+v", told)
			}
		})
	}
}

// A person who never comes is not waited for beyond the end of his time.
func TestSignInEnds(t *testing.T) {
	i := issues(t, start(t))
	ctx, cancel := context.WithCancel(t.Context())
	s := &sigstore.SignIn{Issuer: i.Base, Tell: func(sigstore.Visit) { cancel() }}
	if _, err := s.Browser(ctx); err == nil || ctx.Err() == nil {
		t.Errorf("got %v", err)
	}
}

// FuzzSignIn wants no panic and no token that is not the issuer's, whatever an
// issuer answers.
func FuzzSignIn(f *testing.F) {
	f.Add([]byte(`{"issuer":"https://issuer.example","token_endpoint":"https://issuer.example/t","device_authorization_endpoint":"https://issuer.example/d","device_code":"x","user_code":"y","verification_uri":"https://issuer.example/v","interval":5,"id_token":"a.e30.b"}`))
	f.Add([]byte(`{"error":"authorization_pending"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		n := 0
		s := (&sigstore.SignIn{Issuer: "https://issuer.example", Tell: func(sigstore.Visit) {}, HTTP: &http.Client{Transport: answered(b)}}).WithoutWaits(func(context.Context, time.Duration) error {
			if n++; n > 3 {
				cancel()
			}
			return ctx.Err()
		}, nil)
		if token, err := s.Device(ctx); err == nil && claimsOf(t, token)["iss"] != "https://issuer.example" {
			t.Errorf("got the token %q", token)
		}
	})
}

// answered is a transport that answers the same to all.
type answered []byte

// RoundTrip is http.RoundTripper.
func (a answered) RoundTrip(*http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	_, _ = w.Write(a)
	return w.Result(), nil
}
