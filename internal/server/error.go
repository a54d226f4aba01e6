package server

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"

	"github.com/danielgtaylor/huma/v2"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/server/account"
)

// problemType is the media type of RFC 9457.
const problemType = "application/problem+json"

// Problem is what the API answers when it can't do what was asked: RFC 9457.
type Problem struct {
	Title  string        `json:"title" doc:"The kind of problem, in words" example:"not found"`
	Status int           `json:"status" doc:"HTTP status code" example:"404"`
	Detail string        `json:"detail" doc:"What is wrong, for a person"`
	Remedy string        `json:"remedy,omitempty" doc:"What to do about it, when that is known"`
	ID     string        `json:"id,omitempty" doc:"Number of an unexpected error: the server's log has the rest under it"`
	Errors []FieldDetail `json:"errors,omitempty" doc:"What is wrong with which part of the request"`

	retryAfter int // seconds; 0 is none
}

// FieldDetail is what is wrong with one part of a request. It never repeats the
// value: that may be a password.
type FieldDetail struct {
	Location string `json:"location" doc:"Where in the request" example:"body.name"`
	Message  string `json:"message" doc:"What is wrong with it"`
}

// Error is error; huma takes any error with GetStatus as it is.
func (p *Problem) Error() string { return p.Detail }

// GetStatus is huma.StatusError.
func (p *Problem) GetStatus() int { return p.Status }

// ContentType is huma.ContentTypeFilter.
func (p *Problem) ContentType(string) string { return problemType }

// GetHeaders is huma.HeadersError.
func (p *Problem) GetHeaders() http.Header {
	h := http.Header{}
	if p.retryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(p.retryAfter))
	}
	return h
}

// Status translates an error to an HTTP status. This table is the only place
// that does.
func Status(err error) int {
	switch fault.Of(err) {
	case fault.Invalid:
		return http.StatusUnprocessableEntity
	case fault.NotFound:
		return http.StatusNotFound
	case fault.Conflict:
		return http.StatusConflict
	case fault.Unauthenticated:
		return http.StatusUnauthorized
	case fault.Denied:
		return http.StatusForbidden
	case fault.Exhausted:
		return exhaustedStatus(err)
	case fault.Unavailable:
		return http.StatusServiceUnavailable
	case fault.Unsupported:
		return http.StatusNotImplemented
	case fault.Corrupt, fault.Unknown:
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return http.StatusServiceUnavailable
	case errors.Is(err, context.Canceled):
		return statusGone
	}
	return http.StatusInternalServerError
}

// Kind is the other direction, for programs that ask a server: what an answer
// of that status means for who asked.
func Kind(status int) fault.Kind {
	switch status {
	case http.StatusNotFound:
		return fault.NotFound
	case http.StatusUnauthorized:
		return fault.Unauthenticated
	case http.StatusForbidden:
		return fault.Denied
	case http.StatusConflict:
		return fault.Conflict
	case http.StatusTooManyRequests, http.StatusInsufficientStorage:
		return fault.Exhausted
	case http.StatusServiceUnavailable, http.StatusBadGateway:
		return fault.Unavailable
	}
	if status/100 == 4 {
		return fault.Invalid
	}
	return fault.Unknown
}

// statusGone is for a client that hung up; nobody reads it but the log.
const statusGone = 499

// exhaustedStatus tells a limit that waiting gets around from one that somebody
// must act on: a full disk, a full list.
func exhaustedStatus(err error) int {
	var w *account.Wait
	if errors.As(err, &w) {
		return http.StatusTooManyRequests
	}
	return http.StatusInsufficientStorage
}

// problem makes what the outside sees of an error. An error without a kind
// shows nothing of itself but a number under which the log has it.
func problem(err error, log *slog.Logger) *Problem {
	var done *Problem
	if errors.As(err, &done) {
		return done
	}
	p := &Problem{Status: Status(err), Title: fault.Of(err).String(), Detail: err.Error(), Remedy: fault.Remedy(err)}
	var w *account.Wait
	switch {
	case errors.As(err, &w):
		p.retryAfter = w.Seconds()
	case fault.Of(err) != fault.Unknown:
	case errors.Is(err, context.DeadlineExceeded):
		p.Title, p.Detail, p.Remedy = "too slow", "the answer took longer than is allowed", "ask for less at once: a shorter time, or more filters"
	case errors.Is(err, context.Canceled):
		p.Title, p.Detail = "given up", "the request was given up"
	default:
		p.ID = rand.Text()
		p.Title, p.Detail = "unexpected", "something unexpected went wrong; the server's log has the rest under "+p.ID
		log.Error("request failed", "error_id", p.ID, "error", err)
	}
	return p
}

// writeProblem answers outside of huma.
func writeProblem(w http.ResponseWriter, r *http.Request, err error, log *slog.Logger) {
	p := problem(err, log)
	for k, v := range p.GetHeaders() {
		w.Header()[k] = v
	}
	w.Header().Set("Cache-Control", "no-store")
	if !isAPI(r) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.WriteHeader(p.Status)
		fmt.Fprintln(w, p.Detail)
		if p.Remedy != "" {
			fmt.Fprintln(w, p.Remedy)
		}
		return
	}
	w.Header().Set("Content-Type", problemType)
	w.WriteHeader(p.Status)
	// The client may be gone, and there is nothing better to answer.
	_ = json.NewEncoder(w).Encode(p)
}

// humaProblem turns huma's own answers (a parameter of the wrong type, a body
// that is no JSON) into ours.
func humaProblem(_ huma.Context, _ string, v any) (any, error) {
	m, ok := v.(*huma.ErrorModel)
	if !ok {
		return v, nil
	}
	p := &Problem{Title: "invalid", Status: m.Status, Detail: m.Detail}
	if m.Status >= http.StatusInternalServerError {
		return &Problem{Title: "unexpected", Status: m.Status, Detail: "the answer could not be written"}, nil
	}
	for _, e := range m.Errors {
		if e == nil {
			continue
		}
		p.Errors = append(p.Errors, FieldDetail{Location: e.Location, Message: e.Message})
	}
	if len(p.Errors) > 0 {
		p.Detail = p.Errors[0].Location + ": " + p.Errors[0].Message
	}
	return p, nil
}
