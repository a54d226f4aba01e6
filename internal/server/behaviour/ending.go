package behaviour

import (
	"context"
	"fmt"
	"time"

	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/store"
)

// ending is the end of learning of a group: it is held to what was learned from then
// on. What its containers did until then is normal, though it comes later: a profile
// that lacks it would block what a running container has done, once that is done again.
type ending struct {
	at       time.Time
	taught   int64 // ID of the last event that there was then
	revision int64 // of the profile that was learned
	// held is since when agents hold the group to that or to a later one, by their
	// clocks.
	held map[string]time.Time
}

// before reports whether an event, which comes after the end, is of before: it was
// stored, or on its way, or its host had not heard of the end.
func (end *ending) before(k *keeper, g *group, e *event.Event) bool {
	switch {
	case end == nil || k.s.Clock().Sub(end.at).Abs() > lateFor:
		return false
	case e.ID <= end.taught:
		return true
	}
	since, known := end.held[e.AgentID]
	if !known {
		h, ok := k.s.held.one(e.AgentID, g.Group)
		if !ok || h.Error != "" {
			return false // nobody knows when it hears of it
		}
		if h.Revision < end.revision {
			return true
		}
		// Once for all: what is learned late makes further rules.
		since = h.Since
		end.held[e.AgentID] = since
	}
	return !e.Time.After(since)
}

// newest returns the ID of the newest event, 0 if there is none.
func (k *keeper) newest(ctx context.Context) (int64, error) {
	p, err := k.s.Store.Events(ctx, store.EventQuery{Limit: 1})
	if err != nil {
		return 0, fmt.Errorf("find the newest event: %w", err)
	}
	if len(p.Events) == 0 {
		return 0, nil
	}
	return p.Events[0].ID, nil
}
