package server

import (
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"

	"github.com/castellan-security/castellan/internal/fault"
)

// maxWebhook bounds what a registry may send: CNCF distribution tells several
// hundred changes at once when it had to wait, with a kilobyte each.
const maxWebhook = 1 << 20

// webhookPath is where registries tell of changes. Those that can send no header
// have the token in the path, which therefore no log may show.
var webhookPath = regexp.MustCompile(`^` + apiPrefix + `/registries/[^/]+/webhook(/[^/]*)?$`)

func isWebhook(r *http.Request) bool { return webhookPath.MatchString(r.URL.Path) }

// shownPath is a request's path as logs may have it.
func shownPath(r *http.Request) string {
	if before, _, is := strings.Cut(r.URL.Path, "/webhook/"); is {
		return before + "/webhook/…"
	}
	return r.URL.Path
}

// addWebhooks adds the routes of registries' webhooks. They are beside the API:
// what comes is in the form of each registry, and who sends it is nobody that
// this server knows.
func (s *Server) addWebhooks(mux *http.ServeMux) {
	mux.HandleFunc("POST "+apiPrefix+"/registries/{name}/webhook", func(w http.ResponseWriter, r *http.Request) {
		token := r.Header.Get("Authorization")
		if scheme, rest, ok := strings.Cut(token, " "); ok && strings.EqualFold(scheme, "Bearer") {
			token = strings.TrimSpace(rest)
		}
		s.webhook(w, r, token)
	})
	mux.HandleFunc("POST "+apiPrefix+"/registries/{name}/webhook/{token}", func(w http.ResponseWriter, r *http.Request) {
		s.webhook(w, r, r.PathValue("token"))
	})
}

func (s *Server) webhook(w http.ResponseWriter, r *http.Request, token string) {
	name := r.PathValue("name")
	if err := s.registries.Admit(r.Context(), name, token); err != nil {
		if fault.Is(err, fault.Unauthenticated) {
			err = s.strangers.refused(name, clientAddress(r), err)
		}
		writeProblem(w, r, err, s.log)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxWebhook))
	if err != nil {
		writeProblem(w, r, fault.New(fault.Invalid, "read what the registry sent: %w", err).
			With("a webhook's body may have 1 MiB"), s.log)
		return
	}
	n, err := s.registries.Hook(r.Context(), name, token, body, r.Header.Get("Content-Type"))
	if err != nil {
		s.log.Warn("webhook refused", "registry", name, "address", clientAddress(r), "error", err)
		writeProblem(w, r, err, s.log)
		return
	}
	s.log.Debug("webhook taken", "registry", name, "repositories", n)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusAccepted)
	// The registry may be gone; it will have been taken all the same.
	_, _ = fmt.Fprintf(w, "{\"repositories\":%d}\n", n)
}
