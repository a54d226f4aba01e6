package trail

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/server/audit"
	"github.com/castellan-security/castellan/internal/store"
)

// Trails returns the trails that are read, by name, and how that goes.
func (s *Service) Trails(ctx context.Context, who access.Identity) ([]View, error) {
	if err := who.Need(access.ReadDetect); err != nil {
		return nil, err
	}
	all, err := s.Store.Trails(ctx)
	if err != nil {
		return nil, fmt.Errorf("read trails: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	out := []View{}
	for _, t := range all {
		v := View{WatchedTrail: t, Condition: "well"}
		if st := s.state[t.Name]; st != nil {
			v = st.view
			v.WatchedTrail = t
		}
		out = append(out, v)
	}
	slices.SortFunc(out, func(a, b View) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// Put adds a trail, or changes that of its name; it is read from then on.
func (s *Service) Put(ctx context.Context, who access.Identity, t asset.Trail) (store.WatchedTrail, error) {
	if err := who.Need(access.WriteDetect); err != nil {
		return store.WatchedTrail{}, err
	}
	if err := t.Check(); err != nil {
		return store.WatchedTrail{}, err
	}
	w, err := s.Store.PutTrail(ctx, store.WatchedTrail{Trail: t, Created: s.Clock().UTC(), By: who.Actor})
	if err != nil {
		return w, fmt.Errorf("store trail %s: %w", t.Name, err)
	}
	return w, s.changed(ctx, who, "detect.trail.set", t.Name, t.Queue)
}

// Remove ends reading a trail.
func (s *Service) Remove(ctx context.Context, who access.Identity, name string) error {
	if err := who.Need(access.WriteDetect); err != nil {
		return err
	}
	if err := s.Store.DeleteTrail(ctx, name); err != nil {
		return fmt.Errorf("remove trail: %w", err)
	}
	return s.changed(ctx, who, "detect.trail.remove", name, "")
}

func (s *Service) changed(ctx context.Context, who access.Identity, action, name, detail string) error {
	select {
	case s.wake <- struct{}{}:
	default: // it will look anyway
	}
	return audit.Log{Store: s.Store, Clock: s.Clock}.Done(ctx, who, action, "trail:"+name, detail)
}

// Test says whether a trail could be read, which need not be configured; it leaves its
// queue as it is.
func (s *Service) Test(ctx context.Context, who access.Identity, t asset.Trail) (string, error) {
	if err := who.Need(access.WriteDetect); err != nil {
		return "", err
	}
	if err := t.Check(); err != nil {
		return "", err
	}
	if s.Door == nil {
		return "", fault.New(fault.Unsupported, "this server has no way to AWS")
	}
	return s.Door.Test(ctx, t)
}
