package threat

import (
	"fmt"
	"time"

	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/finding"
)

// Bounds of an incident: an attack that goes on for days must not grow without end.
const (
	MaxTimeline  = 500 // entries; those of people are never left out before those of threats
	MaxMembers   = 200 // rules, processes, peers, files, workloads each
	MaxComment   = 8 << 10
	MaxAssignee  = 256
	MaxOpenedFor = 24 * time.Hour // after which an ongoing story goes on as a new incident
)

// Incident is a story: threats, and violations of profiles, of one tree of processes,
// one container or one peer, minutes apart.
type Incident struct {
	Version  int              `json:"version"`
	ID       int64            `json:"id"` // given by the store, increasing; 0 before
	State    State            `json:"state"`
	Severity finding.Severity `json:"severity"` // of its gravest threat, and more where several fit together
	Title    string           `json:"title"`    // one line without a full stop
	Story    string           `json:"story"`    // a few sentences in the order of what happened; untrusted
	Opened   time.Time        `json:"opened"`   // when its first threat happened
	Updated  time.Time        `json:"updated"`
	Last     time.Time        `json:"last"`  // when its newest threat happened
	Count    uint64           `json:"count"` // of all its threats, repeats too

	Assignee   string     `json:"assignee,omitempty"`
	Resolution Resolution `json:"resolution,omitempty"` // of a resolved one
	Resolved   *time.Time `json:"resolved,omitempty"`
	Reopened   int        `json:"reopened,omitempty"` // how often
	// Former is the incident that this one continues: the same went on or came again
	// when that one was long over, or had gone on for MaxOpenedFor.
	Former int64 `json:"former,omitempty"`
	// Merged are incidents that turned out to be of this story; their ids lead here.
	Merged []int64 `json:"merged,omitempty"`
	// Revision grows by one with each change; given by the store.
	Revision int64 `json:"revision"`

	Rules      []Fold   `json:"rules"` // the gravest first
	Tactics    []Tactic `json:"tactics,omitempty"`
	Techniques []string `json:"techniques,omitempty"`
	Agents     []string `json:"agents"`
	Workloads  []string `json:"workloads,omitempty"`
	Groups     []string `json:"groups,omitempty"`

	Processes []Node   `json:"processes,omitempty"` // parents before their children
	Peers     []Peer   `json:"peers,omitempty"`
	Files     []string `json:"files,omitempty"`
	// Calls are those of AWS that are part of it, one for each actor, call and address.
	Calls []Call `json:"calls,omitempty"`
	// Weaknesses are vulnerabilities of the workloads' images that fit what was done.
	Weaknesses []Weakness `json:"weaknesses,omitempty"`
	// Reaction is the strongest that a kernel had to it.
	Reaction event.Reaction `json:"reaction,omitempty"`

	Timeline []Entry `json:"timeline,omitempty"` // oldest first
	// LeftOut entries had no room in the timeline.
	LeftOut uint64 `json:"left_out,omitempty"`
}

// Fold is what an incident has of one rule.
type Fold struct {
	Rule     string           `json:"rule"`
	Title    string           `json:"title"`
	Severity finding.Severity `json:"severity"`
	First    time.Time        `json:"first"`
	Last     time.Time        `json:"last"`
	Count    uint64           `json:"count"`
}

// Node is one process in an incident's tree.
type Node struct {
	AgentID    string    `json:"agent_id"`
	WorkloadID string    `json:"workload_id,omitempty"`
	Key        event.Key `json:"key"`
	Parent     event.Key `json:"parent,omitzero"`
	Name       string    `json:"name"`
	Executable string    `json:"executable,omitempty"`
	Args       []string  `json:"args,omitempty"`
	UID        uint32    `json:"uid"`
	// Rules are those that it made fire; none for a mere ancestor.
	Rules []string `json:"rules,omitempty"`
}

// Weakness is a vulnerability of an image that may be how they came in.
type Weakness struct {
	ID       string           `json:"id"` // CVE-…
	Severity finding.Severity `json:"severity"`
	Package  string           `json:"package"`
	Image    string           `json:"image"`
	Why      string           `json:"why"` // it fits: one sentence
}

// EntryKind is what an entry of a timeline is.
type EntryKind string

// The kinds of entry.
const (
	EntryThreat    EntryKind = "threat"    // a rule fired
	EntryViolation EntryKind = "violation" // a profile was violated
	EntryResponse  EntryKind = "response"  // something was done about it
	EntryComment   EntryKind = "comment"   // somebody said something
	EntryState     EntryKind = "state"     // it was assigned, resolved, reopened
)

// Entry is one entry of an incident's timeline.
type Entry struct {
	Time     time.Time        `json:"time"`
	Kind     EntryKind        `json:"kind"`
	Severity finding.Severity `json:"severity,omitempty"` // of a threat
	Rule     string           `json:"rule,omitempty"`     // of a threat
	Print    string           `json:"print,omitempty"`    // of a threat
	Text     string           `json:"text"`               // untrusted
	By       string           `json:"by,omitempty"`       // who did or said it, where that is a person or a rule of response
	Count    uint64           `json:"count,omitempty"`
	Evidence []Evidence       `json:"evidence,omitempty"` // MaxEvidence at most
}

// State is where an incident is in its life.
type State string

// The states. The zero value counts as Open.
const (
	Open     State = "open"     // nobody has it
	Assigned State = "assigned" // somebody looks after it
	Resolved State = "resolved" // somebody said what came of it
	Reopened State = "reopened" // it was resolved, and went on or was not over
)

// Resolution says what came of an incident.
type Resolution string

// The resolutions.
const (
	Unresolved Resolution = ""
	Attack     Resolution = "attack"      // it was one, and it was dealt with
	Test       Resolution = "test"        // somebody tried the detections
	Harmless   Resolution = "harmless"    // right to tell, and nothing to do
	FalseAlarm Resolution = "false-alarm" // the rule was wrong: tune or silence it
)

// Resolutions lists those that somebody may give.
func Resolutions() []Resolution { return []Resolution{Attack, Test, Harmless, FalseAlarm} }

// Input is what happens to an incident's state.
type Input string

// The inputs.
const (
	Assign   Input = "assign"   // to somebody
	Unassign Input = "unassign" // from who had it
	Resolve  Input = "resolve"
	Reopen   Input = "reopen"  // by a person
	Recur    Input = "recur"   // a threat that belongs to it happened
	Comment  Input = "comment" // somebody said something
)

// Step returns the state that follows. The error says why the input makes no sense
// in the state; the state is then as it was.
func Step(s State, in Input) (State, error) {
	if s == "" {
		s = Open
	}
	switch in {
	case Comment:
		return s, nil
	case Assign:
		if s != Resolved {
			return Assigned, nil
		}
	case Unassign:
		if s == Assigned {
			return Open, nil
		}
	case Resolve:
		if s != Resolved {
			return Resolved, nil
		}
	case Reopen:
		if s == Resolved {
			return Reopened, nil
		}
	case Recur:
		if s == Resolved {
			return Reopened, nil
		}
		return s, nil
	}
	return s, fmt.Errorf("%s an incident that is %s: that can't be", in, s)
}

// Active says that somebody must still do something about it.
func (s State) Active() bool { return s != Resolved }
