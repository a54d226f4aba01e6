package event

import "time"

// Running is one process as a process tree shows it: what runs now, or ended a
// short while ago.
type Running struct {
	WorkloadID string     `json:"workload_id,omitempty"` // empty for a process of the host itself
	Process    Process    `json:"process"`
	Args       []string   `json:"args,omitempty"`
	Origin     Origin     `json:"origin,omitempty"`
	Entered    bool       `json:"entered,omitempty"`
	Started    time.Time  `json:"started"`
	Ended      *time.Time `json:"ended,omitempty"` // nil while it runs
	Exit       *Exit      `json:"exit,omitempty"`
}
