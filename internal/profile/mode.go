package profile

import "time"

// Mode is what a group's profile does. The zero value is Discover: what nobody
// decided on is neither reported nor blocked.
type Mode string

// The modes.
const (
	Discover Mode = ""        // learns
	Monitor  Mode = "monitor" // reports what lies outside
	Protect  Mode = "protect" // blocks it
)

// String is the mode's word: "discover", "monitor", "protect".
func (m Mode) String() string {
	if m == Discover {
		return "discover"
	}
	return string(m)
}

// MarshalText writes the word of the mode.
func (m Mode) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText reads what MarshalText writes, and "" as Discover. Any other word is
// taken as it is: whoever acts on a mode refuses one that it does not know.
func (m *Mode) UnmarshalText(b []byte) error {
	*m = Mode(b)
	if string(b) == "discover" {
		*m = Discover
	}
	return nil
}

// ParseMode reads the word of a mode.
func ParseMode(s string) (Mode, bool) {
	switch s {
	case "discover":
		return Discover, true
	case string(Monitor), string(Protect):
		return Mode(s), true
	}
	return Discover, false
}

// Control is one kind of behaviour that can be held on its own. They are the
// controls of the ladder.
type Control string

// The controls.
const (
	ControlExec      Control = "exec"      // what runs, and what is mapped as code
	ControlFile      Control = "file"      // what is written, and what is read of sensitive files
	ControlNetwork   Control = "network"   // whom is connected to, which ports are opened, which names are asked for
	ControlPrivilege Control = "privilege" // capabilities and privileged calls
	ControlResource  Control = "resource"  // how much is taken
)

// Controls lists every control in the order in which they are shown.
func Controls() []Control {
	return []Control{ControlExec, ControlFile, ControlNetwork, ControlPrivilege, ControlResource}
}

// Answer is what happens to what lies outside. The zero value is none: rules
// without an answer for each control are refused.
type Answer string

// The answers.
const (
	Off   Answer = "off"   // nothing is held; sensors alone see it
	Audit Answer = "audit" // it is done, and told as what would have been denied
	Deny  Answer = "deny"  // it is refused, or where the rung can only kill, the process dies
)

// Settled says how much a profile can still be expected to change.
type Settled struct {
	// Measure is from 0 to 1: the share of what it waits for that has come.
	Measure float64 `json:"measure"`
	// Since is when something new was learned last.
	Since time.Time `json:"since,omitzero"`
	// Waits says in sentences what it still waits for, the weightiest first.
	Waits []string `json:"waits,omitempty"`
}
