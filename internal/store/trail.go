package store

import (
	"context"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
)

// MaxTrails bounds the trails that one server reads: each has a reader of its own.
const MaxTrails = 50

// WatchedTrail is a trail that is read.
type WatchedTrail struct {
	asset.Trail
	Created time.Time `json:"created" doc:"When it was added"`
	By      string    `json:"by,omitempty" doc:"Who configured it last"`
}

// Trails keeps which trails of CloudTrail are read.
type Trails interface {
	// PutTrail adds one, or replaces that of the name, of which Created stays.
	// Exhausted when there are MaxTrails.
	PutTrail(ctx context.Context, t WatchedTrail) (WatchedTrail, error)
	// DeleteTrail is NotFound when there is none of the name.
	DeleteTrail(ctx context.Context, name string) error
	// Trails returns all, by name.
	Trails(ctx context.Context) ([]WatchedTrail, error)
}
