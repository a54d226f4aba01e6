package finding

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"
)

// Misconfiguration is one thing that is set wrongly, or not set, in an image or
// in a document that says how something shall be built or run. It never holds
// the value of a secret.
type Misconfiguration struct {
	// Check is the check that found it: CAST-TASK-001. It never changes its
	// meaning.
	Check    string   `json:"check"`
	Title    string   `json:"title"`
	Severity Severity `json:"severity"`
	// Resource is what it is of, as its document names it:
	// aws_ecs_task_definition.web, Resources.WebTask, a service of a compose file,
	// a stage of a Dockerfile, or an image's reference.
	Resource  string `json:"resource"`
	Container string `json:"container,omitempty"` // the container's name within the resource
	// Subject is what of it is meant where there may be several: the name of a
	// variable, a path, a port.
	Subject string `json:"subject,omitempty"`
	// File is relative to what was scanned, with slashes; empty for an image.
	File  string   `json:"file,omitempty"`
	Start Position `json:"start,omitzero"`
	End   Position `json:"end,omitzero"`
	// Layer counts from 1, the base, where a layer of an image brought it.
	Layer int `json:"layer,omitempty"`
	// Evidence is what is there, in words.
	Evidence string `json:"evidence"`
	Why      string `json:"why"`
	Remedy   string `json:"remedy"` // one sentence
	// Elsewhere are the names of the same check in other catalogues.
	Elsewhere Elsewhere `json:"elsewhere,omitzero"`
	// Accepted says that somebody decided to live with it; it then does not fail
	// a gate.
	Accepted *Acceptance `json:"accepted,omitempty"`
	// Fingerprint is the same for the same fault in the same resource of the same
	// file, wherever in the file it stands.
	Fingerprint string `json:"fingerprint"`
}

// Position is a place in a file; both numbers count from 1, columns in bytes.
// The zero value means that there is none.
type Position struct {
	Line   int `json:"line"`
	Column int `json:"column,omitempty"`
}

// Elsewhere names a check in other catalogues. What is not known to have the
// check is empty.
type Elsewhere struct {
	SecurityHub []string `json:"security_hub,omitempty"` // ECS.4
	// CIS numbers have the benchmark before them: "Docker 1.6 5.5".
	CIS     []string `json:"cis,omitempty"`
	Prowler []string `json:"prowler,omitempty"`
	Checkov []string `json:"checkov,omitempty"` // CKV_AWS_334
}

// Names returns all names, those of Security Hub first.
func (e Elsewhere) Names() []string {
	var all []string
	for _, id := range e.SecurityHub {
		all = append(all, "Security Hub "+id)
	}
	for _, id := range e.CIS {
		all = append(all, "CIS "+id)
	}
	for _, id := range e.Prowler {
		all = append(all, "Prowler "+id)
	}
	for _, id := range e.Checkov {
		all = append(all, "Checkov "+id)
	}
	return all
}

// Print sets the fingerprint from the check, the file, the resource and what of
// it is meant. nth tells faults apart that are alike in all of these; it counts
// from 0 in the order of the file.
func (m *Misconfiguration) Print(nth int) {
	var short [512]byte // longer than nearly all
	b := short[:0]
	for _, s := range [...]string{"misconfiguration", m.Check, m.File, m.Resource, m.Container, m.Subject} {
		b = append(append(b, s...), 0)
	}
	if nth > 0 {
		b = strconv.AppendInt(b, int64(nth), 10)
	}
	const enough = 16 // bytes: no two findings of one subject meet by chance
	sum := sha256.Sum256(b)
	m.Fingerprint = hex.EncodeToString(sum[:enough])
}
