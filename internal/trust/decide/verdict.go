package decide

import (
	"fmt"
	"time"

	"github.com/castellan-security/castellan/internal/signature"
)

// Verdict is whether an image may run, and why.
type Verdict struct {
	Allowed    bool      `json:"allowed"`
	Reason     string    `json:"reason"`
	Remedy     string    `json:"remedy,omitempty"`
	Repository string    `json:"repository,omitempty"` // its full name
	Digest     string    `json:"digest"`
	Index      string    `json:"index,omitempty"`
	At         time.Time `json:"at"`    // as of when
	Until      time.Time `json:"until"` // when it must be asked again

	PolicyFile string    `json:"policy_file"`
	Policy     string    `json:"policy"` // digest
	Roots      string    `json:"roots"`  // digest
	Rule       *Chosen   `json:"rule,omitempty"`
	Exception  *Excepted `json:"exception,omitempty"`
	Lapsed     *Excepted `json:"lapsed,omitempty"` // an exception that is over

	Looked       []Looked  `json:"looked"`
	Signatures   []Case    `json:"signatures"`
	Requirements []Outcome `json:"requirements"`
	Steps        []Step    `json:"steps"`

	Facts *Facts `json:"facts,omitempty"` // with Decider.Facts
}

// Chosen is the rule that an image fell under.
type Chosen struct {
	Name    string `json:"name,omitempty"`
	Pattern string `json:"pattern"` // the one that matched
	Line    int    `json:"line"`
}

// String names the rule as people find it.
func (c *Chosen) String() string {
	if c.Name != "" {
		return fmt.Sprintf("%q (line %d)", c.Name, c.Line)
	}
	return fmt.Sprintf("for %s (line %d)", c.Pattern, c.Line)
}

// Excepted is an exception of the policy.
type Excepted struct {
	Digest  string    `json:"digest"`
	Reason  string    `json:"reason"`
	Expires time.Time `json:"expires"`
	Line    int       `json:"line"`
}

// Looked is what was found about a subject.
type Looked struct {
	Digest   string `json:"digest"`
	Index    bool   `json:"index,omitempty"`
	Found    int    `json:"found"`
	Unlisted int    `json:"unlisted,omitempty"` // beyond MaxListed: not looked at
	Unopened int    `json:"unopened,omitempty"` // beyond MaxOpened, or not needed any more
	Beyond   bool   `json:"beyond,omitempty"`   // some were left out for a limit
	Missing  string `json:"missing,omitempty"`  // what else is there and could not be had
}

// State is what became of an envelope.
type State string

// The states of envelopes.
const (
	Good    State = "good"    // what it says is true; whether it counts is another matter
	Refused State = "refused" // it is false
	Unknown State = "unknown" // nobody could find out
)

// Case is an envelope that was looked at.
type Case struct {
	Envelope string           `json:"envelope"`
	Subject  string           `json:"subject"`
	Way      signature.Way    `json:"way"`
	Kind     signature.Kind   `json:"kind,omitempty"`
	State    State            `json:"state"`
	Reason   signature.Reason `json:"reason,omitempty"`
	Detail   string           `json:"detail,omitempty"`
	Remedy   string           `json:"remedy,omitempty"`

	Signers    []string             `json:"signers,omitempty"` // of the policy, that it is by
	By         *Who                 `json:"by,omitempty"`
	Predicate  string               `json:"predicate,omitempty"` // of an attestation
	Time       *time.Time           `json:"time,omitempty"`      // of signing
	Proof      signature.Proof      `json:"proof,omitempty"`
	Log        *int64               `json:"log_index,omitempty"`
	Revocation signature.Revocation `json:"revocation,omitempty"`
	Old        bool                 `json:"old,omitempty"`

	signed signature.Signed
	cut    bool  // of signed, the predicate is not there
	fact   *Fact // with Decider.Facts
	err    error
}

// Who is an identity as a door reports it.
type Who struct {
	Key         string `json:"key"`
	Certificate string `json:"certificate,omitempty"` // its subject
	Store       string `json:"store,omitempty"`
	Issuer      string `json:"issuer,omitempty"`
	Subject     string `json:"subject,omitempty"`
	Profile     string `json:"profile,omitempty"`
}

// String says who in a few words.
func (w *Who) String() string {
	switch {
	case w.Profile != "":
		return w.Profile
	case w.Issuer != "":
		return w.Subject + " of " + w.Issuer
	case w.Certificate != "":
		return w.Certificate
	}
	return "key " + w.Key
}

// Outcome is what became of a requirement.
type Outcome struct {
	Form    string `json:"form"` // what is required, in words
	Line    int    `json:"line"`
	Met     bool   `json:"met"`
	By      []Vote `json:"by,omitempty"`
	Missing string `json:"missing,omitempty"`
	Remedy  string `json:"remedy,omitempty"`
	Misses  []Miss `json:"misses,omitempty"` // what is there and doesn't count
}

// Vote is an envelope that counts for a signer.
type Vote struct {
	Signer   string `json:"signer"`
	Envelope string `json:"envelope"`
}

// Miss is an envelope of a wanted signer, or of the wanted type, that doesn't
// count.
type Miss struct {
	Envelope string `json:"envelope"`
	Why      string `json:"why"`
	Remedy   string `json:"remedy,omitempty"`
}

// Mark is how a step went.
type Mark string

// The marks.
const (
	Yes  Mark = "yes"
	No   Mark = "no"
	Open Mark = "unknown"
	Note Mark = "note"
)

// Step is one step of a decision, as people read it.
type Step struct {
	Mark   Mark   `json:"mark"`
	Text   string `json:"text"`
	Remedy string `json:"remedy,omitempty"`
	Steps  []Step `json:"steps,omitempty"`
}
