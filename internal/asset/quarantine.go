package asset

import "time"

// MaxHeld is how many containers in quarantine an agent tells of: a host has some tens
// of containers, and each report has them all.
const MaxHeld = 200

// Quarantine is what an agent holds in quarantine on its host.
type Quarantine struct {
	Looked time.Time `json:"looked"` // when it was so, by the agent's clock
	Held   []Held    `json:"held,omitempty"`
	More   int       `json:"more,omitempty"` // that there was no room for
}

// Held is a container in quarantine.
type Held struct {
	WorkloadID string    `json:"workload_id"`
	Group      Group     `json:"group,omitempty"`
	Freeze     bool      `json:"freeze,omitempty"`
	By         string    `json:"by"` // as the audit log has it; empty where nobody knows
	Reason     string    `json:"reason,omitempty"`
	At         time.Time `json:"at"`   // since when, by the agent's clock
	Deed       string    `json:"deed"` // its id
	// Problem says why it is not held as it should; empty when it is, or does not run.
	Problem string `json:"problem,omitempty"`
}
