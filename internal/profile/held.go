package profile

import (
	"fmt"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
)

// Held is what of a group's rules a host's kernel holds its containers to, as the
// host's agent tells it. The zero value says that nothing is held.
type Held struct {
	Group    asset.Group `json:"group"`
	Stamp    string      `json:"stamp,omitempty"`    // of the rules that are held, as they came; empty for none
	Revision int64       `json:"revision,omitempty"` // of the profile that they were compiled from
	Since    time.Time   `json:"since,omitzero"`     // when they took hold
	// Workloads is how many containers are held to them now.
	Workloads int           `json:"workloads,omitempty"`
	Controls  []HeldControl `json:"controls,omitempty"`
	// Error is why the newest rules are not held; what is in force then is what
	// Stamp says.
	Error  string `json:"error,omitempty"`
	Remedy string `json:"remedy,omitempty"`
}

// HeldControl is how one control is held.
type HeldControl struct {
	Control Control `json:"control"`
	// Answer is what happens to what lies outside: less than the rules say where
	// the rung can't do more.
	Answer Answer `json:"answer"`
	Rung   string `json:"rung,omitempty"`  // in the words of asset.Rung.Best
	Error  string `json:"error,omitempty"` // why it is less than the rules say
}

// Limits of what an agent tells about a group.
const (
	maxHeldText     = 512
	maxHeldControls = 16
)

// Check returns an error if h is not what an agent tells.
func (h *Held) Check() error {
	n := max(len(h.Group), len(h.Stamp), len(h.Error), len(h.Remedy))
	for _, c := range h.Controls {
		n = max(n, len(c.Control), len(c.Rung), len(c.Error))
		switch c.Answer {
		case Off, Audit, Deny:
		default:
			return fmt.Errorf("control %.20q of group %.200q is held with the answer %.20q: want off, audit or deny", c.Control, h.Group, c.Answer)
		}
	}
	switch {
	case h.Group == "":
		return fmt.Errorf("what is held is of no group")
	case n > maxHeldText || len(h.Controls) > maxHeldControls || h.Workloads < 0:
		return fmt.Errorf("what is held of group %.200q has texts of %d bytes and %d controls; at most %d and %d are taken",
			h.Group, n, len(h.Controls), maxHeldText, maxHeldControls)
	}
	return nil
}
