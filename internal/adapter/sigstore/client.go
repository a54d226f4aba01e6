package sigstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/pace"
)

const (
	// requestTime bounds one request. Rekor's first version answers when the
	// entry is in the log, which takes it up to ten seconds.
	requestTime = 30 * time.Second
	// maxAnswer bounds what a service answers: an entry with a chain has 20 KiB.
	maxAnswer = 4 << 20
	// attempts is how often a service is asked that is overloaded or away.
	attempts = 3
	// pause is before the second attempt; it doubles.
	pause = time.Second
)

// client asks the services.
type client struct {
	http  *http.Client
	pause time.Duration // before the second attempt
}

func newClient(c *http.Client) client {
	if c == nil {
		c = &http.Client{
			Timeout: requestTime,
			// A service that sends elsewhere would get the token there.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
	}
	return client{c, pause}
}

// post sends a document and returns what is answered. Answers that say "later"
// are asked for again, a bounded number of times.
func (c client) post(ctx context.Context, address, media string, body []byte, header http.Header) ([]byte, error) {
	return c.ask(ctx, func() (*http.Request, error) {
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(body))
		if err != nil {
			return nil, err
		}
		for name, values := range header {
			r.Header[name] = values
		}
		r.Header.Set("Content-Type", media)
		return r, nil
	})
}

func (c client) get(ctx context.Context, address string, header http.Header) ([]byte, error) {
	return c.ask(ctx, func() (*http.Request, error) {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
		if err == nil {
			r.Header = header
		}
		return r, err
	})
}

func (c client) ask(ctx context.Context, request func() (*http.Request, error)) ([]byte, error) {
	wait := c.pause
	for left := attempts; ; left-- {
		r, err := request()
		if err != nil {
			return nil, err
		}
		answer, again, err := c.once(r)
		if err == nil || !again || left == 1 {
			return answer, err
		}
		if !pace.Wait(ctx, wait) {
			return nil, errors.Join(ctx.Err(), err)
		}
		wait *= 2
	}
}

// once reports beside an error whether asking again may help.
func (c client) once(r *http.Request) (answer []byte, again bool, err error) {
	ctx, cancel := context.WithTimeout(r.Context(), requestTime)
	defer cancel()
	resp, err := c.http.Do(r.WithContext(ctx))
	if err != nil {
		return nil, r.Context().Err() == nil, fault.New(fault.Unavailable, "ask %s: %w", r.URL.Host, err).With("is its address right, and can it be reached from here?")
	}
	defer resp.Body.Close()
	answer, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return nil, true, fault.New(fault.Unavailable, "read the answer of %s: %w", r.URL.Host, err)
	case len(answer) > maxAnswer:
		return nil, false, fmt.Errorf("the answer of %s has more than %d bytes", r.URL.Host, maxAnswer)
	case resp.StatusCode == http.StatusOK || resp.StatusCode == http.StatusCreated:
		return answer, false, nil
	}
	if resp.StatusCode == http.StatusConflict {
		return nil, false, &conflictError{resp.Header.Get("Location"), fault.New(fault.Conflict, "%s has it already", r.URL.Host)}
	}
	again = resp.StatusCode >= http.StatusInternalServerError || resp.StatusCode == http.StatusTooManyRequests
	return nil, again, fault.New(kindOf(resp.StatusCode), "%s answered %s: %s", r.URL.Host, resp.Status, clip(strings.TrimSpace(string(answer))))
}

// conflictError says where a service has already what it was sent.
type conflictError struct {
	location string
	error
}

// Unwrap returns the kind of error that it is.
func (c *conflictError) Unwrap() error { return c.error }

func kindOf(status int) fault.Kind {
	switch {
	case status == http.StatusUnauthorized:
		return fault.Unauthenticated
	case status == http.StatusForbidden:
		return fault.Denied
	case status == http.StatusTooManyRequests:
		return fault.Exhausted
	case status >= http.StatusInternalServerError:
		return fault.Unavailable
	}
	return fault.Invalid
}

// join adds a path to a service's address.
func join(base, path string) (string, error) {
	u, err := url.JoinPath(base, path)
	if err != nil {
		return "", fmt.Errorf("the address %q: %w", clip(base), err)
	}
	return u, nil
}
