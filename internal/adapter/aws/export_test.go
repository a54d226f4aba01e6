package aws

import "time"

// WithClock makes a keychain tell the time by now.
func (e *ECR) WithClock(now func() time.Time) *ECR {
	e.now = now
	return e
}
