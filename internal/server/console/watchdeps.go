package console

import (
	"context"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/profile"
	"github.com/castellan-security/castellan/internal/server/behaviour"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/internal/watch"
	"github.com/castellan-security/castellan/internal/written"
)

// Watch knows how groups behave, and what they are held to; *behaviour.Service
// satisfies it. It refuses what an identity may not do.
type Watch interface {
	WatchGroups
	WatchStandings
	WatchProfiles
	WatchHistory
	WatchChanges
	WatchModes
	WatchPromotion
	WatchLeave
	WatchViolations
	WatchPermits
	Rehearse(ctx context.Context, who access.Identity, r behaviour.Rehearse) (behaviour.Rehearsed, error)
}

// WatchGroups reads groups.
type WatchGroups interface {
	Groups(ctx context.Context, who access.Identity, q store.BehaviourQuery) ([]store.BehaviourGroup, error)
	Group(ctx context.Context, who access.Identity, name asset.Group) (behaviour.Detail, error)
	Totals(ctx context.Context, who access.Identity) (store.BehaviourTotals, error)
}

// WatchStandings tells how groups are held, how far events are known, and when
// something changed.
type WatchStandings interface {
	Standings(who access.Identity, names []asset.Group) (map[asset.Group]behaviour.Standing, error)
	Progress() behaviour.Progress
	Changed(ctx context.Context) (<-chan struct{}, error)
}

// WatchProfiles reads profiles, and says what is wrong with the text of one.
type WatchProfiles interface {
	Profile(ctx context.Context, who access.Identity, name asset.Group, revision int64) (behaviour.Profiled, error)
	CheckProfile(who access.Identity, text string) ([]written.Problem, error)
	// Signers are the keys of which one must sign what people write; none: nobody has to.
	Signers() []string
}

// WatchHistory reads how profiles became what they are.
type WatchHistory interface {
	Revisions(ctx context.Context, who access.Identity, name asset.Group, before int64, limit int) ([]store.BehaviourRevision, error)
	Changes(ctx context.Context, who access.Identity, name asset.Group, from, to int64) ([]watch.Change, error)
	VersionChanges(ctx context.Context, who access.Identity, name asset.Group, version string) ([]watch.Change, error)
}

// WatchChanges changes profiles.
type WatchChanges interface {
	Import(ctx context.Context, who access.Identity, name asset.Group, e behaviour.Edit) (store.BehaviourGroup, error)
	Amend(ctx context.Context, who access.Identity, name asset.Group, a behaviour.Amendment) (store.BehaviourGroup, error)
	Start(ctx context.Context, who access.Identity, name asset.Group, starting string) (store.BehaviourGroup, error)
}

// WatchModes says what profiles do.
type WatchModes interface {
	SetMode(ctx context.Context, who access.Identity, name asset.Group, d behaviour.Decision) (store.BehaviourGroup, error)
	Decline(ctx context.Context, who access.Identity, name asset.Group) (store.BehaviourGroup, error)
	SetAnswers(ctx context.Context, who access.Identity, name asset.Group, answers map[profile.Control]profile.Answer, comment string) (store.BehaviourGroup, error)
}

// WatchPromotion says how modes change by themselves.
type WatchPromotion interface {
	Promotion(ctx context.Context, who access.Identity) (store.BehaviourPromotion, error)
	SetPromotion(ctx context.Context, who access.Identity, name asset.Group, p *store.BehaviourPromotion) error
}

// WatchLeave lets go of groups, and forgets them.
type WatchLeave interface {
	SetReleased(ctx context.Context, who access.Identity, name asset.Group, released bool, comment string) (store.BehaviourGroup, error)
	Forget(ctx context.Context, who access.Identity, name asset.Group, comment string) error
}

// WatchViolations reads what lay outside.
type WatchViolations interface {
	Violations(ctx context.Context, who access.Identity, q store.ViolationQuery) ([]store.BehaviourViolation, error)
	Violation(ctx context.Context, who access.Identity, id int64) (store.BehaviourViolation, error)
}

// WatchPermits makes it normal, and takes that back.
type WatchPermits interface {
	Permits(ctx context.Context, who access.Identity, name asset.Group, before int64, limit int) ([]store.BehaviourPermit, error)
	Permit(ctx context.Context, who access.Identity, id int64, how behaviour.Permitting) (store.BehaviourPermit, error)
	Undo(ctx context.Context, who access.Identity, id int64, comment string) (store.BehaviourPermit, error)
}
