package behaviour

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/profile"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/internal/watch"
)

// Violations returns a page of what lay outside. It needs access.ReadBehaviour.
func (s *Service) Violations(ctx context.Context, who access.Identity, q store.ViolationQuery) ([]store.BehaviourViolation, error) {
	if err := who.Need(access.ReadBehaviour); err != nil {
		return nil, err
	}
	return s.Store.Violations(ctx, q)
}

// Violation returns one. It needs access.ReadBehaviour.
func (s *Service) Violation(ctx context.Context, who access.Identity, id int64) (store.BehaviourViolation, error) {
	if err := who.Need(access.ReadBehaviour); err != nil {
		return store.BehaviourViolation{}, err
	}
	return s.Store.Violation(ctx, id)
}

// Permits returns what people made normal, of a group or with "" of all. It needs
// access.ReadBehaviour.
func (s *Service) Permits(ctx context.Context, who access.Identity, name asset.Group, before int64, limit int) ([]store.BehaviourPermit, error) {
	if err := who.Need(access.ReadBehaviour); err != nil {
		return nil, err
	}
	return s.Store.BehaviourPermits(ctx, name, before, limit)
}

// Permitting is how a violation is made normal.
type Permitting struct {
	// Width says how much is with it: one of watch.Widths; empty: what was done alone.
	Width   string
	Comment string
}

// Permit makes a violation normal: what it was is added to the profile of its group,
// or as much with it as is said. It is Conflict if it is permitted already, Invalid if
// it has no such width, and Unsupported if no profile can say it. It needs
// access.ManageBehaviour.
func (s *Service) Permit(ctx context.Context, who access.Identity, id int64, how Permitting) (out store.BehaviourPermit, err error) {
	if err := who.Need(access.ManageBehaviour); err != nil {
		return out, err
	}
	v, err := s.Store.Violation(ctx, id)
	if err != nil {
		return out, err
	}
	comment := how.Comment
	_, err = s.change(ctx, who, v.Group, comment, func(ctx context.Context, k *keeper, g *group) error {
		if v, err = s.Store.Violation(ctx, id); err != nil { // as it is by now
			return err
		}
		if err := s.unsigned("a violation that is made normal"); err != nil {
			return err
		}
		switch {
		case v.PermitID != 0:
			return fault.New(fault.Conflict, "violation %d is permitted already, by permit %d", id, v.PermitID)
		case v.Permit == nil || watch.Entries(v.Permit) == 0:
			return fault.New(fault.Unsupported, "no profile can say what violation %d was", id).
				With("edit the profile: castellan watch profile export, then import; limits are set there too")
		}
		had, err := k.current(ctx, g)
		if err != nil {
			return err
		}
		width, ok := watch.WidthNamed(&v.Violation, how.Width)
		if !ok {
			return fault.New(fault.Invalid, "violation %d can't be permitted as %.40q", id, how.Width).With("it can be as: " + widthWords(&v.Violation))
		}
		says := v.Sentence
		if width.Word != watch.WidthThis {
			says += " (permitted: " + width.Says + ")"
		}
		more := asPerson(width.Permit, who.Actor, comment, s.Clock())
		p := watch.Merge(had, more)
		out = store.BehaviourPermit{
			Group: v.Group, ViolationID: id, Sentence: says, Actor: who.Actor, Comment: comment, Created: s.Clock().UTC(), Revision: g.Revision + 1,
			Added: missing(had, more),
		}
		c := &store.BehaviourChange{Permit: &out}
		if c.Permitted, err = s.coveredBy(ctx, more, &v); err != nil {
			return err
		}
		out.Also = len(c.Permitted)
		if err := k.revise(ctx, who, g, p, "permitted: "+says, c); err != nil {
			return err
		}
		return s.audit(ctx, who, "behaviour.permit", "permit:"+strconv.FormatInt(out.ID, 10), fmt.Sprintf("group %s: %s %s", v.Group, says, comment))
	})
	return out, err
}

// coveredBy returns the other violations of a group that nobody has permitted and that
// are normal with what a person permits. Those of programs are told apart by who starts
// them and what they are given to run: each is a decision of its own.
func (s *Service) coveredBy(ctx context.Context, more *profile.Profile, of *store.BehaviourViolation) (ids []int64, err error) {
	if len(more.Executables) > 0 {
		return nil, nil
	}
	n, q := watch.Entries(more), store.ViolationQuery{Group: of.Group, Control: of.Control, Open: true, Limit: store.MaxPage}
	for {
		page, err := s.Store.Violations(ctx, q)
		if err != nil {
			return nil, err
		}
		for i := range page {
			v := &page[i]
			if v.ID != of.ID && v.Permit != nil && len(v.Permit.Executables) == 0 && watch.Entries(v.Permit) > 0 && watch.Entries(watch.Merge(more, v.Permit)) == n {
				ids = append(ids, v.ID)
			}
		}
		if len(page) < store.MaxPage {
			return ids, nil
		}
		q.BeforeLast, q.BeforeID = page[len(page)-1].Last, page[len(page)-1].ID
	}
}

// lateFor is for how long after a person's change a host may hold the rules of before:
// it hears of others within a second, or when it asks next, which is once a minute.
const lateFor = 3 * time.Minute

// late reports whether what a host denied, though the profile has it, was denied by
// rules of before a person permitted it. That was told when it was permitted; told
// again it would be open again.
func (k *keeper) late(ctx context.Context, g *group, e *event.Event) (bool, error) {
	if g.revised.IsZero() || k.s.Clock().Sub(g.revised).Abs() > lateFor {
		return false, nil
	}
	h, ok := k.s.held.one(e.AgentID, g.Group)
	if !ok || h.Error != "" {
		return false, nil // it can't hold others
	}
	c, err := k.s.rulesOf(ctx, place{e.AgentID, g.Group})
	if err != nil {
		return false, err
	}
	// Both times are by the host's clock.
	return h.Stamp != c.Stamp || !e.Time.After(h.Since), nil
}

// widthWords lists how a violation can be permitted.
func widthWords(v *profile.Violation) string {
	var words []string
	for _, w := range watch.Widths(v) {
		words = append(words, w.Word)
	}
	return strings.Join(words, ", ")
}

// Undo takes a permit back: what it added goes from the profile again. It is Conflict
// if it is undone already. It needs access.ManageBehaviour.
func (s *Service) Undo(ctx context.Context, who access.Identity, id int64, comment string) (out store.BehaviourPermit, err error) {
	if err := who.Need(access.ManageBehaviour); err != nil {
		return out, err
	}
	was, err := s.Store.BehaviourPermit(ctx, id)
	if err != nil {
		return out, err
	}
	_, err = s.change(ctx, who, was.Group, comment, func(ctx context.Context, k *keeper, g *group) error {
		if was, err = s.Store.BehaviourPermit(ctx, id); err != nil {
			return err
		}
		if !was.Undone.IsZero() {
			return fault.New(fault.Conflict, "permit %d was undone by %s already", id, was.UndoneBy)
		}
		had, err := k.current(ctx, g)
		if err != nil {
			return err
		}
		out = was
		out.Undone, out.UndoneBy = s.Clock().UTC(), who.Actor
		p := had
		if was.Added != nil {
			p = without(had, was.Added)
		}
		if g.Mode != profile.Discover && watch.Entries(p) == 0 {
			return fault.New(fault.Conflict, "the profile of %s would permit nothing any more", g.Group)
		}
		if err := k.revise(ctx, who, g, p, fmt.Sprintf("permit %d undone: %s", id, was.Sentence), &store.BehaviourChange{Undo: &out}); err != nil {
			return err
		}
		return s.audit(ctx, who, "behaviour.undo", "permit:"+strconv.FormatInt(id, 10), fmt.Sprintf("group %s: %s %s", was.Group, was.Sentence, comment))
	})
	return out, err
}
