package admission

import (
	"time"

	"github.com/castellan-security/castellan/internal/finding"
)

// Outcome is how a request ends.
type Outcome string

// The outcomes. The zero value is no leave either.
const (
	Deny  Outcome = "deny"
	Wait  Outcome = "wait" // facts are being found out: ask again after Verdict.Again
	Allow Outcome = "allow"
)

// Verdict is whether a request is let through, and why.
type Verdict struct {
	Request string    `json:"request"` // its ID
	Outcome Outcome   `json:"outcome"`
	Policy  string    `json:"policy"` // digest of the policy by which
	At      time.Time `json:"at"`
	// Until is when it must be asked again at the latest: when an exception or what
	// it rests on is over. Zero: as long as the policy and the facts are the same.
	Until time.Time `json:"until,omitzero"`
	// Again is when to ask again, with Wait.
	Again time.Duration `json:"again,omitempty"`
	// Reasons are all of them, those that deny first.
	Reasons []Reason `json:"reasons"`
	// Omitted is how many reasons are left out because there are too many.
	Omitted int `json:"omitted,omitempty"`
	// Declared says that nobody decided: the answer is what the policy declares for
	// errors, and the reason tells the error.
	Declared bool `json:"declared,omitempty"`
}

// Allowed says that it may go on.
func (v *Verdict) Allowed() bool { return v.Outcome == Allow }

// Effect is what a reason does to the verdict.
type Effect string

// The effects.
const (
	Denies   Effect = "denies"
	Waits    Effect = "waits"
	Audited  Effect = "audited"  // would deny; the rule only reports here
	Excepted Effect = "excepted" // would deny; somebody has made an exception
	Warns    Effect = "warns"
)

// Reason is one rule that has something against a request.
type Reason struct {
	Effect   Effect           `json:"effect"`
	Rule     string           `json:"rule"`
	Severity finding.Severity `json:"severity,omitempty"`
	// Container and Image are what it is about, where it is about one.
	Container string `json:"container,omitempty"`
	Image     string `json:"image,omitempty"`
	// Subjects are the things that it is about beyond those, the gravest first: CVE
	// numbers, ids of checks, sources of mounts. They are what the Subject of an
	// exception can be; not all of them if Count is more. None: of none, or decided
	// before they were told.
	Subjects []string `json:"subjects,omitempty"`
	Count    int      `json:"count,omitempty"` // of how many things, if more than one
	Message  string   `json:"message"`         // one sentence
	Remedy   string   `json:"remedy,omitempty"`
	// Unknown names what is not known, where that is the reason.
	Unknown   string     `json:"unknown,omitempty"`
	Exception *Exception `json:"exception,omitempty"` // with Excepted
	Line      int        `json:"line,omitempty"`      // of the rule in the policy's file
}

// Exception is leave for what a rule would refuse, for a time.
type Exception struct {
	ID      string    `json:"id"`
	Rules   []string  `json:"rules"` // none: no rule at all is excepted
	Owner   string    `json:"owner"`
	Reason  string    `json:"reason"`
	Expires time.Time `json:"expires"` // always set
	// What it is for; each that is given must fit. One at least is given.
	Image     string `json:"image,omitempty"` // digest, or a pattern of repositories
	Container string `json:"container,omitempty"`
	Family    string `json:"family,omitempty"`
	Service   string `json:"service,omitempty"`
	Cluster   string `json:"cluster,omitempty"`
	Subject   string `json:"subject,omitempty"` // one thing alone: a CVE number, an id of a check
	Host      string `json:"host,omitempty"`
}
