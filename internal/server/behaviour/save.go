package behaviour

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/profile"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/internal/watch"
)

const (
	// byItself is the actor of what nobody did.
	byItself = "system"
	// savedAtOnce bounds the groups of one transaction: each may have some hundred
	// kilobytes.
	savedAtOnce = 50
	// oneRevision is for how long what is learned is one revision.
	oneRevision = time.Hour
)

// look stores what waits, when it is time.
func (k *keeper) look(ctx context.Context) error {
	now := k.s.Clock()
	k.looked = now
	if was, set := k.ticks.set(now, k.s.Uptime(now)); set {
		k.s.Log.Warn("the clock was set: for how long groups have been settled counts anew", "from", was.UTC(), "to", now.UTC())
		k.saved, k.promoted, k.sampled = now, now, now // or nothing is done until a clock that was set back has come there again
		k.jump(was, now)
	}
	if err := errors.Join(k.flush(ctx), k.tellLearners(ctx), k.runs(ctx)); err != nil {
		return err
	}
	k.behind(ctx)
	var errs []error
	if now.Sub(k.sampled) >= sampleEvery {
		errs = append(errs, k.usage(ctx, now))
	}
	if now.Sub(k.saved) >= k.s.Pace.Save {
		errs = append(errs, k.save(ctx))
		k.saved = now
	}
	if now.Sub(k.promoted) >= k.s.Pace.Promote {
		errs = append(errs, k.promote(ctx, now))
		k.promoted = now
	}
	return errors.Join(errs...)
}

// behind notes how many events wait.
func (k *keeper) behind(ctx context.Context) {
	newest, err := k.newest(ctx)
	if err != nil {
		return // the next page of events says so
	}
	k.s.mu.Lock()
	defer k.s.mu.Unlock()
	k.s.progress.Waiting = max(0, newest-k.position)
}

// flush stores violations, with how far was compared.
func (k *keeper) flush(ctx context.Context) error {
	if len(k.outside) == 0 {
		return nil
	}
	c := store.BehaviourChange{Compared: k.position}
	for _, v := range k.outside {
		c.Violations = append(c.Violations, *v)
	}
	if err := k.s.Store.SaveBehaviour(ctx, &c); err != nil {
		return fmt.Errorf("store violations: %w", err)
	}
	k.compared = k.position
	clear(k.outside)
	k.s.changes.Publish(nil)
	if k.s.Outside != nil {
		if err := k.s.Outside(ctx, c.Violations); err != nil {
			k.s.Log.Error("violations are not in incidents", "violations", len(c.Violations), "error", err)
		}
	}
	return nil
}

// save stores all that is not stored yet, and lets go of learners that are idle.
func (k *keeper) save(ctx context.Context) error {
	if err := k.flush(ctx); err != nil {
		return err
	}
	var some []*group
	for _, g := range k.groups {
		if !g.dirty && !g.touched {
			continue
		}
		if some = append(some, g); len(some) == savedAtOnce {
			if err := k.store(ctx, some, &store.BehaviourChange{}); err != nil {
				return err
			}
			some = nil
		}
	}
	if err := k.store(ctx, some, &store.BehaviourChange{Learned: k.position, Compared: k.position}); err != nil {
		return err
	}
	k.compared = k.position
	k.letGo()
	return nil
}

// store stores groups as they are now, together with what else has changed. What was
// learned and makes the profile another one becomes a revision.
func (k *keeper) store(ctx context.Context, groups []*group, c *store.BehaviourChange) error {
	revised := map[*group]*profile.Profile{}
	for _, g := range groups {
		if g.dirty {
			st, p, err := k.distil(ctx, g, c)
			if err != nil {
				return err
			}
			c.States = append(c.States, st)
			revised[g] = p
		}
		row := g.BehaviourGroup
		row.Position = max(row.Position, k.position)
		if p := revised[g]; p != nil {
			row.Revision = p.Revision
		}
		c.Groups = append(c.Groups, row)
	}
	if err := k.s.Store.SaveBehaviour(ctx, c); err != nil {
		k.stale = k.stale || fault.Is(err, fault.Conflict)
		return fmt.Errorf("store what was learned: %w", err)
	}
	for i, g := range groups {
		g.BehaviourGroup, g.dirty, g.touched, g.stored = c.Groups[i], false, false, true
		if p := revised[g]; p != nil {
			g.learned = k.s.Clock()
			g.index = nil
			k.s.fleet.keep(g.Group, p)
		}
		k.s.fleet.put(g)
	}
	if len(groups) > 0 {
		k.s.changes.Publish(nil)
	}
	return nil
}

// distil makes of what a learner knows what is stored: its state, and its profile if
// that is another than the newest revision, which c then has.
func (k *keeper) distil(ctx context.Context, g *group, c *store.BehaviourChange) (store.BehaviourState, *profile.Profile, error) {
	st := store.BehaviourState{Group: g.Group, Position: k.position}
	l, err := k.learner(ctx, g)
	if err != nil {
		return st, nil, err
	}
	if st.State, err = l.Save(); err != nil {
		return st, nil, fmt.Errorf("write what was learned of %s: %w", g.Group, err)
	}
	g.Settled = l.Settled(k.s.Clock())
	had, err := k.profile(ctx, g)
	if err != nil {
		return st, nil, err
	}
	p := l.Profile()
	if had != nil && had.Limits == p.Limits && len(watch.Changes(had, p)) == 0 || had == nil && watch.Entries(p) == 0 {
		return st, nil, nil
	}
	now := k.s.Clock().UTC()
	r := store.BehaviourRevision{
		Group: g.Group, Revision: g.Revision + 1, Created: now, Actor: byItself, Comment: "learned", Entries: watch.Entries(p), Profile: p,
	}
	p.Revision = r.Revision
	if !g.learned.IsZero() && now.Sub(g.learned) < oneRevision && g.Revision > 1 {
		r.Replaces = g.Revision
	}
	c.Revisions = append(c.Revisions, r)
	return st, p, nil
}

// letGo forgets learners and indexes that are idle, the longest idle first where
// there are too many. All are stored.
func (k *keeper) letGo() {
	now := k.s.Clock()
	after := idleAfter
	for {
		for _, g := range k.groups {
			if g.dirty || g.heard || now.Sub(g.used) < after {
				continue
			}
			if g.learner != nil {
				g.learner = nil
				k.learners--
			}
			g.index = nil
		}
		if k.learners <= maxLearners || after < time.Second {
			return
		}
		after /= 2
	}
}

// end stores all before the server stops.
func (k *keeper) end() {
	ctx, cancel := context.WithTimeout(context.Background(), lastWords)
	defer cancel()
	if err := k.save(ctx); err != nil {
		k.s.Log.Error("what was learned since the last time is learned again", "error", err)
	}
}
