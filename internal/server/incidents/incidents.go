// Package incidents keeps the stories that threats make: it folds what agents tell
// into incidents, stores them, says which weaknesses of images fit, has people told,
// and does what people decide on them.
//
// All changes go through one Service, one after the other: what it holds in memory of
// the stories that still go on is what the store has. Where the store refuses a
// change, memory is read anew.
//
// It is not for finding threats, nor for which of them are one story (see
// internal/detect), nor for answers to them (see internal/server/respond).
package incidents

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/detect"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/notice"
	"github.com/castellan-security/castellan/internal/server/live"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/internal/threat"
)

// PartIncidents is the name of the condition that is set.
const PartIncidents = "incidents"

// Store is what is kept.
type Store interface {
	store.Incidents
	Known
	AppendAudit(ctx context.Context, a access.Audit) error
}

// Known is what the server has found out about workloads and their images.
type Known interface {
	Workload(ctx context.Context, id string) (asset.Workload, error)
	Inventory(ctx context.Context, imageID string) (inventory.Inventory, error)
	Vulnerabilities(ctx context.Context, q store.VulnerabilityQuery) ([]store.ImageVulnerability, error)
}

// Options are what a Service needs. All but Tell, Folded and Condition are required.
type Options struct {
	Store Store
	// Tell has people told; it is called again with the same notice where it fails.
	// nil: nobody is told.
	Tell func(ctx context.Context, n notice.Notice) error
	// Folded hears of each threat that was stored, with the incident that it is of by
	// then. It must be quick, must not call the Service, and must not change either.
	Folded func(ctx context.Context, i *threat.Incident, t *threat.Threat)
	// Condition shows that a part is not well, or, with nil, that it is again.
	Condition func(ctx context.Context, part string, err error)
	Clock     func() time.Time
	Log       *slog.Logger
}

// Service keeps incidents. It is safe for concurrent use.
type Service struct {
	Options
	changes *live.Feed
	wake    chan struct{} // one token when there is something to look at

	mu   sync.Mutex
	book *detect.Book // nil: to be read from the store
	// waiting are incidents to be looked at: for weaknesses, and for who is told.
	waiting map[int64]struct{}
	// looked is what of incidents weaknesses were looked for by; see shapeOf.
	looked map[int64]shape
}

// shape changes when other weaknesses may fit an incident.
type shape struct{ workloads, processes, tactics, techniques int }

func shapeOf(i *threat.Incident) shape {
	return shape{len(i.Workloads), len(i.Processes), len(i.Tactics), len(i.Techniques)}
}

// New returns a service that has read nothing yet.
func New(o Options) *Service {
	if o.Condition == nil {
		o.Condition = func(context.Context, string, error) {}
	}
	return &Service{Options: o, changes: live.NewFeed(), wake: make(chan struct{}, 1), waiting: map[int64]struct{}{}, looked: map[int64]shape{}}
}

const (
	// lookEvery is how often is looked at what could not be done the last time.
	lookEvery = 30 * time.Second
	// noteWithin is how long it may take to store who was told, also while the server stops.
	noteWithin = 5 * time.Second
)

// Run looks for weaknesses that fit incidents, and has people told of them, until ctx
// ends. Call it once. What is not done by then is done by the next start.
func (s *Service) Run(ctx context.Context) {
	s.mu.Lock()
	_, err := s.open(ctx)
	s.mu.Unlock()
	s.Condition(ctx, PartIncidents, err)
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
		case <-tick.C:
		}
		s.Condition(ctx, PartIncidents, s.lookAll(ctx))
	}
}

// lookAll looks at what waits. What fails waits on.
func (s *Service) lookAll(ctx context.Context) error {
	s.mu.Lock()
	ids := make([]int64, 0, len(s.waiting))
	for id := range s.waiting {
		ids = append(ids, id)
	}
	clear(s.waiting)
	s.mu.Unlock()
	var errs []error
	for _, id := range ids {
		if ctx.Err() != nil {
			return nil // the next start finds them
		}
		if err := s.look(ctx, id); err != nil {
			errs = append(errs, err)
			s.mu.Lock()
			s.waiting[id] = struct{}{}
			s.mu.Unlock()
		}
	}
	return errors.Join(errs...)
}

// await has an incident looked at soon; mu is held.
func (s *Service) await(id int64) {
	s.waiting[id] = struct{}{}
	select {
	case s.wake <- struct{}{}:
	default: // it will look anyway
	}
}

// Changed returns a channel that gets a value after an incident was opened or
// changed, and is closed when ctx ends; see live.Feed.News. It needs no right: it
// says nothing of what changed.
func (s *Service) Changed(ctx context.Context) (<-chan struct{}, error) { return s.changes.News(ctx) }

// open returns the stories that still go on, read from the store where they must be;
// mu is held.
func (s *Service) open(ctx context.Context) (*detect.Book, error) {
	if s.book != nil {
		return s.book, nil
	}
	b := detect.NewBook()
	q := store.IncidentQuery{Since: s.Clock().Add(-detect.KeepStory), Limit: store.MaxPage}
	for b.Len() < detect.MaxStories {
		page, err := s.Store.Incidents(ctx, q)
		if err != nil {
			return nil, fmt.Errorf("read incidents: %w", err)
		}
		for i := range page {
			if err := s.restore(ctx, b, page[i].ID); err != nil {
				return nil, err
			}
		}
		if len(page) < q.Limit {
			break
		}
		q.Before = page[len(page)-1].ID
	}
	s.book = b
	return b, nil
}

// restore puts one stored incident into the book. One that can't be understood stays
// as it is, and no more is folded into it.
func (s *Service) restore(ctx context.Context, b *detect.Book, id int64) error {
	i, err := s.Store.Incident(ctx, id)
	if err != nil {
		return fmt.Errorf("read incident %d: %w", id, err)
	}
	memory, err := s.Store.IncidentMemory(ctx, id)
	if err != nil {
		return fmt.Errorf("read incident %d: %w", id, err)
	}
	if len(memory) == 0 {
		return nil
	}
	story, err := b.Restore(&i, memory)
	if err != nil {
		s.Log.Error("nothing more is folded into an incident", "incident", id, "error", err)
		return nil
	}
	if news(story.Told, &i) != "" {
		s.await(id)
	}
	return nil
}
