package ecs

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"
)

// source is one endpoint with its last answer. The zero value answers nothing.
// It is used with the identifier's mutex held.
type source[T any] struct {
	url   string
	limit int64
	parse func([]byte) (T, error)

	answer T
	ok     bool      // the last question was answered
	asked  time.Time // when that was
}

// get returns the last answer if it is younger than age, else asks. ok is false
// while nobody answers.
func (s *source[T]) get(ctx context.Context, i *Identifier, age time.Duration) (answer T, ok bool) {
	if s.url == "" {
		return answer, false
	}
	if !s.ok {
		age = awayFor
	}
	if !s.asked.IsZero() && time.Since(s.asked) < age {
		return s.answer, s.ok
	}
	got, err := s.ask(ctx, i.http)
	if ctx.Err() != nil {
		return s.answer, s.ok // it was not asked long enough to know
	}
	s.answer, s.ok, s.asked = got, err == nil, time.Now()
	if err != nil {
		// Ordinary on a host that is not of ECS, so not a warning.
		i.log.Debug("ecs endpoint does not answer", "url", s.url, "error", err)
	}
	return s.answer, s.ok
}

// again has the next get ask although nobody answered the last time, unless that
// was less than age ago.
func (s *source[T]) again(age time.Duration) {
	if !s.ok && time.Since(s.asked) >= age {
		s.asked = time.Time{}
	}
}

func (s *source[T]) ask(ctx context.Context, hc *http.Client) (T, error) {
	var none T
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url, nil)
	if err != nil {
		return none, fmt.Errorf("build request: %w", err)
	}
	resp, err := hc.Do(req)
	if err != nil {
		return none, err
	}
	defer func() { _ = resp.Body.Close() }() // the answer was read or is given up
	if resp.StatusCode != http.StatusOK {
		return none, fmt.Errorf("answered %s", resp.Status)
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, s.limit+1))
	if err != nil {
		return none, fmt.Errorf("read answer: %w", err)
	}
	if int64(len(b)) > s.limit {
		return none, fmt.Errorf("the answer is longer than %d bytes", s.limit)
	}
	return s.parse(b)
}
