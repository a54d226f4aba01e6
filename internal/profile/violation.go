package profile

import (
	"time"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
)

// Violation is an event outside its group's profile, and how often it happened
// since.
type Violation struct {
	ID    int64       `json:"id"` // given by the store; 0 before
	Group asset.Group `json:"group"`
	// Fingerprint is the same for what differs only in time, process id and host.
	Fingerprint string         `json:"fingerprint"`
	Control     Control        `json:"control"`
	Kind        event.Kind     `json:"kind"`
	Reaction    event.Reaction `json:"reaction,omitempty"` // what happened to it; none: it was done, and reported
	Subject     string         `json:"subject"`            // what was done to: a path, an address, a name, a call
	Program     string         `json:"program,omitempty"`  // who did it
	// Sentence says what was done, by whom, and what the profile allows instead.
	Sentence string `json:"sentence"`
	// Permit is what would be added to the profile to make it normal; empty where
	// the profile can't say it.
	Permit *Profile `json:"permit,omitempty"`
	// Unheld says that no kernel is asked to hold to this part of a profile, such as
	// whose child a program is: it is reported, and never denied.
	Unheld     bool      `json:"unheld,omitempty"`
	Revision   int64     `json:"revision"`              // of the profile it was held against
	Mode       Mode      `json:"mode"`                  // of the group at that time
	WorkloadID string    `json:"workload_id,omitempty"` // of the last
	AgentID    string    `json:"agent_id,omitempty"`    // of the last
	EventID    int64     `json:"event_id,omitempty"`    // of the last; 0 where it is not stored any more
	Count      uint64    `json:"count"`
	First      time.Time `json:"first"`
	Last       time.Time `json:"last"`
}
