package store

import (
	"context"
	"fmt"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/profile"
)

// Behaviour keeps what groups normally do, what is learned of it and how far, what
// lay outside, and what people decided on it.
type Behaviour interface {
	BehaviourGroups
	BehaviourProfiles
	BehaviourViolations
	BehaviourPermits
	// SaveBehaviour stores a change: all of it or nothing.
	SaveBehaviour(ctx context.Context, c *BehaviourChange) error
}

// Limits of what is kept.
const (
	// MaxBehaviourGroups bounds the groups: each has a learner.
	MaxBehaviourGroups = 10_000
	// MaxBehaviourState bounds what a learner remembers, and MaxBehaviourProfile a
	// profile as JSON: both are bounded by the room themselves, well below.
	MaxBehaviourState   = 8 << 20
	MaxBehaviourProfile = 8 << 20
	// MaxBehaviourRevisions is how many revisions of a group's profile are kept; the
	// oldest go first.
	MaxBehaviourRevisions = 100
	// MaxGroupViolations bounds the violations of one group that differ: who makes up
	// names must not fill the store. Those beyond are folded by control and kind.
	MaxGroupViolations = 2_000
	// MaxBehaviourBatch bounds the violations that are stored at once.
	MaxBehaviourBatch = 5_000
)

// BehaviourGroup is a group with what its profile does.
type BehaviourGroup struct {
	Group asset.Group  `json:"group"`
	Mode  profile.Mode `json:"mode"`
	// Since is when it got its mode, By who gave it: an actor as in access.Audit.
	Since time.Time `json:"since,omitzero"`
	By    string    `json:"by,omitempty"`
	// Answers are those that a person has set; others follow from the mode.
	Answers map[profile.Control]profile.Answer `json:"answers,omitempty"`
	// Promotion is how its mode changes by itself; nil: as the fleet's do.
	Promotion *BehaviourPromotion `json:"promotion,omitempty"`
	// Proposal is the mode that it could be promoted to; nil: none.
	Proposal *BehaviourProposal `json:"proposal,omitempty"`
	Revision int64              `json:"revision"` // of its profile; 0: none is stored yet
	Settled  profile.Settled    `json:"settled"`
	// Quiet is since when it has been settled without a break, or nothing was
	// outside; zero if it is not.
	Quiet time.Time `json:"quiet,omitzero"`
	// Version is the digest of the newest image. Relearning says that a protected
	// group learns from it and does not block, Released that somebody let go of it.
	Version    string `json:"version,omitempty"`
	Relearning bool   `json:"relearning,omitempty"`
	Released   bool   `json:"released,omitempty"`
	// Starting is the name of the starting profile that its image has.
	Starting string    `json:"starting,omitempty"`
	First    time.Time `json:"first,omitzero"` // events of it
	Last     time.Time `json:"last,omitzero"`
	// Position is the ID of the last event that its learner knows, or that was held
	// against its profile.
	Position int64 `json:"position,omitempty"`

	// Running is how many of its workloads run, Violations how many of what lay
	// outside nobody has permitted. Both are counted when they are read.
	Running    int `json:"running"`
	Violations int `json:"violations"`
}

// BehaviourPromotion says how modes change by themselves: see watch.ModePolicy, which
// has the same fields. The zero value changes nothing.
type BehaviourPromotion struct {
	Promote    string        `json:"promote,omitempty"`     // "", propose, promote
	After      time.Duration `json:"after_ns,omitempty"`    // for which it must be settled
	Most       profile.Mode  `json:"most,omitempty"`        // the highest mode that it leads to
	NewVersion string        `json:"new_version,omitempty"` // "", hold
}

// BehaviourProposal is a mode that a group could be promoted to.
type BehaviourProposal struct {
	Mode profile.Mode `json:"mode"`
	At   time.Time    `json:"at"`
	Why  string       `json:"why"`
}

// BehaviourState is what a learner remembers, and the ID of the last event that it
// knows.
type BehaviourState struct {
	Group    asset.Group
	Position int64
	State    []byte
}

// BehaviourMarks are how far events are known, and what holds for all groups.
type BehaviourMarks struct {
	// Learned is the ID of the last event that all learners know, as they are kept.
	Learned int64
	// Compared is that of the last event that was held against profiles.
	Compared  int64
	Promotion BehaviourPromotion
}

// BehaviourQuery selects groups; zero fields don't filter.
type BehaviourQuery struct {
	Modes    []profile.Mode
	Proposed bool        // only those with a proposal
	Outside  bool        // only those with violations that nobody has permitted
	Below    float64     // only those that are less settled: Settled.Measure; 0: all
	Text     string      // substring
	Cluster  string      // the first part of the name
	After    asset.Group // the last of the page before
	Limit    int         // as in EventQuery
}

// BehaviourGroups keeps groups.
type BehaviourGroups interface {
	BehaviourMarks(ctx context.Context) (BehaviourMarks, error)
	// BehaviourGroups returns a page in the order of names.
	BehaviourGroups(ctx context.Context, q BehaviourQuery) ([]BehaviourGroup, error)
	// BehaviourGroup returns one; NotFound if nothing of it was seen yet.
	BehaviourGroup(ctx context.Context, g asset.Group) (BehaviourGroup, error)
	// BehaviourState returns what its learner remembers; the zero value if nothing.
	BehaviourState(ctx context.Context, g asset.Group) (BehaviourState, error)
	// ForgetBehaviour removes all that is kept of a group.
	ForgetBehaviour(ctx context.Context, g asset.Group) error
}

// BehaviourRevision is a profile as it was from some time on.
type BehaviourRevision struct {
	Group    asset.Group `json:"group"`
	Revision int64       `json:"revision"`
	Created  time.Time   `json:"created"`
	Actor    string      `json:"actor"` // "system" for what was learned
	Comment  string      `json:"comment,omitempty"`
	Entries  int         `json:"entries"` // in all lists of the profile
	// Replaces is the revision before, if that is dropped for this one: what is
	// learned from minute to minute is one revision. Only SaveBehaviour looks at it.
	Replaces int64 `json:"-"`
	// Profile is set by BehaviourRevision alone.
	Profile *profile.Profile `json:"profile,omitempty"`
}

// BehaviourProfiles keeps profiles with their history.
type BehaviourProfiles interface {
	// BehaviourRevision returns one with its profile, the newest with 0; NotFound if
	// there is none.
	BehaviourRevision(ctx context.Context, g asset.Group, revision int64) (BehaviourRevision, error)
	// BehaviourRevisions returns those below before unless it is 0, the newest first,
	// without their profiles.
	BehaviourRevisions(ctx context.Context, g asset.Group, before int64, limit int) ([]BehaviourRevision, error)
}

// BehaviourViolation is a violation with what became of it.
type BehaviourViolation struct {
	profile.Violation
	// PermitID is the permit that made it normal; 0: none.
	PermitID int64 `json:"permit_id,omitempty"`
}

// ViolationQuery selects violations; zero fields don't filter, all given ones must
// hold.
type ViolationQuery struct {
	Group    asset.Group
	Control  profile.Control
	Kind     event.Kind
	Reaction event.Reaction
	Open     bool      // only what nobody has permitted
	Text     string    // substring of subject, program or sentence
	Since    time.Time // last seen from then on, by the agents' clocks
	// BeforeLast and BeforeID are Last and ID of the last of the page before.
	BeforeLast time.Time
	BeforeID   int64
	Limit      int // as in EventQuery
}

// BehaviourTotals counts groups and violations.
type BehaviourTotals struct {
	Modes map[profile.Mode]int `json:"modes"`
	// Proposals are groups with one.
	Proposals int `json:"proposals"`
	// Violations are those that nobody has permitted.
	Violations map[profile.Control]int `json:"violations"`
}

// BehaviourViolations keeps what lay outside.
type BehaviourViolations interface {
	// Violations returns a page, what was seen last first.
	Violations(ctx context.Context, q ViolationQuery) ([]BehaviourViolation, error)
	// Violation returns one; NotFound if it is not kept.
	Violation(ctx context.Context, id int64) (BehaviourViolation, error)
	BehaviourTotals(ctx context.Context) (BehaviourTotals, error)
}

// BehaviourPermit is a violation that a person made normal.
type BehaviourPermit struct {
	ID          int64       `json:"id"`
	Group       asset.Group `json:"group"`
	ViolationID int64       `json:"violation_id"`
	Sentence    string      `json:"sentence"` // of the violation
	Actor       string      `json:"actor"`
	Comment     string      `json:"comment,omitempty"`
	Created     time.Time   `json:"created"`
	Revision    int64       `json:"revision"` // of the profile, with it
	// Also is how many other violations are permitted by it.
	Also int `json:"also,omitempty"`
	// Added is what the profile did not have before.
	Added *profile.Profile `json:"added,omitempty"`
	// Undone is when somebody took it back.
	Undone   time.Time `json:"undone,omitzero"`
	UndoneBy string    `json:"undone_by,omitempty"`
}

// BehaviourPermits keeps what people made normal.
type BehaviourPermits interface {
	// BehaviourPermits returns those of a group, or with "" of all, the newest first,
	// below before unless it is 0.
	BehaviourPermits(ctx context.Context, g asset.Group, before int64, limit int) ([]BehaviourPermit, error)
	// BehaviourPermit returns one; NotFound if it is not kept.
	BehaviourPermit(ctx context.Context, id int64) (BehaviourPermit, error)
}

// BehaviourChange is what has become another, together.
type BehaviourChange struct {
	// Learned and Compared move on how far events are known; 0 leaves them.
	Learned, Compared int64
	// Promotion is what holds for all groups; nil leaves it.
	Promotion *BehaviourPromotion
	// Groups are inserted or replaced; of a new one that finds no room below
	// MaxBehaviourGroups the whole change is Exhausted. It is Conflict if one has an
	// older Revision than is kept: whoever writes it, with what was learned, does not
	// know what a person has changed meanwhile.
	Groups []BehaviourGroup
	States []BehaviourState // replaced
	// Revisions are new; Conflict when one is not above those that are there.
	Revisions []BehaviourRevision
	// Violations are added: to one of the same group and fingerprint as
	// profile.Violation.Fold does, and nobody permits it any more.
	Violations []profile.Violation
	// Permit is new, and its violation is permitted by it; its ID is set. Undo has
	// Undone and UndoneBy of one that is there, whose violation is open again:
	// Conflict when it is undone already.
	Permit, Undo *BehaviourPermit
	// Permitted are further violations that are permitted by Permit.
	Permitted []int64
}

// FoldViolation makes v stand for all of its control and kind in its group: that is
// what is kept of those beyond MaxGroupViolations.
func FoldViolation(v *profile.Violation) {
	v.Fingerprint = "more/" + string(v.Control) + "/" + string(v.Kind)
	v.Subject, v.Program, v.Permit = "", "", nil
	v.Sentence = fmt.Sprintf("more of this kind lay outside: of a group, %d violations that differ are kept", MaxGroupViolations)
}
