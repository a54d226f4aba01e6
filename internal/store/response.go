package store

import (
	"context"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/response"
)

// Response keeps by which rules something is done about threats, what was done, and
// what of it rules did.
type Response interface {
	ResponsePolicies
	ResponseRuns
	ResponseDeeds
}

// Limits of what is kept.
const (
	// MaxResponsePolicy bounds a policy's text.
	MaxResponsePolicy = 256 << 10
	// MaxResponsePolicies is how many versions are kept; the oldest go first.
	MaxResponsePolicies = 500
	// MaxResponseRuns is how many runs are kept; the oldest go first, but those that
	// are to be undone. The audit log has all.
	MaxResponseRuns = 10_000
	// MaxResponseDeeds is how many deeds are kept, twice of those that a server lists; the
	// oldest go first, but those that stand. The audit log has all.
	MaxResponseDeeds = 2_000
)

// ResponsePolicy is a version of the fleet's response policy.
type ResponsePolicy struct {
	Version int64     `json:"version"`
	Digest  string    `json:"digest"` // "sha256:HEX" of the text
	Text    string    `json:"text,omitempty"`
	Actor   string    `json:"actor"`
	Comment string    `json:"comment,omitempty"`
	Created time.Time `json:"created"`
}

// ResponsePolicies keeps the policy with its history.
type ResponsePolicies interface {
	// PutResponsePolicy makes p the policy, with the next version, if the newest is
	// after, 0 for none: else Conflict.
	PutResponsePolicy(ctx context.Context, p ResponsePolicy, after int64) (ResponsePolicy, error)
	// ResponsePolicy returns one version, the newest with 0; NotFound if there is none.
	ResponsePolicy(ctx context.Context, version int64) (ResponsePolicy, error)
	// ResponsePolicies returns versions without their texts, the newest first, below
	// before unless it is 0.
	ResponsePolicies(ctx context.Context, before int64, limit int) ([]ResponsePolicy, error)
}

// ResponseRun is one thing that a rule did, or with DryRun would have done.
type ResponseRun struct {
	ID   int64     `json:"id"` // given by the store, increasing
	At   time.Time `json:"at"`
	Rule string    `json:"rule"` // its id
	// Threat is the id of the rule of detection, Print that of what is alike, Incident
	// the number of what it folded into, 0 where that is not known.
	Threat   string        `json:"threat"`
	Print    string        `json:"print"`
	Incident int64         `json:"incident,omitempty"`
	Group    asset.Group   `json:"group,omitempty"`
	Workload string        `json:"workload,omitempty"` // empty for a threat of a host
	Kind     response.Kind `json:"kind,omitempty"`     // empty: somebody was told
	Did      string        `json:"did"`                // in a few words
	Deed     string        `json:"deed,omitempty"`     // its id
	// Role is the ARN of the role whose sessions it is about.
	Role   string `json:"role,omitempty"`
	DryRun bool   `json:"dry_run,omitempty"`
	// State is that of the deed; empty while nobody knows. Detail is a sentence on it.
	State  response.State `json:"state"`
	Detail string         `json:"detail,omitempty"`
	// UndoAt is when it is to be undone; the zero time where it is not, or was. Undone
	// is when it was.
	UndoAt time.Time `json:"undo_at,omitzero"`
	Undone time.Time `json:"undone,omitzero"`
}

// ResponseRunQuery selects runs; zero fields don't filter, all given ones must fit.
type ResponseRunQuery struct {
	Rule     string
	Workload string
	Since    time.Time // not before it
	Undo     time.Time // to be undone, by this time
	Before   int64     // of a lower id
	Limit    int
}

// ResponseRuns keeps what rules did.
type ResponseRuns interface {
	// PutResponseRun stores a run: a new one with ID 0, which it is given, else instead
	// of the one with its ID, unless that was removed meanwhile.
	PutResponseRun(ctx context.Context, r ResponseRun) (ResponseRun, error)
	// ResponseRuns returns runs, the newest first; those that are to be undone in the
	// order in which they are.
	ResponseRuns(ctx context.Context, q ResponseRunQuery) ([]ResponseRun, error)
	// CountResponseRuns says how many of a rule are kept, and when the newest was.
	CountResponseRuns(ctx context.Context, rule string) (n int, last time.Time, err error)
}

// ResponseDeed is a deed about a threat with what came of it.
type ResponseDeed struct {
	Deed    response.Deed   `json:"deed"`
	Answer  response.Answer `json:"answer"`
	AgentID string          `json:"agent_id"`
	Group   asset.Group     `json:"group"`
	Name    string          `json:"name,omitempty"` // of the container
	Role    string          `json:"role,omitempty"` // ARN of the role whose sessions it is about
}

// Standing reports whether a deed is under way, or holds until it is undone.
func (d *ResponseDeed) Standing() bool {
	return !d.Answer.State.Ended() || !d.Deed.DryRun && d.Answer.Holds()
}

// ResponseDeedQuery selects deeds; zero fields don't filter.
type ResponseDeedQuery struct {
	Standing bool  // those alone that stand
	Before   int64 // of a lower number
	Limit    int
}

// ResponseDeeds keeps what was done about threats.
type ResponseDeeds interface {
	// PutResponseDeed stores a deed, instead of one that has its id.
	PutResponseDeed(ctx context.Context, d ResponseDeed) error
	// ResponseDeeds returns deeds, the newest first, and the number of the last one
	// for the next page.
	ResponseDeeds(ctx context.Context, q ResponseDeedQuery) (all []ResponseDeed, last int64, err error)
}
