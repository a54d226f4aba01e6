// Package fault names the kinds of error that a caller decides on, and carries
// the remedy that a person needs.
//
// It is not for every error: an error that nobody tells apart stays a plain
// fmt.Errorf. Kinds are translated to HTTP in internal/server/error.go and to
// an exit code in cmd/castellan/exit.go, and nowhere else.
package fault

import (
	"errors"
	"fmt"
)

// Kind says what a caller can do about an error. The zero value is Unknown:
// an error nobody classified, which shows nothing of itself to the outside.
type Kind uint8

// The kinds, by what the caller should do next.
const (
	Unknown         Kind = iota
	Invalid              // the request is wrong; asking again changes nothing
	NotFound             // there is no such thing
	Conflict             // it exists already, or changed meanwhile
	Unauthenticated      // say who you are
	Denied               // known, but not permitted
	Exhausted            // a limit is reached: rate, size, disk; later may work
	Unavailable          // the other side is away; later may work
	Unsupported          // this kernel, engine or platform cannot do it
	Corrupt              // stored data is damaged; a person must act
)

var kindNames = [...]string{
	"unknown", "invalid", "not found", "conflict", "unauthenticated",
	"denied", "exhausted", "unavailable", "unsupported", "corrupt",
}

// String returns the kind in words, for logs and problem documents.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// Error is an error with a kind and, where one is known, a remedy: one
// sentence that tells a person what to do. The remedy never contains a secret.
type Error struct {
	Kind   Kind
	Err    error
	Remedy string
}

// Error returns the cause alone; the remedy is printed by whoever shows the
// error to a person.
func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// New returns an error of the given kind. The format is as in fmt.Errorf,
// %w included.
func New(k Kind, format string, args ...any) *Error {
	return &Error{Kind: k, Err: fmt.Errorf(format, args...)}
}

// With returns the same error carrying a remedy.
func (e *Error) With(remedy string) *Error {
	c := *e
	c.Remedy = remedy
	return &c
}

// Of returns the kind of the outermost *Error in err's chain, and Unknown for
// nil or an error without one.
func Of(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return Unknown
}

// Is reports whether err is of kind k.
func Is(err error, k Kind) bool { return err != nil && Of(err) == k }

// Remedy returns the first remedy in err's chain, or "".
func Remedy(err error) string {
	for err != nil {
		var e *Error
		if !errors.As(err, &e) {
			return ""
		}
		if e.Remedy != "" {
			return e.Remedy
		}
		err = e.Err
	}
	return ""
}
