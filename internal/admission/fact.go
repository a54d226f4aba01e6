package admission

import (
	"time"

	"github.com/castellan-security/castellan/internal/finding"
)

// State says how much is known of one side of an image. The zero value is
// Unknown: it is never a pass.
type State string

// The states.
const (
	Unknown State = ""        // nobody has looked, or it is not known whether
	Waiting State = "waiting" // somebody is about to look: asking again makes sense
	Failed  State = "failed"  // it could not be found out
	Known   State = "known"
)

// Facts is what is known of an image.
type Facts struct {
	Digest  string            `json:"digest"`
	At      time.Time         `json:"at"` // as of when
	Scan    Scan              `json:"scan"`
	Trust   Trust             `json:"trust"`
	Created time.Time         `json:"created,omitzero"` // as its configuration says
	User    string            `json:"user,omitempty"`   // its own
	Users   *Users            `json:"users,omitempty"`  // nil: not known
	Owners  []string          `json:"owners,omitempty"`
	Labels  map[string]string `json:"labels,omitempty"`
}

// Users are the names of users that an image has, sorted.
type Users struct {
	Root   []string `json:"root,omitempty"`   // uid 0
	Others []string `json:"others,omitempty"` // any other uid
}

// Scan is what the scanner says of it.
type Scan struct {
	State    State     `json:"state"`
	Why      string    `json:"why,omitempty"`     // with Failed
	At       time.Time `json:"at,omitzero"`       // of reading the image
	Database time.Time `json:"database,omitzero"` // date of the advisories it was last held against
	// Lost says that something of it could not be looked at.
	Lost            bool            `json:"lost,omitempty"`
	EndOfLife       *time.Time      `json:"end_of_life,omitempty"` // of its distribution
	Distribution    string          `json:"distribution,omitempty"`
	Vulnerabilities []Vulnerability `json:"vulnerabilities,omitempty"`
	Secrets         []Found         `json:"secrets,omitempty"`
	Malware         []Found         `json:"malware,omitempty"`
	Faults          []Found         `json:"faults,omitempty"`
}

// Vulnerability is a finding of the scanner in the few words that conditions need.
type Vulnerability struct {
	ID        string           `json:"id"`
	Package   string           `json:"package"`
	Version   string           `json:"version,omitempty"`
	Fixed     string           `json:"fixed,omitempty"` // empty: there is no fix
	Severity  finding.Severity `json:"severity"`
	Score     float64          `json:"score,omitempty"` // CVSS base score
	EPSS      float64          `json:"epss,omitempty"`  // probability, 0 to 1
	KEV       bool             `json:"kev,omitempty"`
	InUse     bool             `json:"in_use,omitempty"`
	Published time.Time        `json:"published,omitzero"`
	Accepted  bool             `json:"accepted,omitempty"` // somebody decided to live with it
}

// Found is a secret, malware or a fault.
type Found struct {
	Rule     string           `json:"rule"`
	Title    string           `json:"title"`
	Severity finding.Severity `json:"severity"`
	Place    string           `json:"place,omitempty"` // path, or name of a variable; never a secret
	Accepted bool             `json:"accepted,omitempty"`
}

// Trust is what the trust policy says of it.
type Trust struct {
	State   State     `json:"state"`
	Allowed bool      `json:"allowed,omitempty"` // with Known
	Why     string    `json:"why,omitempty"`
	Remedy  string    `json:"remedy,omitempty"`
	Policy  string    `json:"policy,omitempty"` // digest
	At      time.Time `json:"at,omitzero"`
	Until   time.Time `json:"until,omitzero"` // when it holds no longer
	Signers []Signer  `json:"signers,omitempty"`
}

// Signer is a signature or an attestation that holds.
type Signer struct {
	Names    []string  `json:"names,omitempty"` // in the trust policy
	Identity string    `json:"identity"`
	Kind     string    `json:"kind"`              // sigstore or notary
	Attests  string    `json:"attests,omitempty"` // type of an attestation; empty for a signature
	At       time.Time `json:"at,omitzero"`
}
