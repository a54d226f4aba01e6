package store

import (
	"context"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
)

// Trust keeps the fleet's trust policy, and what came of it for each image.
type Trust interface {
	TrustPolicies
	TrustVerdicts
}

// Limits of what is kept.
const (
	// MaxTrustPolicy bounds a policy's text: with keys, certificates and a trusted
	// root in it some tens of kilobytes. Each agent is sent it.
	MaxTrustPolicy = 256 << 10
	// MaxTrustPolicies is how many versions are kept; the oldest go first.
	MaxTrustPolicies = 500
	// MaxTrustVerdict bounds the details of one verdict, as JSON.
	MaxTrustVerdict = 256 << 10
	// MaxTrustSigners bounds the signers that are kept of one image, MaxTrustGroups
	// the groups that run it and the engines' ids of it.
	MaxTrustSigners = 32
	MaxTrustGroups  = 32
)

// TrustPolicy is a version of the fleet's trust policy.
type TrustPolicy struct {
	Version int64     `json:"version"`
	Digest  string    `json:"digest"` // "sha256:HEX" of the text
	Text    string    `json:"text,omitempty"`
	Actor   string    `json:"actor"`
	Comment string    `json:"comment,omitempty"`
	Created time.Time `json:"created"`
}

// TrustPolicies keeps the policy with its history.
type TrustPolicies interface {
	// PutTrustPolicy makes p the policy, with the next version, if the newest is
	// after, 0 for none: else Conflict. All images are then to be verified anew.
	PutTrustPolicy(ctx context.Context, p TrustPolicy, after int64) (TrustPolicy, error)
	// TrustPolicy returns one version, the newest with 0; NotFound if there is none.
	TrustPolicy(ctx context.Context, version int64) (TrustPolicy, error)
	// TrustPolicies returns versions without their texts, the newest first, below
	// before unless it is 0.
	TrustPolicies(ctx context.Context, before int64, limit int) ([]TrustPolicy, error)
}

// TrustState is what is known of whether an image may run by the trust policy.
type TrustState string

// The states, in the order in which they deserve attention.
const (
	TrustDenied    TrustState = "denied"    // the right ones have not signed it
	TrustUndecided TrustState = "undecided" // it could not be found out: that is no leave
	// TrustLocal is an image that no registry has, as far as its engines know: there
	// is nowhere to look for a signature of it.
	TrustLocal   TrustState = "local"
	TrustWaiting TrustState = "waiting" // nobody has looked yet
	TrustAllowed TrustState = "allowed"
)

// TrustStates are all states, in their order.
func TrustStates() []TrustState {
	return []TrustState{TrustDenied, TrustUndecided, TrustLocal, TrustWaiting, TrustAllowed}
}

// TrustSigner is a signature that holds; whether it is one that the policy wants
// is another matter.
type TrustSigner struct {
	Names    []string   `json:"names,omitempty"` // of the policy's signers that it is by; none: by nobody whom it names
	Identity string     `json:"identity"`
	Kind     string     `json:"kind"`
	At       *time.Time `json:"at,omitempty"`
	Proof    string     `json:"proof,omitempty"`     // how the time is known
	Attests  string     `json:"attests,omitempty"`   // type of an attestation; empty for a signature
	LogIndex *int64     `json:"log_index,omitempty"` // in a transparency log
}

// TrustVerdict is what came of verifying an image once.
type TrustVerdict struct {
	Repository string        `json:"repository"`
	Digest     string        `json:"digest"`
	State      TrustState    `json:"state"`
	Policy     string        `json:"policy,omitempty"` // digest of the policy by which
	Reason     string        `json:"reason,omitempty"`
	Remedy     string        `json:"remedy,omitempty"`
	Signers    []TrustSigner `json:"signers,omitempty"`
	Agent      string        `json:"agent_id,omitempty"` // who has verified it; "server": this server
	Checked    time.Time     `json:"checked,omitzero"`
	Next       time.Time     `json:"next,omitzero"` // when it is verified again
	Tries      int           `json:"tries,omitempty"`
	// Details are the whole verdict as JSON; only TrustImage and TrustDetails return
	// it.
	Details []byte `json:"-"`
}

// TrustImage is an image of a registry that runs or ran, with the latest verdict.
type TrustImage struct {
	TrustVerdict
	ID      int64         `json:"id"`
	Images  []string      `json:"image_ids"` // the engines' ids
	Groups  []asset.Group `json:"groups"`    // that run it
	Running int           `json:"running"`   // workloads
	// Watched is true of an image that runs nowhere, and that a registry holds which
	// is watched.
	Watched bool      `json:"watched,omitempty"`
	Seen    time.Time `json:"seen"` // first
}

// TrustName is how an image is known.
type TrustName struct{ Repository, Digest string }

// TrustDue is an image that is to be verified.
type TrustDue struct {
	TrustName
	Tries int       // that ended with no verdict
	Seen  time.Time // first
}

// TrustSeen is an image that runs or, with nothing in Running, that a registry
// holds which is watched.
type TrustSeen struct {
	Repository string
	Digest     string // of the registry; with Local the engine's id
	Local      bool
	Images     []string
	Groups     []asset.Group
	Running    int
}

// TrustQuery selects images. Zero fields don't filter.
type TrustQuery struct {
	State      TrustState
	Running    bool
	Signer     string // exactly a name or an identity of a signer
	Repository string // substring
	ImageID    string // the engine's id
	After      int64  // the ID of the last of the page before
	Limit      int    // as in EventQuery
}

// TrustTotals counts the images of which workloads run.
type TrustTotals struct {
	States    map[TrustState]int `json:"states"`
	Workloads map[TrustState]int `json:"workloads"`
}

// TrustVerdicts keeps what came of verifying.
type TrustVerdicts interface {
	// NoteTrustImages says what runs and what registries hold: all of it. What is new
	// waits to be verified, and so does what begins to run; what is not in it is
	// forgotten if it was last seen before forget.
	NoteTrustImages(ctx context.Context, seen []TrustSeen, now, forget time.Time) error
	// DueTrustImages returns those of some images that run and are due, longest due
	// first: who asks says what can be verified now, so that what can't does not stand
	// in its way.
	DueTrustImages(ctx context.Context, now time.Time, among []TrustName, limit int) ([]TrustDue, error)
	// DueTrustWatched is DueTrustImages for those that registries hold and that run
	// nowhere.
	DueTrustWatched(ctx context.Context, now time.Time, among []TrustName, limit int) ([]TrustDue, error)
	// PutTrustVerdict replaces the verdict of an image. Conflict when its policy is
	// not the newest; NotFound when the image is not known.
	PutTrustVerdict(ctx context.Context, v TrustVerdict) error
	// TrustImages returns a page: what runs first, then by state and name.
	TrustImages(ctx context.Context, q TrustQuery) ([]TrustImage, error)
	// TrustDetails returns images that run with their details, in the order of their
	// ids, behind after.
	TrustDetails(ctx context.Context, after int64, limit int) ([]TrustImage, error)
	// TrustImage returns one with its details.
	TrustImage(ctx context.Context, repository, digest string) (TrustImage, error)
	TrustTotals(ctx context.Context) (TrustTotals, error)
}
