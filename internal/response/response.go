// Package response holds the nouns for what is done about a threat: a deed that
// somebody asks for, and the answer to it.
//
// It is not for deciding what is done (see internal/respond), nor for blocking
// what lies outside a profile, which the kernel does by itself.
package response

import (
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/untrusted"
)

// Kind is what is done. The zero value is no deed.
type Kind string

// The kinds of deed.
const (
	Kill       Kind = "kill"       // end one process, or all of a container
	Quarantine Kind = "quarantine" // cut a container's whole network, and freeze it if wanted
	Release    Kind = "release"    // undo a quarantine
	Stop       Kind = "stop"       // stop the ECS task, or the container through its engine
	Snapshot   Kind = "snapshot"   // keep what a container is and does, for whoever looks into it
	Revoke     Kind = "revoke"     // have AWS refuse the credentials that the task's role has given out until now
	Reinstate  Kind = "reinstate"  // undo that
)

// Kinds lists every kind.
func Kinds() []Kind {
	return []Kind{Kill, Quarantine, Release, Stop, Snapshot, Revoke, Reinstate}
}

// Undo is what takes a deed of the kind back; empty when nothing does.
func (k Kind) Undo() Kind {
	switch k {
	case Quarantine:
		return Release
	case Revoke:
		return Reinstate
	}
	return ""
}

// AtServer says that a deed is done by the server, through AWS, and not on the host.
func (k Kind) AtServer() bool { return k == Revoke || k == Reinstate }

// Limits of a deed.
const (
	// MaxReason bounds the reason in bytes: a sentence or two.
	MaxReason = 500
	// MaxID bounds an id in bytes.
	MaxID = 64
	// MaxPackets bounds how long packets are captured: longer would outlast whoever
	// waits for the answer.
	MaxPackets = time.Minute
	// MaxUntil bounds how long after it was asked for a deed may still begin. What
	// somebody wanted killed minutes ago is perhaps no longer what they would.
	MaxUntil = 5 * time.Minute
)

// Deed is one thing that is to be done to one container. The zero value is Invalid.
type Deed struct {
	ID       string `json:"id"`       // to be repeated in the answer
	Kind     Kind   `json:"kind"`     //
	Workload string `json:"workload"` // the container's id, 64 hex digits
	// Process is whom Kill ends: it and nothing that has its pid later; the zero key
	// is all processes of the container.
	Process event.Key `json:"process,omitzero"`
	// Freeze has Quarantine stop all processes where they are, too.
	Freeze bool `json:"freeze,omitempty"`
	// Packets is for how long Snapshot captures packets; none with 0.
	Packets time.Duration `json:"packets,omitempty"`
	// Values has Snapshot keep the values of environment variables, which are secrets.
	Values bool `json:"values,omitempty"`
	// Files has Snapshot keep the content of small changed files.
	Files bool `json:"files,omitempty"`
	// DryRun changes nothing: the answer says what would be done.
	DryRun bool   `json:"dry_run,omitempty"`
	Reason string `json:"reason,omitempty"`
	By     string `json:"by,omitempty"` // who asked, as the audit log has it
	// Asked and Until are by the clock of who asks: it is not begun after Until.
	Asked time.Time `json:"asked"`
	Until time.Time `json:"until"`
}

// Check returns what is wrong with a deed, as Invalid.
func (d *Deed) Check() error {
	switch {
	case !slices.Contains(Kinds(), d.Kind):
		return fault.New(fault.Invalid, "%q is no deed: want kill, quarantine, release, stop, snapshot, revoke or reinstate", untrusted.Clip(string(d.Kind), MaxID))
	case d.ID == "" || len(d.ID) > MaxID:
		return fault.New(fault.Invalid, "a deed has an id of 1 to %d bytes", MaxID)
	case !asset.IsContainerID(d.Workload):
		return fault.New(fault.Invalid, "%q is no container id: want 64 hex digits", untrusted.Clip(d.Workload, MaxID))
	case !d.Process.IsZero() && d.Kind != Kill:
		return fault.New(fault.Invalid, "a process is named, which only kill is about; %s is about the container", d.Kind)
	case !d.Process.IsZero() && d.Process.PID <= 1:
		return fault.New(fault.Invalid, "process %d of the host is never killed", d.Process.PID)
	case d.Freeze && d.Kind != Quarantine:
		return fault.New(fault.Invalid, "only quarantine freezes")
	case (d.Packets != 0 || d.Values || d.Files) && d.Kind != Snapshot:
		return fault.New(fault.Invalid, "packets, values and files are what a snapshot keeps")
	case d.Packets < 0 || d.Packets > MaxPackets:
		return fault.New(fault.Invalid, "packets: want 0 to %s", MaxPackets)
	case len(d.Reason) > MaxReason || !utf8.ValidString(d.Reason) || strings.ContainsFunc(d.Reason, unicode.IsControl):
		return fault.New(fault.Invalid, "reason: want one line of at most %d bytes", MaxReason)
	case d.Asked.IsZero() || d.Until.Before(d.Asked) || d.Until.Sub(d.Asked) > MaxUntil:
		return fault.New(fault.Invalid, "until: want a time within %s after it was asked", MaxUntil)
	}
	return nil
}

// State is where a response is in its life.
type State string

// The states of a response. Refused means that nothing was tried, failed that
// something was, and did not work as a whole.
const (
	Asked   State = "asked"
	Running State = "running"
	Done    State = "done"
	Failed  State = "failed"
	Refused State = "refused"
	Undone  State = "undone" // what it did was taken back
	Over    State = "over"   // what it did ended by itself: there is nothing left to undo
)

// Ended reports whether nothing more happens by itself.
func (s State) Ended() bool { return s != Asked && s != Running && s != "" }

// Limits of an answer; what is longer is cut.
const (
	MaxLines = 50
	MaxLine  = 500
)

// Answer says what came of a deed.
type Answer struct {
	ID    string `json:"id"`
	State State  `json:"state"`
	// Did says what was done, with DryRun what would be, a sentence each.
	Did []string `json:"did,omitempty"`
	// Lacks says what could not be done, or only in part.
	Lacks []string `json:"lacks,omitempty"`
	// Error says why it was refused or failed, Remedy what helps.
	Error  string `json:"error,omitempty"`
	Remedy string `json:"remedy,omitempty"`
	// Undo is the deed that takes it back; empty when nothing does.
	Undo Kind `json:"undo,omitempty"`
	// Kept is the archive that a snapshot was written to.
	Kept  *Kept     `json:"kept,omitempty"`
	Ended time.Time `json:"ended,omitzero"` // by the clock of who did it
}

// Kept is a file on the host where a deed was done.
type Kept struct {
	File   string `json:"file"`
	Size   int64  `json:"size"`   // bytes
	Digest string `json:"digest"` // sha256: and 64 hex digits
	// Sent says that the server has it, too.
	Sent bool `json:"sent,omitempty"`
}

// Holds reports whether what was done lasts, wholly or in part, until it is undone.
func (a *Answer) Holds() bool {
	return a.Undo != "" && (a.State == Done || a.State == Failed || a.State == Refused)
}

// Bound cuts an answer to its limits and makes its text valid: it comes from
// another host.
func (a *Answer) Bound() {
	a.ID = untrusted.Clip(a.ID, MaxID)
	a.Did, a.Lacks = boundLines(a.Did), boundLines(a.Lacks)
	a.Error, a.Remedy = untrusted.Clip(a.Error, MaxLine), untrusted.Clip(a.Remedy, MaxLine)
	if !slices.Contains([]State{Asked, Running, Done, Failed, Refused, Undone, Over}, a.State) {
		a.State = Failed
	}
	if a.Undo != "" && !slices.Contains(Kinds(), a.Undo) {
		a.Undo = ""
	}
	if a.Kept != nil {
		k := *a.Kept
		const longestPath, longestDigest = 4 << 10, 71
		k.File, k.Digest = untrusted.Clip(k.File, longestPath), untrusted.Clip(k.Digest, longestDigest)
		a.Kept = &k
	}
}

func boundLines(lines []string) []string {
	out := make([]string, 0, min(len(lines), MaxLines))
	for _, l := range lines[:min(len(lines), MaxLines)] {
		out = append(out, untrusted.Clip(l, MaxLine))
	}
	return out
}
