package sigstore

import (
	"context"
	"time"
)

// WithoutPauses makes a Signer ask again at once.
func (s *Signer) WithoutPauses() *Signer {
	s.http.pause = time.Nanosecond
	return s
}

// WithoutWaits has a sign-in wait as wait says, and by another clock.
func (s *SignIn) WithoutWaits(wait func(context.Context, time.Duration) error, now func() time.Time) *SignIn {
	s.wait, s.now = wait, now
	return s
}
