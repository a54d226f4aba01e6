package finding

import "github.com/castellan-security/castellan/internal/inventory"

// Secret is a secret that stands where it can be read. The value is in no field.
type Secret struct {
	inventory.Secret
	// Title says in words what it is.
	Title    string   `json:"title"`
	Severity Severity `json:"severity"`
	Remedy   string   `json:"remedy"` // one sentence
	// Accepted says that somebody decided to live with it; it then does not fail
	// a gate.
	Accepted *Acceptance `json:"accepted,omitempty"`
	// Known says that a baseline has it already: it does not fail a gate, and is
	// not told anew.
	Known bool `json:"known,omitempty"`
	// Fingerprint is the same for the same secret at the same place, whatever
	// the scan, within one installation: it is made with the installation's salt.
	Fingerprint string `json:"fingerprint"`
}

// Counts says whether it is one that somebody must still do something about.
func (s *Secret) Counts() bool { return s.Accepted == nil && !s.Known }
