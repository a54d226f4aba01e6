package server

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/link"
)

const (
	// maxBody bounds the body of every request but reports: the largest is a
	// form with a few short fields.
	maxBody = 1 << 20
	// answerWithin bounds the work for one answer; streams go on.
	answerWithin = 30 * time.Second
)

// guard puts around all handlers what none may forget. The order matters:
// what is further out sees what happens further in.
func (s *Server) guard(h http.Handler) http.Handler {
	h = s.confirm(h)
	h = s.identified(h)
	h = s.sameOrigin(h)
	h = s.limited(h)
	h = safeHeaders(h)
	return s.observed(h)
}

// observed measures each request, and turns a panic into an answer that shows
// nothing but a number under which the log has it.
func (s *Server) observed(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		rec := &recorder{ResponseWriter: w}
		defer func() {
			p := recover()
			if p != nil {
				s.panicked(rec, r, p)
			}
			s.metrics.answered(part(r), rec.status, time.Since(began))
			if p != nil && (rec.wroteBefore || isAbort(p)) {
				panic(http.ErrAbortHandler) // cut off what can't be completed
			}
		}()
		h.ServeHTTP(rec, r)
	})
}

func isAbort(p any) bool {
	err, ok := p.(error)
	return ok && errors.Is(err, http.ErrAbortHandler)
}

func (s *Server) panicked(rec *recorder, r *http.Request, p any) {
	if isAbort(p) {
		return
	}
	id := rand.Text()
	s.log.Error("request panicked", "error_id", id, "method", r.Method, "path", shownPath(r), "panic", p, "stack", string(debug.Stack()))
	s.metrics.panics.Inc()
	rec.wroteBefore = rec.status != 0
	if rec.wroteBefore {
		return
	}
	writeProblem(rec, r, &Problem{
		Title: "unexpected", Status: http.StatusInternalServerError, ID: id,
		Detail: "something unexpected went wrong; the server's log has the rest under " + id,
	}, s.log)
}

// recorder remembers the status that was written.
type recorder struct {
	http.ResponseWriter
	status      int
	wroteBefore bool // something was written before a panic
}

// WriteHeader is http.ResponseWriter.
func (r *recorder) WriteHeader(status int) {
	if r.status == 0 && status >= http.StatusOK {
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

// Write is http.ResponseWriter.
func (r *recorder) Write(b []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	return r.ResponseWriter.Write(b)
}

// Flush is http.Flusher; streams need it.
func (r *recorder) Flush() {
	// A writer that can't flush is only slower.
	_ = http.NewResponseController(r.ResponseWriter).Flush()
}

// Unwrap is for http.ResponseController.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// part names what a request is for in the metrics.
func part(r *http.Request) string {
	switch {
	case link.IsStream(r):
		return "directives" // which last for days
	case isReport(r):
		return "link"
	case isAPI(r):
		return "api"
	case strings.HasPrefix(r.URL.Path, "/static/"):
		return "static"
	}
	return "console"
}

func isReport(r *http.Request) bool { return strings.HasPrefix(r.URL.Path, "/castellan.link.") }

// isAPI says whether a program asks, which wants its problems as JSON.
func isAPI(r *http.Request) bool {
	return isReport(r) || strings.HasPrefix(r.URL.Path, "/api/") || r.URL.Path == "/metrics"
}

// safeHeaders sets what every answer carries. The console replaces the policy
// by its own, which lets it load its own files.
//
// There is no Strict-Transport-Security: browsers keep it for the whole host
// name with all its ports, so it would break what else runs on localhost, and
// they ignore it anyway where the certificate is not one they trust. The port
// speaks TLS only.
func safeHeaders(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		set := w.Header().Set
		set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'")
		set("X-Content-Type-Options", "nosniff")
		set("X-Frame-Options", "DENY")
		set("Referrer-Policy", "same-origin")
		set("Cross-Origin-Opener-Policy", "same-origin")
		set("Cross-Origin-Resource-Policy", "same-origin")
		if isAPI(r) {
			set("Cache-Control", "no-store")
		}
		h.ServeHTTP(w, r)
	})
}

// limited bounds what a request may send and how long its answer may take. A
// stream may take for ever, until the server stops.
func (s *Server) limited(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := r.Context(), context.CancelFunc(nil)
		limit := int64(maxBody)
		switch {
		case isStream(r) || link.IsStream(r):
			ctx, cancel = context.WithCancel(ctx)
			defer context.AfterFunc(s.stopping, cancel)()
			endless(w, s.log)
		case isReport(r):
			limit = link.MaxMessage
			ctx, cancel = context.WithTimeout(ctx, readTimeout)
		default:
			ctx, cancel = context.WithTimeout(ctx, answerWithin)
		}
		defer cancel()
		r = r.WithContext(ctx)
		r.Body = http.MaxBytesReader(w, r.Body, limit)
		h.ServeHTTP(w, r)
	})
}

// isStream recognises server-sent events: browsers always ask for them so.
func isStream(r *http.Request) bool {
	return r.Method == http.MethodGet &&
		(strings.HasPrefix(r.Header.Get("Accept"), "text/event-stream") || r.URL.Path == streamPath)
}

// endless lifts the listener's time limits from a stream.
func endless(w http.ResponseWriter, log *slog.Logger) {
	rc := http.NewResponseController(w)
	if err := errors.Join(rc.SetReadDeadline(time.Time{}), rc.SetWriteDeadline(time.Time{})); err != nil {
		log.Debug("time limit of a stream not lifted", "error", err)
	}
}

// sameOrigin refuses changes that another site's page makes a browser ask for.
func (s *Server) sameOrigin(h http.Handler) http.Handler {
	cop := http.NewCrossOriginProtection()
	cop.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		err := fault.New(fault.Denied, "the request comes from another site").With("open the console itself and try again there")
		writeProblem(w, r, err, s.log)
	}))
	return cop.Handler(h)
}
