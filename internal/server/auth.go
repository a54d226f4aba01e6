package server

import (
	"context"
	"crypto/subtle"
	"mime"
	"net"
	"net/http"
	"strings"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/server/account"
)

// csrfHeader and csrfField carry the session's token in changing requests.
const (
	csrfHeader = "X-CSRF-Token"
	csrfField  = "csrf"
)

// identified puts into the context who asks. A wrong token is refused at once;
// a session that has ended is nobody, and what needs somebody says so.
func (s *Server) identified(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if isOpen(r) {
			h.ServeHTTP(w, r)
			return
		}
		ctx, err := s.identify(r)
		if err != nil {
			writeProblem(w, r, err, s.log)
			return
		}
		h.ServeHTTP(w, r.WithContext(ctx))
	})
}

// isOpen are the paths that say nothing and need nobody: asking the store at
// each of them would be a waste. A webhook has a token of its own.
func isOpen(r *http.Request) bool {
	p := r.URL.Path
	return p == "/healthz" || p == "/readyz" || strings.HasPrefix(p, "/static/") || isWebhook(r)
}

// identify returns the request's context with who asks: whom the kernel vouches
// for on the socket, then an API token, then a session's cookie.
func (s *Server) identify(r *http.Request) (context.Context, error) {
	ctx := r.Context()
	if who, _, ok := account.From(ctx); ok && strings.HasPrefix(who.Actor, "local:") {
		return ctx, nil
	}
	if auth := r.Header.Get("Authorization"); auth != "" {
		scheme, secret, _ := strings.Cut(auth, " ")
		if !strings.EqualFold(scheme, "Bearer") {
			return nil, fault.New(fault.Unauthenticated, "the Authorization header is no Bearer token")
		}
		who, err := s.accounts.ByToken(ctx, strings.TrimSpace(secret), clientAddress(r))
		if err != nil {
			return nil, err
		}
		return account.With(ctx, who, ""), nil
	}
	cookie, err := r.Cookie(account.CookieName)
	if err != nil {
		return nobody(ctx), nil
	}
	who, session, err := s.accounts.BySession(ctx, cookie.Value, clientAddress(r))
	if fault.Is(err, fault.Unauthenticated) {
		return nobody(ctx), nil
	}
	if err != nil {
		return nil, err
	}
	return account.With(ctx, who, session.CSRF), nil
}

// nobody also takes away whom the context named before.
func nobody(ctx context.Context) context.Context {
	return account.With(ctx, access.Identity{}, "")
}

// confirm demands the session's token of every change that a cookie vouches
// for: a cookie alone comes along with whatever a browser is made to send.
func (s *Server) confirm(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, csrf, _ := account.From(r.Context())
		if csrf == "" || isSafe(r.Method) || isSignIn(r) {
			h.ServeHTTP(w, r)
			return
		}
		got, err := sentCSRF(r)
		if err != nil {
			writeProblem(w, r, fault.New(fault.Invalid, "read the form: %w", err), s.log)
			return
		}
		if subtle.ConstantTimeCompare([]byte(got), []byte(csrf)) != 1 {
			err := fault.New(fault.Denied, "the request does not carry the session's CSRF token").
				With("reload the page; programs send it as " + csrfHeader + " and find it in GET " + apiPrefix + "/session")
			writeProblem(w, r, err, s.log)
			return
		}
		h.ServeHTTP(w, r)
	})
}

func isSafe(method string) bool {
	return method == http.MethodGet || method == http.MethodHead || method == http.MethodOptions
}

// isSignIn are the requests that begin a session: whoever sends them has no
// token yet, or one of a session that is about to be replaced. sameOrigin
// keeps other sites from sending them.
func isSignIn(r *http.Request) bool {
	return r.Method == http.MethodPost && (r.URL.Path == "/sign-in" || r.URL.Path == apiPrefix+"/session")
}

func sentCSRF(r *http.Request) (string, error) {
	if t := r.Header.Get(csrfHeader); t != "" {
		return t, nil
	}
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != "application/x-www-form-urlencoded" {
		return "", nil
	}
	if err := r.ParseForm(); err != nil { // bounded by limited
		return "", err
	}
	return r.PostForm.Get(csrfField), nil
}

// clientAddress is the network address of the client. There is no trust in
// X-Forwarded-For: anybody may send it.
func clientAddress(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return "local"
	}
	return host
}

// permit says whether the request's identity carries the scope; "" asks only
// for somebody.
func permit(ctx context.Context, scope access.Scope) error {
	who, _, ok := account.From(ctx)
	switch {
	case !ok:
		return fault.New(fault.Unauthenticated, "not signed in").With("sign in, or send an API token: Authorization: Bearer cst_…")
	case scope == "" || who.May(scope):
		return nil
	case who.MustChange:
		return fault.New(fault.Denied, "the password must be changed first").
			With("change the password that somebody else set for you: POST " + apiPrefix + "/account/password")
	}
	return fault.New(fault.Denied, "%s lacks the right %s", who.Actor, scope).
		With("ask an administrator for a role or a token with that right")
}

func (s *Server) scoped(scope access.Scope, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := permit(r.Context(), scope); err != nil {
			writeProblem(w, r, err, s.log)
			return
		}
		h.ServeHTTP(w, r)
	})
}
