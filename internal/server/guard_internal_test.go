package server

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// panicking returns a server with nothing in it but what observed needs.
func panicking(log *strings.Builder) *Server {
	s := &Server{log: slog.New(slog.NewTextHandler(log, nil))}
	s.metrics = newMetrics(s)
	return s
}

func TestPanicShowsANumberThatIsInTheLog(t *testing.T) {
	var log strings.Builder
	s := panicking(&log)
	h := s.observed(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("secret state") }))
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, httptest.NewRequest("GET", "/api/v1/status", nil))
	_, id, _ := strings.Cut(rec.Body.String(), `"id":"`)
	id, _, _ = strings.Cut(id, `"`)
	if rec.Code != 500 || id == "" || strings.Contains(rec.Body.String(), "secret") {
		t.Fatalf("got %d %s, want 500 with a number alone", rec.Code, rec.Body)
	}
	if !strings.Contains(log.String(), id) || !strings.Contains(log.String(), "secret state") || !strings.Contains(log.String(), "guard_internal_test.go") {
		t.Error("the log lacks the number, the cause or the stack")
	}
}

func TestPanicAfterTheFirstByteCutsTheAnswerOff(t *testing.T) {
	var log strings.Builder
	s := panicking(&log)
	h := s.observed(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Write([]byte("half an answer"))
		panic("x")
	}))
	defer func() {
		if p := recover(); p != http.ErrAbortHandler {
			t.Errorf("got panic %v, want the connection aborted", p)
		}
		if !strings.Contains(log.String(), "request panicked") {
			t.Error("the log says nothing")
		}
	}()
	h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
	t.Error("the panic went unseen")
}
