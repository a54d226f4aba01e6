package incidents

import (
	"context"
	"fmt"
	"slices"

	"github.com/castellan-security/castellan/internal/detect"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/profile"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/internal/threat"
)

const (
	// maxThreats bounds the threats of one call: a report of an agent has fewer.
	maxThreats = 5_000
	// maxName bounds ids and names of a threat, as those of an event are.
	maxName = 1_024
)

// Take folds threats that an agent tells into incidents, and stores them: when it
// returns nil, they are kept. Threats that were taken before are left out, so an agent
// that got no answer tells them again. It is Invalid, and nothing is taken, when a
// threat is none, or not of this agent.
func (s *Service) Take(ctx context.Context, agentID string, threats []*threat.Threat) error {
	if len(threats) == 0 {
		return nil
	}
	if len(threats) > maxThreats {
		return fault.New(fault.Invalid, "%d threats are told at once, at most %d can be", len(threats), maxThreats)
	}
	for _, t := range threats {
		if err := check(agentID, t); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var of []*detect.Story // of each threat; nil where it was taken before
	now, err := s.fold(ctx, func(b *detect.Book) []*detect.Story {
		now := s.Clock()
		for _, t := range threats {
			of = append(of, b.Take(t, now))
		}
		return of
	})
	if err != nil || s.Folded == nil {
		return err
	}
	for k, t := range threats {
		if of[k] != nil {
			s.Folded(ctx, now[of[k].Whole()], t)
		}
	}
	return nil
}

// check refuses what is no threat of an agent.
func check(agentID string, t *threat.Threat) error {
	switch {
	case t == nil || t.Rule == "" || t.Print == "" || t.Last.IsZero():
		return fault.New(fault.Invalid, "a threat has no rule, print or time")
	case t.AgentID != agentID:
		return fault.New(fault.Invalid, "a threat of agent %.64q is told by agent %.64q", t.AgentID, agentID)
	}
	for _, text := range append([]string{t.Rule, t.Print, t.WorkloadID, t.Group, string(t.Tactic), t.Process.Name}, t.Techniques...) {
		if len(text) > maxName {
			return fault.New(fault.Invalid, "a threat has a name of %d bytes, at most %d are taken", len(text), maxName)
		}
	}
	return nil
}

// TakeViolations folds violations of profiles into incidents: what a kernel refused in
// a protected group makes one, all else belongs to what is near it. They are stored by
// who tells them; what fails here is lost for incidents alone.
func (s *Service) TakeViolations(ctx context.Context, all []profile.Violation) error {
	if len(all) == 0 {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	_, err := s.fold(ctx, func(b *detect.Book) (touched []*detect.Story) {
		now := s.Clock()
		for i := range all {
			if v := &all[i]; v.Mode == profile.Monitor || v.Mode == profile.Protect {
				touched = append(touched, b.TakeViolation(v, now))
			}
		}
		return touched
	})
	return err
}

// fold has the book take something, stores the stories that it touched, and returns
// them as incidents; mu is held.
func (s *Service) fold(ctx context.Context, take func(*detect.Book) []*detect.Story) (map[*detect.Story]*threat.Incident, error) {
	b, err := s.open(ctx)
	if err != nil {
		return nil, err
	}
	var changed []*detect.Story
	seen := map[*detect.Story]bool{}
	for _, st := range take(b) {
		if st == nil {
			continue
		}
		if st = st.Whole(); !seen[st] {
			seen[st] = true
			changed = append(changed, st)
		}
	}
	stored, err := s.save(ctx, b, changed)
	if err != nil {
		s.book = nil // it is ahead of the store
		return nil, err
	}
	b.Forget(s.Clock())
	return stored, nil
}

// save stores stories as they are now; mu is held.
func (s *Service) save(ctx context.Context, b *detect.Book, changed []*detect.Story) (map[*detect.Story]*threat.Incident, error) {
	absorbed := b.Absorbed()
	if len(changed) == 0 {
		return nil, nil
	}
	// Ids are given in the order in which things began.
	slices.SortStableFunc(changed, func(x, y *detect.Story) int { return x.Opened.Compare(y.Opened) })
	now := s.Clock().UTC()
	c := store.IncidentChange{Merged: map[int64]int64{}}
	for _, st := range changed {
		traces := st.Traces()
		if st.ID == 0 {
			former, err := s.Store.FormerIncident(ctx, traces, 0)
			if err != nil {
				return nil, fmt.Errorf("look for the former of an incident: %w", err)
			}
			st.Former = former
		}
		memory, err := st.Memory()
		if err != nil {
			return nil, err
		}
		for _, id := range absorbed {
			if st.ID != 0 && slices.Contains(st.Merged, id) {
				c.Merged[id] = st.ID
			}
		}
		c.Put = append(c.Put, store.IncidentPut{Incident: st.Incident(now), Memory: memory, Traces: traces})
	}
	if err := s.Store.SaveIncidents(ctx, &c); err != nil {
		return nil, fmt.Errorf("store incidents: %w", err)
	}
	stored := make(map[*detect.Story]*threat.Incident, len(changed))
	for k, st := range changed {
		i := c.Put[k].Incident
		stored[st] = i
		b.Known(st, i.ID, i.Revision)
		if s.looked[i.ID] != shapeOf(i) || news(st.Told, i) != "" {
			s.await(i.ID)
		}
	}
	s.changes.Publish(nil)
	return stored, nil
}
