package store

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"time"

	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/asset"
)

// Admission keeps by which policy deployments are let through, the leave that
// people gave beside it, and what came of each request.
type Admission interface {
	AdmissionPolicies
	AdmissionExceptions
	AdmissionVerdicts
	ImageNames
}

// Limits of what is kept.
const (
	// MaxAdmissionPolicy bounds a policy's text; each agent is sent it.
	MaxAdmissionPolicy = 256 << 10
	// MaxAdmissionPolicies is how many versions are kept; the oldest go first.
	MaxAdmissionPolicies = 500
	// MaxAdmissionExceptions bounds those that hold at once: each is held against
	// each request, and agents are sent all.
	MaxAdmissionExceptions = 1_000
	// MaxAdmissionRequest bounds a request as JSON: ten containers with all that a
	// task definition may say, whose own bound is 64 KiB.
	MaxAdmissionRequest = 256 << 10
	// MaxAdmissionReasons bounds a verdict as JSON.
	MaxAdmissionReasons = 256 << 10
	// MaxAdmissionFacts bounds what is kept of what was known of the images of one
	// request, as JSON: some forty thousand vulnerabilities.
	MaxAdmissionFacts = 8 << 20
	// MaxAdmissionBatch bounds the verdicts that are stored at once, and
	// MaxAdmissionRecords those that are read at once with all that they rest on.
	MaxAdmissionBatch   = 1_000
	MaxAdmissionRecords = 200
)

// AdmissionPolicy is a version of the fleet's admission policy.
type AdmissionPolicy struct {
	Version int64     `json:"version"`
	Digest  string    `json:"digest"` // "sha256:HEX" of the text and the built-in rules that it uses
	Text    string    `json:"text,omitempty"`
	Actor   string    `json:"actor"`
	Comment string    `json:"comment,omitempty"`
	Created time.Time `json:"created"`
}

// AdmissionPolicies keeps the policy with its history.
type AdmissionPolicies interface {
	// PutAdmissionPolicy makes p the policy, with the next version, if the newest is
	// after, 0 for none: else Conflict.
	PutAdmissionPolicy(ctx context.Context, p AdmissionPolicy, after int64) (AdmissionPolicy, error)
	// AdmissionPolicy returns one version, the newest with 0; NotFound if there is
	// none.
	AdmissionPolicy(ctx context.Context, version int64) (AdmissionPolicy, error)
	// AdmissionPolicies returns versions without their texts, the newest first,
	// below before unless it is 0.
	AdmissionPolicies(ctx context.Context, before int64, limit int) ([]AdmissionPolicy, error)
}

// AdmissionException is leave that a person gave. Its ID is a number.
type AdmissionException struct {
	admission.Exception
	By      string    `json:"by"`
	Created time.Time `json:"created"`
	// Withdrawn is when somebody took it back.
	Withdrawn   time.Time `json:"withdrawn,omitzero"`
	WithdrawnBy string    `json:"withdrawn_by,omitempty"`
}

// Holds reports whether the exception counts at a time.
func (e *AdmissionException) Holds(now time.Time) bool {
	return !now.Before(e.Created) && now.Before(e.Expires) && (e.Withdrawn.IsZero() || now.Before(e.Withdrawn))
}

// AdmissionExceptions keeps the leave that people gave.
type AdmissionExceptions interface {
	// PutAdmissionException creates one, whatever its ID says. Exhausted when
	// MaxAdmissionExceptions hold at the time of its creation.
	PutAdmissionException(ctx context.Context, e AdmissionException) (AdmissionException, error)
	// WithdrawAdmissionException ends one: NotFound when there is none, Conflict when
	// it is over already.
	WithdrawAdmissionException(ctx context.Context, id, by string, now time.Time) (AdmissionException, error)
	// AdmissionExceptions returns those that held at some time since then, or with
	// the zero time all that are kept, the newest first.
	AdmissionExceptions(ctx context.Context, since time.Time) ([]AdmissionException, error)
}

// AdmissionFacts is what was known of an image, as JSON. It is kept once, however
// many verdicts rest on it.
type AdmissionFacts struct {
	Hash [sha256.Size]byte // of JSON
	JSON []byte            // of admission.Facts
}

// NewAdmissionFacts writes facts as they are kept.
func NewAdmissionFacts(f *admission.Facts) (AdmissionFacts, error) {
	b, err := json.Marshal(f)
	if err != nil {
		return AdmissionFacts{}, fmt.Errorf("encode the facts of image %s: %w", f.Digest, err)
	}
	return AdmissionFacts{Hash: sha256.Sum256(b), JSON: b}, nil
}

// AdmissionVerdict is a request with what came of it.
type AdmissionVerdict struct {
	ID       int64     `json:"id"`
	Received time.Time `json:"received"`           // by the server's clock
	Agent    string    `json:"agent_id,omitempty"` // that decided; empty: the server
	Actor    string    `json:"actor,omitempty"`    // who asked the server
	Request  admission.Request
	Verdict  admission.Verdict
	// Facts are those of the request's images. FactsLost says that they were too many
	// to be kept.
	Facts     []AdmissionFacts
	FactsLost bool
}

// AdmissionLine is a verdict in a list.
type AdmissionLine struct {
	ID       int64             `json:"id"`
	Request  string            `json:"request"` // its ID
	At       time.Time         `json:"at"`      // by the clock of who decided
	Received time.Time         `json:"received"`
	Agent    string            `json:"agent_id,omitempty"`
	Actor    string            `json:"actor,omitempty"`
	Door     admission.Door    `json:"door"`
	Action   admission.Action  `json:"action"`
	Outcome  admission.Outcome `json:"outcome"`
	Declared bool              `json:"declared,omitempty"`
	Policy   string            `json:"policy,omitempty"`
	Place    admission.Place   `json:"place"`
	Family   string            `json:"family,omitempty"`
	Images   []string          `json:"images"`  // as they were asked for, a few
	Rules    []string          `json:"rules"`   // of the reasons, a few
	Reasons  int               `json:"reasons"` // how many
	Message  string            `json:"message,omitempty"`
	// Audited says that a rule that only reports would have denied it.
	Audited bool `json:"audited,omitempty"`
}

// AdmissionQuery selects verdicts; zero fields don't filter, all given ones must
// hold.
type AdmissionQuery struct {
	Outcome   admission.Outcome
	Door      admission.Door
	Rule      string // that had something against it
	Group     asset.Group
	Family    string
	Cluster   string
	Service   string
	Image     string // digest, the engine's id, or the full name of a repository
	Host      string // agent
	RequestID string
	Audited   bool      // only those that a rule that only reports would have denied
	Since     time.Time // by the server's clock, inclusive
	Until     time.Time // exclusive
	Before    int64     // the ID of the last of the page before
	Limit     int       // as in EventQuery
}

// AdmissionTotals counts verdicts by the day (UTC).
type AdmissionTotals struct {
	Outcomes map[admission.Outcome]int64 `json:"outcomes"`
	Doors    map[admission.Door]int64    `json:"doors"`
	Rules    []AdmissionRuleTotal        `json:"rules"` // most first
}

// AdmissionRuleTotal is how often a rule had something against a request.
type AdmissionRuleTotal struct {
	Rule    string           `json:"rule"`
	Effect  admission.Effect `json:"effect"`
	Reasons int64            `json:"reasons"`
}

// MaxAdmissionRules bounds the rules that totals tell of.
const MaxAdmissionRules = 50

// AdmissionVerdicts keeps what came of requests.
type AdmissionVerdicts interface {
	// PutAdmissionVerdicts stores at most MaxAdmissionBatch verdicts, all or none,
	// and gives each an ID that grows. One that the same agent has told of before,
	// of the same time and request, is left out.
	PutAdmissionVerdicts(ctx context.Context, vs []AdmissionVerdict) error
	// AdmissionLines returns one page, newest first.
	AdmissionLines(ctx context.Context, q AdmissionQuery) ([]AdmissionLine, error)
	// AdmissionRecords returns one page with all that is kept, newest first; at
	// most MaxAdmissionRecords.
	AdmissionRecords(ctx context.Context, q AdmissionQuery) ([]AdmissionVerdict, error)
	// AdmissionVerdict returns one with its facts; NotFound if it is not kept.
	AdmissionVerdict(ctx context.Context, id int64) (AdmissionVerdict, error)
	// AdmissionTotals counts those of the days since then.
	AdmissionTotals(ctx context.Context, since time.Time) (AdmissionTotals, error)
}

// ImageNames finds images by what registries and engines call them.
type ImageNames interface {
	// ImagesNamed returns the images that a digest names: their own id, or that of a
	// manifest or an index, by what engines and scans told; and where registries
	// hold it under that digest, with the images that those entries are of, what is
	// there first. At most MaxPlatforms of each.
	ImagesNamed(ctx context.Context, digest string) ([]Image, []RegistryImage, error)
}
