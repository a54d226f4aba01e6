package standin

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"sync"
)

// Issuer is an OIDC issuer whose tokens a Sigstore's Fulcio believes. Whoever visits
// its page is Subject, and has signed in at once.
type Issuer struct {
	Sigstore *Sigstore
	Base     string // its address
	Subject  string

	// Edit may change what it answers, by the last part of the path:
	// openid-configuration, token, device. Nil: nothing.
	Edit func(part string, answer map[string]any)
	// Claims may change a token's claims. Nil: nothing.
	Claims func(map[string]any)
	// Pending is how often a device is told to ask again.
	Pending []string

	mu    sync.Mutex
	codes map[string]begun // by code
}

// begun is a sign-in.
type begun struct{ client, redirect, challenge, nonce string }

// Handler serves the issuer.
func (i *Issuer) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		i.answer(w, http.StatusOK, "openid-configuration", map[string]any{
			"issuer": i.Base, "authorization_endpoint": i.Base + "/authorize", "token_endpoint": i.Base + "/token",
			"device_authorization_endpoint": i.Base + "/device", "code_challenge_methods_supported": []string{"S256"},
		})
	})
	mux.HandleFunc("GET /authorize", i.authorize)
	mux.HandleFunc("POST /device", func(w http.ResponseWriter, r *http.Request) {
		code := i.begin(begun{client: r.FormValue("client_id"), challenge: r.FormValue("code_challenge")})
		i.answer(w, http.StatusOK, "device", map[string]any{
			"device_code": code, "user_code": "WDJB-MJHT", "verification_uri": i.Base + "/go", "expires_in": 300, "interval": 1,
		})
	})
	mux.HandleFunc("POST /token", i.token)
	return mux
}

func (i *Issuer) answer(w http.ResponseWriter, status int, part string, out map[string]any) {
	if i.Edit != nil {
		i.Edit(part, out)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(out)
}

// begin notes a sign-in, and returns its code.
func (i *Issuer) begin(b begun) string {
	raw := make([]byte, 16)
	_, _ = rand.Read(raw) // never fails
	code := base64.RawURLEncoding.EncodeToString(raw)
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.codes == nil {
		i.codes = map[string]begun{}
	}
	i.codes[code] = b
	return code
}

// authorize is the page; the visitor is sent back at once.
func (i *Issuer) authorize(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	back, err := url.Parse(q.Get("redirect_uri"))
	if err != nil || back.Hostname() != "localhost" || q.Get("response_type") != "code" || q.Get("code_challenge_method") != "S256" || q.Get("scope") == "" {
		http.Error(w, "no request of OpenID Connect", http.StatusBadRequest)
		return
	}
	code := i.begin(begun{q.Get("client_id"), q.Get("redirect_uri"), q.Get("code_challenge"), q.Get("nonce")})
	back.RawQuery = url.Values{"code": {code}, "state": {q.Get("state")}}.Encode()
	http.Redirect(w, r, back.String(), http.StatusFound)
}

// token gives a token for a code, once, to who began.
func (i *Issuer) token(w http.ResponseWriter, r *http.Request) {
	refuse := func(code string) {
		i.answer(w, http.StatusBadRequest, "refusal", map[string]any{"error": code, "error_description": "so it is"})
	}
	code, isDevice := r.FormValue("code"), r.FormValue("grant_type") == "urn:ietf:params:oauth:grant-type:device_code"
	if isDevice {
		code = r.FormValue("device_code")
	}
	i.mu.Lock()
	if isDevice && len(i.Pending) > 0 {
		next := i.Pending[0]
		i.Pending = i.Pending[1:]
		i.mu.Unlock()
		refuse(next)
		return
	}
	b, known := i.codes[code]
	delete(i.codes, code)
	i.mu.Unlock()
	sum := sha256.Sum256([]byte(r.FormValue("code_verifier")))
	if !known || b.client != r.FormValue("client_id") || !isDevice && b.redirect != r.FormValue("redirect_uri") || b.challenge != base64.RawURLEncoding.EncodeToString(sum[:]) {
		refuse("invalid_grant")
		return
	}
	t, err := i.Sigstore.edited(i.Base, i.Subject, func(claims map[string]any) {
		claims["aud"] = b.client
		if b.nonce != "" {
			claims["nonce"] = b.nonce
		}
		if i.Claims != nil {
			i.Claims(claims)
		}
	})
	if err != nil {
		http.Error(w, fmt.Sprintf("make a token: %v", err), http.StatusInternalServerError)
		return
	}
	i.answer(w, http.StatusOK, "token", map[string]any{"id_token": t, "token_type": "Bearer", "access_token": "x"})
}
