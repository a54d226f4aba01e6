package console

import (
	"bytes"
	"crypto/subtle"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/a-h/templ"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/server/account"
)

// Addresses that a user who must change the password may still use.
const (
	passwordPath = "/account/password"
	signOutPath  = "/sign-out"
)

// maxForm bounds a submitted form: the largest has a name and two passwords.
const maxForm = 64 << 10

// themeCookie remembers light or dark; without it the system decides.
const themeCookie = "castellan-theme"

// visit is one request of somebody who is signed in.
type visit struct {
	who  access.Identity
	csrf string
	now  time.Time
}

// view answers a visit. An error it returns becomes a designed page.
type view func(w http.ResponseWriter, r *http.Request, v visit) error

// signedIn lets only those through who are signed in and have the scope (""
// asks for none), and sends others to the sign-in page with the way back. API
// tokens don't open the console: they have no session and so no CSRF token.
func (c *Console) signedIn(scope access.Scope, h view) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		who, csrf, ok := account.From(r.Context())
		if !ok || csrf == "" {
			c.askSignIn(w, r)
			return
		}
		v := visit{who: who, csrf: csrf, now: c.Clock()}
		if who.MustChange && r.URL.Path != passwordPath && r.URL.Path != signOutPath {
			redirect(w, r, passwordPath)
			return
		}
		if scope != "" && !who.May(scope) {
			c.fail(w, r, v, fault.New(fault.Denied, "your role does not permit this page").
				With("Ask an administrator for a role with the right "+string(scope)+"."))
			return
		}
		if err := h(w, r, v); err != nil {
			c.fail(w, r, v, err)
		}
	}
}

// confirmed lets only forms through that carry the session's CSRF token.
func (c *Console) confirmed(h view) view { return c.confirmedUpTo(maxForm, h) }

// confirmedUpTo is confirmed for forms of at most so many bytes.
func (c *Console) confirmedUpTo(most int64, h view) view {
	return func(w http.ResponseWriter, r *http.Request, v visit) error {
		r.Body = http.MaxBytesReader(w, r.Body, most)
		if err := r.ParseForm(); err != nil {
			return fault.New(fault.Invalid, "read the form: %w", err)
		}
		if subtle.ConstantTimeCompare([]byte(r.PostForm.Get("csrf")), []byte(v.csrf)) != 1 {
			return fault.New(fault.Denied, "the form is not from this sign-in").
				With("Go back, reload the page and send the form again.")
		}
		return h(w, r, v)
	}
}

func (c *Console) askSignIn(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.Header.Get("Accept"), "text/event-stream") {
		http.Error(w, "sign in again", http.StatusUnauthorized)
		return
	}
	to := "/sign-in"
	if r.Method == http.MethodGet && r.URL.Path != "/" {
		to += "?next=" + url.QueryEscape(r.URL.RequestURI())
	}
	redirect(w, r, to)
}

// redirect sends the browser elsewhere, also when htmx asked: it would
// otherwise put the other page into a corner of this one.
func redirect(w http.ResponseWriter, r *http.Request, to string) {
	if r.Header.Get("HX-Request") != "" {
		w.Header().Set("HX-Redirect", to)
		w.WriteHeader(http.StatusNoContent)
		return
	}
	http.Redirect(w, r, to, http.StatusSeeOther)
}

// localPath returns next when it is an address of this console, and "/" for
// anything that could lead elsewhere.
func localPath(next string) string {
	u, err := url.Parse(next)
	if err != nil || u.IsAbs() || u.Host != "" || u.User != nil ||
		!strings.HasPrefix(next, "/") || strings.HasPrefix(next, "//") ||
		strings.ContainsAny(next, "\\\r\n\t") {
		return "/"
	}
	return next
}

// address is the browser's network address, for the audit log.
func address(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

// page is what every page has around its content.
type page struct {
	Title   string
	Here    string // the word in the navigation
	Who     access.Identity
	CSRF    string
	Theme   string // light, dark, or "" for the system's
	Version string
	Now     time.Time
	Notice  string // what was just done
	Alarms  int    // conditions of the server, shown in the navigation
	Bare    bool   // no navigation: nothing else may be done yet
	files   *assets
}

func (p page) file(name string) string { return p.files.url(name) }

func (c *Console) page(r *http.Request, v visit, here, title string) page {
	return page{
		Title: title, Here: here, Who: v.who, CSRF: v.csrf, Theme: theme(r),
		Version: c.Version, Now: v.now, Notice: notices[r.URL.Query().Get("done")],
		Alarms: len(c.Conditions.List()), Bare: v.who.MustChange || v.csrf == "", files: c.assets,
	}
}

// bare is a page for what several people are shown alike: nothing of anybody is
// in it.
func (c *Console) bare() page { return page{Version: c.Version, Now: c.Clock(), files: c.assets} }

func theme(r *http.Request) string {
	k, err := r.Cookie(themeCookie)
	if err != nil || (k.Value != "light" && k.Value != "dark") {
		return ""
	}
	return k.Value
}

// show writes a page. It is made whole before the first byte goes out, so that
// an error still becomes an error page.
func (c *Console) show(w http.ResponseWriter, r *http.Request, status int, body templ.Component) error {
	var b bytes.Buffer
	if err := body.Render(r.Context(), &b); err != nil {
		return err
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	// Pages show what containers did and who may do what: no cache keeps them.
	// They are not compressed either, since they hold a secret (the CSRF token)
	// beside text that others choose.
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes()) // the browser went away; there is nobody to tell
	return nil
}
