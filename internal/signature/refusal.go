package signature

import "fmt"

// Reason is why a door refused an envelope.
type Reason string

// The reasons.
const (
	Malformed    Reason = "malformed"      // it can't be read, or says two things at once
	TooLarge     Reason = "too-large"      // beyond a limit
	Unsupported  Reason = "unsupported"    // a form or algorithm that is not known
	Forbidden    Reason = "forbidden"      // one that is known, and too weak
	OtherSubject Reason = "other-subject"  // it is about something else
	Forged       Reason = "forged"         // the cryptography does not hold
	NoRoot       Reason = "no-root"        // no trusted root vouches for it
	Expired      Reason = "expired"        // the certificate or the signature was no longer valid
	NotYet       Reason = "not-yet-valid"  // it was not valid yet
	Revoked      Reason = "revoked"        // the certificate, the signing job or the profile was revoked
	NoTime       Reason = "no-time"        // nothing trusted says when it was signed, and that matters
	NoLog        Reason = "not-in-the-log" // the transparency log's proof is missing or false
)

// Refusal is the error of a door that opened an envelope and found it false.
// Any other error means that the door could not find out.
type Refusal struct {
	Reason Reason
	Detail string // what exactly, for people
	Remedy string // what to do about it; may be empty
}

// Error says why.
func (r *Refusal) Error() string {
	if r.Detail == "" {
		return string(r.Reason)
	}
	return r.Detail
}

// Refuse returns a Refusal whose detail is formatted as by fmt.Sprintf.
func Refuse(reason Reason, format string, args ...any) *Refusal {
	return &Refusal{Reason: reason, Detail: fmt.Sprintf(format, args...)}
}
